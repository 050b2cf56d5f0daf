"""One process at a time in a folder."""

import fcntl
import os
import sys
from pathlib import Path

_locks: dict[Path, int] = {}


def lock(folder: Path) -> int:
    """Keep other processes out of a workspace until this one and the DVC command that it runs have ended.

    Returns the descriptor of the locked file: who inherits it holds the lock, too. A process may ask again.
    """
    if folder not in _locks:
        folder.mkdir(parents=True, exist_ok=True)
        file = os.open(folder / "benchmark.lock", os.O_RDWR | os.O_CREAT)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(file)
            sys.exit(f"error: another benchmark, or a DVC command of one, works in {folder}; wait for it, or end it")
        _locks[folder] = file
    return _locks[folder]
