"""Features of overlapping classes, for the tests of this folder."""

import numpy as np
from numpy.typing import NDArray


def toy(
    count: int, width: int = 20, classes: int = 4, seed: int = 0, noise: float = 1.0
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Overlapping classes around means that are the same for every seed."""
    means = np.random.default_rng(99).normal(size=(classes, width))
    labels = np.arange(count) % classes
    features = means[labels] + noise * np.random.default_rng(seed).normal(size=(count, width))
    return features.astype(np.float32), labels.astype(np.int64)
