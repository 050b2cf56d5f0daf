"""Trainings of a small network on a few patches, for tests."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from exemplarcnn.config.sections import Group, Groups, Network, Pairs, Schedule, Train
from exemplarcnn.files import write_array
from exemplarcnn.networks.exemplar_cnn import ExemplarCNN, initialise
from exemplarcnn.training.batches import Batches, TrainingData
from exemplarcnn.training.checkpoint import Checkpoint
from exemplarcnn.training.learning_curve import Epoch
from exemplarcnn.training.trainer import Trainer

PAPER = Schedule(epochs=110, drops=((75, 0.4), (85, 0.25), (92, 0.4), (100, 0.25)), cosine=False, warmup=0.0)
SIDE, CLASSES, PATCHES, VALID = 16, 4, 44, 10
MEAN, STD = [0.5, 0.45, 0.4], [0.3, 0.25, 0.2]
RATES = {
    "conv1": (0.02, 0.0),
    "conv2": (0.03, 0.001),
    "conv3": (0.04, 0.002),
    "dense1": (0.05, 0.004),
    "dense2": (0.01, 0.016),
    "bias": (0.06, 0.0),
}


def groups(rates: dict[str, tuple[float, float]] = RATES) -> Groups:
    return Groups(**{name: Group(lr=lr, l2=l2) for name, (lr, l2) in rates.items()})


def train_params(**changes: Any) -> Train:
    values: dict[str, Any] = {
        "epochs": 4,
        "steps": None,
        "batch_size": 16,
        "shards": 2,
        "momentum": 0.9,
        "groups": groups(),
        "schedule": Schedule(epochs=4, drops=((2, 0.5), (3, 0.1)), cosine=False, warmup=0.0),
        "precision": "fp32",
        "channels_last": False,
        "label_smoothing": 0.0,
        "pairs": Pairs(outputs=8, temperature=0.5),
        "probe_every": 0,
    }
    return Train(**(values | changes))


def built(seed: int = 0, dropout: float = 0.0, **changes: Any) -> ExemplarCNN:
    rates = {"dropout_conv": dropout / 2, "dropout_dense": dropout}
    params = Network(widths=(4, 5, 6), dense=12, **({"batch_norm": False} | rates | changes))
    return initialise(params, CLASSES, SIDE, seed, MEAN, STD)


def write_set(folder: Path, count: int = PATCHES, valid: int = VALID) -> Path:
    """Patches whose class shows in their colour; the first pixel of a training patch is its number."""
    generator = np.random.default_rng(0)
    for name, number in (("train", count), ("valid", valid)):
        labels = np.arange(number) % CLASSES
        patches = generator.integers(0, 100, (number, SIDE, SIDE, 3))
        patches[np.arange(number), :, :, labels % 3] += 90
        patches[labels == 3] += 60
        patches[:, 0, 0, 0] = np.arange(number)
        write_array(folder / f"{name}.npy", patches.astype(np.uint8))
        write_array(folder / f"{name}_y.npy", labels.astype(np.int32))
    return folder


@pytest.fixture
def surrogate_set(tmp_path: Path) -> Path:
    return write_set(tmp_path / "set")


def trainer(
    folder: Path, checkpoint: Path, params: Train | None = None, network: ExemplarCNN | None = None, **changes: Any
) -> Trainer:
    values: dict[str, Any] = {"seed": 5, "device": torch.device("cpu"), "configuration": {"of": "mine"}} | changes
    data = TrainingData(*(Batches(folder, name, values["device"]) for name in ("train", "valid")))
    kept = Checkpoint(checkpoint, values.pop("configuration"), values.pop("minutes", 10.0))
    return Trainer(network or built(), data, params or train_params(), checkpoint=kept, **values)


class Interruption(Exception):  # noqa: N818 - stands for a Ctrl-C, which is no error
    pass


def stop_after(epoch: int) -> Any:
    def after_epoch(row: Epoch) -> None:
        if row.epoch == epoch:
            raise Interruption

    return after_epoch


def stop_after_steps(run: Trainer, count: int) -> None:
    """Have a training, which saves after each step, end after so many."""
    done: list[int] = []
    inner = run.step

    def step(*batch: Any) -> None:
        if len(done) == count:
            raise Interruption
        done.append(1)
        inner(*batch)

    run.step = step  # type: ignore[method-assign, assignment]  # to count them


def weights(network: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


def same(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return list(first) == list(second) and all(torch.equal(first[name], second[name]) for name in first)
