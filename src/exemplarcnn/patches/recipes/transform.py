"""Transforms of many patches at a time, as albumentations has them for one.

A recipe is an albumentations ``Compose`` of :class:`BatchTransform`: it defines what a patch is (docs/method.md,
section 2). It takes ``image``, float32 of shape (height, width, 3) in 0–1, and ``anchor``, its (row, column), and gives
a float32 patch in 0–1. No transform rounds: :func:`to_uint8` does, once, at the end.

Sets are drawn by :func:`draw_parameters` and :func:`apply`, many patches at a time, to the same bytes: every transform
works on stacks of patches, and albumentations, which calls one patch at a time, is given a stack of one.

All transforms have p = 1. albumentations' own coin (``p``) uses a second random generator, so the one step
that is optional, the flip, draws its coin itself.
"""

import os
import random
from abc import abstractmethod
from collections.abc import Iterable
from typing import Any

# albumentations asks the network for a newer release of itself unless told not to.
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

import albumentations as A
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.float32]
# (patches, height, width, 3), contiguous.
Stack = NDArray[np.float32]
# What a transform draws, one row a patch, by the names of its parameters.
Parameters = dict[str, NDArray[Any]]
Range = tuple[float, float]

# As many as stay in a core's cache from step to step.
PATCHES_AT_A_TIME = 32
# Differences below this are rounding noise of float32 on an even patch, not contrast to be stretched.
FLAT = 1e-5


# albumentations has no types, so its base classes are Any.
class Schema(A.BasicTransform.InitSchema):  # type: ignore[misc]
    """Types of a transform's arguments, which albumentations checks."""


# As above.
class BatchTransform(A.ImageOnlyTransform):  # type: ignore[misc]
    """A transform that draws and computes for a stack of patches; for albumentations, for a stack of one."""

    parameters: tuple[str, ...]

    @abstractmethod
    def draw(self, generator: np.random.Generator) -> list[float]:
        """Draw what one patch needs: always as many numbers, in 0–1 or of the standard normal distribution."""

    @abstractmethod
    def to_parameters(self, numbers: NDArray[np.float64], shape: tuple[int, ...], anchors: NDArray[Any]) -> Parameters:
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
    def apply_batch(self, images: Stack, drawn: Parameters) -> Stack:
        """Transform a stack, with one row of each parameter for each patch."""

    def get_params_dependent_on_data(self, params: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
        """Draw for the one patch of albumentations."""
        numbers, anchors = np.array([self.draw(self.random_generator)]), np.array([data.get("anchor", (0, 0))])
        return {
            name: column[0] for name, column in self.to_parameters(numbers, params.get("shape", ()), anchors).items()
        }

    def apply(self, img: Image, **drawn: Any) -> Image:
        """Transform the one patch of albumentations, which passes more than was drawn."""
        parameters = {name: np.asarray(drawn[name])[None] for name in self.parameters}
        result: Image = self.apply_batch(np.ascontiguousarray(img)[None], parameters)[0]
        return result


def uniform(generator: np.random.Generator, number: int) -> list[float]:
    """Draw numbers of the uniform distribution in 0–1."""
    numbers: list[float] = generator.random(number).tolist()
    return numbers


def lerp(numbers: NDArray[np.float64], bounds: Range) -> NDArray[np.float64]:
    """Interpolate linearly: 0 is the lower end of a range, 1 the upper one."""
    low, high = bounds
    return low + (high - low) * numbers


def to_uint8(patch: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Round float patches in 0–1 to uint8."""
    rounded: NDArray[np.uint8] = np.rint(np.clip(patch, 0, 1) * np.float32(255)).astype(np.uint8)
    return rounded


def bind(recipe: A.Compose, generator: np.random.Generator) -> None:
    """Make every transform of a recipe draw from ``generator``, for ``recipe(image=..., anchor=...)["image"]``.

    That is the plain way, one patch at a time: what sets are drawn by gives the same bytes in a fraction of the time.
    """
    # albumentations asks its second generator once a call, for a coin that p = 1 decides beforehand.
    recipe.set_random_state(generator, random.Random(0))


def draw_parameters(
    recipe: A.Compose, generators: Iterable[np.random.Generator], shape: tuple[int, ...], anchors: NDArray[Any]
) -> list[Parameters]:
    """Draw what calls of the recipe would draw, one call from each generator.

    Parameters
    ----------
    recipe
        What to draw for.
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
    transforms = recipe.transforms
    numbers = zip(*([transform.draw(generator) for transform in transforms] for generator in generators), strict=True)
    return [
        transform.to_parameters(np.array(rows), shape, anchors)
        for transform, rows in zip(transforms, numbers, strict=True)
    ]


def apply(recipe: A.Compose, images: Stack, parameters: list[Parameters]) -> NDArray[np.uint8]:
    """Return the patches, (n, side, side, 3) uint8, that the recipe makes with these parameters.

    Parameters
    ----------
    recipe
        What to apply.
    images
        (1 or n, height, width, 3) float32 in 0–1: one image for all patches, or one for each.
    parameters
        From :func:`draw_parameters`.
    """
    for transform, drawn in zip(recipe.transforms, parameters, strict=True):
        images = transform.apply_batch(images, drawn)
    return to_uint8(images)
