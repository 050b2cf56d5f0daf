"""Share tasks among processes: what all tasks need is sent to each process once, and results come in order."""

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from itertools import islice
from multiprocessing import connection
from typing import Any, TypeVar

Shared = TypeVar("Shared")
Task = TypeVar("Task")
Result = TypeVar("Result")

AHEAD = 4  # tasks per process that may be under way or done early: bounds the memory for results, however many tasks


def in_order(
    work: Callable[[Shared, Task], Result], shared: Shared, tasks: Iterable[Task], workers: int
) -> Iterator[Result]:
    """Run tasks in processes, and yield their results in the order of the tasks.

    Parameters
    ----------
    work
        A module-level function; it is called with ``shared`` and a task.
    shared
        What every task needs. It is sent to each process once.
    tasks
        What differs from call to call. Keep each small: it is sent to a process. They are read as they are needed.
    workers
        Number of processes; with 1, everything runs in this one.

    Raises
    ------
    BrokenProcessPool
        If a process is killed. Errors of ``work`` are raised here, too.
    """
    if workers == 1:
        yield from (work(shared, task) for task in tasks)
        return
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, spawn, initializer=_Worker.start, initargs=(work, shared)) as executor:
        try:
            left = iter(tasks)
            under_way: deque[Future[Result]] = deque(
                executor.submit(_Worker.do, task) for task in islice(left, AHEAD * workers)
            )
            while under_way:
                done = under_way.popleft().result()
                under_way.extend(executor.submit(_Worker.do, task) for task in islice(left, 1))
                yield done
        except BaseException:
            executor.shutdown(cancel_futures=True)
            raise


class _Worker:
    """What a worker process keeps from task to task."""

    work: Callable[[Any, Any], Any]
    shared: Any

    @classmethod
    def start(cls, work: Callable[[Shared, Task], Result], shared: Shared) -> None:
        cls.work, cls.shared = staticmethod(work), shared
        # Ctrl-C reaches every process of a terminal; the main process ends the others.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        threading.Thread(target=cls.end_with_parent, daemon=True).start()

    @staticmethod
    def end_with_parent() -> None:
        parent = multiprocessing.parent_process()
        assert parent is not None
        connection.wait([parent.sentinel])
        os._exit(1)

    @classmethod
    def do(cls, task: Any) -> Any:
        return cls.work(cls.shared, task)
