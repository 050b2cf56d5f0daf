"""Recipes by name."""

from typing import get_args

import pytest

from exemplarcnn.config.sections import Surrogate
from exemplarcnn.patches.errors import SurrogateError
from exemplarcnn.patches.recipes import needs, registry
from exemplarcnn.patches.recipes.registry import RECIPES
from tests.defaults import surrogate as params


def test_parameters_name_the_recipes_that_there_are() -> None:
    assert set(get_args(Surrogate.model_fields["recipe"].annotation)) == set(RECIPES) >= needs.COLOUR_AXES


@pytest.mark.parametrize("name", RECIPES)
def test_axes_are_asked_for_where_they_are_needed(name: str) -> None:
    if name in needs.COLOUR_AXES:
        with pytest.raises(SurrogateError, match=f"the recipe {name}: it needs the axes of the pool's colours"):
            registry.build(params(recipe=name), 24)
    else:
        registry.build(params(recipe=name), 24)
