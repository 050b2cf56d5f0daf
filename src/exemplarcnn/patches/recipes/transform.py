"""albumentations transforms that take many patches at a time.

A recipe is an albumentations ``Compose`` of :class:`BatchTransform`: it defines what a patch is (docs/method.md,
section 2). It takes ``image``, float32 of shape (height, width, 3) in 0–1, and ``anchor``, its (row, column), and gives
a float32 patch in 0–1. No transform rounds: :func:`to_uint8` does, once, at the end.

Sets are drawn by :func:`draw_parameters` and :func:`apply`, many patches at a time, with the same bytes: every
transform works on stacks of patches, and the one patch that albumentations passes is a stack of one.

All transforms have p = 1. albumentations' own coin (``p``) uses a second random generator, so the only optional step,
the flip, tosses its coin itself.
"""

import os
import random
from abc import abstractmethod
from collections.abc import Iterable
from typing import Any

# Unless told not to, albumentations looks on the internet for a newer release of itself.
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

import albumentations as A
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.float32]
# (patches, height, width, 3), contiguous.
Stack = NDArray[np.float32]
# What a transform draws, by the names of its parameters, with one row for each patch.
Parameters = dict[str, NDArray[Any]]
Range = tuple[float, float]

# As many as stay in a CPU core's cache from step to step.
PATCHES_AT_A_TIME = 32
# Differences below this are float32 rounding on a flat patch, not contrast to stretch.
FLAT = 1e-5


# albumentations has no types, so its base classes are Any.
class Schema(A.BasicTransform.InitSchema):  # type: ignore[misc]
    """Types of a transform's arguments, which albumentations checks."""


# As above.
class BatchTransform(A.ImageOnlyTransform):  # type: ignore[misc]
    """A transform of a stack of patches; called by albumentations, it transforms a stack of one."""

    parameters: tuple[str, ...]

    @abstractmethod
    def draw(self, generator: np.random.Generator) -> list[float]:
        """Draw the numbers of one patch, always equally many, uniform in 0–1 or standard normal."""

    @abstractmethod
    def to_parameters(self, numbers: NDArray[np.float64], shape: tuple[int, ...], anchors: NDArray[Any]) -> Parameters:
        """Turn drawn numbers, one row for each patch, into parameters.

        Parameters
        ----------
        numbers
            (n, numbers drawn for a patch).
        shape
            Height and width of the image, in pixels.
        anchors
            (n, 2), row and column.
        """

    @abstractmethod
    def apply_batch(self, images: Stack, drawn: Parameters) -> Stack:
        """Transform a stack of patches; each parameter has one row for each patch."""

    def get_params_dependent_on_data(self, params: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
        """Draw for the one patch that albumentations passes."""
        numbers, anchors = np.array([self.draw(self.random_generator)]), np.array([data.get("anchor", (0, 0))])
        return {
            name: column[0] for name, column in self.to_parameters(numbers, params.get("shape", ()), anchors).items()
        }

    def apply(self, img: Image, **drawn: Any) -> Image:
        """Transform the one patch that albumentations passes, with more arguments than were drawn."""
        parameters = {name: np.asarray(drawn[name])[None] for name in self.parameters}
        result: Image = self.apply_batch(np.ascontiguousarray(img)[None], parameters)[0]
        return result


def uniform(generator: np.random.Generator, number: int) -> list[float]:
    """Draw numbers uniformly in 0–1."""
    numbers: list[float] = generator.random(number).tolist()
    return numbers


def lerp(numbers: NDArray[np.float64], bounds: Range) -> NDArray[np.float64]:
    """Interpolate linearly: 0 gives the lower end of a range, 1 the upper end."""
    low, high = bounds
    return low + (high - low) * numbers


def to_uint8(patch: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Round float patches in 0–1 to uint8."""
    rounded: NDArray[np.uint8] = np.rint(np.clip(patch, 0, 1) * np.float32(255)).astype(np.uint8)
    return rounded


def bind(recipe: A.Compose, generator: np.random.Generator) -> None:
    """Make every transform of a recipe draw from ``generator``, for ``recipe(image=..., anchor=...)["image"]``.

    This is the plain way, one patch at a time. Sets are drawn by :func:`draw_parameters` and :func:`apply`, which give
    the same bytes in a fraction of the time.
    """
    # In each call albumentations asks its second generator once, for a coin that p = 1 has already decided.
    recipe.set_random_state(generator, random.Random(0))


def draw_parameters(
    recipe: A.Compose, generators: Iterable[np.random.Generator], shape: tuple[int, ...], anchors: NDArray[Any]
) -> list[Parameters]:
    """Draw what n calls of the recipe would draw, each from its own generator.

    Parameters
    ----------
    recipe
        The recipe to draw for.
    generators
        One for each of n patches; they may be one object that is set to a new stream each time.
    shape
        Height and width of the image, in pixels.
    anchors
        (n, 2), row and column.

    Returns
    -------
    list
        The parameters of each transform, in the order of the recipe.
    """
    transforms = recipe.transforms
    numbers = zip(*([transform.draw(generator) for transform in transforms] for generator in generators), strict=True)
    return [
        transform.to_parameters(np.array(rows), shape, anchors)
        for transform, rows in zip(transforms, numbers, strict=True)
    ]


def apply(recipe: A.Compose, images: Stack, parameters: list[Parameters]) -> NDArray[np.uint8]:
    """Return the patches, (n, side, side, 3) uint8, that a recipe makes with the given parameters.

    Parameters
    ----------
    recipe
        The recipe to apply.
    images
        (1 or n, height, width, 3) float32 in 0–1: one image for all patches, or one for each.
    parameters
        From :func:`draw_parameters`.
    """
    for transform, drawn in zip(recipe.transforms, parameters, strict=True):
        images = transform.apply_batch(images, drawn)
    return to_uint8(images)
