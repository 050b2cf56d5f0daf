"""A batch in shards: what is summed and in which order, and that nobody's number of threads or processes matters."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from exemplarcnn import distributed, threads
from exemplarcnn.config.sections import Schedule
from exemplarcnn.networks.exemplar_cnn import Classifier
from exemplarcnn.training.objectives import Exemplar
from exemplarcnn.training.sgd import SGD
from exemplarcnn.training.shards import Layout, ShardError, Shards
from exemplarcnn.training.trainer import Trainer
from tests.small_training import (
    Interruption,
    built,
    same,
    stop_after,
    surrogate_set,
    train_params,
    trainer,
    weights,
    write_set,
)

# On a processor without bfloat16, too: slowly, but networks are small here.
pytestmark = pytest.mark.usefixtures("bfloat16")

__all__ = ["surrogate_set"]  # a fixture

CPU = torch.device("cpu")


@pytest.fixture
def with_threads(monkeypatch: pytest.MonkeyPatch) -> Any:
    def use(count: int) -> None:
        monkeypatch.setattr(threads, "_count", count)

    return use


def processes(monkeypatch: pytest.MonkeyPatch, rank: int, world: int) -> None:
    monkeypatch.setattr(distributed, "rank", lambda: rank)
    monkeypatch.setattr(distributed, "world", lambda: world)


# Who has what


@pytest.mark.parametrize(("shards", "world"), [(1, 1), (2, 1), (3, 1), (2, 2), (8, 2), (8, 4), (6, 3), (5, 5)])
@pytest.mark.parametrize("images", [1, 7, 16, 37])
def test_every_row_of_a_batch_is_in_one_shard_of_one_process(
    monkeypatch: pytest.MonkeyPatch, shards: int, world: int, images: int
) -> None:
    rows = np.random.default_rng(0).permutation(100)[:images]
    found, sizes = [], []
    for rank in range(world):
        processes(monkeypatch, rank, world)
        layout = Layout.here(shards, CPU)
        mine = layout.of(rows)
        found.append(mine)
        sizes += layout.sizes(images)
        assert sum(layout.sizes(images)) == len(mine)
    assert sorted(np.concatenate(found)) == sorted(rows)
    assert len(sizes) == shards
    assert max(sizes) - min(sizes) <= 1
    # The same shards in the same order, whoever has them.
    processes(monkeypatch, 0, 1)
    assert np.array_equal(np.concatenate(found), Layout.here(shards, CPU).of(rows))


@pytest.mark.parametrize(
    ("shards", "world", "fitting"), [(2, 3, "1 or 2"), (4, 3, "1 or 2 or 4"), (6, 2, "1 or 3 or 6")]
)
def test_processes_that_cannot_add_in_the_same_order_are_refused(
    monkeypatch: pytest.MonkeyPatch, shards: int, world: int, fitting: str
) -> None:
    processes(monkeypatch, 0, world)
    with pytest.raises(ShardError, match=f"{shards} shards .* {world} processes.*set machine.processes to {fitting},"):
        Layout.here(shards, CPU)


def test_a_gpu_computes_one_shard_of_each_process(monkeypatch: pytest.MonkeyPatch) -> None:
    processes(monkeypatch, 1, 3)
    assert Layout.here(8, torch.device("cuda")) == Layout(3, range(1, 2))


# Sums


@pytest.mark.parametrize("count", range(1, 18))
def test_groups_of_a_power_of_two_are_sums_of_the_tree(count: int) -> None:
    parts = list(torch.randn(count, 50, generator=torch.Generator().manual_seed(count)))
    whole = distributed.pairwise_sum([part.clone() for part in parts])
    torch.testing.assert_close(whole, torch.stack(parts).sum(0))
    for size in (2, 4, 8):
        if count % size == 0:
            groups = [parts[i : i + size] for i in range(0, count, size)]
            sums = [distributed.pairwise_sum([part.clone() for part in group]) for group in groups]
            assert torch.equal(distributed.pairwise_sum(sums), whole)


# Gradients


def shards_of(network: Classifier, count: int, team: int = 1, **changes: Any) -> Shards:
    params, layout = train_params(shards=count, **changes), Layout(count, range(count))
    return Shards(network, params, layout, threads.Team(team), 5, Exemplar(network.classes))


def batch(count: int) -> tuple[Tensor, Tensor]:
    generator = np.random.default_rng(count)
    images = generator.integers(0, 256, (count, 16, 16, 3), dtype=np.uint8)
    return torch.from_numpy(images), torch.from_numpy(generator.integers(0, 4, count))


@pytest.mark.parametrize("images", [16, 13, 3])
def test_gradients_and_sums_are_those_of_the_whole_batch(images: int) -> None:
    network = built()
    pixels, labels = batch(images)
    order = Layout(4, range(4)).of(np.arange(images))
    found = shards_of(network, 4).gradients(pixels[order], labels[order], images, (0, 0))
    logits = network(network.normalise(pixels))
    loss = nn.functional.cross_entropy(logits, labels, reduction="sum")
    expected = torch.autograd.grad(loss / images, list(network.parameters()))
    for same_parameter in zip(expected, *found.shards, strict=True):
        torch.testing.assert_close(torch.stack(same_parameter[1:]).sum(0), same_parameter[0], rtol=1e-4, atol=1e-6)
    losses, right = found.sums.sum(dim=0).tolist()
    assert losses == pytest.approx(loss.item(), rel=1e-5)
    assert right == (logits.argmax(1) == labels).sum()
    assert all(parameter.grad is None for parameter in network.parameters())


class Normalised(Classifier):
    """A network with batch normalisation."""

    def __init__(self) -> None:
        super().__init__(4)
        self.conv, self.norm, self.dense = nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5), nn.Linear(5 * 14 * 14, 4)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.dense(self.norm(self.conv(x)).flatten(1))
        return logits

    def parameter_groups(self, groups: Any) -> list[dict[str, Any]]:
        return []


def test_batch_statistics_are_those_of_each_shard_and_the_running_ones_their_mean() -> None:
    torch.manual_seed(0)
    network = Normalised()
    alone = Normalised()
    alone.load_state_dict(network.state_dict())
    images, labels = batch(16)
    shards = shards_of(network, 2, channels_last=True)
    for step in range(2):
        shards.gradients(images, labels, 16, (0, step))
        shards.save_statistics()
    running = []
    for part in (images[:8], images[8:]):
        alone.load_state_dict(network.state_dict())
        alone.norm.reset_running_stats()
        for _ in range(2):
            alone.train()(alone.normalise(part))
        assert alone.norm.running_mean is not None
        running.append(alone.norm.running_mean.clone())
    torch.testing.assert_close(network.norm.running_mean, (running[0] + running[1]) / 2)
    assert network.norm.num_batches_tracked == 2
    for name, buffer in network.named_buffers():
        for replica in shards._replicas:
            assert torch.equal(dict(replica.named_buffers())[name], buffer), name


# SGD


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("shards", [1, 3])
def test_sgd_is_torchs(monkeypatch: pytest.MonkeyPatch, momentum: float, shards: int) -> None:
    monkeypatch.setattr("exemplarcnn.training.sgd.SLICE", 64)
    generator = torch.Generator().manual_seed(1)
    mine, theirs = built().to(memory_format=torch.channels_last), built().to(memory_format=torch.channels_last)
    groups = train_params().groups
    ours = SGD(mine.parameter_groups(groups), list(mine.parameters()), momentum, threads.Team(2))
    reference = torch.optim.SGD(theirs.parameter_groups(groups), momentum=momentum)
    for step in range(4):
        for optimiser in (ours, reference):
            for group in optimiser.param_groups:
                group["lr"] = group["initial_lr"] / (step + 1)
        gradients = [[torch.randn(p.shape, generator=generator) for p in theirs.parameters()] for _ in range(shards)]
        for number, parameter in enumerate(theirs.parameters()):
            parts = [shard[number].clone() for shard in gradients]
            parameter.grad = distributed.pairwise_sum(parts)
        reference.step()
        ours.step(gradients)
        assert same(weights(mine), weights(theirs))


# Trainings


def trained(folder: Path, path: Path, **changes: Any) -> Trainer:
    run = trainer(folder, path, train_params(**changes), built(dropout=0.5))
    run.run()
    return run


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("shards", [2, 3])
def test_the_number_of_threads_changes_nothing(
    surrogate_set: Path, tmp_path: Path, with_threads: Any, precision: str, shards: int
) -> None:
    changes: dict[str, Any] = {"shards": shards, "precision": precision, "channels_last": precision == "bf16"}
    with_threads(1)
    expected = trained(surrogate_set, tmp_path / "1", **changes)
    for count in (2, 3):
        with_threads(count)
        found = trained(surrogate_set, tmp_path / f"{count}", **changes)
        assert same(weights(found.network), weights(expected.network))
        assert found.history == expected.history
        assert same(load_file(tmp_path / f"{count}"), load_file(tmp_path / "1"))


def test_a_stopped_training_goes_on_with_another_number_of_threads(
    surrogate_set: Path, tmp_path: Path, with_threads: Any
) -> None:
    whole = trained(surrogate_set, tmp_path / "whole")
    with pytest.raises(Interruption):
        trainer(surrogate_set, tmp_path / "cut", network=built(dropout=0.5)).run(stop_after(2))
    with_threads(3)
    resumed = trainer(surrogate_set, tmp_path / "cut", network=built(seed=8, dropout=0.5))
    assert resumed.run() == whole.history
    assert same(weights(resumed.network), weights(whole.network))


def test_threads_without_a_shard_are_told_of(
    surrogate_set: Path, tmp_path: Path, with_threads: Any, caplog: pytest.LogCaptureFixture
) -> None:
    with_threads(2)
    trainer(surrogate_set, tmp_path / "a", train_params(shards=2))
    assert not caplog.records
    trainer(surrogate_set, tmp_path / "b", train_params(shards=1))
    assert "machine.threads is 2, but this process computes 1 shards" in caplog.text


def test_what_fails_in_a_shard_ends_the_training(
    surrogate_set: Path, tmp_path: Path, with_threads: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_threads(2)
    run = trainer(surrogate_set, tmp_path / "a", train_params(shards=2))

    def fail(*arguments: Any) -> None:
        raise MemoryError("no room")

    monkeypatch.setattr(Shards, "_one", fail)
    with pytest.raises(MemoryError, match="no room"):
        run.run()


def test_the_number_of_shards_is_another_dropout_and_the_same_batches(surrogate_set: Path, tmp_path: Path) -> None:
    runs = {}
    for dropout in (0.0, 0.5):
        for shards in (1, 2):
            params = train_params(shards=shards, epochs=1)
            run = trainer(surrogate_set, tmp_path / f"{dropout}-{shards}", params, built(dropout=dropout))
            run.run()
            runs[dropout, shards] = weights(run.network)["dense2.weight"]
    torch.testing.assert_close(runs[0.0, 1], runs[0.0, 2], rtol=0, atol=1e-5)
    assert (runs[0.5, 1] - runs[0.5, 2]).abs().max() > 1e-4


def test_a_last_batch_smaller_than_the_number_of_shards(tmp_path: Path) -> None:
    folder = write_set(tmp_path / "set", count=33)
    params = train_params(shards=4, epochs=2, schedule=Schedule(epochs=2, drops=(), cosine=False, warmup=0.0))
    four = trainer(folder, tmp_path / "4", params).run()
    one = trainer(folder, tmp_path / "1", params.model_copy(update={"shards": 1})).run()
    assert [row.train_loss for row in four] == pytest.approx([row.train_loss for row in one], rel=1e-4)
