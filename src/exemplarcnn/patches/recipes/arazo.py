"""The recipe `arazo` (docs/method.md, section 2.2)."""

import albumentations as A

from exemplarcnn.config.sections import Surrogate
from exemplarcnn.patches.recipes.colours import HSVContrast, HueShift, PCAContrast
from exemplarcnn.patches.recipes.geometry import AnchoredCrop, FlipRotate


def build(params: Surrogate, patch: int) -> A.Compose:
    """Build the recipe `arazo` for patches of ``patch`` by ``patch`` pixels.

    Parameters
    ----------
    params
        The recipe's parameters.
    patch
        Side of a patch in pixels.
    """
    policy = params.range_policy
    return A.Compose(
        [
            AnchoredCrop(patch, params.scale, params.translate.distribution, params.translate.amount),
            PCAContrast(params.pca_factor, policy),
            FlipRotate(params.flip, params.rotate),
            HSVContrast(params.hsv.power, params.hsv.factor, params.hsv.shift, policy),
            HueShift(params.hue),
        ]
    )
