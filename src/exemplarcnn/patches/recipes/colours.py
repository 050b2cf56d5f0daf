"""Contrast and hue of patches (docs/method.md, section 2.2)."""

from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from exemplarcnn.patches.recipes.transform import (
    FLAT,
    BatchTransform,
    Image,
    Parameters,
    Range,
    Schema,
    Stack,
    lerp,
    uniform,
)

# For saturation and for value: one number for each patch.
Pair = tuple[NDArray[np.float64], NDArray[np.float64]]
RangePolicy = Literal["rescale", "clip"]


def into_range(patches: Stack, policy: RangePolicy) -> Stack:
    """Bring patches back to 0–1 after a colour step.

    ``rescale`` maps the smallest and the largest value over all three channels of a patch to 0 and 1; ``clip`` cuts
    off. A patch with the same value everywhere cannot be rescaled and is clipped under both.
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


class PCAContrast(BatchTransform):
    """Stretch a patch's colours along the principal axes of its own RGB pixels, each axis by its own factor."""

    parameters = ("factors",)

    class InitSchema(Schema):
        """Checked by albumentations."""

        factor: Range
        range_policy: RangePolicy

    def __init__(self, factor: Range, range_policy: RangePolicy, p: float = 1.0):
        super().__init__(p=p)
        self.factor, self.range_policy = factor, range_policy

    def draw(self, generator: np.random.Generator) -> list[float]:
        """Draw one number for each axis."""
        return uniform(generator, 3)

    def to_parameters(self, numbers: NDArray[np.float64], shape: tuple[int, ...], anchors: NDArray[Any]) -> Parameters:
        """Return one factor for each axis, (n, 3), the axis of largest variance first."""
        return {"factors": lerp(numbers, self.factor)}

    def apply_batch(self, images: Stack, drawn: Parameters) -> Stack:
        """Project on the axes, multiply, and project back."""
        planes = _split(images).reshape(3, len(images), -1)
        mean = planes.mean(axis=2)
        planes -= mean[:, :, None]
        centred = _merge(planes, images.shape)
        moments = np.empty((len(images), 3, 3))
        for i in range(3):
            for j in range(i + 1):
                moments[:, i, j] = moments[:, j, i] = np.einsum("np,np->n", planes[i], planes[j])
        # Rows are axes, the one of largest variance first.
        axes = np.stack([cv2.eigen(one)[2] for one in moments])
        matrices = np.empty((len(images), 3, 4))
        matrices[:, :, :3] = (axes.swapaxes(1, 2) * drawn["factors"][:, None, :]) @ axes
        matrices[:, :, 3] = mean.T
        stretched = np.empty_like(images)
        for patch, matrix, result in zip(centred, matrices, stretched, strict=True):
            cv2.transform(patch, matrix, dst=result)
        return into_range(stretched, self.range_policy)


class PoolPCAContrast(BatchTransform):
    """Stretch colours along the principal axes of the pool's pixels, about their mean, each axis by its own factor."""

    parameters = ("factors",)

    class InitSchema(Schema):
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

    def draw(self, generator: np.random.Generator) -> list[float]:
        """Draw one number for each axis."""
        return [*generator.standard_normal(3)]

    def to_parameters(self, numbers: NDArray[np.float64], shape: tuple[int, ...], anchors: NDArray[Any]) -> Parameters:
        """Return one factor for each axis, (n, 3), the axis of largest variance first."""
        return {"factors": 2 ** (numbers * self.deviation)}

    def matrices(self, factors: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return affine maps of colours, (n, 3, 4): three columns to multiply by, one to add."""
        axes, mean = np.array(self.axes), np.array(self.mean)
        stretch = (axes.T * factors[:, None, :]) @ axes
        return np.concatenate([stretch, (mean - stretch @ mean)[:, :, None]], axis=2)

    def apply_batch(self, images: Stack, drawn: Parameters) -> Stack:
        """Project on the axes, multiply, and project back."""
        result = np.empty_like(images)
        for patch, matrix, place in zip(images, self.matrices(drawn["factors"]), result, strict=True):
            cv2.transform(patch, matrix, dst=place)
        return into_range(result, "clip")


class HSVContrast(BatchTransform):
    """In HSV, saturation and value each become ``factor * x ** power + shift``, with the same three draws."""

    parameters = ("drawn",)

    class InitSchema(Schema):
        """Checked by albumentations."""

        power: Range
        factor: Range
        shift: Range
        range_policy: RangePolicy

    def __init__(self, power: Range, factor: Range, shift: Range, range_policy: RangePolicy, p: float = 1.0):
        super().__init__(p=p)
        self.power, self.factor, self.shift = power, factor, shift
        self.range_policy = range_policy

    def draw(self, generator: np.random.Generator) -> list[float]:
        """Draw one number each for power, factor and shift."""
        return uniform(generator, 3)

    def to_parameters(self, numbers: NDArray[np.float64], shape: tuple[int, ...], anchors: NDArray[Any]) -> Parameters:
        """Return power, factor and shift, (n, 3)."""
        ranges = zip(numbers.T, (self.power, self.factor, self.shift), strict=True)
        return {"drawn": np.stack([lerp(column, bounds) for column, bounds in ranges], axis=1)}

    def apply_batch(self, images: Stack, drawn: Parameters) -> Stack:
        """Change S and V; before the conversion to RGB, S is clipped to 0–1, V only under ``clip``."""
        power, factor, shift = drawn["drawn"].T
        return hsv_contrast(images, (power, power), (factor, factor), (shift, shift), self.range_policy)


class SeparateHSVContrast(BatchTransform):
    """In HSV, saturation and value each become ``factor * x ** power``, each with its own draws."""

    parameters = ("powers", "factors")

    class InitSchema(Schema):
        """Checked by albumentations."""

        power: Range
        factor: Range

    def __init__(self, power: Range, factor: Range, p: float = 1.0):
        super().__init__(p=p)
        self.power, self.factor = power, factor

    def draw(self, generator: np.random.Generator) -> list[float]:
        """Draw one number each for two powers, then for two factors."""
        return uniform(generator, 4)

    def to_parameters(self, numbers: NDArray[np.float64], shape: tuple[int, ...], anchors: NDArray[Any]) -> Parameters:
        """Return powers and factors, (n, 2) each, for saturation and for value."""
        return {"powers": 2 ** lerp(numbers[:, :2], self.power), "factors": 2 ** lerp(numbers[:, 2:], self.factor)}

    def apply_batch(self, images: Stack, drawn: Parameters) -> Stack:
        """Change S and V, and clip both to 0–1."""
        (power_s, power_v), (factor_s, factor_v) = drawn["powers"].T, drawn["factors"].T
        none = np.zeros(len(images))
        return hsv_contrast(images, (power_s, power_v), (factor_s, factor_v), (none, none), "clip")


def hsv_contrast(images: Stack, power: Pair, factor: Pair, shift: Pair, policy: RangePolicy) -> Stack:
    """Turn saturation and value x into ``factor * x ** power + shift``, with one draw for each patch."""
    planes = _split(_convert(images, cv2.COLOR_RGB2HSV))
    hue, *both = planes
    # Grey has no hue; rounding differences between its channels must not become one.
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


class HueShift(BatchTransform):
    """Turn the hue of every pixel by the same share of the colour circle.

    This changes neither the smallest nor the largest channel of a pixel, so that values stay in 0–1.
    """

    parameters = ("turn",)

    class InitSchema(Schema):
        """Checked by albumentations."""

        hue: Range

    def __init__(self, hue: Range, p: float = 1.0):
        super().__init__(p=p)
        self.hue = hue

    def draw(self, generator: np.random.Generator) -> list[float]:
        """Draw one number for the turn."""
        return [generator.random()]

    def to_parameters(self, numbers: NDArray[np.float64], shape: tuple[int, ...], anchors: NDArray[Any]) -> Parameters:
        """Return the turn, (n,); 1 is the full circle."""
        return {"turn": lerp(numbers[:, 0], self.hue)}

    def apply_batch(self, images: Stack, drawn: Parameters) -> Stack:
        """Add to the hue; OpenCV wraps it around when it converts back to RGB."""
        hsv = _convert(images, cv2.COLOR_RGB2HSV)
        hsv[..., 0] += (360 * (drawn["turn"] % 1)).astype(np.float32)[:, None, None]
        return _convert(hsv, cv2.COLOR_HSV2RGB)


def _rows(images: Stack) -> Image:
    """Stack patches vertically into one image."""
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
    """Merge channels into a stack of patches with the given shape."""
    merged: Any = cv2.merge([plane.reshape(-1, shape[2]) for plane in planes])
    return np.asarray(merged, np.float32).reshape(shape)
