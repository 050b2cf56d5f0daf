"""Recipes by name."""

from typing import get_args

import pytest

from exemplarcnn.config import Surrogate
from exemplarcnn.patches.errors import SurrogateError
from exemplarcnn.patches.recipes import registry
from exemplarcnn.patches.recipes.registry import RECIPES
from tests.defaults import surrogate as params


def test_parameters_name_the_recipes_that_there_are() -> None:
    assert set(get_args(Surrogate.model_fields["recipe"].annotation)) == set(RECIPES)


def test_axes_are_asked_for() -> None:
    with pytest.raises(SurrogateError, match="needs the axes of the pool's colours"):
        registry.build(params(recipe="dosovitskiy"), 24)
