"""The recipe of Dosovitskiy et al.'s own code (docs/method.md, section 2.2), beside that of ``arazo.py``.

One transform scales, crops and rotates straight from the image, so that no corner has to be invented; colours are
stretched along the axes of the whole pool; saturation and value have numbers of their own; values are clipped.
"""

from typing import Any

import albumentations as A
import cv2
import numpy as np
from numpy.typing import NDArray

from exemplarcnn.config import Surrogate
from exemplarcnn.data.colour_axes import Axes
from exemplarcnn.patches.recipes.arazo import (
    Columns,
    HueShift,
    Range,
    Stack,
    Step,
    evenly,
    hsv_contrast,
    into_range,
    spread,
    warp,
)


class RotatedCrop(Step):
    """Cut a scaled and rotated square near the anchor; one that leaves the image is drawn again."""

    parameters = ("centre", "factor", "angle")

    class InitSchema(A.BasicTransform.InitSchema):
        """Checked by albumentations."""

        patch: int
        scale: Range
        amount: float
        limit: float
        tries: int

    def __init__(self, patch: int, scale: Range, amount: float, limit: float, tries: int, p: float = 1.0):
        super().__init__(p=p)
        self.patch, self.scale, self.amount, self.limit, self.tries = patch, scale, amount, limit, tries

    @property
    def targets_as_params(self) -> list[str]:
        """The anchor comes with the image."""
        return ["anchor"]

    def numbers(self, generator: np.random.Generator) -> list[float]:
        """Draw for all tries at once: scale, movement along rows and columns, angle."""
        return evenly(generator, 4 * self.tries)

    def columns(self, numbers: NDArray[np.float64], shape: tuple[int, ...], anchors: NDArray[Any]) -> Columns:
        """Return the first try that stays inside: centre in pixels of the image (n, 2), scale, angle in degrees.

        Where none does, as near the border, it is the first, magnified until it fits and moved inside: patches there
        would otherwise all be one and the same piece of the image.
        """
        draws = numbers.reshape(len(numbers), self.tries, 4)
        size = np.array(shape[:2])
        factor = 2 ** spread(draws[..., 0], self.scale)
        angle = spread(draws[..., 3], (-self.limit, self.limit))
        shift = self.patch * spread(draws[..., 1:3], (-self.amount, self.amount))
        centre = (anchors + 0.5)[:, None, :] + shift / factor[..., None]
        reach = self._reach(factor, angle)[..., None]
        inside: Any = np.logical_and(centre >= reach, centre + reach <= size).all(axis=2)
        # Where none is inside, argmax points to the first.
        chosen = np.arange(len(draws)), inside.argmax(axis=1)
        angle = angle[chosen]
        factor = np.maximum(factor[chosen], 2 * self._reach(np.ones(1), angle) / size.min())
        reach = self._reach(factor, angle)[:, None]
        return {"centre": np.clip(centre[chosen], reach, size - reach), "factor": factor, "angle": angle}

    def _reach(self, factor: NDArray[np.float64], angle: NDArray[np.float64]) -> NDArray[np.float64]:
        """How far a turned square reaches from its centre along rows and columns, in pixels of the image."""
        turned = np.deg2rad(angle)
        reach: NDArray[np.float64] = self.patch / factor / 2 * (np.abs(np.cos(turned)) + np.abs(np.sin(turned)))
        return reach

    def many(self, images: Stack, columns: Columns) -> Stack:
        """Sample bilinearly; between the outermost pixels' centres and the border an image repeats its last pixel."""
        angle = np.deg2rad(columns["angle"])
        cosine, sine = np.cos(angle) / columns["factor"], np.sin(angle) / columns["factor"]
        middle = np.full(2, (self.patch - 1) / 2)
        back = np.empty((len(angle), 2, 3))
        back[:, :, :2] = np.moveaxis(np.array([[cosine, -sine], [sine, cosine]]), 2, 0)
        back[:, :, 2] = columns["centre"][:, ::-1] - 0.5 - back[:, :, :2] @ middle
        return warp(images, back, self.patch, self.patch, cv2.BORDER_REPLICATE)


class PoolPCAContrast(Step):
    """Stretch colours along the principal axes of the pool's pixels, about the pool's mean, each by its own factor."""

    parameters = ("factors",)

    class InitSchema(A.BasicTransform.InitSchema):
        """Checked by albumentations."""

        mean: tuple[float, float, float]
        axes: tuple[tuple[float, float, float], ...]
        deviation: tuple[float, float, float]

    def __init__(
        self,
        mean: tuple[float, float, float],
        axes: tuple[tuple[float, float, float], ...],
        deviation: tuple[float, float, float],
        p: float = 1.0,
    ):
        super().__init__(p=p)
        self.mean, self.axes, self.deviation = mean, axes, deviation

    def numbers(self, generator: np.random.Generator) -> list[float]:
        """Draw for one factor an axis."""
        return [*generator.standard_normal(3)]

    def columns(self, numbers: NDArray[np.float64], shape: tuple[int, ...], anchors: NDArray[Any]) -> Columns:
        """Return one factor an axis, the axis of largest variance first."""
        return {"factors": 2 ** (numbers * self.deviation)}

    def matrices(self, factors: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return what a colour is multiplied by and what is added, (n, 3, 4)."""
        axes, mean = np.array(self.axes), np.array(self.mean)
        stretch = (axes.T * factors[:, None, :]) @ axes
        return np.concatenate([stretch, (mean - stretch @ mean)[:, :, None]], axis=2)

    def many(self, images: Stack, columns: Columns) -> Stack:
        """Project, multiply, go back."""
        result = np.empty_like(images)
        for patch, matrix, place in zip(images, self.matrices(columns["factors"]), result, strict=True):
            cv2.transform(patch, matrix, dst=place)
        return into_range(result, "clip")


class SeparateHSVContrast(Step):
    """In HSV, saturation and value each become ``factor * x ** power``, each with draws of its own."""

    parameters = ("powers", "factors")

    class InitSchema(A.BasicTransform.InitSchema):
        """Checked by albumentations."""

        power: Range
        factor: Range

    def __init__(self, power: Range, factor: Range, p: float = 1.0):
        super().__init__(p=p)
        self.power, self.factor = power, factor

    def numbers(self, generator: np.random.Generator) -> list[float]:
        """Draw for two powers, then for two factors."""
        return evenly(generator, 4)

    def columns(self, numbers: NDArray[np.float64], shape: tuple[int, ...], anchors: NDArray[Any]) -> Columns:
        """Return powers and factors, (n, 2) each: of saturation, of value."""
        return {"powers": 2 ** spread(numbers[:, :2], self.power), "factors": 2 ** spread(numbers[:, 2:], self.factor)}

    def many(self, images: Stack, columns: Columns) -> Stack:
        """Change S and V, and clip both to 0–1."""
        (power_s, power_v), (factor_s, factor_v) = columns["powers"].T, columns["factors"].T
        none = np.zeros(len(images))
        return hsv_contrast(images, (power_s, power_v), (factor_s, factor_v), (none, none), "clip")


def build(params: Surrogate, patch: int, axes: Axes) -> A.Compose:
    """Build the recipe `dosovitskiy` for patches of ``patch`` by ``patch`` pixels, called as that of ``recipe.build``.

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
