"""The recipe of Dosovitskiy et al.'s own code (docs/method.md, section 2.2), beside that of ``arazo.py``.

One transform scales, crops and rotates straight from the image, so that no corner has to be invented; colours are
stretched along the axes of the whole pool; saturation and value have numbers of their own; values are clipped.
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
        Side of a patch.
    axes
        Of the colours of the pool.
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
