"""Pools of images for tests."""

from pathlib import Path

import numpy as np

from exemplarcnn.data.types import Indices, Pixels


class Images:
    """A pool in memory."""

    path = Path("nowhere")

    def __init__(self, images: Pixels):
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Pixels:
        pixels: Pixels = self.images[index]
        return pixels

    def read(self, index: int) -> tuple[Pixels, str]:
        return self[index], ""

    def size(self, index: int) -> tuple[int, int]:
        height, width, _ = self[index].shape
        return height, width

    def name(self, index: int) -> str:
        return ""

    def batch(self, indices: Indices) -> Pixels:
        return np.ascontiguousarray(self.images[np.asarray(indices)])
