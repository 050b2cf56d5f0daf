"""Progress bars on a terminal; a line now and then if the output goes elsewhere."""

import sys
import time
from contextlib import suppress
from typing import Any

from tqdm import tqdm as _tqdm

SECONDS = 30.0


# Named like tqdm's own class, so that calls read the same (N801); generic only in tqdm's type stubs.
class tqdm(_tqdm):  # type: ignore[type-arg]  # noqa: N801
    """Show tqdm's bar on a terminal; if standard error is none, print a line there every 30 seconds.

    Without a terminal, work that ends sooner prints nothing; work that has printed a line prints another at its end.

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
        """Draw the bar; without a terminal, print a line if it is time to."""
        if not self._lines:
            return super().display(msg, pos)
        if msg is None and time.monotonic() - self._said_at >= SECONDS:
            self._say()
        return False  # no bar to clear

    def close(self) -> None:
        """Close the bar; without a terminal, print a last line if there was one before."""
        if self._lines and self._said and not self.disable:
            self._say()
        super().close()

    def __del__(self) -> None:
        """Close the bar; one that Ctrl-C kept from being made lacks what that takes."""
        with suppress(AttributeError):
            super().__del__()

    def _say(self) -> None:
        self._said_at, self._said = time.monotonic(), True
        print(str(self), file=sys.stderr, flush=True)
