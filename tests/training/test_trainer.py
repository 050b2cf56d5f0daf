"""Training: the schedule, one step by hand, interruptions, divergence."""

import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional as F

from exemplarcnn import rng
from exemplarcnn.config import Group, Groups, Network, Schedule, Train
from exemplarcnn.files import write_array
from exemplarcnn.networks.exemplar_cnn import ExemplarCNN, initialise
from exemplarcnn.training import trainer as training
from exemplarcnn.training.batches import Batches, ahead
from exemplarcnn.training.checkpoint import Epoch
from exemplarcnn.training.trainer import Trainer, TrainingError, checkpoint, rate_factor
from tests.conftest import ROOT

PAPER = Schedule(epochs=110, drops=((75, 0.4), (85, 0.25), (92, 0.4), (100, 0.25)))
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
        "batch_size": 16,
        "momentum": 0.9,
        "groups": groups(),
        "schedule": Schedule(epochs=4, drops=((2, 0.5), (3, 0.1))),
        "precision": "fp32",
        "channels_last": False,
        "probe_every": 0,
    }
    return Train(**(values | changes))


def built(seed: int = 0, dropout: float = 0.0) -> ExemplarCNN:
    params = Network(widths=(4, 5, 6), dense=12, dropout_conv=dropout / 2, dropout_dense=dropout)
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
    sets = (Batches(folder, name, values["device"]) for name in ("train", "valid"))
    return Trainer(network or built(), *sets, params or train_params(), path=checkpoint, **values)


class Interruption(Exception):  # noqa: N818 - stands for a Ctrl-C, which is no error
    pass


def stop_after(epoch: int) -> Any:
    def after_epoch(row: Epoch) -> None:
        if row.epoch == epoch:
            raise Interruption

    return after_epoch


def weights(network: ExemplarCNN) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


def same(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return list(first) == list(second) and all(torch.equal(first[name], second[name]) for name in first)


# The schedule


def test_schedule_of_the_paper() -> None:
    table = [1.0] * 75 + [0.4] * 10 + [0.1] * 7 + [0.04] * 8 + [0.01] * 10
    assert len(table) == 110
    assert [rate_factor(epoch, 110, PAPER) for epoch in range(110)] == pytest.approx(table, rel=1e-12)


def test_schedule_scales_with_the_number_of_epochs() -> None:
    # 75, 85, 92 and 100 of 110 are 9.5, 10.8, 11.7 and 12.7 of 14.
    table = [1.0] * 10 + [0.4, 0.1, 0.04, 0.01]
    assert [rate_factor(epoch, 14, PAPER) for epoch in range(14)] == pytest.approx(table, rel=1e-12)


def test_schedule_of_ten_epochs_drops_at_seven() -> None:
    # 6.8, 7.7, 8.4 and 9.1 of 10: the second and third drop fall together.
    table = [1.0] * 7 + [0.4, 0.04, 0.01]
    assert [rate_factor(epoch, 10, PAPER) for epoch in range(10)] == pytest.approx(table, rel=1e-12)


def test_no_drops_no_change() -> None:
    assert rate_factor(109, 110, Schedule(epochs=110, drops=())) == 1.0


# Steps


def slow_logits(weight: dict[str, Tensor], images: np.ndarray) -> Tensor:
    x = torch.from_numpy((images / 255 - MEAN) / STD).permute(0, 3, 1, 2)
    for name in ("conv1", "conv2", "conv3"):
        x = torch.relu(F.conv2d(x, weight[f"{name}.weight"], weight[f"{name}.bias"], padding=2))
        if name != "conv3":
            x = F.max_pool2d(x, 3, 2)
    x = F.adaptive_max_pool2d(x, 7).reshape(len(images), -1)
    x = torch.relu(x @ weight["dense1.weight"].T + weight["dense1.bias"])
    return x @ weight["dense2.weight"].T + weight["dense2.bias"]


def slow_loss(logits: Tensor, labels: np.ndarray) -> Tensor:
    shares = torch.log_softmax(logits, 1)
    return -torch.stack([shares[row, label] for row, label in enumerate(labels.tolist())]).mean()


def slow_sgd(folder: Path, params: Train, seed: int) -> tuple[dict[str, Tensor], list[tuple[float, ...]]]:
    """SGD in float64 with momentum, L2 and the schedule, written out."""
    patches, labels = np.load(folder / "train.npy"), np.load(folder / "train_y.npy")
    valid, valid_labels = np.load(folder / "valid.npy"), np.load(folder / "valid_y.npy")
    weight = {name: p.detach().double().requires_grad_() for name, p in built().named_parameters()}
    velocity = {name: torch.zeros_like(p) for name, p in weight.items()}
    history = []
    factors = {0: 1.0, 1: 1.0, 2: 0.5, 3: 0.05}
    for epoch in range(params.epochs):
        order = rng.generator(seed, rng.Purpose.EPOCH, epoch).permutation(len(patches))
        losses, right = [], 0
        for start in range(0, len(order), params.batch_size):
            rows = order[start : start + params.batch_size]
            logits = slow_logits(weight, patches[rows])
            loss = slow_loss(logits, labels[rows])
            losses += [loss.item()] * len(rows)
            right += int((logits.argmax(1).numpy() == labels[rows]).sum())
            gradients = torch.autograd.grad(loss, list(weight.values()))
            with torch.no_grad():
                for (name, p), gradient in zip(weight.items(), gradients, strict=True):
                    layer, kind = name.split(".")
                    lr, l2 = RATES[layer if kind == "weight" else "bias"]
                    velocity[name] = params.momentum * velocity[name] + gradient + l2 * p
                    p -= lr * factors[epoch] * velocity[name]
        with torch.no_grad():
            logits = slow_logits(weight, valid)
            accuracy = float((logits.argmax(1).numpy() == valid_labels).mean())
            valid_loss = slow_loss(logits, valid_labels).item()
        rate = RATES["conv1"][0] * factors[epoch]
        history.append((epoch + 1, rate, np.mean(losses), right / len(patches), valid_loss, accuracy))
    return weight, history


def test_one_step_equals_plain_sgd(surrogate_set: Path, tmp_path: Path) -> None:
    params = train_params(epochs=1, batch_size=PATCHES, schedule=Schedule(epochs=1, drops=()))
    run = trainer(surrogate_set, tmp_path / "c", params)
    before = weights(run.network)
    run.run()
    expected, _ = slow_sgd(surrogate_set, params, seed=5)
    for name, parameter in run.network.named_parameters():
        np.testing.assert_allclose(parameter.detach(), expected[name].detach(), rtol=1e-4, atol=1e-6, err_msg=name)
        assert not torch.equal(parameter, before[name]), f"{name} did not move"


@pytest.mark.parametrize("channels_last", [False, True])
def test_all_steps_equal_plain_sgd_with_momentum_l2_and_schedule(
    surrogate_set: Path, tmp_path: Path, channels_last: bool
) -> None:
    params = train_params(channels_last=channels_last)
    run = trainer(surrogate_set, tmp_path / "c", params)
    history = run.run()
    expected, rows = slow_sgd(surrogate_set, params, seed=5)
    for name, parameter in run.network.named_parameters():
        np.testing.assert_allclose(parameter.detach(), expected[name].detach(), rtol=1e-3, atol=1e-5, err_msg=name)
    names = ("epoch", "learning_rate", "train_loss", "train_accuracy", "valid_loss", "valid_accuracy")
    found = [tuple(getattr(row, name) for name in names) for row in history]
    np.testing.assert_allclose(found, rows, rtol=1e-4)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_learnable_set_is_learned(surrogate_set: Path, tmp_path: Path, precision: str) -> None:
    params = train_params(epochs=12, schedule=PAPER, precision=precision)
    history = trainer(surrogate_set, tmp_path / "c", params).run()
    assert history[0].valid_loss > 1.0
    assert history[-1].valid_loss < 0.3
    assert history[-1].train_loss < 0.3
    assert history[-1].valid_accuracy > 0.85


def test_bf16_is_another_arithmetic_and_weights_stay_float32(surrogate_set: Path, tmp_path: Path) -> None:
    runs = {}
    for precision in ("fp32", "bf16"):
        run = trainer(surrogate_set, tmp_path / precision, train_params(epochs=1, precision=precision))
        run.run()
        runs[precision] = weights(run.network)
    assert all(tensor.dtype == torch.float32 for tensor in runs["bf16"].values())
    assert not torch.equal(runs["fp32"]["conv2.weight"], runs["bf16"]["conv2.weight"])
    torch.testing.assert_close(runs["fp32"]["conv2.weight"], runs["bf16"]["conv2.weight"], rtol=0, atol=0.02)


# Order of the batches


def orders(run: Trainer, **arguments: Any) -> list[list[int]]:
    """Numbers of the patches that go through the network in train mode, one list an epoch."""
    seen: list[list[int]] = []
    inner = run.network.normalise

    def spy(images: Tensor) -> Tensor:
        if run.network.training:
            if not seen or len(seen[-1]) >= PATCHES:
                seen.append([])
            seen[-1].extend(images[:, 0, 0, 0].tolist())
        return inner(images)

    run.network.normalise = spy
    run.run(**arguments)
    return seen


def test_order_of_batches_depends_on_seed_and_epoch_alone(surrogate_set: Path, tmp_path: Path) -> None:
    first = orders(trainer(surrogate_set, tmp_path / "a"))
    assert len(first) == 4
    assert all(sorted(order) == list(range(PATCHES)) for order in first)
    assert all(order != list(range(PATCHES)) for order in first)
    assert len({tuple(order) for order in first}) == 4

    np.random.seed(3)  # noqa: NPY002 - the global generator is what must not matter
    torch.manual_seed(3)
    params = train_params(batch_size=7, precision="bf16", momentum=0.5)
    assert orders(trainer(surrogate_set, tmp_path / "b", params, built(9, 0.5))) == first
    assert orders(trainer(surrogate_set, tmp_path / "c", train_params(epochs=2))) == first[:2]
    assert all(x != y for x, y in zip(orders(trainer(surrogate_set, tmp_path / "d", seed=6)), first, strict=True))

    with pytest.raises(Interruption):
        trainer(surrogate_set, tmp_path / "e").run(stop_after(3))
    assert orders(trainer(surrogate_set, tmp_path / "e")) == first[3:]


@pytest.mark.parametrize("held", [False, True])
def test_batches_are_the_rows_of_the_set(surrogate_set: Path, held: bool) -> None:
    batches = Batches(surrogate_set, "train", torch.device("cpu"))
    if held:
        batches.hold()
    assert len(batches) == PATCHES
    groups = [np.array([3, 1, 2]), np.array([], np.int64), np.arange(PATCHES), np.array([43])]
    found = list(batches.each(groups))
    assert len(found) == 4
    for rows, (patches, labels) in zip(groups, found, strict=True):
        assert (patches.dtype, labels.dtype) == (torch.uint8, torch.int64)
        np.testing.assert_array_equal(patches, np.load(surrogate_set / "train.npy")[rows])
        np.testing.assert_array_equal(labels, np.load(surrogate_set / "train_y.npy")[rows])


def test_what_is_made_ahead_comes_in_order_and_fails_where_it_is_used() -> None:
    made: list[int] = []

    def make(number: int) -> int:
        if number == 7:
            raise ValueError("seven")
        made.append(number)
        return number * number

    results = ahead(make, range(20))
    assert [next(results) for _ in range(7)] == [n * n for n in range(7)]
    with pytest.raises(ValueError, match="seven"):
        next(results)
    assert list(ahead(make, [])) == []
    made.clear()
    results = ahead(make, iter([1, 2, 3, 4, 5, 6]))
    next(results)
    results.close()
    assert len(made) < 5, "no further ahead than two"


# Validation


def test_validation_is_in_eval_mode_over_all_patches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_set(tmp_path / "set", valid=11)
    monkeypatch.setattr(training, "VALIDATION_BATCH", 4)
    run = trainer(folder, tmp_path / "c", train_params(epochs=2), built(dropout=0.6))
    modes: list[tuple[bool, int]] = []
    run.network.register_forward_hook(lambda module, inputs, out: modes.append((module.training, len(out))))
    history = run.run()
    epoch = [(True, 16), (True, 16), (True, 12), (False, 4), (False, 4), (False, 3)]
    assert modes == epoch * 2

    final = {name: p.detach().double() for name, p in run.network.named_parameters()}
    logits = slow_logits(final, np.load(folder / "valid.npy"))
    labels = np.load(folder / "valid_y.npy")
    assert history[-1].valid_loss == pytest.approx(slow_loss(logits, labels).item(), rel=1e-5)
    assert history[-1].valid_accuracy == pytest.approx((logits.argmax(1).numpy() == labels).mean())


# Interruptions


@pytest.mark.parametrize(
    ("precision", "channels_last", "stop"),
    [("fp32", False, 1), ("fp32", True, 3), ("bf16", False, 2), ("bf16", True, 2)],
)
def test_interrupted_training_ends_with_the_same_bits(
    surrogate_set: Path, tmp_path: Path, precision: str, channels_last: bool, stop: int
) -> None:
    params = train_params(precision=precision, channels_last=channels_last)
    whole = trainer(surrogate_set, tmp_path / "whole", params, built(dropout=0.5))
    expected = whole.run()

    with pytest.raises(Interruption):
        trainer(surrogate_set, tmp_path / "cut", params, built(dropout=0.5)).run(stop_after(stop))
    torch.manual_seed(99)
    # Other initial weights: everything has to come from the checkpoint.
    resumed = trainer(surrogate_set, tmp_path / "cut", params, built(seed=8, dropout=0.5))
    rows: list[Epoch] = []
    history = resumed.run(rows.append)

    assert history == expected
    assert rows == expected
    assert same(weights(resumed.network), weights(whole.network))
    assert same(load_file(tmp_path / "cut"), load_file(tmp_path / "whole"))


def dropped(folder: Path, path: Path, monkeypatch: pytest.MonkeyPatch, **changes: Any) -> list[Tensor]:
    """Which inputs of the last layer each step of two epochs drops, of weights that do not move."""
    still = train_params(epochs=2, groups=groups(dict.fromkeys(RATES, (1e-30, 0.0))))
    masks: list[Tensor] = []
    plain = F.dropout

    def spy(x: Tensor, p: float, training: bool) -> Tensor:
        out = plain(x, p, training)
        if training and x.ndim == 2:
            masks.append((out == 0).float())
        return out

    with monkeypatch.context() as patch:
        patch.setattr(F, "dropout", spy)
        trainer(folder, path, still, built(dropout=0.5), **changes).run()
    return masks


def test_dropout_has_a_mask_of_its_own_for_each_step_epoch_and_seed(
    surrogate_set: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A network whose units are all active, so that a zero after dropout is one that was dropped.
    monkeypatch.setattr(torch.nn.functional, "relu", lambda x: x.abs() + 0.1)
    first = dropped(surrogate_set, tmp_path / "a", monkeypatch)
    steps = 3  # 44 patches in batches of 16
    assert len(first) == 2 * steps
    assert all(0.3 < mask.mean() < 0.7 for mask in first)
    again = dropped(surrogate_set, tmp_path / "b", monkeypatch)
    assert all(torch.equal(mask, other) for mask, other in zip(first, again, strict=True))
    # The last batch of an epoch has twelve patches.
    apart = [mask[:12] for mask in first + dropped(surrogate_set, tmp_path / "c", monkeypatch, seed=6)]
    assert len({mask.numpy().tobytes() for mask in apart}) == 4 * steps, "two steps dropped the same units"


def test_dropout_has_a_mask_of_its_own_for_each_process_too(
    surrogate_set: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seeds: list[int] = []
    processes = [trainer(surrogate_set, tmp_path / f"{rank}", train_params(epochs=2)) for rank in range(3)]
    monkeypatch.setattr(torch, "manual_seed", seeds.append)
    for rank, one in enumerate(processes):  # one after the other, each with its share of the patches
        one.rank, one.world = rank, 3
        one.run()
    assert len(seeds) == 3 * 2 * 3, "processes, epochs, steps"
    assert len(set(seeds)) == len(seeds)


def test_a_finished_training_is_not_trained_further(surrogate_set: Path, tmp_path: Path) -> None:
    first = trainer(surrogate_set, tmp_path / "c")
    history = first.run()
    written = (tmp_path / "c").read_bytes()
    again = trainer(surrogate_set, tmp_path / "c", network=built(seed=8))
    assert again.run() == history
    assert same(weights(again.network), weights(first.network))
    assert (tmp_path / "c").read_bytes() == written


def test_training_without_momentum_resumes_too(surrogate_set: Path, tmp_path: Path) -> None:
    params = train_params(momentum=0.0)
    whole = trainer(surrogate_set, tmp_path / "whole", params)
    whole.run()
    with pytest.raises(Interruption):
        trainer(surrogate_set, tmp_path / "cut", params).run(stop_after(2))
    resumed = trainer(surrogate_set, tmp_path / "cut", params)
    resumed.run()
    assert same(weights(resumed.network), weights(whole.network))


# Divergence


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_divergence_in_the_first_epoch(surrogate_set: Path, tmp_path: Path, precision: str) -> None:
    params = train_params(groups=groups(dict.fromkeys(RATES, (1e30, 0.0))), precision=precision)
    with pytest.raises(
        TrainingError, match=r"in epoch 1 the loss .*: training diverged\. Lower the learning rates \(train\.groups"
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
    good = trainer(surrogate_set, tmp_path / "good", train_params(epochs=2, schedule=Schedule(epochs=2, drops=())))
    expected = good.run()
    # Two epochs as they should be, then a rate that no network survives.
    params = train_params(epochs=4, schedule=Schedule(epochs=4, drops=((2, 1e30),)))
    rows: list[Epoch] = []
    with pytest.raises(TrainingError, match=r"in epoch 3 .*/c holds epoch 2, all finite: remove it to start over"):
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
    inner = run.step

    def step(*batch: Any) -> None:
        inner(*batch)
        steps.append(1)
        if len(steps) == 2:
            run.network.dense2.weight.data[1, 2] = torch.inf

    monkeypatch.setattr(run, "step", step)
    with pytest.raises(TrainingError, match=r"in epoch 1 the loss or a weight .*/c holds epoch 0 and 1 steps of the"):
        run.run()
    assert len(steps) == 2
    assert all(bool(tensor.isfinite().all()) for tensor in load_file(tmp_path / "c").values())


# A network that does not learn


def long_training(rate: float) -> Train:
    # Three steps an epoch: a tenth are 120 of 1,200 steps.
    same_rates = groups(dict.fromkeys(RATES, (rate, 0.0)))
    return train_params(epochs=400, schedule=Schedule(epochs=400, drops=()), groups=same_rates)


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
    assert f"guessing among 4 classes gives {np.log(4):.3f}" in text
    assert "train.groups.*.lr" in text


def test_a_network_that_learns_is_not(surrogate_set: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(Interruption):
        trainer(surrogate_set, tmp_path / "c", long_training(0.01)).run(stop_after(60))
    assert not caplog.records


# Looks on the way


def test_a_probe_is_asked_after_every_so_many_epochs_and_changes_nothing(surrogate_set: Path, tmp_path: Path) -> None:
    plain = trainer(surrogate_set, tmp_path / "plain", network=built(dropout=0.5))
    rows = plain.run()
    asked: list[ExemplarCNN] = []

    def probe(network: ExemplarCNN) -> float:
        asked.append(network)
        return len(asked) / 10

    every: dict[str, Any] = {"probe": probe, "probe_every": 2}
    run = trainer(surrogate_set, tmp_path / "c", network=built(dropout=0.5), **every)
    with pytest.raises(Interruption):
        run.run(stop_after(3))
    resumed = trainer(surrogate_set, tmp_path / "c", network=built(dropout=0.5), **every)
    found = resumed.run()
    assert [row.probe_accuracy for row in found] == [None, 0.1, None, 0.2]
    assert [replace(row, probe_accuracy=None) for row in found] == rows
    assert same(weights(resumed.network), weights(plain.network))
    assert asked == [run.network, resumed.network]


# Several processes

TOGETHER = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import torch
from exemplarcnn import distributed, training
from tests import test_training as t
torch.set_num_threads(1)
folder, epochs, dropout, stop = Path(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4]), int(sys.argv[5])
training.STEPS_BETWEEN_LOOKS = 1
with distributed.processes():
    params = t.fifty_steps().model_copy(update={"epochs": epochs})
    run = t.trainer(folder / "set", folder / "together", params, t.built(dropout=dropout))
    (folder / f"process-{distributed.rank()}").write_text(str(os.getpid()))
    steps, inner = [], run.step
    def step(*batch):
        inner(*batch)
        steps.append(1)
        if len(steps) == stop:  # as a scheduler does it, with the launcher passing it on once more
            signal.raise_signal(signal.SIGTERM)
            signal.raise_signal(signal.SIGTERM)
    run.step = step
    history = run.run()
    if distributed.rank() == 0:
        torch.save((t.weights(run.network), [vars(row) for row in history]), folder / "together.pt")
"""


def fifty_steps() -> Train:
    # 49 patches in batches of 16: of the last batch, of one patch, all processes but one have nothing.
    return train_params(epochs=13, schedule=Schedule(epochs=13, drops=((8, 0.5),)))


def start_together(folder: Path, processes: int, dropout: float, stop: int = 0, epochs: int = 13) -> Any:
    (folder / "together.py").write_text(TOGETHER)
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    words = [ROOT, folder, epochs, dropout, stop]
    command = [*launch, str(folder / "together.py"), *map(str, words)]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)


def together(folder: Path, processes: int, dropout: float, stop: int = 0) -> int:
    process = start_together(folder, processes, dropout, stop)
    _, said = process.communicate(timeout=240)
    assert stop or not process.returncode, said
    return int(process.returncode)


@pytest.mark.slow
def test_several_processes_train_as_one_does(tmp_path: Path) -> None:
    folder = write_set(tmp_path / "set", count=49, valid=11)
    one = trainer(folder, tmp_path / "one", fifty_steps())
    expected = one.run()
    together(tmp_path, 3, 0.0)
    found, history = torch.load(tmp_path / "together.pt")
    for name, tensor in weights(one.network).items():
        torch.testing.assert_close(found[name], tensor, rtol=0, atol=1e-4)
    assert [list(row.values()) for row in history] == [
        pytest.approx(list(vars(row).values()), abs=1e-4) for row in expected
    ]


@pytest.mark.slow
def test_several_processes_go_on_after_a_scheduler_stopped_them(tmp_path: Path) -> None:
    write_set(tmp_path / "set", count=49, valid=11)
    together(tmp_path, 2, 0.5)
    expected, rows = torch.load(tmp_path / "together.pt")
    (tmp_path / "together").unlink()
    assert together(tmp_path, 2, 0.5, stop=18) != 0
    _, progress = checkpoint.load(tmp_path / "together", {"of": "mine"})
    assert (len(progress.history), progress.step) == (4, 2)
    together(tmp_path, 2, 0.5)
    found, history = torch.load(tmp_path / "together.pt")
    assert same(found, expected)
    assert history == rows


@pytest.mark.slow
def test_processes_whose_launcher_was_killed_save_and_end(tmp_path: Path) -> None:
    write_set(tmp_path / "set", count=49, valid=11)
    launcher = start_together(tmp_path, 2, 0.5, epochs=10**6)
    path, deadline = tmp_path / "together", time.monotonic() + 120
    while not path.exists():
        assert launcher.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    workers = [psutil.Process(int((tmp_path / f"process-{rank}").read_text())) for rank in range(2)]
    launcher.kill()
    launcher.wait()
    _, alive = psutil.wait_procs(workers, timeout=60)
    for worker in alive:
        worker.kill()
    assert not alive
    # Saved when they noticed it, wherever that was in an epoch: they had no other reason to.
    _, progress = checkpoint.load(path, {"of": "mine"})
    assert progress.step > 0
