"""Keep two processes from writing the same unfinished work."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from exemplarcnn.errors import PipelineError


class LockedError(PipelineError):
    """Another process is at the same work."""


@contextmanager
def exclusive_lock(
    folder: Path, doing: str, acquire: Callable[[Callable[[], None]], object] = lambda lock: lock()
) -> Iterator[None]:
    """Lock a folder of unfinished work.

    Parameters
    ----------
    folder
        The folder; the lock is the file FOLDER.lock beside it.
    doing
        What is done in it, for the error: "another process is ...".
    acquire
        Calls the function that it gets, which takes the lock: of several processes at one work, in one of them.

    Raises
    ------
    LockedError
        If another process holds the lock.
    """
    lock = FileLock(folder.with_name(f"{folder.name}.lock"))

    def take() -> None:
        folder.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise LockedError(
                f"another process is {doing} (it holds {lock.lock_file}); wait for it or end it, then rerun: finished "
                "work is kept"
            ) from None

    acquire(take)
    try:
        yield
    finally:
        lock.release()
