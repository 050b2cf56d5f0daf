"""The errors that a person can put right, and how they read."""

INTERRUPTED = "interrupted; rerun to continue: finished work is kept"


class PipelineError(Exception):
    """Something is wrong with data, parameters or the machine; the message says what and what to do.

    Commands and stages print it without a traceback.
    """


class FailedElsewhereError(PipelineError):
    """Another process of several failed, and has said why."""


def reason(error: Exception) -> str:
    """Say what went wrong, in the system's words where it is the system's error."""
    return (error.strerror if isinstance(error, OSError) else None) or f"{error}" or type(error).__name__
