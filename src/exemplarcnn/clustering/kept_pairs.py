"""Near pairs on disk while a search is not complete: after a kill it goes on with the next block."""

from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exemplarcnn.unfinished import Growing

Pairs = tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.float64]]

RECORD = np.dtype([("first", "<i4"), ("second", "<i4"), ("distance", "<f8")])


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
