"""What is wrong with a surrogate set."""

from exemplarcnn.errors import PipelineError


class SurrogateError(PipelineError):
    """A surrogate set cannot be made as asked."""
