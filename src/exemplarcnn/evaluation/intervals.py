"""How sure a difference between two rows of the report is: bootstrap over test images (docs/method.md, section 4.1)."""

import numpy as np
from numpy.typing import NDArray

from exemplarcnn import rng

ROUNDS_AT_ONCE = 500


def gain(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> NDArray[np.float64]:
    """By how many percentage points one variant is right more often than another, for each test image.

    Parameters
    ----------
    first, second
        Which test images are classified right, (folds, test images), of the same images.
    """
    difference: NDArray[np.float64] = 100 * (first.mean(axis=0) - second.mean(axis=0))
    return difference


def bootstrap(
    gains: NDArray[np.float64], seed: int, rounds: int = 10_000, level: float = 0.95
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Take percentile bootstrap intervals of means over test images.

    Parameters
    ----------
    gains
        (pairs, test images). All pairs see the same draws of images.
    seed, rounds, level
        Of the bootstrap.

    Returns
    -------
    low, high
        Ends of each pair's interval, (pairs,).
    """
    generator = rng.generator(seed, rng.Purpose.BOOTSTRAP)
    images = gains.shape[1]
    means = np.empty((rounds, len(gains)))
    for start in range(0, rounds, ROUNDS_AT_ONCE):
        some = range(start, min(start + ROUNDS_AT_ONCE, rounds))
        # How often each round has each image.
        counts = np.stack([np.bincount(generator.integers(images, size=images), minlength=images) for _ in some])
        means[start : some.stop] = counts @ gains.T / images
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return low, high
