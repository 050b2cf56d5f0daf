"""Training on a surrogate set (docs/method.md, section 3).

An interrupted training goes on from its last whole epoch and ends with the same weights: every random number is
a function of (seed, epoch), and the checkpoint holds weights, momentum and the history so far, in one safetensors
file that is moved into place when complete.
"""

import json
import math
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from exemplarcnn import rng
from exemplarcnn.config import Schedule, Train
from exemplarcnn.errors import PipelineError
from exemplarcnn.files import read_array, whole
from exemplarcnn.network import ExemplarCNN, place

VALIDATION_BATCH = 512


class TrainingError(PipelineError):
    """Training cannot start, or cannot go on."""


@dataclass(frozen=True)
class Epoch:
    """One row of the learning curve. Losses are mean cross entropies in nats, accuracies shares in 0–1."""

    epoch: int
    learning_rate: float
    train_loss: float
    train_accuracy: float
    valid_loss: float
    valid_accuracy: float


def rate_factor(epoch: int, epochs: int, schedule: Schedule) -> float:
    """Return what the initial learning rates are multiplied by during an epoch.

    Parameters
    ----------
    epoch
        Epochs done before this one.
    epochs
        Epochs in all; the schedule's milestones scale with it.
    schedule
        The milestones.
    """
    factor = 1.0
    for milestone, drop in schedule.drops:
        if epoch >= round(milestone * epochs / schedule.epochs):
            factor *= drop
    return factor


class Loader:
    """Batches of a surrogate set, in an order that depends on seed and epoch alone.

    Parameters
    ----------
    folder
        The surrogate set.
    name
        ``train`` or ``valid``.
    batch
        Patches a batch; the last one may be smaller.
    """

    def __init__(self, folder: Path, name: str, batch: int):
        self.patches: NDArray[np.uint8] = read_array(folder / f"{name}.npy")
        self.labels = torch.from_numpy(np.array(read_array(folder / f"{name}_y.npy"), np.int64))
        self.batch = batch

    def __len__(self) -> int:
        return math.ceil(len(self.patches) / self.batch)

    def in_order(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield (patches (n, side, side, 3) uint8, labels (n,) int64) as they lie on disk."""
        return self._batches(np.arange(len(self.patches)))

    def shuffled(self, generator: np.random.Generator) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the same batches in an order drawn from ``generator``."""
        return self._batches(generator.permutation(len(self.patches)))

    def _batches(self, order: NDArray[np.int64]) -> Iterator[tuple[Tensor, Tensor]]:
        for start in range(0, len(order), self.batch):
            rows = order[start : start + self.batch]
            yield torch.from_numpy(self.patches[rows]), self.labels[rows]


class Trainer:
    """Trains one network on one surrogate set.

    Parameters
    ----------
    network
        With its initial weights; trained in place.
    folder
        The surrogate set.
    params, seed, device
        Training parameters, the experiment's seed, where to compute.
    checkpoint
        File that is written after each epoch and continued from where it exists.
    identity
        What the training's result depends on. A checkpoint of another identity is refused.
    """

    def __init__(
        self,
        network: ExemplarCNN,
        folder: Path,
        params: Train,
        seed: int,
        device: torch.device,
        checkpoint: Path,
        identity: str,
    ):
        self.params, self.seed, self.device = params, seed, device
        self.checkpoint, self.identity = checkpoint, identity
        layout = torch.channels_last if params.channels_last else torch.contiguous_format
        self.network = place(network, device, layout)
        self.optimiser = torch.optim.SGD(network.parameter_groups(params.groups), momentum=params.momentum)
        self.train = Loader(folder, "train", params.batch_size)
        self.valid = Loader(folder, "valid", VALIDATION_BATCH)
        self.history: list[Epoch] = []

    def run(self, after_epoch: Callable[[Epoch], None] = lambda epoch: None) -> list[Epoch]:
        """Train to the last epoch, from the checkpoint if there is one.

        Parameters
        ----------
        after_epoch
            Called with each epoch's row, those of the checkpoint included.

        Returns
        -------
        list of Epoch
            The learning curve.

        Raises
        ------
        TrainingError
            If the loss is not finite, or the checkpoint belongs to something else.
        """
        if self.checkpoint.exists():
            self._load()
        for row in self.history:
            after_epoch(row)
        epochs = self.params.epochs
        with tqdm(total=epochs * len(self.train), initial=len(self.history) * len(self.train), unit="step") as bar:
            for epoch in range(len(self.history), epochs):
                bar.set_description(f"epoch {epoch + 1}/{epochs}")
                row = self._epoch(epoch, bar)
                # The last step of an epoch may be the one that breaks the weights: only validation shows it.
                if not math.isfinite(row.valid_loss):
                    raise TrainingError(self._diverged(epoch, row.valid_loss))
                self.history.append(row)
                self._save()
                after_epoch(row)
                bar.set_postfix(loss=f"{row.valid_loss:.3f}", accuracy=f"{row.valid_accuracy:.3f}")
        return self.history

    def _epoch(self, epoch: int, bar: "tqdm[Any]") -> Epoch:
        factor = rate_factor(epoch, self.params.epochs, self.params.schedule)
        for group in self.optimiser.param_groups:
            group["lr"] = group["initial_lr"] * factor
        torch.manual_seed(rng.torch_seed(self.seed, rng.Purpose.DROPOUT, epoch))
        self.network.train()
        total_loss, right, seen = 0.0, 0, 0
        for patches, labels in self.train.shuffled(rng.generator(self.seed, rng.Purpose.EPOCH, epoch)):
            labels = labels.to(self.device)
            logits = self._forward(patches)
            loss = F.cross_entropy(logits, labels)
            if not math.isfinite(value := loss.item()):
                raise TrainingError(self._diverged(epoch, value))
            self.optimiser.zero_grad()
            torch.autograd.backward(loss)
            self.optimiser.step()
            total_loss += value * len(labels)
            right += int((logits.argmax(1) == labels).sum())
            seen += len(labels)
            bar.update()
        valid_loss, valid_accuracy = self._validate()
        rate = self.optimiser.param_groups[0]["lr"]
        return Epoch(epoch + 1, rate, total_loss / seen, right / seen, valid_loss, valid_accuracy)

    def _forward(self, patches: Tensor) -> Tensor:
        images = self.network.normalise(patches.to(self.device))
        if not self.params.channels_last:
            images = images.contiguous()
        mixed = torch.autocast(self.device.type, torch.bfloat16) if self.params.precision == "bf16" else nullcontext()
        with mixed:
            logits: Tensor = self.network(images)
        return logits.float()

    def _validate(self) -> tuple[float, float]:
        self.network.eval()
        total_loss, right = 0.0, 0
        with torch.inference_mode():
            for patches, labels in self.valid.in_order():
                labels = labels.to(self.device)
                logits = self._forward(patches)
                total_loss += F.cross_entropy(logits, labels, reduction="sum").item()
                right += int((logits.argmax(1) == labels).sum())
        return total_loss / len(self.valid.labels), right / len(self.valid.labels)

    def _diverged(self, epoch: int, value: float) -> str:
        kept = f"; {self.checkpoint} holds epoch {epoch}" if epoch else ""
        return (
            f"the loss became {value} in epoch {epoch + 1}: training diverged{kept}. "
            "Lower the learning rates (train.groups.*.lr), by ten for a start, or set train.precision: fp32"
        )

    def _save(self) -> None:
        tensors = {f"network.{k}": v for k, v in self.network.tensors().items()}
        for name, parameter in self.network.named_parameters():
            momentum = self.optimiser.state[parameter].get("momentum_buffer")
            if momentum is not None:
                tensors[f"momentum.{name}"] = momentum.detach().cpu().contiguous()
        about = {"identity": self.identity, "history": json.dumps([asdict(row) for row in self.history])}
        with whole(self.checkpoint) as partial:
            save_file(tensors, partial, about)

    def _load(self) -> None:
        with safe_open(self.checkpoint, framework="pt") as file:
            about = file.metadata()
            keys: list[str] = file.keys()
            tensors = {key: file.get_tensor(key) for key in keys}
        if about.get("identity") != self.identity:
            raise TrainingError(f"{self.checkpoint} belongs to another data set or other parameters; remove it")
        weights = {k.removeprefix("network."): v for k, v in tensors.items() if k.startswith("network.")}
        self.network.load_state_dict(weights)
        for name, parameter in self.network.named_parameters():
            if (momentum := tensors.get(f"momentum.{name}")) is not None:
                buffer = torch.empty_like(parameter).copy_(momentum)
                self.optimiser.state[parameter]["momentum_buffer"] = buffer
        self.history = [Epoch(**row) for row in json.loads(about["history"])]
