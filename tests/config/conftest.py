"""The parameters of profile `sample`, to change and to break."""

import copy
from typing import Any

import pytest

from tests.conftest import profile_values


@pytest.fixture(scope="session")
def composed() -> dict[str, Any]:
    return profile_values("sample")


@pytest.fixture
def values(composed: dict[str, Any]) -> dict[str, Any]:
    return copy.deepcopy(composed)
