"""The residual network: shapes, what images it is shown, and that its training can be resumed to the bit."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from exemplarcnn.data.stl10 import ImageFile, write_images
from exemplarcnn.data.types import Pool

from exemplarcnn.config import Augment, ResNet
from exemplarcnn.networks.resnet import (
    Augmented,
    Labelled,
    ResNetClassifier,
    channel_statistics,
    initialise,
    predict,
)
from exemplarcnn.training.trainer import Trainer
from tests.training.test_trainer import Interruption, same, stop_after, weights

CPU = torch.device("cpu")
PLAIN = Augment(scale=(1.0, 1.0), flip=0.0, brightness=0.0, contrast=0.0, saturation=0.0, hue=0.0)
STRONG = Augment(scale=(0.5, 1.0), flip=0.5, brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1)


def params(**changed: Any) -> ResNet:
    values: dict[str, Any] = {
        "depth": 10,
        "stem_stride": 2,
        "stem_pool": True,
        "epochs": 3,
        "epoch_images": 24,
        "batch_size": 8,
        "momentum": 0.9,
        "groups": {"weights": {"lr": 0.02, "l2": 0.001}, "others": {"lr": 0.02, "l2": 0.0}},
        "schedule": {"epochs": 3, "drops": [[2, 0.1]]},
        "precision": "fp32",
        "channels_last": False,
        "augment": STRONG.model_dump(),
    }
    return ResNet.model_validate(values | changed)


@pytest.fixture
def pools(tmp_path: Path) -> dict[str, Pool]:
    """Images of noise; the first pixel of each is its number, so that it can be told."""
    found: dict[str, Pool] = {}
    for seed, (name, count) in enumerate({"unlabeled": 9, "train": 14}.items()):
        pixels = np.random.default_rng(seed).integers(0, 256, (count, 96, 96, 3), dtype=np.uint8)
        pixels[:, 0, 0, 0] = np.arange(count) + 100 * (name == "train")
        write_images(tmp_path / name, pixels)
        found[name] = ImageFile(tmp_path / name)
    return found


TABLE = pd.DataFrame(
    [("unlabeled", 4, 1), ("train", 2, 0), ("unlabeled", 0, 2), ("train", 13, 1), ("unlabeled", 8, 0)],
    columns=["pool", "image_id", "label"],
)
NUMBERS = [4, 102, 0, 113, 8]


# The network


@pytest.mark.parametrize(("depth", "count"), [(10, 4_903_242), (18, 11_173_962), (34, 21_282_122), (50, 23_520_842)])
def test_sizes(depth: int, count: int) -> None:
    network = ResNetClassifier(params(depth=depth), classes=10)
    assert sum(parameter.numel() for parameter in network.parameters()) == count


@pytest.mark.parametrize(("stride", "pool", "side"), [(1, False, 96), (2, False, 48), (1, True, 48), (2, True, 24)])
def test_the_stem(stride: int, pool: bool, side: int) -> None:
    network = ResNetClassifier(params(stem_stride=stride, stem_pool=pool), classes=7).eval()
    sides: list[int] = []
    network.body.layer1.register_forward_pre_hook(lambda module, inputs: sides.append(inputs[0].shape[-1]))
    assert network(network.normalise(torch.zeros(2, 96, 96, 3, dtype=torch.uint8))).shape == (2, 7)
    assert sides == [side]


@pytest.mark.parametrize("side", [32, 64, pytest.param(128, marks=pytest.mark.slow)])
def test_images_of_another_side(tmp_path: Path, side: int) -> None:
    pixels = np.random.default_rng(side).integers(0, 256, (6, side, side, 3), dtype=np.uint8)
    write_images(tmp_path / "p", pixels, side)
    pools: dict[str, Pool] = {"train": ImageFile(tmp_path / "p", side)}
    table = pd.DataFrame({"pool": "train", "image_id": [4, 1, 0], "label": [0, 1, 1]})
    ((shown, _),) = Labelled(pools, table, CPU).each([np.arange(3)], 0)
    assert np.array_equal(shown.numpy(), pixels[[4, 1, 0]])
    ((drawn, _),) = Augmented(pools, table, CPU, STRONG, 5, seed=0).each([np.arange(5)], 0)
    assert drawn.shape == (5, side, side, 3)
    network = initialise(params(), 2, 0, *channel_statistics(Labelled(pools, table, CPU)))
    assert predict(network, pools["train"], CPU).shape == (6, 2)


def test_initial_weights_depend_on_the_seed_alone() -> None:
    first = weights(initialise(params(), 10, seed=3))
    torch.manual_seed(7)
    assert same(weights(initialise(params(), 10, seed=3)), first)
    assert not same(weights(initialise(params(), 10, seed=4)), first)


def test_every_parameter_has_its_rates() -> None:
    network = initialise(params(), 10, seed=0)
    groups = network.parameter_groups(params().groups)
    assert [(group["name"], group["lr"], group["weight_decay"]) for group in groups] == [
        ("weights", 0.02, 0.001),
        ("others", 0.02, 0.0),
    ]
    assert all(parameter.ndim > 1 for parameter in groups[0]["params"])
    assert sum(len(group["params"]) for group in groups) == len(list(network.parameters()))


# What it is shown


def test_labelled_images_are_those_of_the_table(pools: dict[str, Pool]) -> None:
    source = Labelled(pools, TABLE, CPU)
    assert len(source) == 5
    rows = [np.array([3, 0]), np.array([], np.int64), np.arange(5)]
    found = list(source.each(rows, 0))
    assert [images[:, 0, 0, 0].tolist() for images, _ in found] == [[113, 4], [], NUMBERS]
    assert [labels.tolist() for _, labels in found] == [[1, 1], [], [1, 0, 2, 1, 0]]
    assert (found[2][0].dtype, found[2][1].dtype) == (torch.uint8, torch.int64)


@pytest.mark.parametrize("epoch_images", [3, 5, 13])
def test_every_image_is_shown_equally_often(pools: dict[str, Pool], epoch_images: int) -> None:
    source = Augmented(pools, TABLE, CPU, PLAIN, epoch_images, seed=0)
    assert len(source) == epoch_images
    shown = np.concatenate([source.places(epoch) for epoch in range(10)])
    passes = [shown[start : start + 5] for start in range(0, 5 * (len(shown) // 5), 5)]
    assert all(sorted(each) == [0, 1, 2, 3, 4] for each in passes)
    assert len({tuple(each) for each in passes}) > 1, "each pass has an order of its own"


def test_without_changes_images_are_as_they_are(pools: dict[str, Pool]) -> None:
    source = Augmented(pools, TABLE, CPU, PLAIN, 5, seed=0)
    ((images, labels),) = source.each([np.arange(5)], 0)
    places = source.places(0)
    assert images[:, 0, 0, 0].tolist() == [NUMBERS[place] for place in places]
    assert labels.tolist() == TABLE["label"].to_numpy()[places].tolist()
    for image, place in zip(images, places, strict=True):
        np.testing.assert_array_equal(image, pools[TABLE["pool"][place]][int(TABLE["image_id"][place])])


def test_changes_depend_on_seed_epoch_and_row_alone(pools: dict[str, Pool]) -> None:
    def drawn(groups: list[list[int]], epoch: int, seed: int = 0) -> torch.Tensor:
        source = Augmented(pools, TABLE, CPU, STRONG, 10, seed)
        batches = source.each([np.array(group, np.int64) for group in groups], epoch)
        return torch.cat([images for images, _ in batches])

    whole = drawn([list(range(10))], 2)
    assert torch.equal(drawn([[0, 1, 2], [3], [], [4, 5, 6, 7, 8, 9]], 2), whole)
    assert torch.equal(drawn([[7, 2]], 2), whole[[7, 2]])
    assert not torch.equal(drawn([list(range(10))], 2, seed=1), whole)
    # The same image twice in an epoch is changed twice.
    places = Augmented(pools, TABLE, CPU, STRONG, 10, 0).places(2)
    first, second = np.flatnonzero(places == places[0])
    assert not torch.equal(whole[first], whole[second])


def test_an_image_is_changed_otherwise_in_each_epoch_and_row(pools: dict[str, Pool]) -> None:
    # Of one image alone, so that nothing but the changes can differ.
    source = Augmented(pools, TABLE.iloc[:1], CPU, STRONG, 3, seed=0)
    shown = [image for epoch in range(3) for images, _ in source.each([np.arange(3)], epoch) for image in images]
    assert len({image.numpy().tobytes() for image in shown}) == 9


def test_channel_statistics(pools: dict[str, Pool]) -> None:
    source = Augmented(pools, TABLE, CPU, STRONG, 3, seed=0)
    pixels = np.concatenate([pools[name][image].reshape(-1, 3) for name, image, _ in TABLE.itertuples(index=False)])
    mean, std = channel_statistics(source)
    np.testing.assert_allclose(mean, pixels.mean(axis=0) / 255)
    np.testing.assert_allclose(std, pixels.std(axis=0) / 255)


def test_predictions_do_not_depend_on_the_number_of_images(
    pools: dict[str, Pool], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("exemplarcnn.networks.resnet.CHUNK", 6)
    network = initialise(params(), 10, seed=0)
    found = predict(network, pools["train"], CPU)
    assert found.shape == (14, 10)
    assert not network.training
    with torch.inference_mode():
        expected = network(network.normalise(torch.from_numpy(pools["train"].batch(range(6))))).numpy()
    np.testing.assert_array_equal(found[:6], expected)


# Training


def trainer(pools: dict[str, Pool], path: Path, params: ResNet, seed: int = 0) -> Trainer:
    train = Augmented(pools, TABLE, CPU, params.augment, params.epoch_images, seed=5)
    network = initialise(params, 3, seed, *channel_statistics(train))
    return Trainer(network, train, Labelled(pools, TABLE, CPU), params, 5, CPU, path, {"of": "mine"}, minutes=0)


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_interrupted_training_ends_with_the_same_bits(pools: dict[str, Pool], tmp_path: Path, precision: str) -> None:
    chosen = params(precision=precision, channels_last=precision == "bf16")
    whole = trainer(pools, tmp_path / "whole", chosen)
    expected = whole.run()
    with pytest.raises(Interruption):
        trainer(pools, tmp_path / "cut", chosen).run(stop_after(1))
    # Other initial weights: everything, running statistics included, has to come from the checkpoint.
    resumed = trainer(pools, tmp_path / "cut", chosen, seed=8)
    assert resumed.run() == expected
    assert same(weights(resumed.network), weights(whole.network))
    running = dict(resumed.network.named_buffers())["body.bn1.running_mean"]
    assert running.abs().sum() > 0


@pytest.mark.slow
def test_few_images_are_learned_by_heart(pools: dict[str, Pool], tmp_path: Path) -> None:
    chosen = params(epochs=12, schedule={"epochs": 12, "drops": []}, augment=PLAIN.model_dump())
    history = trainer(pools, tmp_path / "c", chosen).run()
    assert history[-1].train_loss < 0.5 * history[0].train_loss
