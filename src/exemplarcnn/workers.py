"""Work shared out among processes: what all of it needs travels to each process once, and results come in order."""

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

AHEAD = 4  # tasks a process that are under way or done before their turn: what is held does not grow with their number


def in_order(
    work: Callable[[Shared, Task], Result], shared: Shared, tasks: Iterable[Task], workers: int
) -> Iterator[Result]:
    """Do tasks in processes, and give their results in the order of the tasks.

    Parameters
    ----------
    work
        A function of a module, which gets ``shared`` and a task.
    shared
        What every task needs. It is sent to each process once.
    tasks
        What differs: small, for it is sent with every task. They are taken as they are needed.
    workers
        Processes; with one, everything happens in this one.

    Raises
    ------
    BrokenProcessPool
        If the system ends a process. What ``work`` raises is raised here.
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
    """What a process keeps from task to task."""

    work: Callable[[Any, Any], Any]
    shared: Any

    @classmethod
    def start(cls, work: Callable[[Shared, Task], Result], shared: Shared) -> None:
        cls.work, cls.shared = staticmethod(work), shared
        # Ctrl-C reaches every process of a terminal; the first one ends the others.
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
