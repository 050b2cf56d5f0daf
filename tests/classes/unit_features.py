"""Features of unit length, for the tests of this folder."""

import numpy as np
from numpy.typing import NDArray


def unit(seed: int, n: int, d: int = 4) -> NDArray[np.float32]:
    points = np.random.default_rng(seed).normal(size=(n, d)).astype(np.float32)
    return np.asarray(points / np.linalg.norm(points, axis=1, keepdims=True), np.float32)
