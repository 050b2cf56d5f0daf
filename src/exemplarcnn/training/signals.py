"""Ctrl-C and a scheduler's SIGTERM: a training stops between two steps, once it has saved."""

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

# A second signal is obeyed at once, but not what is one and the same: `torchrun` passes on the one that a terminal or
# a scheduler has sent to all processes already.
SECONDS_OF_ONE_SIGNAL = 2.0


class StopRequest:
    """Whether a signal has asked this process to stop."""

    def __init__(self) -> None:
        self._asked_at: float | None = None

    @property
    def asked(self) -> bool:
        """Whether one came while :meth:`listen` was entered."""
        return self._asked_at is not None

    @contextmanager
    def listen(self) -> Iterator[None]:
        """Take note of the first signal; raise KeyboardInterrupt at a second one."""
        if threading.current_thread() is not threading.main_thread():  # signals are the main thread's
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
