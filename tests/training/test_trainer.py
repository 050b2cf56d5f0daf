"""Training: steps by hand, interruptions, several processes."""

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional as F

from exemplarcnn import distributed, rng, threads
from exemplarcnn.config.sections import Schedule, Train
from exemplarcnn.networks.exemplar_cnn import ExemplarCNN
from exemplarcnn.training import diagnosis
from exemplarcnn.training import trainer as training
from exemplarcnn.training.learning_curve import Epoch
from exemplarcnn.training.trainer import PeriodicProbe, Trainer
from tests.small_training import (
    MEAN,
    PAPER,
    PATCHES,
    RATES,
    STD,
    Interruption,
    built,
    groups,
    same,
    stop_after,
    stop_after_steps,
    surrogate_set,
    train_params,
    trainer,
    weights,
    write_set,
)

__all__ = ["surrogate_set"]  # a fixture


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
    """SGD in float64 with momentum, L2 and the schedule, written out; ends after ``params.steps`` if there are any."""
    patches, labels = np.load(folder / "train.npy"), np.load(folder / "train_y.npy")
    valid, valid_labels = np.load(folder / "valid.npy"), np.load(folder / "valid_y.npy")
    weight = {name: p.detach().double().requires_grad_() for name, p in built().named_parameters()}
    velocity = {name: torch.zeros_like(p) for name, p in weight.items()}
    history: list[tuple[float, ...]] = []
    step = 0
    for epoch in itertools.count():
        order = rng.generator(seed, rng.Purpose.EPOCH, epoch).permutation(len(patches))
        losses, right = [], 0
        for start in range(0, len(order), params.batch_size):
            # Drops after 2 and 3 of 4 epochs, or after 4 and 6 of 8 steps.
            done, drops = (epoch, (2, 3)) if params.steps is None else (step, (4, 6))
            factor = 1.0 if done < drops[0] else 0.5 if done < drops[1] else 0.05
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
                    p -= lr * factor * velocity[name]
            step += 1
            if step == params.steps:
                break
        with torch.no_grad():
            logits = slow_logits(weight, valid)
            accuracy = float((logits.argmax(1).numpy() == valid_labels).mean())
            valid_loss = slow_loss(logits, valid_labels).item()
        rate = RATES["conv1"][0] * factor
        history.append((epoch + 1, step, rate, float(np.mean(losses)), right / len(losses), valid_loss, accuracy))
        if step == params.steps or (params.steps is None and epoch + 1 == params.epochs):
            return weight, history
    raise AssertionError


def test_one_step_equals_plain_sgd(surrogate_set: Path, tmp_path: Path) -> None:
    params = train_params(epochs=1, batch_size=PATCHES, schedule=Schedule(epochs=1, drops=(), cosine=False, warmup=0.0))
    run = trainer(surrogate_set, tmp_path / "c", params)
    before = weights(run.network)
    run.run()
    expected, _ = slow_sgd(surrogate_set, params, seed=5)
    for name, parameter in run.network.named_parameters():
        np.testing.assert_allclose(parameter.detach(), expected[name].detach(), rtol=1e-4, atol=1e-6, err_msg=name)
        assert not torch.equal(parameter, before[name]), f"{name} did not move"


@pytest.mark.parametrize(("channels_last", "steps"), [(False, None), (True, None), (False, 8)])
def test_all_steps_equal_plain_sgd_with_momentum_l2_and_schedule(
    surrogate_set: Path, tmp_path: Path, channels_last: bool, steps: int | None
) -> None:
    params = train_params(channels_last=channels_last, steps=steps)
    run = trainer(surrogate_set, tmp_path / "c", params)
    history = run.run()
    expected, rows = slow_sgd(surrogate_set, params, seed=5)
    for name, parameter in run.network.named_parameters():
        np.testing.assert_allclose(parameter.detach(), expected[name].detach(), rtol=1e-3, atol=1e-5, err_msg=name)
    names = ("epoch", "step", "learning_rate", "train_loss", "train_accuracy", "valid_loss", "valid_accuracy")
    found = [tuple(getattr(row, name) for name in names) for row in history]
    np.testing.assert_allclose(found, rows, rtol=1e-4)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_learnable_set_is_learned(surrogate_set: Path, tmp_path: Path, precision: str) -> None:
    params = train_params(epochs=12, schedule=PAPER, precision=precision)
    history = trainer(surrogate_set, tmp_path / "c", params, seed=7).run()
    assert history[0].valid_loss > 1.0
    assert history[-1].valid_loss < 0.3
    assert history[-1].train_loss < 0.3
    assert history[-1].valid_accuracy > 0.85


@pytest.mark.usefixtures("bfloat16")
def test_bf16_is_another_arithmetic_and_weights_stay_float32(surrogate_set: Path, tmp_path: Path) -> None:
    runs = {}
    for precision in ("fp32", "bf16"):
        run = trainer(surrogate_set, tmp_path / precision, train_params(epochs=1, precision=precision))
        run.run()
        runs[precision] = weights(run.network)
    assert all(tensor.dtype == torch.float32 for tensor in runs["bf16"].values())
    assert not torch.equal(runs["fp32"]["conv2.weight"], runs["bf16"]["conv2.weight"])
    torch.testing.assert_close(runs["fp32"]["conv2.weight"], runs["bf16"]["conv2.weight"], rtol=0, atol=0.02)


def test_processes_that_compute_otherwise_do_not_train_together(
    surrogate_set: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(distributed, "world", lambda: 2)
    monkeypatch.setattr(distributed, "all_reduce_sum", lambda *flags: [1.0])
    with pytest.raises(diagnosis.TrainingError, match="1 of 2 processes run on processors with instructions for bf"):
        trainer(surrogate_set, tmp_path / "c", train_params(precision="bf16"))


# Order of the batches


def orders(run: Trainer, **arguments: Any) -> list[list[int]]:
    """Numbers of the patches of all steps in their order, one list an epoch."""
    seen: list[list[int]] = []
    inner = run.step

    def spy(images: Tensor, labels: Tensor, count: int, epoch: int = 0) -> None:
        if not seen or len(seen[-1]) >= PATCHES:
            seen.append([])
        seen[-1].extend(images[:, 0, 0, 0].tolist())
        inner(images, labels, count, epoch)

    run.step = spy  # type: ignore[method-assign]  # to look at the patches
    run.run(**arguments)
    return seen


def test_order_of_batches_depends_on_seed_and_epoch_alone(surrogate_set: Path, tmp_path: Path) -> None:
    one = train_params(shards=1)
    first = orders(trainer(surrogate_set, tmp_path / "a", one))
    assert len(first) == 4
    assert all(sorted(order) == list(range(PATCHES)) for order in first)
    assert all(order != list(range(PATCHES)) for order in first)
    assert len({tuple(order) for order in first}) == 4

    np.random.seed(3)  # noqa: NPY002 - the global generator is what must not matter
    torch.manual_seed(3)
    params = train_params(batch_size=7, shards=1, precision="bf16", momentum=0.5)
    assert orders(trainer(surrogate_set, tmp_path / "b", params, built(9, 0.5))) == first
    assert orders(trainer(surrogate_set, tmp_path / "c", train_params(epochs=2, shards=1))) == first[:2]
    other = orders(trainer(surrogate_set, tmp_path / "d", one, seed=6))
    assert all(x != y for x, y in zip(other, first, strict=True))

    with pytest.raises(Interruption):
        trainer(surrogate_set, tmp_path / "e", one).run(stop_after(3))
    assert orders(trainer(surrogate_set, tmp_path / "e", one)) == first[3:]


# Validation


def test_validation_is_in_eval_mode_over_all_patches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_set(tmp_path / "set", valid=11)
    monkeypatch.setattr(training, "VALIDATION_BATCH", 4)
    run = trainer(folder, tmp_path / "c", train_params(epochs=2), built(dropout=0.6))
    modes: list[tuple[bool, int]] = []
    run.network.register_forward_hook(lambda module, inputs, out: modes.append((module.training, len(out))))
    history = run.run()
    shards = [(True, 8)] * 4 + [(True, 6)] * 2
    epoch = [*shards, (False, 4), (False, 4), (False, 3)]
    assert modes == epoch * 2

    final = {name: p.detach().double() for name, p in run.network.named_parameters()}
    logits = slow_logits(final, np.load(folder / "valid.npy"))
    labels = np.load(folder / "valid_y.npy")
    assert history[-1].valid_loss == pytest.approx(slow_loss(logits, labels).item(), rel=1e-5)
    assert history[-1].valid_accuracy == pytest.approx((logits.argmax(1).numpy() == labels).mean())


# Interruptions


@pytest.mark.usefixtures("bfloat16")
@pytest.mark.parametrize(
    ("precision", "channels_last", "steps", "stop"),
    [("fp32", False, None, 1), ("fp32", True, None, 3), ("bf16", False, None, 2), ("bf16", True, 8, 2)],
)
def test_interrupted_training_ends_with_the_same_bits(
    surrogate_set: Path, tmp_path: Path, precision: str, channels_last: bool, steps: int | None, stop: int
) -> None:
    params = train_params(precision=precision, channels_last=channels_last, steps=steps)
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


@pytest.mark.parametrize("shards", [2, 3])
def test_batch_normalisation_depends_on_neither_threads_nor_an_interruption(
    surrogate_set: Path, tmp_path: Path, shards: int
) -> None:
    params = train_params(shards=shards)
    whole = trainer(surrogate_set, tmp_path / "whole", params, built(dropout=0.5, batch_norm=True))
    expected = whole.run()
    cut = trainer(surrogate_set, tmp_path / "cut", params, built(dropout=0.5, batch_norm=True), minutes=0.0)
    stop_after_steps(cut, 5)  # an epoch has three
    with pytest.raises(Interruption):
        cut.run()
    threads.use(3)
    resumed = trainer(surrogate_set, tmp_path / "cut", params, built(seed=8, dropout=0.5, batch_norm=True))
    assert resumed.run() == expected
    assert same(weights(resumed.network), weights(whole.network))


def dropped(folder: Path, path: Path, monkeypatch: pytest.MonkeyPatch, **changes: Any) -> list[Tensor]:
    """Which inputs of the last layer each shard of each step of two epochs drops, of weights that do not move."""
    still = train_params(epochs=2, groups=groups(dict.fromkeys(RATES, (1e-30, 0.0))))
    masks: list[Tensor] = []
    plain = ExemplarCNN._dropped

    def spy(network: ExemplarCNN, x: Tensor, rate: float) -> Tensor:
        out = plain(network, x, rate)
        if network.training and x.ndim == 2:
            masks.append((out == 0).float())
        return out

    with monkeypatch.context() as patch:
        patch.setattr(ExemplarCNN, "_dropped", spy)
        trainer(folder, path, still, built(dropout=0.5), **changes).run()
    return masks


def test_dropout_has_a_mask_of_its_own_for_each_shard_step_epoch_and_seed(
    surrogate_set: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A network whose units are all active, so that a zero after dropout is one that was dropped.
    monkeypatch.setattr(torch.nn.functional, "relu", lambda x: x.abs() + 0.1)
    first = dropped(surrogate_set, tmp_path / "a", monkeypatch)
    steps = 3  # 44 patches in batches of 16
    assert len(first) == 2 * 2 * steps
    assert all(0.3 < mask.mean() < 0.7 for mask in first)
    again = dropped(surrogate_set, tmp_path / "b", monkeypatch)
    assert all(torch.equal(mask, other) for mask, other in zip(first, again, strict=True))
    # A shard of the last batch of an epoch has six patches.
    apart = [mask[:6] for mask in first + dropped(surrogate_set, tmp_path / "c", monkeypatch, seed=6)]
    assert len({mask.numpy().tobytes() for mask in apart}) == 2 * 4 * steps, "two shards dropped the same units"


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


# Looks on the way


def test_a_probe_is_asked_after_every_so_many_epochs_and_changes_nothing(surrogate_set: Path, tmp_path: Path) -> None:
    plain = trainer(surrogate_set, tmp_path / "plain", network=built(dropout=0.5))
    rows = plain.run()
    asked: list[ExemplarCNN] = []

    def probe(network: ExemplarCNN) -> float:
        asked.append(network)
        return len(asked) / 10

    every = PeriodicProbe(probe, 2)
    run = trainer(surrogate_set, tmp_path / "c", network=built(dropout=0.5), probe=every)
    with pytest.raises(Interruption):
        run.run(stop_after(3))
    resumed = trainer(surrogate_set, tmp_path / "c", network=built(dropout=0.5), probe=every)
    found = resumed.run()
    assert [row.probe_accuracy for row in found] == [None, 0.1, None, 0.2]
    assert [replace(row, probe_accuracy=None) for row in found] == rows
    assert same(weights(resumed.network), weights(plain.network))
    assert asked == [run.network, resumed.network]
