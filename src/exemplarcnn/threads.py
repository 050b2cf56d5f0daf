"""Threads that compute side by side, each of them with a single thread inside the numerical libraries.

How many there are then changes no bit: every sum is made by one thread, in one order. It also keeps its speed beside
other work. Libraries that share each operation among threads make all of them meet hundreds of times a step, and wait
for any that the system is not running.
"""

import ctypes
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import TypeVar

Item = TypeVar("Item")
Made = TypeVar("Made")

AHEAD = 2  # results beyond those under way: what is held does not grow with the number of items
_count = 1


def use(count: int) -> None:
    """Set how many threads compute in this process, as ``torch.set_num_threads`` does inside torch."""
    global _count
    _count = count


def count() -> int:
    """Return how many threads compute in this process."""
    return _count


def ahead(make: Callable[[Item], Made], items: Iterable[Item], threads: int = 1) -> Iterator[Made]:
    """Yield what is made of each item, in order; threads make the next ones meanwhile."""
    with ThreadPoolExecutor(threads, initializer=_as_torch_is_set) as pool:
        waiting: deque[Future[Made]] = deque()
        try:
            for item in items:
                waiting.append(pool.submit(make, item))
                if len(waiting) >= threads + AHEAD:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)


class Team:
    """Threads that stay, for small pieces of work that come again and again.

    Parameters
    ----------
    threads
        How many; one means the caller's own.
    """

    def __init__(self, threads: int):
        self.threads = threads
        self._pool = ThreadPoolExecutor(threads, initializer=_as_torch_is_set) if threads > 1 else None

    def map(self, work: Callable[[Item], Made], items: Iterable[Item]) -> list[Made]:
        """Return what is made of each item, in order, once all are done."""
        if self._pool is None:
            return [work(item) for item in items]
        return list(self._pool.map(work, items))


def _as_torch_is_set() -> None:
    """Give a new thread torch's number of threads, which it would otherwise take over at some later operation."""
    if (torch := sys.modules.get("torch")) is not None:
        torch.get_num_threads()


def keep_freed_memory(largest: int = 2**28) -> None:
    """Let freed memory stay with this process: networks and patches take and free the same amounts again and again.

    By default glibc returns much of it to the system each time, and gets it back page by page, zeroed: a fifth of the
    time of a training step of profile `paper`, a third of that of an image's features by `core`, two thirds of that of
    a patch of 96×96 pixels, and nothing of that of one of 32×32 (benchmarks/freed_memory.py). Call this before other
    threads are started: all share one heap then, since those that glibc gives to threads hold only small arrays. Other
    C libraries are left as they are.

    Parameters
    ----------
    largest
        Arrays of more bytes are returned as before.
    """
    trim_threshold, mmap_threshold, arenas = -1, -3, -8  # of malloc.h
    with suppress(AttributeError, OSError, TypeError):
        libc = ctypes.CDLL(None)
        libc.mallopt(arenas, 1)
        libc.mallopt(trim_threshold, 2**31 - 1)
        if not libc.mallopt(mmap_threshold, largest):
            libc.mallopt(mmap_threshold, 2**25)  # the most that older releases allow
