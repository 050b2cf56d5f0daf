"""The transformations that turn one image into many patches, as an albumentations recipe.

:func:`build` gives the ``Compose`` that defines what a patch is (docs/method.md, section 2). It takes
``image``, float32 of shape (height, width, 3) in 0–1, and ``anchor``, its (row, column), and gives a float32
patch in 0–1. Each transform draws in ``get_params`` and computes in ``apply``; none rounds: :func:`to_uint8`
does, once, at the end.

All transforms have p = 1. albumentations' own coin (``p``) uses a second random generator, so the one step
that is optional, the flip, draws its coin itself.
"""

import os
import random
from typing import Any, Literal

# albumentations asks the network for a newer release of itself unless told not to.
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

import albumentations as A
import cv2
import numpy as np
from numpy.typing import NDArray

from exemplarcnn.config import Surrogate

Image = NDArray[np.float32]
RangePolicy = Literal["rescale", "clip"]
Distribution = Literal["normal", "uniform"]
Range = tuple[float, float]
# What each transform of a recipe drew for one patch, in the recipe's order.
Draws = list[dict[str, Any]]

# Differences below this are rounding noise of float32 on an even patch, not contrast to be stretched.
FLAT = 1e-5


def _float32(array: Any) -> Image:
    """Name the type of what OpenCV returns, which its stubs leave open."""
    result: Image = array
    return result


def into_range(patch: Image, policy: RangePolicy) -> Image:
    """Bring a patch back to 0–1 after a colour step.

    ``rescale`` maps the smallest and the largest value of all three channels together to 0 and 1; ``clip`` cuts
    off. A patch with a single value everywhere cannot be rescaled and is clipped under both.
    """
    if policy == "rescale":
        low, high = float(patch.min()), float(patch.max())
        if high - low > FLAT:
            stretched: Image = (patch - np.float32(low)) * np.float32(1 / (high - low))
            return stretched
    return _float32(np.clip(patch, 0, 1))


def to_uint8(patch: Image) -> NDArray[np.uint8]:
    """Round a float patch in 0–1 to uint8."""
    rounded: NDArray[np.uint8] = np.rint(np.clip(patch, 0, 1) * np.float32(255)).astype(np.uint8)
    return rounded


def scale_bounds(scale: Range, patch: int, height: int, width: int) -> Range:
    """Range of the scale factor for one image: the lower end is raised until a patch fits."""
    fits = patch / min(height, width)
    return max(scale[0], fits), max(scale[1], fits)


def scaled_size(factor: float, patch: int, height: int, width: int) -> tuple[int, int]:
    """Return height and width in whole pixels after scaling, at least one patch each."""
    return max(patch, round(factor * height)), max(patch, round(factor * width))


def corner(
    anchor: tuple[int, int], shift: Range, size: tuple[int, int], source: tuple[int, int], patch: int
) -> tuple[int, int]:
    """Return the top-left pixel of a patch centred on a moved anchor, clamped so that the patch stays inside.

    Parameters
    ----------
    anchor
        Row and column in the source image, in pixels.
    shift
        Movement along rows and columns, in pixels of the scaled image.
    size, source
        Height and width of the scaled and of the source image.
    patch
        Side of the patch in pixels.
    """
    centres = [(a + 0.5) * s / o + d for a, s, o, d in zip(anchor, size, source, shift, strict=True)]
    top, left = (min(max(round(c - patch / 2), 0), s - patch) for c, s in zip(centres, size, strict=True))
    return top, left


class AnchoredCrop(A.ImageOnlyTransform):
    """Scale the image, move the anchor, cut a square patch around it."""

    class InitSchema(A.BasicTransform.InitSchema):
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

    def get_params_dependent_on_data(self, params: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
        """Draw the scale factor, then the movement along rows and columns."""
        height, width = params["shape"][:2]
        draw = self.random_generator
        size = scaled_size(
            draw.uniform(*scale_bounds(self.scale, self.patch, height, width)), self.patch, height, width
        )
        reach = self.amount * self.patch
        shift = draw.normal(0, reach, 2) if self.distribution == "normal" else draw.uniform(-reach, reach, 2)
        return {
            "size": size,
            "corner": corner(data["anchor"], tuple(shift), size, (height, width), self.patch),
        }

    def apply(self, img: Image, size: tuple[int, int], corner: tuple[int, int], **params: Any) -> Image:
        """Resize bilinearly (beyond its border an image repeats its mirror image), then cut."""
        scaled = _float32(cv2.resize(img, size[::-1], interpolation=cv2.INTER_LINEAR))
        top, left = corner
        return scaled[top : top + self.patch, left : left + self.patch]


class PCAContrast(A.ImageOnlyTransform):
    """Stretch the patch's colours along the principal axes of its own RGB pixels, each by its own factor."""

    class InitSchema(A.BasicTransform.InitSchema):
        """Checked by albumentations."""

        factor: Range
        range_policy: RangePolicy

    def __init__(self, factor: Range, range_policy: RangePolicy, p: float = 1.0):
        super().__init__(p=p)
        self.factor, self.range_policy = factor, range_policy

    def get_params(self) -> dict[str, Any]:
        """Draw one factor an axis, the axis of largest variance first."""
        return {"factors": self.random_generator.uniform(*self.factor, 3)}

    def apply(self, img: Image, factors: NDArray[np.float64], **params: Any) -> Image:
        """Project, multiply, go back."""
        pixels = img.reshape(-1, 3)
        mean = pixels.mean(axis=0, dtype=np.float64).astype(np.float32)
        centred = pixels - mean
        axes = np.linalg.eigh((centred.T @ centred).astype(np.float64))[1][:, ::-1]
        stretch = ((axes * factors) @ axes.T).astype(np.float32)
        return into_range((centred @ stretch + mean).reshape(img.shape), self.range_policy)


class FlipRotate(A.ImageOnlyTransform):
    """Mirror left to right with some probability, then turn, filling the corners by reflection."""

    class InitSchema(A.BasicTransform.InitSchema):
        """Checked by albumentations."""

        flip: float
        limit: float

    def __init__(self, flip: float, limit: float, p: float = 1.0):
        super().__init__(p=p)
        self.flip, self.limit = flip, limit

    def get_params(self) -> dict[str, Any]:
        """Draw the coin and the angle in degrees, positive counter-clockwise."""
        draw = self.random_generator
        return {"mirrored": bool(draw.random() < self.flip), "angle": draw.uniform(-self.limit, self.limit)}

    def apply(self, img: Image, mirrored: bool, angle: float, **params: Any) -> Image:
        """Turn about the centre of the patch, bilinearly."""
        patch = np.ascontiguousarray(img[:, ::-1]) if mirrored else img
        height, width = patch.shape[:2]
        matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), angle, 1.0)
        turned = cv2.warpAffine(
            patch, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101
        )
        return _float32(turned)


class HSVContrast(A.ImageOnlyTransform):
    """In HSV, saturation and value each become ``factor * x ** power + shift``, with the same three draws."""

    class InitSchema(A.BasicTransform.InitSchema):
        """Checked by albumentations."""

        power: Range
        factor: Range
        shift: Range
        range_policy: RangePolicy

    def __init__(self, power: Range, factor: Range, shift: Range, range_policy: RangePolicy, p: float = 1.0):
        super().__init__(p=p)
        self.power, self.factor, self.shift = power, factor, shift
        self.range_policy = range_policy

    def get_params(self) -> dict[str, Any]:
        """Draw power, factor and shift."""
        draw = self.random_generator
        return {"drawn": (draw.uniform(*self.power), draw.uniform(*self.factor), draw.uniform(*self.shift))}

    def apply(self, img: Image, drawn: tuple[float, float, float], **params: Any) -> Image:
        """Change S and V; S is clipped to 0–1 before the way back to RGB, V only under ``clip``."""
        power, factor, shift = (np.float32(x) for x in drawn)
        hsv = cv2.cvtColor(np.clip(img, 0, 1), cv2.COLOR_RGB2HSV)
        # Grey has no hue; what rounding leaves between its channels must not become one.
        hsv[hsv[..., 1] * hsv[..., 2] < FLAT, :2] = 0
        hsv[..., 1:] = factor * np.power(hsv[..., 1:], power) + shift
        clipped = slice(1, 3) if self.range_policy == "clip" else slice(1, 2)
        np.clip(hsv[..., clipped], 0, 1, out=hsv[..., clipped])
        return into_range(_float32(cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)), self.range_policy)


class HueShift(A.ImageOnlyTransform):
    """Turn the hue of every pixel by the same share of the colour circle."""

    class InitSchema(A.BasicTransform.InitSchema):
        """Checked by albumentations."""

        hue: Range
        range_policy: RangePolicy

    def __init__(self, hue: Range, range_policy: RangePolicy, p: float = 1.0):
        super().__init__(p=p)
        self.hue, self.range_policy = hue, range_policy

    def get_params(self) -> dict[str, Any]:
        """Draw the turn, 1 being the whole circle."""
        return {"turn": self.random_generator.uniform(*self.hue)}

    def apply(self, img: Image, turn: float, **params: Any) -> Image:
        """Add to the hue, cyclically."""
        hsv = cv2.cvtColor(np.clip(img, 0, 1), cv2.COLOR_RGB2HSV)
        hsv[..., 0] = np.mod(hsv[..., 0] + np.float32(360 * turn), np.float32(360))
        return into_range(_float32(cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)), self.range_policy)


def build(params: Surrogate, patch: int) -> A.Compose:
    """Build the recipe for patches of ``patch`` by ``patch`` pixels (docs/method.md, section 2).

    Call it as ``recipe(image=image, anchor=(row, column))["image"]`` after
    ``recipe.set_random_state(generator, random.Random(0))``.
    """
    policy = params.range_policy
    return A.Compose(
        [
            AnchoredCrop(patch, params.scale, params.translate.distribution, params.translate.amount),
            PCAContrast(params.pca_factor, policy),
            FlipRotate(params.flip, params.rotate),
            HSVContrast(params.hsv.power, params.hsv.factor, params.hsv.shift, policy),
            HueShift(params.hue, policy),
        ]
    )


def bind(recipe: A.Compose, generator: np.random.Generator) -> None:
    """Make every transform of the recipe draw from ``generator``."""
    # albumentations asks its second generator once a call, for a coin that p = 1 decides beforehand.
    recipe.set_random_state(generator, random.Random(0))


def draw(recipe: A.Compose, shape: tuple[int, ...], anchor: tuple[int, int]) -> Draws:
    """Draw what one call of the recipe would draw from the bound generator, without painting.

    Parameters
    ----------
    recipe
        From :func:`build`, bound to a generator.
    shape
        Of the image: height, width.
    anchor
        Row and column.
    """
    about, data = {"shape": shape}, {"anchor": anchor}
    return [
        transform.get_params() | transform.get_params_dependent_on_data(about, data) for transform in recipe.transforms
    ]
