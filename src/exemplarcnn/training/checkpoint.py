"""The state of an unfinished training on disk: one safetensors file, moved into place when complete.

It holds the network's tensors, the optimiser's momentum, how far the training is, and the configuration that it
belongs to. Random states are not in it: every random number is a function of seed, epoch and step.
"""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from exemplarcnn import distributed
from exemplarcnn.errors import PipelineError, reason
from exemplarcnn.files import atomic_write
from exemplarcnn.networks.exemplar_cnn import Classifier
from exemplarcnn.training.learning_curve import Epoch

LONGEST_VALUE = 30


class CheckpointError(PipelineError):
    """A checkpoint cannot be written, cannot be read, belongs to another training, or is in use."""


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
        For each shard, over these steps: the sum of the patches' losses, and how many were classified right.
    """

    history: list[Epoch] = field(default_factory=list)
    step: int = 0
    sums: list[list[float]] = field(default_factory=list)

    def __str__(self) -> str:
        done = f"epoch {len(self.history)}"
        return f"{done} and {self.step} steps of the next" if self.step else done


@dataclass(frozen=True)
class Checkpoint:
    """Where the state of a training is kept, and what training it is.

    Parameters
    ----------
    path
        The file: written after each epoch and every ``minutes``, and continued from where it exists.
    configuration
        What the training's result depends on. The state of another one is refused.
    minutes
        Time between two writes within an epoch.
    """

    path: Path
    configuration: dict[str, Any]
    minutes: float = 10.0

    def save(self, tensors: dict[str, Tensor], progress: Progress) -> None:
        """Write the state; an old one stays as it is until the new one is on disk.

        Raises
        ------
        CheckpointError
            If there is no room for it, or no right to write it.
        """
        about = {"progress": json.dumps(asdict(progress)), "configuration": json.dumps(self.configuration)}
        try:
            with atomic_write(self.path) as partial:
                save_file(tensors, partial, about)
                with partial.open("rb") as file:
                    os.fsync(file.fileno())
        except (OSError, SafetensorError) as error:
            kept = "the last good checkpoint is kept; " if self.path.exists() else ""
            raise CheckpointError(
                f"{self.path}: the checkpoint cannot be written ({reason(error)}); {kept}fix this and rerun"
            ) from error

    def load(self) -> tuple[dict[str, Tensor], Progress]:
        """Read the state.

        Returns
        -------
        tensors, progress
            As they were saved.

        Raises
        ------
        CheckpointError
            If it is cut off or something else, cannot be read, or belongs to another configuration: then with the
            keys that differ.
        """
        start_over = f"remove {self.path} to start over"
        try:
            with safe_open(self.path, framework="pt") as file:
                about = file.metadata() or {}
                keys: list[str] = file.keys()
                tensors = {key: file.get_tensor(key) for key in keys}
            progress, there = json.loads(about["progress"]), json.loads(about["configuration"])
            found = Progress([Epoch(**row) for row in progress["history"]], progress["step"], progress["sums"])
        except (SafetensorError, KeyError, TypeError, ValueError) as error:
            raise CheckpointError(
                f"{self.path} is no whole checkpoint of a training ({reason(error)}); {start_over}"
            ) from error
        except OSError as error:
            raise CheckpointError(f"{self.path} cannot be read ({reason(error)})") from error
        if differing := differences(there, json.loads(json.dumps(self.configuration))):
            raise CheckpointError(
                f"{self.path} belongs to a training with another configuration: {', '.join(differing)}. "
                f"Set this back to continue it, or {start_over}"
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


def collect_tensors(network: Classifier, optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return the network's tensors and the optimiser's momentum, as a checkpoint holds them."""
    tensors = {f"network.{k}": v for k, v in network.tensors().items()}
    for name, parameter in network.named_parameters():
        momentum = optimiser.state[parameter].get("momentum_buffer")
        if momentum is not None:
            tensors[f"momentum.{name}"] = momentum.detach().cpu().contiguous()
    return tensors


def restore_tensors(tensors: dict[str, Tensor], network: Classifier, optimiser: torch.optim.Optimizer) -> None:
    """Put back what :func:`collect_tensors` returned."""
    network.load_state_dict({k.removeprefix("network."): v for k, v in tensors.items() if k.startswith("network.")})
    for name, parameter in network.named_parameters():
        if (momentum := tensors.get(f"momentum.{name}")) is not None:
            optimiser.state[parameter]["momentum_buffer"] = torch.empty_like(parameter).copy_(momentum)


@contextmanager
def exclusive_lock(folder: Path) -> Iterator[None]:
    """Keep others from a training whose checkpoint lies in a folder: they would write the same one.

    Raises
    ------
    CheckpointError
        If another process is at it.
    """
    lock = FileLock(folder.with_name(f"{folder.name}.lock"))

    def acquire() -> None:
        folder.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise CheckpointError(
                f"another process is training {folder.name} (it holds {lock.lock_file}): wait for it, or end it; "
                "then rerun to continue from its last checkpoint"
            ) from None

    distributed.on_rank_zero(acquire)
    try:
        yield
    finally:
        lock.release()
