"""Folders of work that takes minutes or hours: after a kill it goes on with what is there."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from exemplarcnn.locks import exclusive_lock


@contextmanager
def unfinished(
    folder: Path, identity: str, once: Callable[[Callable[[], None]], object] = lambda work: work()
) -> Iterator[Path]:
    """Open a folder of unfinished work for one piece of work; remove it if the block succeeds.

    Parameters
    ----------
    folder
        The folder. One with the same identity is kept as it is, another one is emptied.
    identity
        A hash of everything that the bytes in the folder depend on.
    once
        Calls the function that it gets: of several processes at one work, in one of them, while the others wait.

    Raises
    ------
    LockedError
        If another process works in it.
    """
    mark = folder / "identity"

    def prepare() -> None:
        if not mark.exists() or mark.read_text(encoding="utf-8") != identity:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            mark.write_text(identity, encoding="utf-8")

    with exclusive_lock(folder, f"computing {folder.name}", once):
        once(prepare)
        yield folder
        once(lambda: shutil.rmtree(folder))
