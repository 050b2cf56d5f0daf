"""What goes wrong with points."""

from exemplarcnn.errors import PipelineError


class NeighboursError(PipelineError):
    """Points have no graph of near pairs, or none that fits into memory."""
