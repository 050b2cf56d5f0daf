"""The recipes by name: the one place where they are chosen."""

from collections.abc import Callable

import albumentations as A

from exemplarcnn.config.sections import Surrogate
from exemplarcnn.data.colour_axes import Axes
from exemplarcnn.patches.errors import SurrogateError
from exemplarcnn.patches.recipes import arazo, dosovitskiy, needs

# Keys are the names of `surrogate.recipe` in config/sections.py. A recipe takes its parameters, the side of a patch
# and, if `needs` lists it, the axes of the pool's colours; it returns the transforms.
RECIPES: dict[str, Callable[..., A.Compose]] = {"arazo": arazo.build, "dosovitskiy": dosovitskiy.build}


def build(params: Surrogate, patch: int, axes: Axes | None = None) -> A.Compose:
    """Build the recipe that the parameters name, for patches of ``patch`` by ``patch`` pixels.

    Raises
    ------
    SurrogateError
        If the recipe needs the axes of the pool's colours, and ``axes`` is None.
    """
    recipe = RECIPES[params.recipe]
    if params.recipe not in needs.COLOUR_AXES:
        return recipe(params, patch)
    if axes is None:
        raise SurrogateError(
            f"cannot build the recipe {params.recipe}: it needs the axes of the pool's colours; run dvc repro, "
            "whose stage colours measures them"
        )
    return recipe(params, patch, axes)
