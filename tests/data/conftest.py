"""The small image set, written anew for each test that asks for it."""

from pathlib import Path

import pytest

from tests.data.small_sets import write_set


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_set(tmp_path / "data")
