"""The recipes by name: the one place where they are chosen."""

from collections.abc import Callable

import albumentations as A

from exemplarcnn.config.sections import Surrogate
from exemplarcnn.data.colour_axes import Axes
from exemplarcnn.patches.errors import SurrogateError
from exemplarcnn.patches.recipes import arazo, dosovitskiy, needs

# By the names of `surrogate.recipe` in config/sections.py. From the recipe's parameters and the side of a patch, then
# the colours' axes if `needs` says so, to the transforms.
RECIPES: dict[str, Callable[..., A.Compose]] = {"arazo": arazo.build, "dosovitskiy": dosovitskiy.build}


def build(params: Surrogate, patch: int, axes: Axes | None = None) -> A.Compose:
    """Build the recipe that the parameters name, for patches of ``patch`` by ``patch`` pixels.

    Raises
    ------
    SurrogateError
        If it needs the axes of the pool's colours, and there are none.
    """
    recipe = RECIPES[params.recipe]
    if params.recipe not in needs.COLOUR_AXES:
        return recipe(params, patch)
    if axes is None:
        raise SurrogateError(f"the recipe {params.recipe} needs the axes of the pool's colours")
    return recipe(params, patch, axes)
