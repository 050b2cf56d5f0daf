"""Mean and standard deviation of the colour channels of many patches."""

import cv2
import numpy as np
from numpy.typing import NDArray


def channel_histogram(patches: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Count how often each value occurs in each channel, (3, 256) int64, of patches (n, side, side, 3) uint8."""
    total = np.zeros((3, 256), np.int64)
    # OpenCV counts in float32, which is exact to 2**24.
    step = max(1, 2**23 // (patches.shape[1] * patches.shape[2]))
    for start in range(0, len(patches), step):
        block = patches[start : start + step].reshape(1, -1, 3)
        for channel in range(3):
            total[channel] += cv2.calcHist([block], [channel], None, [256], [0, 256]).ravel().astype(np.int64)
    return total


def channel_statistics(histogram: NDArray[np.int64]) -> tuple[list[float], list[float]]:
    """Return mean and standard deviation of each channel, in 0–1, from a histogram, (3, 256) int64.

    Sums are integers, so that the order of the patches cannot change the result (docs/method.md, section 2.4).
    """
    values, total = np.arange(256), int(histogram[0].sum())
    first, second = histogram @ values, histogram @ (values**2)
    mean = [int(s) / total / 255 for s in first]
    std = [((total * int(q) - int(s) ** 2) ** 0.5) / total / 255 for s, q in zip(first, second, strict=True)]
    return mean, std
