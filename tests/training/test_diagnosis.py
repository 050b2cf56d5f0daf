"""Trainings that diverge, and networks that do not learn."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from exemplarcnn.config.sections import Schedule, Train
from exemplarcnn.networks.exemplar_cnn import ExemplarCNN
from exemplarcnn.training.diagnosis import TrainingError
from exemplarcnn.training.learning_curve import Epoch
from tests.small_training import (
    PAPER,
    PATCHES,
    RATES,
    Interruption,
    groups,
    same,
    stop_after,
    surrogate_set,
    train_params,
    trainer,
    weights,
)

# On a processor without bfloat16, too: slowly, but networks are small here.
pytestmark = pytest.mark.usefixtures("bfloat16")

__all__ = ["surrogate_set"]  # a fixture


# Divergence


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_divergence_in_the_first_epoch(surrogate_set: Path, tmp_path: Path, precision: str) -> None:
    params = train_params(groups=groups(dict.fromkeys(RATES, (1e30, 0.0))), precision=precision)
    with pytest.raises(
        TrainingError,
        match=r"training diverged in epoch 1: the loss .*\. Divide the learning rates \(train\.groups\.\*\.lr\) by ten",
    ):
        trainer(surrogate_set, tmp_path / "c", params).run()
    assert not (tmp_path / "c").exists()


def test_divergence_stops_at_once(surrogate_set: Path, tmp_path: Path) -> None:
    params = train_params(groups=groups(dict.fromkeys(RATES, (1e30, 0.0))), batch_size=4)
    run = trainer(surrogate_set, tmp_path / "c", params)
    outputs: list[bool] = []
    run.network.register_forward_hook(lambda module, inputs, out: outputs.append(bool(out.isfinite().all())))
    with pytest.raises(TrainingError, match="diverged"):
        run.run()
    assert 1 < len(outputs) < 6, "of eleven batches"
    assert outputs[0]


def test_divergence_later_keeps_the_last_good_checkpoint(surrogate_set: Path, tmp_path: Path) -> None:
    good = trainer(
        surrogate_set,
        tmp_path / "good",
        train_params(epochs=2, schedule=Schedule(epochs=2, drops=(), cosine=False, warmup=0.0)),
    )
    expected = good.run()
    # Two epochs as they should be, then a rate that no network survives.
    params = train_params(epochs=4, schedule=Schedule(epochs=4, drops=((2, 1e30),), cosine=False, warmup=0.0))
    rows: list[Epoch] = []
    with pytest.raises(
        TrainingError, match=r"in epoch 3: .*/c holds the last good state, epoch 2: remove it to start over"
    ):
        trainer(surrogate_set, tmp_path / "c", params).run(rows.append)
    assert rows == expected
    kept = load_file(tmp_path / "c")
    found = {key.removeprefix("network."): kept[key] for key in kept if key.startswith("network.")}
    assert same({name: found[name] for name in weights(good.network)}, weights(good.network))
    with pytest.raises(TrainingError, match="in epoch 3"):
        trainer(surrogate_set, tmp_path / "c", params).run()


@pytest.mark.parametrize("epochs", [1, 2])
def test_divergence_in_an_epochs_last_step_is_not_kept(surrogate_set: Path, tmp_path: Path, epochs: int) -> None:
    rates = groups(dict.fromkeys(RATES, (1e30, 0.0)))
    # One batch an epoch: its loss is finite, the weights it leaves behind are not.
    params = train_params(epochs=epochs, batch_size=PATCHES, groups=rates, schedule=PAPER)
    with pytest.raises(TrainingError, match="in epoch 1"):
        trainer(surrogate_set, tmp_path / "c", params).run()
    assert not (tmp_path / "c").exists()


def test_weights_that_are_not_finite_are_not_saved(
    surrogate_set: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A checkpoint is due after each step. The loss of the second is finite, the weights it leaves behind are not.
    run = trainer(surrogate_set, tmp_path / "c", minutes=0)
    steps: list[int] = []
    inner, network = run.step, run.network
    assert isinstance(network, ExemplarCNN)

    def step(*batch: Any) -> None:
        inner(*batch)
        steps.append(1)
        if len(steps) == 2:
            network.dense2.weight.data[1, 2] = torch.inf

    monkeypatch.setattr(run, "step", step)
    with pytest.raises(
        TrainingError,
        match=r"in epoch 1: the loss or a weight .*/c holds the last good state, epoch 0 and 1 steps of the",
    ):
        run.run()
    assert len(steps) == 2
    assert all(bool(tensor.isfinite().all()) for tensor in load_file(tmp_path / "c").values())


# A network that does not learn


def long_training(rate: float) -> Train:
    # Three steps an epoch: a tenth are 120 of 1,200 steps.
    same_rates = groups(dict.fromkeys(RATES, (rate, 0.0)))
    return train_params(
        epochs=400, schedule=Schedule(epochs=400, drops=(), cosine=False, warmup=0.0), groups=same_rates
    )


@pytest.mark.slow
def test_a_network_that_only_guesses_is_told_of_once(
    surrogate_set: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(Interruption):
        trainer(surrogate_set, tmp_path / "early", long_training(1e-9)).run(stop_after(39))
    assert not caplog.records
    with pytest.raises(Interruption):
        trainer(surrogate_set, tmp_path / "late", long_training(1e-9)).run(stop_after(60))
    (record,) = caplog.records
    text = record.getMessage()
    assert "after 120 of 1200 steps" in text
    assert f"guessing gives {np.log(4):.3f}" in text
    assert "train.groups.*.lr" in text


def test_a_network_that_learns_is_not(surrogate_set: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(Interruption):
        trainer(surrogate_set, tmp_path / "c", long_training(0.01)).run(stop_after(60))
    assert not caplog.records
