"""Scaling, cropping, mirroring and rotating patches (docs/method.md, section 2.2)."""

from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from exemplarcnn.patches.recipes.transform import BatchTransform, Parameters, Range, Schema, Stack, lerp, uniform

Distribution = Literal["normal", "uniform"]


def scale_bounds(scale: Range, patch: int, height: int, width: int) -> Range:
    """Return the range of the scale factor for one image; both ends are raised to where a patch fits."""
    fits = patch / min(height, width)
    return max(scale[0], fits), max(scale[1], fits)


def scaled_size(factor: NDArray[np.float64], patch: int, height: int, width: int) -> NDArray[np.int64]:
    """Return height and width after scaling by (n,) factors, (n, 2), in whole pixels and at least one patch each."""
    sizes: NDArray[np.int64] = np.rint(np.multiply.outer(factor, (height, width))).astype(np.int64)
    return np.maximum(sizes, patch)


def corner(
    anchor: NDArray[Any], shift: NDArray[np.float64], size: NDArray[np.int64], source: tuple[int, int], patch: int
) -> NDArray[np.int64]:
    """Return the top-left pixels, (n, 2), of patches around moved anchors, clamped so that patches stay inside.

    Parameters
    ----------
    anchor
        (n, 2), row and column in the source image, in pixels.
    shift
        (n, 2), movement along rows and columns, in pixels of the scaled image.
    size
        (n, 2), height and width of the scaled image.
    source
        Height and width of the source image.
    patch
        Side of the patch in pixels.
    """
    centre = (anchor + 0.5) * size / source + shift
    wished: NDArray[np.int64] = np.rint(centre - patch / 2).astype(np.int64)
    return np.clip(wished, 0, size - patch)


class AnchoredCrop(BatchTransform):
    """Scale the image, move the anchor, and cut a square patch around it."""

    parameters = ("size", "corner")

    class InitSchema(Schema):
        """Checked by albumentations."""

        patch: int
        scale: Range
        distribution: Distribution
        amount: float

    def __init__(self, patch: int, scale: Range, distribution: Distribution, amount: float, p: float = 1.0):
        super().__init__(p=p)
        self.patch, self.scale, self.distribution, self.amount = patch, scale, distribution, amount

    @property
    def targets_as_params(self) -> list[str]:
        """The anchor comes with the image."""
        return ["anchor"]

    def draw(self, generator: np.random.Generator) -> list[float]:
        """Draw one number for the scale factor, then one each for the movement along rows and columns."""
        if self.distribution == "uniform":
            return uniform(generator, 3)
        return [generator.random(), *generator.standard_normal(2)]

    def to_parameters(self, numbers: NDArray[np.float64], shape: tuple[int, ...], anchors: NDArray[Any]) -> Parameters:
        """Return height and width of the scaled image, and the patch's top-left pixel in it, (n, 2) each."""
        height, width = shape[:2]
        factor = lerp(numbers[:, 0], scale_bounds(self.scale, self.patch, height, width))
        size = scaled_size(factor, self.patch, height, width)
        reach = self.amount * self.patch
        shift = reach * numbers[:, 1:] if self.distribution == "normal" else lerp(numbers[:, 1:], (-reach, reach))
        return {"size": size, "corner": corner(anchors, shift, size, (height, width), self.patch)}

    def apply_batch(self, images: Stack, drawn: Parameters) -> Stack:
        """Sample bilinearly only the patches' pixels, where the scaled images would have them.

        Beyond its border an image repeats its last pixel. ``images`` holds one image for all patches, or one for each.
        """
        per_pixel = np.array(images.shape[1:3]) / drawn["size"]
        start = (drawn["corner"] + 0.5) * per_pixel - 0.5
        back = np.zeros((len(start), 2, 3))
        back[:, 0, 0], back[:, 1, 1] = per_pixel[:, 1], per_pixel[:, 0]
        back[:, :, 2] = start[:, ::-1]
        return warp(images, back, self.patch, self.patch, cv2.BORDER_REPLICATE)


class RotatedCrop(BatchTransform):
    """Cut a scaled and rotated square near the anchor; one that leaves the image is drawn again."""

    parameters = ("centre", "factor", "angle")

    class InitSchema(Schema):
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

    def draw(self, generator: np.random.Generator) -> list[float]:
        """Draw for all tries at once; each takes a scale, movements along rows and columns, and an angle."""
        return uniform(generator, 4 * self.tries)

    def to_parameters(self, numbers: NDArray[np.float64], shape: tuple[int, ...], anchors: NDArray[Any]) -> Parameters:
        """Return the first try that stays inside: centre in pixels of the image (n, 2), scale, angle in degrees.

        If none does, as is common near the border, take the first, magnified until it fits and moved inside: otherwise
        all patches there would show the same piece of the image.
        """
        draws = numbers.reshape(len(numbers), self.tries, 4)
        size = np.array(shape[:2])
        factor = 2 ** lerp(draws[..., 0], self.scale)
        angle = lerp(draws[..., 3], (-self.limit, self.limit))
        shift = self.patch * lerp(draws[..., 1:3], (-self.amount, self.amount))
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
        """Return how far a rotated square reaches from its centre along rows and columns, in pixels of the image."""
        turned = np.deg2rad(angle)
        reach: NDArray[np.float64] = self.patch / factor / 2 * (np.abs(np.cos(turned)) + np.abs(np.sin(turned)))
        return reach

    def apply_batch(self, images: Stack, drawn: Parameters) -> Stack:
        """Sample bilinearly; between the centres of the outermost pixels and the border, repeat the last pixel."""
        angle = np.deg2rad(drawn["angle"])
        cosine, sine = np.cos(angle) / drawn["factor"], np.sin(angle) / drawn["factor"]
        middle = np.full(2, (self.patch - 1) / 2)
        back = np.empty((len(angle), 2, 3))
        back[:, :, :2] = np.moveaxis(np.array([[cosine, -sine], [sine, cosine]]), 2, 0)
        back[:, :, 2] = drawn["centre"][:, ::-1] - 0.5 - back[:, :, :2] @ middle
        return warp(images, back, self.patch, self.patch, cv2.BORDER_REPLICATE)


class FlipRotate(BatchTransform):
    """Mirror left to right with some probability, then rotate, filling the corners by reflection."""

    parameters = ("mirrored", "angle")

    class InitSchema(Schema):
        """Checked by albumentations."""

        flip: float
        limit: float

    def __init__(self, flip: float, limit: float, p: float = 1.0):
        super().__init__(p=p)
        self.flip, self.limit = flip, limit

    def draw(self, generator: np.random.Generator) -> list[float]:
        """Draw one number for the coin and one for the angle."""
        return uniform(generator, 2)

    def to_parameters(self, numbers: NDArray[np.float64], shape: tuple[int, ...], anchors: NDArray[Any]) -> Parameters:
        """Return whether to mirror, and the angle in degrees, positive counter-clockwise."""
        return {"mirrored": numbers[:, 0] < self.flip, "angle": lerp(numbers[:, 1], (-self.limit, self.limit))}

    def apply_batch(self, images: Stack, drawn: Parameters) -> Stack:
        """Mirror and rotate about the centre of the patch, bilinearly."""
        height, width = images.shape[1:3]
        middle = np.array([(width - 1) / 2, (height - 1) / 2])
        angle = np.deg2rad(drawn["angle"])
        cosine, sine = np.cos(angle), np.sin(angle)
        back = np.empty((len(images), 2, 3))
        back[:, :, :2] = np.moveaxis(np.array([[cosine, -sine], [sine, cosine]]), 2, 0)
        back[drawn["mirrored"], 0] *= -1
        back[:, :, 2] = middle - back[:, :, :2] @ middle
        return warp(images, back, height, width, cv2.BORDER_REFLECT_101)


def warp(images: Stack, back: NDArray[np.float64], height: int, width: int, border: int) -> Stack:
    """Sample patches; matrices (n, 2, 3) map the (x, y) of a patch's pixels to those of the image."""
    result = np.empty((len(back), height, width, 3), np.float32)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    for index, matrix in enumerate(back):
        image = images[index if len(images) > 1 else 0]
        cv2.warpAffine(image, matrix, (width, height), dst=result[index], flags=flags, borderMode=border)
    return result
