"""Ctrl-C and a scheduler's SIGTERM: a training saves and stops between two steps."""

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

# A second signal ends the process at once. One that comes sooner than this is the first one again: `torchrun` forwards
# what the terminal or the scheduler has already sent to all processes.
SECONDS_OF_ONE_SIGNAL = 2.0


class StopRequest:
    """Record whether a signal has asked this process to stop."""

    def __init__(self) -> None:
        self._asked_at: float | None = None

    @property
    def asked(self) -> bool:
        """Whether a signal came while :meth:`listen` was entered."""
        return self._asked_at is not None

    @contextmanager
    def listen(self) -> Iterator[None]:
        """Record the first SIGINT or SIGTERM; raise KeyboardInterrupt at another one, two seconds later or more."""
        if threading.current_thread() is not threading.main_thread():  # only the main thread can set signal handlers
            yield
            return
        before = {number: signal.signal(number, self._note) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _note(self, number: int, frame: object) -> None:
        now = time.monotonic()
        if self._asked_at is None:
            self._asked_at = now
        elif now - self._asked_at > SECONDS_OF_ONE_SIGNAL:
            raise KeyboardInterrupt
