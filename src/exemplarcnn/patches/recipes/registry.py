"""The recipes by name: the one place where they are chosen."""

from collections.abc import Callable
from dataclasses import dataclass

import albumentations as A

from exemplarcnn.config import Surrogate
from exemplarcnn.data.colour_axes import Axes
from exemplarcnn.patches.errors import SurrogateError
from exemplarcnn.patches.recipes import arazo, dosovitskiy


@dataclass(frozen=True)
class Recipe:
    """How patches are made of images.

    Attributes
    ----------
    build
        From the recipe's parameters and the side of a patch, then the axes if it needs them, to the transforms.
    needs_colour_axes
        Whether it needs the principal axes of the pool's colours.
    """

    build: Callable[..., A.Compose]
    needs_colour_axes: bool = False


# The names are those of `surrogate.recipe` in config.py.
RECIPES = {
    "arazo": Recipe(arazo.build),
    "dosovitskiy": Recipe(dosovitskiy.build, needs_colour_axes=True),
}


def build(params: Surrogate, patch: int, axes: Axes | None = None) -> A.Compose:
    """Build the recipe that the parameters name, for patches of ``patch`` by ``patch`` pixels.

    Raises
    ------
    SurrogateError
        If it needs the axes of the pool's colours, and there are none.
    """
    recipe = RECIPES[params.recipe]
    if not recipe.needs_colour_axes:
        return recipe.build(params, patch)
    if axes is None:
        raise SurrogateError(f"the recipe {params.recipe} needs the axes of the pool's colours")
    return recipe.build(params, patch, axes)
