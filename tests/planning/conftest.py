"""The paper's numbers of images."""

from functools import cache
from typing import Any

import pytest

from exemplarcnn.config.params import Config, parse
from exemplarcnn.planning.holdings import Holdings, listed
from exemplarcnn.planning.works import Works
from tests.conftest import profile_values

HELD = Holdings({"unlabeled": 100_000, "train": 5_000, "test": 8_000, "other": 2_000}, side=96, classes=10, fold=1_000)


@cache
def config(name: str, *changes: Any) -> Config:
    """Compose a profile, with changes."""
    values = profile_values(name)
    for change in changes:
        change(values)
    return parse(values, name)


@cache
def works(name: str, *changes: Any) -> Works:
    """Return the work of a profile's stages on the paper's number of images."""
    params = config(name, *changes)
    return Works(params, HELD, listed(params, HELD))


@pytest.fixture(scope="session")
def rehearsal() -> Works:
    """Everything in the paper's numbers, with short trainings."""
    return works("rehearsal")
