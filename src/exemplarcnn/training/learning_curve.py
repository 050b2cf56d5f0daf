"""The learning curve of a training: a row for each epoch, in a table that grows while the network trains."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import pandas as pd

from exemplarcnn.files import rounded, write_table


@dataclass(frozen=True)
class Epoch:
    """One row of the learning curve. Losses are mean cross entropies in nats, accuracies shares in 0–1.

    ``probe_accuracy`` is what :class:`exemplarcnn.evaluation.probe.Probe` says, in the epochs in which it is asked.
    """

    epoch: int
    learning_rate: float
    train_loss: float
    train_accuracy: float
    valid_loss: float
    valid_accuracy: float
    probe_accuracy: float | None = None


class LearningCurve:
    """Writes each epoch to a table, and passes it on.

    Parameters
    ----------
    path
        The table.
    track
        What else is to know of each epoch.
    """

    def __init__(self, path: Path, track: Callable[[Epoch], None]):
        self.path, self.track = path, track
        self.rows: list[Epoch] = []

    def add(self, row: Epoch) -> None:
        """Add the next epoch."""
        self.rows.append(row)
        write_table(self.path, rounded(pd.DataFrame([asdict(each) for each in self.rows])))
        self.track(row)
