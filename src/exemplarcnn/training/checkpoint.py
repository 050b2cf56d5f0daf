"""The state of an unfinished training on disk: one safetensors file, moved into place when complete.

It holds the network's tensors, the optimiser's momentum, how far the training is, and the configuration that it
belongs to. Random states are not in it: every random number is a function of seed, epoch and step.
"""

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from exemplarcnn.errors import PipelineError, reason
from exemplarcnn.files import atomic_write

LONGEST_VALUE = 30


class CheckpointError(PipelineError):
    """A checkpoint cannot be written, cannot be read, or belongs to another training."""


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


@dataclass(frozen=True)
class Progress:
    """How far a training is.

    Parameters
    ----------
    history
        The epochs done.
    step
        Steps done of the next epoch.
    sums
        For each process, over these steps: the sum of the patches' losses, and how many were classified right.
    """

    history: list[Epoch] = field(default_factory=list)
    step: int = 0
    sums: list[list[float]] = field(default_factory=list)

    def __str__(self) -> str:
        done = f"epoch {len(self.history)}"
        return f"{done} and {self.step} steps of the next" if self.step else done


def save(path: Path, tensors: dict[str, Tensor], progress: Progress, configuration: dict[str, Any]) -> None:
    """Write a checkpoint; an old one stays as it is until the new one is on disk.

    Raises
    ------
    CheckpointError
        If there is no room for it, or no right to write it.
    """
    about = {"progress": json.dumps(asdict(progress)), "configuration": json.dumps(configuration)}
    try:
        with atomic_write(path) as partial:
            save_file(tensors, partial, about)
            with partial.open("rb") as file:
                os.fsync(file.fileno())
    except (OSError, SafetensorError) as error:
        kept = "the last good checkpoint is kept; " if path.exists() else ""
        raise CheckpointError(
            f"{path}: the checkpoint cannot be written ({reason(error)}); {kept}fix this and rerun"
        ) from error


def load(path: Path, configuration: dict[str, Any]) -> tuple[dict[str, Tensor], Progress]:
    """Read a checkpoint.

    Returns
    -------
    tensors, progress
        As they were saved.

    Raises
    ------
    CheckpointError
        If it is cut off or something else, cannot be read, or belongs to another configuration: then with the keys
        that differ.
    """
    anew = f"remove {path} to start over"
    try:
        with safe_open(path, framework="pt") as file:
            about = file.metadata() or {}
            keys: list[str] = file.keys()
            tensors = {key: file.get_tensor(key) for key in keys}
        progress, there = json.loads(about["progress"]), json.loads(about["configuration"])
        found = Progress([Epoch(**row) for row in progress["history"]], progress["step"], progress["sums"])
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path} is no whole checkpoint of a training ({reason(error)}); {anew}") from error
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read ({reason(error)})") from error
    if differing := differences(there, json.loads(json.dumps(configuration))):
        raise CheckpointError(
            f"{path} belongs to a training with another configuration: {', '.join(differing)}. "
            f"Set this back to continue it, or {anew}"
        )
    return tensors, found


def differences(there: Any, here: Any, key: str = "") -> list[str]:
    """Name what differs between two nested configurations, as ``train.epochs (20 there, 40 here)``."""
    if isinstance(there, dict) and isinstance(here, dict):
        names = [*there, *(name for name in here if name not in there)]
        inner = (differences(there.get(name), here.get(name), f"{key}.{name}" if key else name) for name in names)
        return [line for lines in inner for line in lines]
    if there == here:
        return []
    texts = [json.dumps(value) for value in (there, here)]
    long = max(len(text) for text in texts) > LONGEST_VALUE
    return [key if long else f"{key} ({texts[0]} there, {texts[1]} here)"]
