"""Measure how much memory a stage takes while it runs."""

import threading
from contextlib import suppress
from pathlib import Path
from types import TracebackType

import psutil

SECONDS = 1.0  # between two looks, each of which takes a millisecond or more


def anonymous(process: psutil.Process) -> int:
    """Return the bytes of memory that belong to a process alone, not to files that it maps; 0 if it has ended.

    Only Linux tells them apart; elsewhere the pages of mapped files count, too.
    """
    try:
        with Path(f"/proc/{process.pid}/status").open(encoding="utf-8") as status:
            return next((int(line.split()[1]) * 1024 for line in status if line.startswith("RssAnon")), 0)
    except FileNotFoundError:
        try:
            return int(process.memory_info().rss)
        except psutil.Error:
            return 0
    except OSError:
        return 0


class Peak:
    """Look every second how much memory this process and those that it has started take together.

    A context manager.

    Attributes
    ----------
    bytes
        The most that was seen.
    """

    def __init__(self) -> None:
        self.bytes = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "Peak":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()
        self._look()

    def _watch(self) -> None:
        while not self._ended.wait(SECONDS):
            self._look()

    def _look(self) -> None:
        # A stage must not fail because its memory cannot be looked at, as where /proc hides processes.
        with suppress(psutil.Error, OSError):
            here = psutil.Process()
            self.bytes = max(self.bytes, sum(map(anonymous, [here, *here.children(recursive=True)])))
