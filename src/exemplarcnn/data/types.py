"""Types that the whole project shares: pixels, and pools of images wherever they are stored."""

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
        """Return one image, and a remark on how it was read, mostly an empty string."""
        ...

    def size(self, index: int) -> tuple[int, int]:
        """Return an image's height and width in pixels, without decoding it."""
        ...

    def name(self, index: int) -> str:
        """Return an image's own file, relative to the pool, readable; an empty string if it has none."""
        ...

    def batch(self, indices: Indices) -> Pixels:
        """Return several images of one size, (n, height, width, 3) uint8, C-contiguous."""
        ...
