"""Near pairs on disk while a search is not complete: after a kill it goes on with the next block."""

import json
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exemplarcnn.files import atomic_write

Pairs = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]

SECONDS = 20.0  # between two times that pairs are made safe on the disk
RECORD = np.dtype([("first", "<i8"), ("second", "<i8"), ("distance", "<f8")])


class KeptPairs:
    """The pairs that one search has found.

    Parameters
    ----------
    folder
        Where they are kept, for these points alone; None keeps nothing.
    name
        Of the search.
    setting
        What its blocks and pairs depend on beside the points. What another setting has left is not used.

    Attributes
    ----------
    blocks
        Number of blocks that are done.
    pairs
        What was found in them by an earlier process.
    """

    def __init__(self, folder: Path | None, name: str, setting: dict[str, Any]):
        self._folder, self._name, self._setting = folder, name, setting
        self.blocks, size = 0, 0
        self._new: list[Pairs] = []
        found = np.empty(0, RECORD)
        if folder is not None:
            if self._state.exists():
                state = json.loads(self._state.read_text(encoding="utf-8"))
                whole = self._file.exists() and self._file.stat().st_size >= state["bytes"]
                if whole and state["setting"] == json.loads(json.dumps(setting)):
                    self.blocks, size = state["blocks"], state["bytes"]
                    found = np.fromfile(self._file, RECORD, size // RECORD.itemsize)
            with self._file.open("ab") as file:
                file.truncate(size)  # whatever was written after the state was
        self.pairs: Pairs = found["first"], found["second"], found["distance"]
        self._saved = time.monotonic()

    @property
    def _file(self) -> Path:
        assert self._folder is not None
        return self._folder / f"{self._name}.pairs"

    @property
    def _state(self) -> Path:
        return self._file.with_suffix(".json")

    def add(self, pairs: Pairs) -> None:
        """Add the pairs of the next block."""
        self.blocks += 1
        if self._folder is not None:
            self._new.append(pairs)
            if time.monotonic() - self._saved > SECONDS:
                self.save()

    def save(self) -> None:
        """Write what has been added, and then how far the search is."""
        if self._folder is None:
            return
        with self._file.open("ab") as file:
            for first, second, distances in self._new:
                records = np.empty(len(first), RECORD)
                records["first"], records["second"], records["distance"] = first, second, distances
                file.write(records.tobytes())
            file.flush()
            os.fsync(file.fileno())
            size = file.tell()
        with atomic_write(self._state) as partial:
            about = {"setting": self._setting, "blocks": self.blocks, "bytes": size}
            partial.write_text(json.dumps(about), encoding="utf-8")
        self._new, self._saved = [], time.monotonic()
