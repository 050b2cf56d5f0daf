"""Near pairs on disk while a search is not complete: after a kill it goes on with the next block."""

from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exemplarcnn.unfinished import Growing

Pairs = tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.float64]]

RECORD = np.dtype([("first", "<i4"), ("second", "<i4"), ("distance", "<f8")])


class PairList:
    """Pairs in three arrays that grow to twice their size when they are full.

    Many small arrays instead, kept while large ones come and go, would lie between these, so that the memory of large
    ones could not be used again: with 300,000 points, 116,000 pairs held 8 GB.
    """

    def __init__(self) -> None:
        self._columns: Pairs = _room(1024)
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, pairs: Pairs) -> None:
        """Add pairs at the end."""
        end = self._count + len(pairs[0])
        if end > len(self._columns[0]):
            before, self._columns = self.pairs, _room(2 * end)
            self._put(before, 0)
        self._put(pairs, self._count)
        self._count = end

    def _put(self, pairs: Pairs, place: int) -> None:
        end = place + len(pairs[0])
        first, second, distances = self._columns
        first[place:end], second[place:end], distances[place:end] = pairs

    @property
    def pairs(self) -> Pairs:
        """What was added, not copied."""
        first, second, distances = self._columns
        return first[: self._count], second[: self._count], distances[: self._count]


def _room(count: int) -> Pairs:
    return np.empty(count, np.int32), np.empty(count, np.int32), np.empty(count)


class KeptPairs:
    """The pairs that one search has found.

    A context manager: if no error ends it, it records how far the search is.

    Parameters
    ----------
    path
        The file that they are kept in; None keeps nothing.
    setting
        What blocks and pairs depend on. What another setting has left is not used.

    Attributes
    ----------
    blocks
        Number of blocks that are done.
    pairs
        What was found in them by an earlier process.
    """

    def __init__(self, path: Path | None, setting: dict[str, Any]):
        self._file = None if path is None else Growing(path, setting | {"bytes of a pair": RECORD.itemsize})
        found = np.empty(0, RECORD)
        if self._file is not None and path is not None:
            found = np.fromfile(path, RECORD, self._file.bytes // RECORD.itemsize)
        self.blocks = 0 if self._file is None else self._file.progress
        self.pairs: Pairs = found["first"], found["second"], found["distance"]

    def add(self, pairs: Pairs) -> None:
        """Add the pairs of the next block."""
        self.blocks += 1
        if self._file is not None:
            records = np.empty(len(pairs[0]), RECORD)
            records["first"], records["second"], records["distance"] = pairs
            self._file.write(records.tobytes(), self.blocks)

    def __enter__(self) -> "KeptPairs":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            with self._file:
                if error is None:
                    self._file.record()
