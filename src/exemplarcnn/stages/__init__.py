"""One thin module a DVC stage: read parameters, call the library, write the outs.

``python -m exemplarcnn.stages.NAME [VARIANT]`` runs one, from the repository's root.
"""

import sys
from types import TracebackType

from exemplarcnn.errors import INTERRUPTED


def _said_in_a_line(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Print uncaught exceptions; for Ctrl-C, which may come while libraries are imported, one line."""
    if issubclass(kind, KeyboardInterrupt):
        print(INTERRUPTED, file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, trace)


# Here, as this runs before a stage imports anything that takes time.
sys.excepthook = _said_in_a_line
