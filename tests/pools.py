"""Pools of images for tests."""

from pathlib import Path
from typing import Any

import numpy as np


class Images:
    """A pool in memory."""

    path = Path("nowhere")

    def __init__(self, images: np.ndarray):
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> np.ndarray:
        return self.images[index]

    def batch(self, indices: Any) -> np.ndarray:
        return np.ascontiguousarray(self.images[np.asarray(indices)])
