"""The parameters of profile `sample`, to change and to break."""

import copy
from typing import Any

import pytest

from exemplarcnn.config.profiles import compose
from tests.conftest import CONF


@pytest.fixture(scope="session")
def composed() -> dict[str, Any]:
    return compose(CONF, "sample")


@pytest.fixture
def values(composed: dict[str, Any]) -> dict[str, Any]:
    return copy.deepcopy(composed)
