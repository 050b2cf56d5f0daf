"""Errors of surrogate sets."""

from exemplarcnn.errors import PipelineError


class SurrogateError(PipelineError):
    """A surrogate set cannot be made."""
