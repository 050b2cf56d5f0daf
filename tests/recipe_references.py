"""Transforms in slow float64, written from the words of docs/method.md, section 2, and images to try them on."""

import colorsys
import math
import random
from typing import Any

import albumentations as A
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from exemplarcnn.data.colour_axes import Axes
from exemplarcnn.patches.recipes.geometry import RotatedCrop
from exemplarcnn.patches.recipes.transform import Parameters, bind

Image = NDArray[np.float32]
Exact = NDArray[np.float64]

POLICIES = ["rescale", "clip"]
COLOURS = {
    "black": (0, 0, 0),
    "white": (255, 255, 255),
    "grey": (100, 100, 100),
    "dark": (1, 1, 1),
    "red": (255, 0, 0),
    "brown": (130, 90, 60),
    "almost grey": (100, 101, 100),
}


def noise(*shape: int, seed: int = 0) -> Image:
    return np.random.default_rng(seed).random(shape, dtype=np.float32)


def photo(height: int, width: int, seed: int = 0) -> Image:
    """Correlated colours and smooth shapes, as 8-bit values in 0–1."""
    draw = np.random.default_rng(seed)
    layers = ndimage.gaussian_filter(draw.random((height, width, 3)), (3, 3, 0))
    mixed = layers @ np.array([[1, 0.8, 0.6], [0.1, -0.3, 0.2], [-0.1, 0.1, 0.3]])
    mixed = (mixed - mixed.min()) / (np.ptp(mixed) or 1)
    return np.asarray(np.rint(mixed * 255) / 255, np.float32)


def drawing(transform: A.BasicTransform, seed: int = 0) -> A.BasicTransform:
    transform.set_random_state(np.random.default_rng(seed), random.Random(0))
    return transform


def run(compose: A.Compose, image: Image, anchor: tuple[int, int], seed: int) -> Image:
    bind(compose, np.random.default_rng(seed))
    result: Image = compose(image=image, anchor=anchor)["image"]
    return result


DRAWN = [(0.25, 1.4, 0.1), (4.0, 0.7, -0.1), (1.0, 1.0, 0.0), (0.6, 1.3, -0.07), (2.3, 0.8, 0.05)]
AXES = Axes(
    (0.4, 0.5, 0.45),
    ((0.6, 0.0, 0.8), (0.0, 1.0, 0.0), (0.8, 0.0, -0.6)),
    (0.09, 0.02, 0.01),
)


# References


def mirror(index: int, size: int) -> int:
    """Index into an image that is followed, beyond its border, by its mirror image: c b a | a b c | c b a."""
    index %= 2 * size
    return index if index < size else 2 * size - 1 - index


def resize_reference(image: NDArray[Any], height: int, width: int) -> Exact:
    result = np.zeros((height, width, 3))
    for i in range(height):
        y = (i + 0.5) * image.shape[0] / height - 0.5
        for j in range(width):
            x = (j + 0.5) * image.shape[1] / width - 0.5
            top, left = math.floor(y), math.floor(x)
            for row, by_row in ((top, top + 1 - y), (top + 1, y - top)):
                for column, by_column in ((left, left + 1 - x), (left + 1, x - left)):
                    pixel = image[mirror(row, image.shape[0]), mirror(column, image.shape[1])]
                    result[i, j] += by_row * by_column * pixel.astype(float)
    return result


def range_reference(patch: Exact, policy: str) -> Exact:
    if policy == "clip":
        return np.minimum(np.maximum(patch, 0), 1)
    low, high = patch.min(), patch.max()
    # Nothing to stretch in a patch of one value, up to float32's rounding.
    return np.minimum(np.maximum(patch, 0), 1) if high - low < 1e-5 else (patch - low) / (high - low)


def pca_reference(patch: NDArray[Any], factors: NDArray[np.float64], policy: str) -> Exact:
    pixels = patch.reshape(-1, 3).astype(float)
    mean = pixels.mean(axis=0)
    values, vectors = np.linalg.eigh(np.cov(pixels, rowvar=False))
    result = np.tile(mean, (len(pixels), 1))
    for factor, axis in zip(factors, np.argsort(values)[::-1], strict=True):
        direction = vectors[:, axis]
        for index, pixel in enumerate(pixels):
            result[index] += factor * np.dot(pixel - mean, direction) * direction
    return range_reference(result.reshape(patch.shape), policy)


def rotate_reference(patch: NDArray[Any], mirrored: bool, angle: float) -> Exact:
    patch = patch.astype(float)
    if mirrored:
        patch = np.stack([patch[:, -1 - column] for column in range(patch.shape[1])], axis=1)
    cosine, sine = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    # Counter-clockwise as seen: rows grow downwards. The matrix goes from the new pixel back to the old one.
    back = np.array([[cosine, sine], [-sine, cosine]])
    centre = (np.array(patch.shape[:2]) - 1) / 2
    offset = centre - back @ centre
    # scipy's "mirror" is d c b | a b c d | c b a, OpenCV's BORDER_REFLECT_101.
    channels = [ndimage.affine_transform(patch[..., c], back, offset, order=1, mode="mirror") for c in range(3)]
    return np.stack(channels, axis=2)


def hsv_reference(patch: NDArray[Any], drawn: tuple[float, float, float], policy: str) -> Exact:
    power, factor, shift = drawn
    result = np.empty(patch.shape)
    for place in np.ndindex(patch.shape[:2]):
        h, s, v = colorsys.rgb_to_hsv(*patch[place].astype(float))
        s, v = factor * s**power + shift, factor * v**power + shift
        v = min(max(v, 0.0), 1.0) if policy == "clip" else v
        result[place] = colorsys.hsv_to_rgb(h, min(max(s, 0.0), 1.0), v)
    return range_reference(result, policy)


def hue_reference(patch: NDArray[Any], turn: float) -> Exact:
    result = np.empty(patch.shape)
    for place in np.ndindex(patch.shape[:2]):
        h, s, v = colorsys.rgb_to_hsv(*patch[place].astype(float))
        result[place] = colorsys.hsv_to_rgb((h + turn) % 1.0, s, v)
    return result


CROP: dict[str, Any] = {"patch": 12, "scale": (-0.5, 0.5), "amount": 0.25, "limit": 20.0, "tries": 20}


def crop(**changed: Any) -> RotatedCrop:
    return RotatedCrop(**(CROP | changed))


def draw_many(step: Any, number: int, shape: tuple[int, int] = (96, 96), anchor: Any = (48, 48)) -> Parameters:
    generator = np.random.default_rng(0)
    numbers = np.array([step.draw(generator) for _ in range(number)])
    columns: Parameters = step.to_parameters(numbers, shape, np.tile(anchor, (number, 1)))
    return columns


def crop_reference(image: NDArray[Any], centre: Any, factor: float, angle: float, side: int) -> NDArray[np.float64]:
    """Look up where each pixel of the patch comes from."""
    result = np.empty((side, side, 3))
    cosine, sine = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    for i in range(side):
        for j in range(side):
            down, across = i - (side - 1) / 2, j - (side - 1) / 2
            row = centre[0] - 0.5 + (sine * across + cosine * down) / factor
            column = centre[1] - 0.5 + (cosine * across - sine * down) / factor
            for channel in range(3):
                # "nearest" repeats the outermost pixel.
                result[i, j, channel] = ndimage.map_coordinates(
                    image[..., channel].astype(float), [[row], [column]], order=1, mode="nearest"
                )[0]
    return result


def pool_pca_reference(patch: NDArray[Any], factors: Any) -> NDArray[np.float64]:
    result = np.tile(np.array(AXES.mean), (*patch.shape[:2], 1))
    for place in np.ndindex(patch.shape[:2]):
        for factor, axis in zip(factors, np.array(AXES.axes), strict=True):
            result[place] += factor * np.dot(patch[place].astype(float) - AXES.mean, axis) * axis
    return np.asarray(np.clip(result, 0, 1))
