"""Work that takes minutes or hours: after a kill it goes on with what is on the disk."""

import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from exemplarcnn.files import atomic_write, named
from exemplarcnn.locks import exclusive_lock

SECONDS = 20.0  # between two times that what is written is made safe


@contextmanager
def unfinished(
    folder: Path, identity: str, once: Callable[[Callable[[], None]], object] = lambda work: work()
) -> Iterator[Path]:
    """Open a folder of unfinished files for one piece of work; remove it if the block succeeds.

    Parameters
    ----------
    folder
        The folder. One with the same identity is kept as it is, another one is emptied.
    identity
        A hash of everything that the bytes in the folder depend on.
    once
        Calls the function that it is given, in this process; or, where several processes do the work, in one of them,
        while the others wait.

    Raises
    ------
    LockedError
        If another process works in it.
    """
    # Written last and removed first: if it exists, what else is there is of this identity, and whole.
    mark = folder / "identity"

    def remove() -> None:
        mark.unlink(missing_ok=True)
        shutil.rmtree(folder)

    def prepare() -> None:
        if not mark.exists() or mark.read_text(encoding="utf-8") != identity:
            if folder.exists():
                remove()
            folder.mkdir(parents=True)
            mark.write_text(identity, encoding="utf-8")

    with exclusive_lock(folder, f"computing {folder.name}", once):
        once(prepare)
        yield folder
        once(lambda: None)  # until none of them can fail any more
        once(remove)


class Growing:
    """A file that work appends to, beside a record of how far it is, which holds after a kill.

    A context manager, which closes the file.

    Parameters
    ----------
    path
        The file. It is continued from what its record says, or begun anew if the record is missing, cannot be read, is
        of another setting, or of more bytes than there are.
    setting
        A JSON value: what the bytes depend on, beside the identity of the folder.

    Attributes
    ----------
    progress
        How far the work is, in its own units; 0 at the beginning.
    """

    def __init__(self, path: Path, setting: Any = None):
        self.path, self._record = path, path.with_suffix(".json")
        self._setting = json.loads(json.dumps(setting))
        self.progress, size = self._recorded()
        if size == 0:
            self._record.unlink(missing_ok=True)  # before the file changes, of which it speaks
        with named(self.path):
            self._file = path.open("r+b" if path.exists() else "w+b")
            self._file.truncate(size)  # whatever was written after the record was
            self._file.seek(size)
        self._saved = time.monotonic()

    def _recorded(self) -> tuple[int, int]:
        # What a power failure has left may be anything.
        with suppress(FileNotFoundError, ValueError, KeyError, TypeError):
            found = json.loads(self._record.read_text(encoding="utf-8"))
            if found["setting"] == self._setting and self.path.stat().st_size >= found["bytes"]:
                return int(found["progress"]), int(found["bytes"])
        return 0, 0

    @property
    def bytes(self) -> int:
        """Bytes in the file."""
        return self._file.tell()

    def write(self, data: Any, progress: int) -> None:
        """Append bytes; how far the work then is, is recorded now and then.

        Raises
        ------
        OSError
            If they cannot be written, for instance because the disk is full; it names the file.
        """
        with named(self.path):
            self._file.write(data)
        self.progress = progress
        if time.monotonic() - self._saved > SECONDS:
            self.record()

    def record(self) -> None:
        """Record how far the work is, once its bytes are safe."""
        with named(self.path):
            self._file.flush()
            os.fsync(self._file.fileno())
        about = {"setting": self._setting, "progress": self.progress, "bytes": self.bytes}
        with atomic_write(self._record) as partial:
            partial.write_text(json.dumps(about), encoding="utf-8")
        self._saved = time.monotonic()

    def __enter__(self) -> "Growing":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with named(self.path):
            self._file.close()
