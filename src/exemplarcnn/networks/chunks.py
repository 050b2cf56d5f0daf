"""Chunks of one fixed size, in which images go through a network (docs/method.md, section 4)."""

import numpy as np
from numpy.typing import NDArray


def padded_chunks(count: int, size: int) -> list[tuple[NDArray[np.int64], int]]:
    """Split rows into chunks of one size.

    Matrix products of different shapes differ in their last bits. With one size, neither the number of images nor the
    other images can change an image's result.

    Parameters
    ----------
    count
        Number of rows.
    size
        Rows in each chunk.

    Returns
    -------
    list
        For each chunk its rows, (size,) int64, and how many of them count. The last chunk is padded with the last row.
    """
    return [
        (np.minimum(np.arange(start, start + size), count - 1), min(size, count - start))
        for start in range(0, count, size)
    ]
