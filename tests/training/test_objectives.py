"""What networks learn: each loss against its formula, what a batch holds, and trainings to the same bits."""

import math
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from exemplarcnn import threads
from exemplarcnn.config import objectives as known
from exemplarcnn.config.base import ConfigError
from exemplarcnn.config.objectives import PAIRED, TURNS
from exemplarcnn.config.params import Config, parse
from exemplarcnn.config.sections import Network, Train
from exemplarcnn.config.sections import Pairs as PairParams
from exemplarcnn.networks.exemplar_cnn import ExemplarCNN, initialise
from exemplarcnn.training import objectives
from exemplarcnn.training.objectives import OBJECTIVES, ObjectiveError, Pairs, Rotation
from exemplarcnn.training.shards import Layout, Shards, outputs_of
from exemplarcnn.training.trainer import Trainer
from tests.conftest import one_fast, profile_values
from tests.small_training import (
    CLASSES,
    MEAN,
    RATES,
    SIDE,
    STD,
    Interruption,
    groups,
    same,
    stop_after_steps,
    train_params,
    trainer,
    weights,
    write_set,
)


def profile(name: str) -> Config:
    return parse(profile_values(name), name)


def network(objective: str, params: Train, seed: int = 0, dropout: float = 0.5) -> ExemplarCNN:
    sizes = Network(widths=(4, 5, 6), dense=12, dropout_conv=dropout / 2, dropout_dense=dropout, batch_norm=False)
    outputs = known.outputs(objective, CLASSES, params)
    return initialise(sizes, outputs, SIDE, seed, MEAN, STD)


def training(
    objective: str, folder: Path, path: Path, seed: int = 0, dropout: float = 0.5, minutes: float = 10.0, **changes: Any
) -> Trainer:
    # At the other objectives' rates VICReg diverges.
    rates = groups(dict.fromkeys(RATES, (0.0002 if objective == "vicreg" else 0.005, 0.0)))
    params = train_params(**({"batch_size": 8, "groups": rates} | changes))
    made = objectives.of(objective, CLASSES, params)
    return trainer(folder, path, params, network(objective, params, seed, dropout), objective=made, minutes=minutes)


@pytest.fixture
def patches(tmp_path: Path) -> Path:
    """Eleven patches of each of four classes, five of each to validate on: odd numbers."""
    return write_set(tmp_path / "set", 44, 20)


# Losses


def nt_xent(first: Tensor, second: Tensor, temperature: float) -> float:
    """Chen et al. 2020, equation 1, with the mean over both patches of every pair."""
    found = torch.nn.functional.normalize(torch.cat([first, second]).double(), dim=1)
    count, total = len(first), 0.0
    for i in range(2 * count):
        j = (i + count) % (2 * count)
        others = sum(math.exp(found[i] @ found[k] / temperature) for k in range(2 * count) if k != i)
        total -= math.log(math.exp(found[i] @ found[j] / temperature) / others)
    return total / (2 * count)


def vicreg(first: Tensor, second: Tensor) -> float:
    """Bardes et al. 2022, section 4.1, with its weights 25, 25 and 1."""
    total = 25 * (first - second).double().square().mean().item()
    for z in (first.double().numpy(), second.double().numpy()):
        covariance = np.cov(z.T)
        total += 25 * np.maximum(0, 1 - np.sqrt(z.var(axis=0, ddof=1) + 1e-4)).mean() / 2
        total += (np.square(covariance).sum() - np.square(np.diag(covariance)).sum()) / z.shape[1]
    return float(total)


def test_losses_of_pairs_are_their_formulas() -> None:
    outputs = torch.randn(12, 8, generator=torch.Generator().manual_seed(0))
    first, second = outputs[0::2], outputs[1::2]
    for temperature in (0.1, 0.5):
        params = train_params(pairs=PairParams(outputs=8, temperature=temperature))
        loss, _ = objectives.of("simclr", 4, params).loss(outputs, None)
        assert loss.item() == pytest.approx(12 * nt_xent(first, second, temperature), rel=1e-5)
    loss, _ = objectives.of("vicreg", 4, train_params()).loss(outputs, None)
    assert loss.item() == pytest.approx(12 * vicreg(first, second), rel=1e-4)


def test_smoothed_targets_are_a_mixture_with_all_classes() -> None:
    outputs = torch.randn(9, 4, generator=torch.Generator().manual_seed(0))
    targets = torch.arange(9) % 4
    logs = torch.log_softmax(outputs.double(), dim=1).numpy()
    for share in (0.0, 0.1):
        wanted = np.full((9, 4), share / 4)
        wanted[np.arange(9), targets] += 1 - share
        loss, _ = objectives.of("exemplar", 4, train_params(label_smoothing=share)).loss(outputs, targets)
        assert loss.item() == pytest.approx(-(wanted * logs).sum(), rel=1e-5)


def test_right_are_those_that_are_nearest_to_their_partner() -> None:
    objective = objectives.of("simclr", 4, train_params())
    along = torch.eye(3)[[0, 0, 1, 1, 2, 2]]
    assert objective.loss(along, None)[1] == 6
    assert objective.loss(torch.eye(3)[[0, 1, 2, 0, 1, 2]], None)[1] == 0
    # One without a partner counts neither way, and a pair without others gives nothing.
    assert objective.loss(torch.cat([along, torch.ones(1, 3)]), None)[0] == objective.loss(along, None)[0]
    assert [each.item() for each in objective.loss(along[:3], None)] == [0, 0]


def test_guessing_is_what_a_network_scores_that_knows_nothing() -> None:
    params = train_params(batch_size=16)
    flat = torch.ones(16, 8)
    for name, size in (("exemplar", 8), ("rotation", TURNS), ("simclr", 8)):
        objective = objectives.of(name, size, params)
        loss, _ = objective.loss(flat[:, :size], torch.zeros(16, dtype=torch.int64))
        assert objective.guessing == pytest.approx(loss.item() / 16)
    assert objectives.of("vicreg", 8, params).guessing is None


# Batches


def source(labels: list[int]) -> Any:
    return SimpleNamespace(labels=torch.tensor(labels))


@pytest.mark.parametrize(
    ("classes", "each", "batch_size"), [(40, 6, 16), (40, 7, 16), (9, 40, 16), (300, 2, 128), (8, 10, 16)]
)
def test_a_batch_has_each_class_once_and_two_patches_of_it(classes: int, each: int, batch_size: int) -> None:
    labels = np.repeat(np.arange(classes), each)[np.random.default_rng(1).permutation(classes * each)]
    objective = Pairs(8, batch_size, None)
    rows = objective.order(source(labels.tolist()), np.random.default_rng(0))
    assert len(rows) == len(labels)
    if each % 2 == 0:
        assert sorted(rows) == list(range(len(labels)))
    shown = labels[rows]
    assert np.array_equal(shown[0 : len(shown) // 2 * 2 : 2], shown[1::2])
    assert (rows[0 : len(rows) // 2 * 2 : 2] != rows[1::2]).all(), "a patch is no partner of its own"
    # The last pairs of an epoch are those that are left.
    for start in range(0, len(rows) - LAST * batch_size, batch_size):
        batch = shown[start : start + batch_size : 2]
        assert len(set(batch)) == len(batch)
    again = objective.order(source(labels.tolist()), np.random.default_rng(0))
    other = objective.order(source(labels.tolist()), np.random.default_rng(1))
    assert np.array_equal(rows, again)
    assert not np.array_equal(rows, other)


LAST = objectives.LOOKED_AHEAD


def test_fewer_classes_than_pairs_come_several_times() -> None:
    rows = Pairs(8, 16, None).order(source([0] * 20 + [1] * 4), np.random.default_rng(0))
    assert sorted(rows) == list(range(24))


def test_a_class_of_one_patch_has_no_pair() -> None:
    with pytest.raises(ObjectiveError, match="class 7 has one alone; set more patches"):
        Pairs(8, 16, None).order(source([3, 3, 7, 5, 5]), np.random.default_rng(0))


def test_turned_patches_are_numpys() -> None:
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (40, 6, 6, 3), dtype=np.uint8))
    shown, turns = Rotation().prepare(images, torch.zeros(40), np.random.default_rng(3))
    assert set(turns.tolist()) == set(range(TURNS))
    for image, turn, found in zip(images.numpy(), turns.tolist(), shown.numpy(), strict=True):
        assert np.array_equal(found, np.rot90(image, turn))
    _, turns = Rotation().prepare(images, torch.zeros(40), None)
    assert turns.tolist() == [0, 1, 2, 3] * 10


# Gradients


@pytest.mark.parametrize("objective", ["simclr", "vicreg"])
@pytest.mark.parametrize("count", [16, 13, 3])
def test_gradients_of_shards_are_those_of_the_whole_batch(objective: str, count: int) -> None:
    params = train_params(batch_size=16, shards=4)
    made, net = objectives.of(objective, CLASSES, params), network(objective, params, dropout=0.0)
    draw = np.random.default_rng(count)
    images = torch.from_numpy(draw.integers(0, 256, (count, SIDE, SIDE, 3), dtype=np.uint8))
    labels = torch.from_numpy(np.arange(count) // 2)
    layout = Layout(4, range(4))
    order = layout.of(np.arange(count))
    shards = Shards(net, params, layout, threads.Team(2), 5, made)
    found = shards.gradients(images[order], labels[order], count, (0, 0))
    loss, right = made.loss(outputs_of(net, images, params), None)
    expected = torch.autograd.grad(loss / count, list(net.parameters()), allow_unused=True)
    for whole, *parts in zip(expected, *found.shards, strict=True):
        torch.testing.assert_close(torch.stack(parts).sum(0), whole, rtol=1e-3, atol=1e-5)
    assert found.sums.sum(dim=0).tolist() == pytest.approx([loss.item(), right.item()], rel=1e-5)


# Trainings


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_steps_learn(objective: str, patches: Path, tmp_path: Path) -> None:
    for name in ("train", "valid"):  # bright above, so that turns show as classes do
        images = np.load(patches / f"{name}.npy")
        images[:, : SIDE // 4] = 255
        np.save(patches / f"{name}.npy", images)
    history = training(objective, patches, tmp_path / "c", dropout=0.0, batch_size=16, epochs=30).run()
    assert history[-1].train_loss < 0.8 * history[0].train_loss
    assert history[-1].valid_loss < 0.9 * history[0].valid_loss
    assert history[-1].valid_accuracy > (0.4 if objective in PAIRED else 0.9)


@pytest.mark.parametrize("objective", [name for name in OBJECTIVES if name != "exemplar"])
@pytest.mark.parametrize("shards", one_fast([3, 2]))
def test_neither_threads_nor_an_interruption_change_a_bit(
    objective: str, shards: int, patches: Path, tmp_path: Path
) -> None:
    whole = training(objective, patches, tmp_path / "whole", shards=shards)
    expected = whole.run()
    cut = training(objective, patches, tmp_path / "cut", shards=shards, minutes=0.0)
    stop_after_steps(cut, 9)  # an epoch has six
    with pytest.raises(Interruption):
        cut.run()
    threads.use(3)
    resumed = training(objective, patches, tmp_path / "cut", seed=8, shards=shards)
    assert resumed.run() == expected
    assert same(weights(resumed.network), weights(whole.network))
    assert same(load_file(tmp_path / "cut"), load_file(tmp_path / "whole"))


def test_objectives_see_the_same_number_of_patches_in_the_same_number_of_steps(patches: Path, tmp_path: Path) -> None:
    runs = {name: training(name, patches, tmp_path / name).run() for name in OBJECTIVES}
    assert len({tuple(row.step for row in history) for history in runs.values()}) == 1


# What is refused


def test_what_cannot_be_used_is_said_before_any_work(monkeypatch: pytest.MonkeyPatch) -> None:
    surrogate = profile("tiny").surrogate

    def check(objective: str, params: Train | None = None, images: int = 10, **changes: Any) -> None:
        entry = profile("tiny").variants.train["baseline"].model_copy(update={"objective": objective} | changes)
        known.check(entry, params or train_params(), surrogate.model_copy(update={"valid_patches_per_image": images}))

    with pytest.raises(ConfigError, match=r"no objective 'byol'; name one of exemplar, rotation, simclr, vicreg"):
        check("byol")
    for size in (15, 2):
        with pytest.raises(ConfigError, match=r"set train\.batch_size to an even number from 4 on"):
            check("simclr", train_params(batch_size=size))
    for few in (partial(check, images=1), partial(check, patches_per_image=1)):
        with pytest.raises(ConfigError, match=r"patches of this entry to 2 or more"):
            few("vicreg")
        few("rotation")
    for name in OBJECTIVES:
        check(name)
    monkeypatch.setitem(sys.modules, "lightly", None)
    monkeypatch.setitem(sys.modules, "lightly.loss", None)
    for name in PAIRED:
        with pytest.raises(ConfigError, match=r"lightly, which is not installed; `pip install"):
            check(name)
        with pytest.raises(ObjectiveError, match=r"lightly, which is not installed; `pip install"):
            objectives.of(name, 4, train_params())
    check("rotation")
    assert known.outputs("simclr", 4, train_params()) == 8


def test_what_cannot_be_paired_ends_a_training_before_it_begins(tmp_path: Path) -> None:
    folder = write_set(tmp_path / "set", 44, 7)  # one validation patch of the last class
    with pytest.raises(ObjectiveError, match="class 3 has one alone"):
        training("simclr", folder, tmp_path / "c")
    training("rotation", folder, tmp_path / "c")


def test_versions_that_weights_depend_on() -> None:
    assert objectives.packages_of("exemplar") == ("numpy", "torch")
    assert objectives.packages_of("simclr") == ("numpy", "torch", "lightly")


def test_outputs_are_what_the_objective_says() -> None:
    assert tuple(OBJECTIVES) == known.NAMES
    for name in OBJECTIVES:
        made = objectives.of(name, 300, train_params())
        assert known.outputs(name, 300, train_params()) == made.outputs
        assert (name in PAIRED) == made.coupled
