"""Errors that a user can fix, and how they are worded."""

INTERRUPTED = "interrupted; rerun to continue: finished work is kept"


class PipelineError(Exception):
    """Something is wrong with the data, the parameters or the machine; the message says what, and what to do.

    Commands and stages print it without a traceback.
    """


class FailedElsewhereError(PipelineError):
    """Another process failed, and has said why."""


def reason(error: Exception) -> str:
    """Return what went wrong; for an OSError, in the system's words."""
    return (error.strerror if isinstance(error, OSError) else None) or f"{error}" or type(error).__name__
