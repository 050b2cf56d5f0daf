"""Chunks of one fixed size, in which images go through a network (docs/method.md, section 4)."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exemplarcnn import threads
from exemplarcnn.data.types import Pixels


def padded_chunks(count: int, size: int, first: int = 0) -> list[tuple[NDArray[np.int64], int]]:
    """Split rows into chunks of one size.

    Matrix products of different shapes differ in their last bits. With one size, neither the number of images nor the
    other images can change an image's result.

    Parameters
    ----------
    count
        Number of rows.
    size
        Rows in each chunk.
    first
        The row to begin with, the first one of a chunk.

    Returns
    -------
    list
        For each chunk its rows, (size,) int64, and how many of them count. The last chunk is padded with the last row.
    """
    return [
        (np.minimum(np.arange(start, start + size), count - 1), min(size, count - start))
        for start in range(first, count, size)
    ]


def map_chunks(
    read: Callable[[NDArray[np.int64]], Pixels],
    work: Callable[[Pixels], NDArray[Any]],
    count: int,
    size: int,
    first: int = 0,
) -> Iterator[tuple[slice, NDArray[Any]]]:
    """Read images and apply a function to them, chunk by chunk; the threads of this process do the next ones meanwhile.

    Parameters
    ----------
    read
        From the rows of a chunk, (size,), to its images; called by one thread.
    work
        From these images to a result for each; called by `threads.count` threads.
    count, size, first
        As for `padded_chunks`.

    Yields
    ------
    rows, result
        Of each chunk in turn, without its padding.
    """
    chunks = padded_chunks(count, size, first)
    images = threads.ahead(read, (rows for rows, _ in chunks))
    results = threads.ahead(work, images, threads.count())
    for start, (_, counting), result in zip(range(first, count, size), chunks, results, strict=True):
        yield slice(start, start + counting), result[:counting]
