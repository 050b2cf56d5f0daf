"""The learning curve of a training: a table that grows by a row with each epoch."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import pandas as pd

from exemplarcnn.files import rounded, write_table


@dataclass(frozen=True)
class Epoch:
    """One row of the learning curve. Losses are means over patches, accuracies fractions in 0–1.

    Both are those of the objective (docs/method.md, section 3.3): of the paper's, cross entropy in nats, and patches
    assigned to their surrogate class. ``epoch`` counts from 1; ``step`` says how many steps were done by its end. The
    last epoch of a training with a budget in steps may be a part of one. ``learning_rate`` is that of its last step.
    ``probe_accuracy`` comes from :class:`exemplarcnn.evaluation.probe.Probe`; it is None in epochs without a probe.
    """

    epoch: int
    step: int
    learning_rate: float
    train_loss: float
    train_accuracy: float
    valid_loss: float
    valid_accuracy: float
    probe_accuracy: float | None = None


class LearningCurve:
    """Write each epoch to a table, and pass it on.

    Parameters
    ----------
    path
        The CSV file.
    track
        Called with each epoch after it is written.
    """

    def __init__(self, path: Path, track: Callable[[Epoch], None]):
        self.path, self.track = path, track
        self.rows: list[Epoch] = []

    def add(self, row: Epoch) -> None:
        """Add the next epoch to the table."""
        self.rows.append(row)
        write_table(self.path, rounded(pd.DataFrame([asdict(each) for each in self.rows])))
        self.track(row)
