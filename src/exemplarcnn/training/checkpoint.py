"""The state of an unfinished training on disk: one safetensors file, moved into place when complete.

It holds the network's tensors, the optimiser's momentum, the progress, and the training's configuration. It needs no
random state: every random number follows from the seed and its place, such as epoch and step (docs/method.md,
section 3.1).
"""

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from exemplarcnn.errors import PipelineError, reason
from exemplarcnn.files import atomic_write
from exemplarcnn.networks.exemplar_cnn import Classifier
from exemplarcnn.training.learning_curve import Epoch

LONGEST_VALUE = 30


class CheckpointError(PipelineError):
    """A checkpoint cannot be written, cannot be read, or belongs to another training."""


@dataclass(frozen=True)
class Progress:
    """How far a training has come.

    Parameters
    ----------
    history
        The epochs done.
    step
        Steps done in the next epoch.
    sums
        For each shard, over these steps: the summed loss, and the number of patches classified correctly.
    """

    history: list[Epoch] = field(default_factory=list)
    step: int = 0
    sums: list[list[float]] = field(default_factory=list)

    def __str__(self) -> str:
        done = f"epoch {len(self.history)}"
        return f"{done} and {self.step} steps of the next" if self.step else done


@dataclass(frozen=True)
class Checkpoint:
    """Where a training's state is kept, and which training it belongs to.

    Parameters
    ----------
    path
        The file, written after each epoch and every ``minutes``. If it exists, the training continues from it.
    configuration
        Everything the training's result depends on. A state with another configuration is refused.
    minutes
        Minutes between two writes within an epoch.
    """

    path: Path
    configuration: dict[str, Any]
    minutes: float = 10.0

    def save(self, tensors: dict[str, Tensor], progress: Progress) -> None:
        """Write the state; the old one stays until the new one is on disk.

        Parameters
        ----------
        tensors
            What :func:`collect_tensors` returns.
        progress
            How far the training has come.

        Raises
        ------
        CheckpointError
            If the file cannot be written, for instance because the disk is full.
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
                f"cannot write the checkpoint {self.path}: {reason(error)}; {kept}fix this and rerun"
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
            If the file cannot be read, is not a complete checkpoint, or has another configuration; the message then
            names the keys that differ.
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
                f"cannot continue from {self.path}: it is not a complete checkpoint ({reason(error)}); {start_over}"
            ) from error
        except OSError as error:
            raise CheckpointError(
                f"cannot read the checkpoint {self.path}: {reason(error)}; fix this and rerun"
            ) from error
        if differing := differences(there, json.loads(json.dumps(self.configuration))):
            raise CheckpointError(
                f"cannot continue from {self.path}: it belongs to a training with another configuration: "
                f"{', '.join(differing)}. Restore that configuration to continue, or {start_over}"
            )
        return tensors, found


def differences(there: Any, here: Any, key: str = "") -> list[str]:
    """Name what differs between two nested configurations, as ``train.epochs (checkpoint 20, now 40)``."""
    if isinstance(there, dict) and isinstance(here, dict):
        names = [*there, *(name for name in here if name not in there)]
        inner = (differences(there.get(name), here.get(name), f"{key}.{name}" if key else name) for name in names)
        return [line for lines in inner for line in lines]
    if there == here:
        return []
    texts = [json.dumps(value) for value in (there, here)]
    long = max(len(text) for text in texts) > LONGEST_VALUE
    return [key if long else f"{key} (checkpoint {texts[0]}, now {texts[1]})"]


def collect_tensors(network: Classifier, optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return what a checkpoint holds: the network's tensors and the optimiser's momentum.

    Returns
    -------
    dict
        ``network.NAME`` and ``momentum.NAME`` to contiguous tensors on the CPU.
    """
    tensors = {f"network.{k}": v for k, v in network.tensors().items()}
    for name, parameter in network.named_parameters():
        momentum = optimiser.state[parameter].get("momentum_buffer")
        if momentum is not None:
            tensors[f"momentum.{name}"] = momentum.detach().cpu().contiguous()
    return tensors


def restore_tensors(tensors: dict[str, Tensor], network: Classifier, optimiser: torch.optim.Optimizer) -> None:
    """Load what :func:`collect_tensors` returned into a network and its optimiser."""
    network.load_state_dict({k.removeprefix("network."): v for k, v in tensors.items() if k.startswith("network.")})
    for name, parameter in network.named_parameters():
        if (momentum := tensors.get(f"momentum.{name}")) is not None:
            optimiser.state[parameter]["momentum_buffer"] = torch.empty_like(parameter).copy_(momentum)
