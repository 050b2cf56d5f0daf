"""What the rest of the project means by pixels and by a pool of images, wherever these lie."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from exemplarcnn.errors import PipelineError

Pixels = npt.NDArray[np.uint8]
Indices = Sequence[int] | npt.NDArray[np.integer]


class DataError(PipelineError):
    """The data on disk is missing or inconsistent; the message says what to do about it."""


class Pool(Protocol):
    """A fixed, ordered collection of RGB images; the position of an image is its ``image_id``."""

    path: Path

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Pixels:
        """Return one image, (height, width, 3) uint8, C-contiguous."""
        ...

    def read(self, index: int) -> tuple[Pixels, str]:
        """Return one image, and what is to be said of how it was read; mostly nothing."""
        ...

    def size(self, index: int) -> tuple[int, int]:
        """Return an image's height and width, without reading its pixels."""
        ...

    def name(self, index: int) -> str:
        """Return the file of an image that has one to itself, relative to the pool, readable; else an empty string."""
        ...

    def batch(self, indices: Indices) -> Pixels:
        """Return several images of one size, (n, height, width, 3) uint8, C-contiguous."""
        ...
