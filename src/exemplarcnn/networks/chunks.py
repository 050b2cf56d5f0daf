"""Chunks of one fixed size, in which images go through a network (docs/method.md, section 4)."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exemplarcnn import threads


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


def map_chunks(
    work: Callable[[NDArray[np.int64]], NDArray[Any]], count: int, size: int
) -> Iterator[tuple[slice, NDArray[Any]]]:
    """Apply a function to rows, chunk by chunk; the threads of this process do the next chunks meanwhile.

    Parameters
    ----------
    work
        From the rows of a chunk, (size,), to a result for each.
    count, size
        As for `padded_chunks`.

    Yields
    ------
    rows, result
        Of each chunk in turn, without what it was filled up with.
    """
    chunks = padded_chunks(count, size)
    results = threads.ahead(work, (rows for rows, _ in chunks), threads.count())
    for start, (_, counting), result in zip(range(0, count, size), chunks, results, strict=True):
        yield slice(start, start + counting), result[:counting]
