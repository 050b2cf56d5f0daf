"""Images with labels: which are shown, how they are changed, and that a training on them can be resumed to the bit."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from exemplarcnn import threads
from exemplarcnn.data.stl10 import ImageFile, write_images
from exemplarcnn.data.types import Pool
from exemplarcnn.networks.resnet import ResNetClassifier, initialise, predict
from exemplarcnn.training.labelled_images import AugmentedImages, LabelledImages, channel_statistics
from tests.labelled_images import NUMBERS, PLAIN, STRONG, TABLE, params, pools, trainer
from tests.small_training import Interruption, same, stop_after, weights

__all__ = ["pools"]  # a fixture

CPU = torch.device("cpu")


def test_labelled_images_are_those_of_the_table(pools: dict[str, Pool]) -> None:
    source = LabelledImages(pools, TABLE, CPU)
    assert len(source) == 5
    rows = [np.array([3, 0]), np.array([], np.int64), np.arange(5)]
    found = list(source.each(rows, 0))
    assert [images[:, 0, 0, 0].tolist() for images, _ in found] == [[113, 4], [], NUMBERS]
    assert [labels.tolist() for _, labels in found] == [[1, 1], [], [1, 0, 2, 1, 0]]
    assert (found[2][0].dtype, found[2][1].dtype) == (torch.uint8, torch.int64)


@pytest.mark.parametrize("epoch_images", [3, 5, 13])
def test_every_image_is_shown_equally_often(pools: dict[str, Pool], epoch_images: int) -> None:
    source = AugmentedImages(pools, TABLE, CPU, PLAIN, epoch_images, seed=0)
    assert len(source) == epoch_images
    shown = np.concatenate([source.table_rows(epoch) for epoch in range(10)])
    passes = [shown[start : start + 5] for start in range(0, 5 * (len(shown) // 5), 5)]
    assert all(sorted(each) == [0, 1, 2, 3, 4] for each in passes)
    assert len({tuple(each) for each in passes}) > 1, "each pass has an order of its own"


def test_without_changes_images_are_as_they_are(pools: dict[str, Pool]) -> None:
    source = AugmentedImages(pools, TABLE, CPU, PLAIN, 5, seed=0)
    ((images, labels),) = source.each([np.arange(5)], 0)
    table_rows = source.table_rows(0)
    assert images[:, 0, 0, 0].tolist() == [NUMBERS[place] for place in table_rows]
    assert labels.tolist() == TABLE["label"].to_numpy()[table_rows].tolist()
    for image, place in zip(images, table_rows, strict=True):
        np.testing.assert_array_equal(image, pools[TABLE["pool"][place]][int(TABLE["image_id"][place])])


def test_changes_depend_on_seed_epoch_and_row_alone(pools: dict[str, Pool]) -> None:
    def drawn(groups: list[list[int]], epoch: int, seed: int = 0) -> torch.Tensor:
        source = AugmentedImages(pools, TABLE, CPU, STRONG, 10, seed)
        batches = source.each([np.array(group, np.int64) for group in groups], epoch)
        return torch.cat([images for images, _ in batches])

    whole = drawn([list(range(10))], 2)
    assert torch.equal(drawn([[0, 1, 2], [3], [], [4, 5, 6, 7, 8, 9]], 2), whole)
    assert torch.equal(drawn([[7, 2]], 2), whole[[7, 2]])
    assert not torch.equal(drawn([list(range(10))], 2, seed=1), whole)
    # The same image twice in an epoch is changed twice.
    table_rows = AugmentedImages(pools, TABLE, CPU, STRONG, 10, 0).table_rows(2)
    first, second = np.flatnonzero(table_rows == table_rows[0])
    assert not torch.equal(whole[first], whole[second])


def test_an_image_is_changed_otherwise_in_each_epoch_and_row(pools: dict[str, Pool]) -> None:
    # Of one image alone, so that nothing but the changes can differ.
    source = AugmentedImages(pools, TABLE.iloc[:1], CPU, STRONG, 3, seed=0)
    shown = [image for epoch in range(3) for images, _ in source.each([np.arange(3)], epoch) for image in images]
    assert len({image.numpy().tobytes() for image in shown}) == 9


def test_channel_statistics(pools: dict[str, Pool]) -> None:
    source = AugmentedImages(pools, TABLE, CPU, STRONG, 3, seed=0)
    pixels = np.concatenate([pools[name][image].reshape(-1, 3) for name, image, _ in TABLE.itertuples(index=False)])
    mean, std = channel_statistics(source)
    np.testing.assert_allclose(mean, pixels.mean(axis=0) / 255)
    np.testing.assert_allclose(std, pixels.std(axis=0) / 255)


@pytest.mark.parametrize("side", [32, 64, pytest.param(128, marks=pytest.mark.slow)])
def test_images_of_another_side(tmp_path: Path, side: int) -> None:
    pixels = np.random.default_rng(side).integers(0, 256, (6, side, side, 3), dtype=np.uint8)
    write_images(tmp_path / "p", pixels, side)
    pools: dict[str, Pool] = {"train": ImageFile(tmp_path / "p", side)}
    table = pd.DataFrame({"pool": "train", "image_id": [4, 1, 0], "label": [0, 1, 1]})
    ((shown, _),) = LabelledImages(pools, table, CPU).each([np.arange(3)], 0)
    assert np.array_equal(shown.numpy(), pixels[[4, 1, 0]])
    ((drawn, _),) = AugmentedImages(pools, table, CPU, STRONG, 5, seed=0).each([np.arange(5)], 0)
    assert drawn.shape == (5, side, side, 3)
    network = initialise(params(), 2, 0, *channel_statistics(LabelledImages(pools, table, CPU)))
    assert predict(network, pools["train"], CPU).shape == (6, 2)


# Training


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
def test_the_number_of_threads_changes_nothing(
    pools: dict[str, Pool], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = []
    for count in (1, 2, 3):
        monkeypatch.setattr(threads, "_count", count)
        run = trainer(pools, tmp_path / f"{count}", params(shards=4, precision="bf16", channels_last=True))
        assert isinstance(run.network, ResNetClassifier)
        runs.append((run.run(), weights(run.network), predict(run.network, pools["train"], CPU).tobytes()))
    for history, found, logits in runs[1:]:
        assert history == runs[0][0]
        assert same(found, runs[0][1])
        assert logits == runs[0][2]


@pytest.mark.slow
def test_few_images_are_learned_by_heart(pools: dict[str, Pool], tmp_path: Path) -> None:
    chosen = params(
        epochs=12, schedule={"epochs": 12, "drops": [], "cosine": False, "warmup": 0.0}, augment=PLAIN.model_dump()
    )
    history = trainer(pools, tmp_path / "c", chosen).run()
    assert history[-1].train_loss < 0.5 * history[0].train_loss
