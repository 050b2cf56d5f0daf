"""Progress bars on a terminal, and a line now and then where output goes to a file."""

import sys
import time
from typing import Any

from tqdm import tqdm as _tqdm

SECONDS = 30.0


# Named like tqdm's own, so that whoever reads a call knows what it is (N801); generic in its type stubs alone.
class tqdm(_tqdm):  # type: ignore[type-arg]  # noqa: N801
    """tqdm's bar. Where standard error is no terminal, which a bar could not be redrawn on: a line every 30 seconds.

    Work that is done sooner says nothing there; work that has said something says when it is done.

    Parameters
    ----------
    *args, **kwargs
        As for ``tqdm.tqdm``.
    """

    def __init__(self, *args: Any, **kwargs: Any):
        self._lines = not sys.stderr.isatty()
        self._said_at, self._said = time.monotonic(), False
        if self._lines:
            kwargs |= {"mininterval": SECONDS, "maxinterval": SECONDS, "leave": False}
        super().__init__(*args, **kwargs)

    def display(self, msg: str | None = None, pos: int | None = None) -> Any:
        """Draw the bar; in a file write a line, if it is time to."""
        if not self._lines:
            return super().display(msg, pos)
        if msg is None and time.monotonic() - self._said_at >= SECONDS:
            self._say()
        return False  # nothing is to be wiped out

    def close(self) -> None:
        """End the bar; in a file, with a last line if there was one before."""
        if self._lines and self._said and not self.disable:
            self._say()
        super().close()

    def _say(self) -> None:
        self._said_at, self._said = time.monotonic(), True
        print(str(self), file=sys.stderr, flush=True)
