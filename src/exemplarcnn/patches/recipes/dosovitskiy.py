"""The recipe `dosovitskiy`, that of Dosovitskiy et al.'s own code (docs/method.md, section 2.2).

One transform scales, crops and rotates straight from the image, so that no corner has to be filled by reflection.
Colours are stretched along the axes of the whole pool. Saturation and value have separate draws. Values are clipped.
"""

import albumentations as A

from exemplarcnn.config.sections import Surrogate
from exemplarcnn.data.colour_axes import Axes
from exemplarcnn.patches.recipes.colours import HueShift, PoolPCAContrast, SeparateHSVContrast
from exemplarcnn.patches.recipes.geometry import RotatedCrop


def build(params: Surrogate, patch: int, axes: Axes) -> A.Compose:
    """Build the recipe `dosovitskiy` for patches of ``patch`` by ``patch`` pixels.

    Parameters
    ----------
    params
        The recipe's parameters.
    patch
        Side of a patch in pixels.
    axes
        Principal axes of the pool's colours.
    """
    numbers = params.dosovitskiy
    return A.Compose(
        [
            RotatedCrop(patch, numbers.scale, numbers.translate, params.rotate, numbers.tries),
            PoolPCAContrast(axes.mean, axes.axes, numbers.pca_deviation),
            SeparateHSVContrast(numbers.power, numbers.factor),
            HueShift(params.hue),
        ]
    )
