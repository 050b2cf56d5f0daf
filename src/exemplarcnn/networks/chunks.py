"""Chunks of one fixed size: how every image goes through a network (docs/method.md, section 4)."""

import numpy as np
from numpy.typing import NDArray


def padded_chunks(count: int, size: int) -> list[tuple[NDArray[np.int64], int]]:
    """Split rows into chunks of one size, so that neither the number of images nor the other ones can change a result.

    Products of matrices of another shape differ in their last bits.

    Parameters
    ----------
    count
        How many rows there are.
    size
        Of each chunk.

    Returns
    -------
    list
        For each chunk its rows, (size,), and how many of them count: the last one is filled up with the last row.
    """
    return [
        (np.minimum(np.arange(start, start + size), count - 1), min(size, count - start))
        for start in range(0, count, size)
    ]
