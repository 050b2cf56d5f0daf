"""Bootstrap intervals over test images for the difference of two rows of the report (docs/method.md, section 4.1)."""

import numpy as np
from numpy.typing import NDArray

from exemplarcnn import rng

ROUNDS_AT_ONCE = 500


def gain(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return for each test image by how many percentage points ``first`` is right more often than ``second``.

    Parameters
    ----------
    first, second
        Which predictions are right, (folds, test images) bool, of the same images.

    Returns
    -------
    ndarray
        (test images,) float64, mean over the folds.

    Raises
    ------
    ValueError
        If they are not two arrays of as many images.
    """
    if first.ndim != 2 or second.ndim != 2 or first.shape[1] != second.shape[1]:
        raise ValueError(
            f"expected two arrays of (folds, test images) of the same images, found {first.shape} and {second.shape}"
        )
    difference: NDArray[np.float64] = 100 * (first.mean(axis=0) - second.mean(axis=0))
    return difference


def bootstrap(
    gains: NDArray[np.float64], seed: int, rounds: int = 10_000, level: float = 0.95
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Compute percentile bootstrap intervals of means over test images.

    Parameters
    ----------
    gains
        (pairs, test images), in percentage points. All pairs use the same draws of images.
    seed, rounds, level
        The experiment's seed, the number of bootstrap rounds, the interval's coverage in 0–1.

    Returns
    -------
    low, high
        Ends of each pair's interval, (pairs,), in percentage points.

    Raises
    ------
    ValueError
        If ``gains`` has another shape.
    """
    if gains.ndim != 2 or gains.shape[1] == 0:
        raise ValueError(f"expected gains of (pairs, test images), found {gains.shape}; of one pair, give gains[None]")
    generator = rng.generator(seed, rng.Purpose.BOOTSTRAP)
    images = gains.shape[1]
    means = np.empty((rounds, len(gains)))
    for start in range(0, rounds, ROUNDS_AT_ONCE):
        some = range(start, min(start + ROUNDS_AT_ONCE, rounds))
        # How often each image occurs in each round.
        counts = np.stack([np.bincount(generator.integers(images, size=images), minlength=images) for _ in some])
        means[start : some.stop] = counts @ gains.T / images
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return low, high
