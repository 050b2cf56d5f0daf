"""The transformations that turn one image into many patches, as an albumentations recipe.

:func:`build` gives the ``Compose`` that defines what a patch is (docs/method.md, section 2). It takes
``image``, float32 of shape (height, width, 3) in 0–1, and ``anchor``, its (row, column), and gives a float32
patch in 0–1. No transform rounds: :func:`to_uint8` does, once, at the end.

Sets are drawn by :func:`draw` and :func:`paint`, many patches at a time, to the same bytes: every transform works on
stacks of patches, and albumentations, which calls one patch at a time, is given a stack of one.

All transforms have p = 1. albumentations' own coin (``p``) uses a second random generator, so the one step
that is optional, the flip, draws its coin itself.
"""

import os
import random
from abc import abstractmethod
from collections.abc import Iterable
from typing import Any, Literal

# albumentations asks the network for a newer release of itself unless told not to.
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

import albumentations as A
import cv2
import numpy as np
from numpy.typing import NDArray

from exemplarcnn.config import Surrogate

Image = NDArray[np.float32]
# (patches, height, width, 3), contiguous.
Stack = NDArray[np.float32]
# A number a patch for saturation, and one for value.
Pair = tuple[NDArray[np.float64], NDArray[np.float64]]
# What a transform draws, one row a patch, by the names of its parameters.
Columns = dict[str, NDArray[Any]]
RangePolicy = Literal["rescale", "clip"]
Distribution = Literal["normal", "uniform"]
Range = tuple[float, float]

# As many as stay in a core's cache from step to step.
PATCHES_AT_A_TIME = 32
# Differences below this are rounding noise of float32 on an even patch, not contrast to be stretched.
FLAT = 1e-5


def into_range(patches: Stack, policy: RangePolicy) -> Stack:
    """Bring patches back to 0–1 after a colour step.

    ``rescale`` maps the smallest and the largest value of all three channels of a patch together to 0 and 1; ``clip``
    cuts off. A patch with a single value everywhere cannot be rescaled and is clipped under both.
    """
    if policy == "clip":
        return np.clip(patches, 0, 1)
    values = patches.reshape(len(patches), -1)
    low, high = values.min(axis=1, keepdims=True), values.max(axis=1, keepdims=True)
    even = high - low <= FLAT
    result = values - np.where(even, np.float32(0), low)
    result *= 1 / np.where(even, np.float32(1), high - low)
    if even.any():
        result[even[:, 0]] = np.clip(values[even[:, 0]], 0, 1)
    return result.reshape(patches.shape)


def to_uint8(patch: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Round float patches in 0–1 to uint8."""
    rounded: NDArray[np.uint8] = np.rint(np.clip(patch, 0, 1) * np.float32(255)).astype(np.uint8)
    return rounded


def scale_bounds(scale: Range, patch: int, height: int, width: int) -> Range:
    """Range of the scale factor for one image: the lower end is raised until a patch fits."""
    fits = patch / min(height, width)
    return max(scale[0], fits), max(scale[1], fits)


def scaled_size(factor: NDArray[np.float64], patch: int, height: int, width: int) -> NDArray[np.int64]:
    """Return height and width in whole pixels after scaling, at least one patch each: (n,) factors to (n, 2)."""
    sizes: NDArray[np.int64] = np.rint(np.multiply.outer(factor, (height, width))).astype(np.int64)
    return np.maximum(sizes, patch)


def corner(
    anchor: NDArray[Any], shift: NDArray[np.float64], size: NDArray[np.int64], source: tuple[int, int], patch: int
) -> NDArray[np.int64]:
    """Return the top-left pixels of patches centred on moved anchors, clamped so that the patches stay inside.

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


class Step(A.ImageOnlyTransform):
    """A transform that draws and computes for a stack of patches; for albumentations, for a stack of one."""

    parameters: tuple[str, ...]

    @abstractmethod
    def numbers(self, generator: np.random.Generator) -> list[float]:
        """Draw what one patch needs: always as many numbers, in 0–1 or of the standard normal distribution."""

    @abstractmethod
    def columns(self, numbers: NDArray[np.float64], shape: tuple[int, ...], anchors: NDArray[Any]) -> Columns:
        """Turn drawn numbers, one row a patch, into parameters.

        Parameters
        ----------
        numbers
            (n, as many as are drawn).
        shape
            Of the image: height, width.
        anchors
            (n, 2), row and column.
        """

    @abstractmethod
    def many(self, images: Stack, columns: Columns) -> Stack:
        """Transform a stack, with one row of each parameter for each patch."""

    def get_params_dependent_on_data(self, params: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
        """Draw for the one patch of albumentations."""
        numbers, anchors = np.array([self.numbers(self.random_generator)]), np.array([data.get("anchor", (0, 0))])
        return {name: column[0] for name, column in self.columns(numbers, params.get("shape", ()), anchors).items()}

    def apply(self, img: Image, **drawn: Any) -> Image:
        """Transform the one patch of albumentations, which passes more than was drawn."""
        columns = {name: np.asarray(drawn[name])[None] for name in self.parameters}
        result: Image = self.many(np.ascontiguousarray(img)[None], columns)[0]
        return result


def evenly(generator: np.random.Generator, number: int) -> list[float]:
    """Draw numbers in 0–1."""
    numbers: list[float] = generator.random(number).tolist()
    return numbers


def spread(numbers: NDArray[np.float64], bounds: Range) -> NDArray[np.float64]:
    """Spread numbers in 0–1 evenly over a range."""
    low, high = bounds
    return low + (high - low) * numbers


class AnchoredCrop(Step):
    """Scale the image, move the anchor, cut a square patch around it."""

    parameters = ("size", "corner")

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

    def numbers(self, generator: np.random.Generator) -> list[float]:
        """Draw for the scale factor, then for the movement along rows and columns."""
        if self.distribution == "uniform":
            return evenly(generator, 3)
        return [generator.random(), *generator.standard_normal(2)]

    def columns(self, numbers: NDArray[np.float64], shape: tuple[int, ...], anchors: NDArray[Any]) -> Columns:
        """Height and width of the scaled image, and where in it the patch begins."""
        height, width = shape[:2]
        factor = spread(numbers[:, 0], scale_bounds(self.scale, self.patch, height, width))
        size = scaled_size(factor, self.patch, height, width)
        reach = self.amount * self.patch
        shift = reach * numbers[:, 1:] if self.distribution == "normal" else spread(numbers[:, 1:], (-reach, reach))
        return {"size": size, "corner": corner(anchors, shift, size, (height, width), self.patch)}

    def many(self, images: Stack, columns: Columns) -> Stack:
        """Sample, bilinearly, the pixels of the patches alone where the scaled images would have them.

        Beyond its border an image repeats its last pixel. ``images`` is one for all patches, or one for each.
        """
        per_pixel = np.array(images.shape[1:3]) / columns["size"]
        start = (columns["corner"] + 0.5) * per_pixel - 0.5
        back = np.zeros((len(start), 2, 3))
        back[:, 0, 0], back[:, 1, 1] = per_pixel[:, 1], per_pixel[:, 0]
        back[:, :, 2] = start[:, ::-1]
        return warp(images, back, self.patch, self.patch, cv2.BORDER_REPLICATE)


def warp(images: Stack, back: NDArray[np.float64], height: int, width: int, border: int) -> Stack:
    """Sample patches at the places to which matrices (n, 2, 3) bring the (x, y) of their pixels."""
    result = np.empty((len(back), height, width, 3), np.float32)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    for index, matrix in enumerate(back):
        image = images[index if len(images) > 1 else 0]
        cv2.warpAffine(image, matrix, (width, height), dst=result[index], flags=flags, borderMode=border)
    return result


class PCAContrast(Step):
    """Stretch the patch's colours along the principal axes of its own RGB pixels, each by its own factor."""

    parameters = ("factors",)

    class InitSchema(A.BasicTransform.InitSchema):
        """Checked by albumentations."""

        factor: Range
        range_policy: RangePolicy

    def __init__(self, factor: Range, range_policy: RangePolicy, p: float = 1.0):
        super().__init__(p=p)
        self.factor, self.range_policy = factor, range_policy

    def numbers(self, generator: np.random.Generator) -> list[float]:
        """Draw for one factor an axis."""
        return evenly(generator, 3)

    def columns(self, numbers: NDArray[np.float64], shape: tuple[int, ...], anchors: NDArray[Any]) -> Columns:
        """Return one factor an axis, the axis of largest variance first."""
        return {"factors": spread(numbers, self.factor)}

    def many(self, images: Stack, columns: Columns) -> Stack:
        """Project, multiply, go back."""
        planes = _split(images).reshape(3, len(images), -1)
        mean = planes.mean(axis=2)
        planes -= mean[:, :, None]
        centred = _merge(planes, images.shape)
        moments = np.empty((len(images), 3, 3))
        for i in range(3):
            for j in range(i + 1):
                moments[:, i, j] = moments[:, j, i] = np.einsum("np,np->n", planes[i], planes[j])
        # Rows are axes, that of the largest variance first.
        axes = np.stack([cv2.eigen(one)[2] for one in moments])
        matrices = np.empty((len(images), 3, 4))
        matrices[:, :, :3] = (axes.swapaxes(1, 2) * columns["factors"][:, None, :]) @ axes
        matrices[:, :, 3] = mean.T
        stretched = np.empty_like(images)
        for patch, matrix, result in zip(centred, matrices, stretched, strict=True):
            cv2.transform(patch, matrix, dst=result)
        return into_range(stretched, self.range_policy)


class FlipRotate(Step):
    """Mirror left to right with some probability, then turn, filling the corners by reflection."""

    parameters = ("mirrored", "angle")

    class InitSchema(A.BasicTransform.InitSchema):
        """Checked by albumentations."""

        flip: float
        limit: float

    def __init__(self, flip: float, limit: float, p: float = 1.0):
        super().__init__(p=p)
        self.flip, self.limit = flip, limit

    def numbers(self, generator: np.random.Generator) -> list[float]:
        """Draw for the coin and the angle."""
        return evenly(generator, 2)

    def columns(self, numbers: NDArray[np.float64], shape: tuple[int, ...], anchors: NDArray[Any]) -> Columns:
        """Return whether to mirror, and the angle in degrees, positive counter-clockwise."""
        return {"mirrored": numbers[:, 0] < self.flip, "angle": spread(numbers[:, 1], (-self.limit, self.limit))}

    def many(self, images: Stack, columns: Columns) -> Stack:
        """Turn about the centre of the patch, bilinearly."""
        height, width = images.shape[1:3]
        middle = np.array([(width - 1) / 2, (height - 1) / 2])
        angle = np.deg2rad(columns["angle"])
        cosine, sine = np.cos(angle), np.sin(angle)
        back = np.empty((len(images), 2, 3))
        back[:, :, :2] = np.moveaxis(np.array([[cosine, -sine], [sine, cosine]]), 2, 0)
        back[columns["mirrored"], 0] *= -1
        back[:, :, 2] = middle - back[:, :, :2] @ middle
        return warp(images, back, height, width, cv2.BORDER_REFLECT_101)


class HSVContrast(Step):
    """In HSV, saturation and value each become ``factor * x ** power + shift``, with the same three draws."""

    parameters = ("drawn",)

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

    def numbers(self, generator: np.random.Generator) -> list[float]:
        """Draw for power, factor and shift."""
        return evenly(generator, 3)

    def columns(self, numbers: NDArray[np.float64], shape: tuple[int, ...], anchors: NDArray[Any]) -> Columns:
        """Return power, factor and shift."""
        ranges = zip(numbers.T, (self.power, self.factor, self.shift), strict=True)
        return {"drawn": np.stack([spread(column, bounds) for column, bounds in ranges], axis=1)}

    def many(self, images: Stack, columns: Columns) -> Stack:
        """Change S and V; S is clipped to 0–1 before the way back to RGB, V only under ``clip``."""
        power, factor, shift = columns["drawn"].T
        return hsv_contrast(images, (power, power), (factor, factor), (shift, shift), self.range_policy)


def hsv_contrast(images: Stack, power: Pair, factor: Pair, shift: Pair, policy: RangePolicy) -> Stack:
    """Make ``factor * x ** power + shift`` of saturation and of value, each with one number a patch."""
    planes = _split(_convert(images, cv2.COLOR_RGB2HSV))
    hue, *both = planes
    # Grey has no hue; what rounding leaves between its channels must not become one.
    grey = both[0] * both[1] < FLAT
    if grey.any():
        hue[grey] = both[0][grey] = 0
    for channel, plane in enumerate(both):
        for index, each in enumerate(power[channel].tolist()):
            cv2.pow(plane[index], each, dst=plane[index])
        plane *= factor[channel][:, None, None].astype(np.float32)
        plane += shift[channel][:, None, None].astype(np.float32)
        if channel == 0 or policy == "clip":
            np.clip(plane, 0, 1, out=plane)
    return into_range(_convert(_merge(planes, images.shape), cv2.COLOR_HSV2RGB), policy)


class HueShift(Step):
    """Turn the hue of every pixel by the same share of the colour circle.

    Neither the smallest nor the largest channel of a pixel changes: nothing has to be brought back to 0–1.
    """

    parameters = ("turn",)

    class InitSchema(A.BasicTransform.InitSchema):
        """Checked by albumentations."""

        hue: Range

    def __init__(self, hue: Range, p: float = 1.0):
        super().__init__(p=p)
        self.hue = hue

    def numbers(self, generator: np.random.Generator) -> list[float]:
        """Draw for the turn."""
        return [generator.random()]

    def columns(self, numbers: NDArray[np.float64], shape: tuple[int, ...], anchors: NDArray[Any]) -> Columns:
        """Return the turn, 1 being the whole circle."""
        return {"turn": spread(numbers[:, 0], self.hue)}

    def many(self, images: Stack, columns: Columns) -> Stack:
        """Add to the hue; OpenCV takes it round the circle on the way back."""
        hsv = _convert(images, cv2.COLOR_RGB2HSV)
        hsv[..., 0] += (360 * (columns["turn"] % 1)).astype(np.float32)[:, None, None]
        return _convert(hsv, cv2.COLOR_HSV2RGB)


def _rows(images: Stack) -> Image:
    """Lay patches below each other, as one image."""
    return images.reshape(-1, *images.shape[2:])


def _convert(images: Stack, code: int) -> Stack:
    """Change the colour space of patches."""
    return np.asarray(cv2.cvtColor(_rows(images), code), np.float32).reshape(images.shape)


def _split(images: Stack) -> NDArray[np.float32]:
    """Return the channels, (3, n, height, width)."""
    planes = np.empty((3, *images.shape[:3]), np.float32)
    cv2.split(_rows(images), [plane.reshape(-1, images.shape[2]) for plane in planes])
    return planes


def _merge(planes: NDArray[np.float32], shape: tuple[int, ...]) -> Stack:
    """Put channels together to a stack of a shape."""
    merged: Any = cv2.merge([plane.reshape(-1, shape[2]) for plane in planes])
    return np.asarray(merged, np.float32).reshape(shape)


def build(params: Surrogate, patch: int) -> A.Compose:
    """Build the recipe `arazo` for patches of ``patch`` by ``patch`` pixels (docs/method.md, section 2.2).

    Call it as ``recipe(image=image, anchor=(row, column))["image"]`` after :func:`bind`.
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


def bind(recipe: A.Compose, generator: np.random.Generator) -> None:
    """Make every transform of the recipe draw from ``generator``."""
    # albumentations asks its second generator once a call, for a coin that p = 1 decides beforehand.
    recipe.set_random_state(generator, random.Random(0))


def draw(
    recipe: A.Compose, generators: Iterable[np.random.Generator], shape: tuple[int, ...], anchors: NDArray[Any]
) -> list[Columns]:
    """Draw what calls of the recipe would draw, one call from each generator.

    Parameters
    ----------
    recipe
        From :func:`build`.
    generators
        One for each of n patches; it may be one and the same that is set to another place for each.
    shape
        Of the image: height, width.
    anchors
        (n, 2), row and column.

    Returns
    -------
    list
        What each transform draws, in the order of the recipe.
    """
    steps = recipe.transforms
    numbers = zip(*([step.numbers(generator) for step in steps] for generator in generators), strict=True)
    return [step.columns(np.array(rows), shape, anchors) for step, rows in zip(steps, numbers, strict=True)]


def paint(recipe: A.Compose, images: Stack, draws: list[Columns]) -> NDArray[np.uint8]:
    """Return the patches, (n, side, side, 3) uint8, that the recipe makes with these draws.

    Parameters
    ----------
    recipe
        From :func:`build`.
    images
        (1 or n, height, width, 3) float32 in 0–1: one image for all patches, or one for each.
    draws
        From :func:`draw`.
    """
    for step, columns in zip(recipe.transforms, draws, strict=True):
        images = step.many(images, columns)
    return to_uint8(images)
