"""Arrays with a row for each image that take minutes or hours: after a kill the work goes on with the next row."""

import json
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from exemplarcnn.data.types import Pixels
from exemplarcnn.files import atomic_write
from exemplarcnn.locks import exclusive_lock
from exemplarcnn.networks.chunks import map_chunks
from exemplarcnn.progress import tqdm

SECONDS = 20.0  # between two times that rows are made safe on the disk


def written(file: BinaryIO, count: int, blocks: Iterable[tuple[slice, NDArray[Any]]]) -> Iterator[int]:
    """Write blocks of rows into a ``.npy`` file one after the other, and yield the rows in it after each.

    Parameters
    ----------
    file
        At its end. Its header is written if nothing is.
    count
        Rows that there will be in all.
    blocks
        Where each block goes, and its rows, in order.
    """
    for rows, found in blocks:
        block = np.ascontiguousarray(found, found.dtype.newbyteorder("<"))
        if file.tell() == 0:
            header = {"descr": block.dtype.str, "fortran_order": False, "shape": (count, *block.shape[1:])}
            np.lib.format.write_array_header_1_0(file, header)
        file.write(block.data)
        yield rows.stop


class Unfinished:
    """A folder of arrays for one piece of work.

    Parameters
    ----------
    folder
        The folder. One with the same identity is continued, another one is removed.
    identity
        A hash of everything that the bytes of the arrays depend on.
    """

    def __init__(self, folder: Path, identity: str):
        self.folder = folder
        mark = folder / "identity"
        if not mark.exists() or mark.read_text(encoding="utf-8") != identity:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            mark.write_text(identity, encoding="utf-8")

    def array(
        self,
        name: str,
        read: Callable[[NDArray[np.int64]], Pixels],
        work: Callable[[Pixels], NDArray[Any]],
        count: int,
        batch_size: int,
        label: str,
    ) -> Path:
        """Compute a row for each image, from the first that is not on the disk.

        Parameters
        ----------
        name
            Of the file, without its suffix.
        read, work, count, batch_size
            As for `chunks.map_chunks`.
        label
            Of the progress bar.

        Returns
        -------
        Path
            The complete ``.npy`` file, (count, ...) in the type that ``work`` returns.
        """
        path = self.folder / f"{name}.npy"
        if path.exists():
            return path
        partial, state = path.with_suffix(".partial"), path.with_suffix(".json")
        done, size = _progress(partial, state)
        # Not a memory map: with one, a full disk kills the process without an error message.
        with (
            _named(partial),
            partial.open("r+b" if done else "wb") as file,
            tqdm(total=count, initial=done, desc=label, unit="image") as bar,
        ):
            file.truncate(size)  # whatever was written after the progress was
            file.seek(size)
            saved = time.monotonic()
            for reached in written(file, count, map_chunks(read, work, count, batch_size, done)):
                bar.update(reached - done)
                done = reached
                if time.monotonic() - saved > SECONDS:
                    _save(state, file, done)
                    saved = time.monotonic()
            _save(state, file, done)
        partial.replace(path)
        return path


def _progress(partial: Path, state: Path) -> tuple[int, int]:
    """Return how many rows are on the disk, and how many bytes of their file these take."""
    try:
        found = json.loads(state.read_text(encoding="utf-8"))
        if partial.stat().st_size >= found["bytes"]:
            return found["rows"], found["bytes"]
    except (FileNotFoundError, ValueError, KeyError, TypeError):  # nothing there, or what a power failure has left
        pass
    return 0, 0


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Let the error of a full disk, which names no file, name one."""
    try:
        yield
    except OSError as error:
        if error.errno and not error.filename:
            error.filename = str(path)
        raise


def _save(state: Path, file: BinaryIO, rows: int) -> None:
    """Record rows, once they are on the disk."""
    file.flush()
    os.fsync(file.fileno())
    with atomic_write(state) as partial:
        partial.write_text(json.dumps({"rows": rows, "bytes": file.tell()}), encoding="utf-8")


@contextmanager
def unfinished(folder: Path, identity: str) -> Iterator[Unfinished]:
    """Open a folder of arrays for one process; remove it if the block succeeds.

    Parameters
    ----------
    folder, identity
        As for `Unfinished`.

    Raises
    ------
    LockedError
        If another process works in it.
    """
    with exclusive_lock(folder, f"computing {folder.name}"):
        yield Unfinished(folder, identity)
        shutil.rmtree(folder)
