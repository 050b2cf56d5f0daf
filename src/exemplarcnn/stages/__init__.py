"""One thin module for each DVC stage: it reads parameters, calls the library, and writes the outs.

``python -m exemplarcnn.stages.NAME [VARIANT]`` runs one, from the repository's root.
"""

import sys
from types import TracebackType

from exemplarcnn.errors import INTERRUPTED


def _said_in_a_line(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Print uncaught exceptions; for Ctrl-C, which may come during imports, print one line."""
    if issubclass(kind, KeyboardInterrupt):
        print(INTERRUPTED, file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, trace)


# Here, because this runs before a stage imports anything slow, or that starts threads; the first before the second,
# because importing it takes a moment, too.
sys.excepthook = _said_in_a_line

from exemplarcnn import threads  # noqa: E402

threads.keep_freed_memory()
