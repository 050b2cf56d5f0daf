"""Patches that are drawn while a network trains."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.typing import NDArray

from exemplarcnn.config.sections import Network
from exemplarcnn.config.variants import SCRATCH, TrainEntry
from exemplarcnn.data import colour_axes
from exemplarcnn.data.pools import ImageFolder
from exemplarcnn.data.stl10 import ImageFile, write_images
from exemplarcnn.data.types import DataError, Pool
from exemplarcnn.networks.exemplar_cnn import ExemplarCNN, initialise
from exemplarcnn.patches.online import OnlinePatches
from exemplarcnn.patches.surrogate_set import DrawingJob, SetDefinition, write_set
from exemplarcnn.training.batches import Batches, TrainingData
from exemplarcnn.training.checkpoint import Checkpoint
from exemplarcnn.training.learning_curve import Epoch
from exemplarcnn.training.online import Online
from exemplarcnn.training.trainer import Trainer
from tests import defaults
from tests.recipe_references import photo
from tests.small_training import Interruption, same, stop_after, train_params, weights

CPU = torch.device("cpu")
# Two classes, of two images and of one; the images of a class are not next to each other in the pool.
TABLE = pd.DataFrame([(0, 3, "seed"), (0, 1, "seed"), (1, 2, "seed")], columns=["class_id", "image_id", "origin"])
SIDE = 16


@pytest.fixture
def pool(tmp_path: Path) -> Pool:
    pixels = [np.rint(photo(96, 96, seed) * 255).astype(np.uint8) for seed in range(5)]
    write_images(tmp_path / "pool.bin", np.stack(pixels))
    return ImageFile(tmp_path / "pool.bin")


def trained(**changed: Any) -> TrainEntry:
    values = {
        "table": "baseline",
        "pool": "unlabeled",
        "patch": SIDE,
        "patches_per_image": 37,
        "patches_per_class": None,
        "total_patches": None,
        "mode": None,
        "groups": None,
        "steps": None,
        "objective": "exemplar",
        "init_from": SCRATCH,
        "cluster_features": False,
    }
    return TrainEntry.model_validate(values | changed)


def params(**changed: Any) -> Any:
    return defaults.surrogate(**({"valid_patches_per_image": 2} | changed))


def drawn(folder: Path, pool: Pool, mode: Any, recipe: Any, budget: TrainEntry, seed: int = 3) -> dict[str, Any]:
    axes = colour_axes.measure(pool)
    work = folder.with_name(f"work-{mode}")
    return write_set(SetDefinition(pool, TABLE, recipe, budget, seed, mode, axes), DrawingJob(folder, work))


def opened(folder: Path, pool: Pool, seed: int = 3) -> Online:
    return Online(OnlinePatches(folder, pool, SIDE, seed, CPU))


def everything(online: Online, epoch: int) -> NDArray[np.uint8]:
    patches, _ = online.get(np.arange(len(online)), epoch)
    result: NDArray[np.uint8] = patches.numpy()
    return result


BUDGETS = [
    ({}, {}),
    ({"anchors_per_image": 3}, {"patches_per_image": None, "patches_per_class": 11}),
    ({"range_policy": "clip"}, {"patches_per_image": None, "total_patches": 9}),
    ({"recipe": "dosovitskiy"}, {}),
]


@pytest.mark.parametrize(("recipe", "budget"), BUDGETS)
def test_the_first_epoch_is_the_materialised_set(tmp_path: Path, pool: Pool, recipe: Any, budget: Any) -> None:
    recipe, budget = params(**recipe), trained(**budget)
    summaries = [drawn(tmp_path / mode, pool, mode, recipe, budget) for mode in ("materialised", "online")]
    online = opened(tmp_path / "online", pool)
    expected = np.load(tmp_path / "materialised" / "train.npy")
    assert np.array_equal(everything(online, 0), expected)
    assert np.array_equal(online.labels, np.load(tmp_path / "materialised" / "train_y.npy"))
    assert not (tmp_path / "online" / "train.npy").exists()
    for name in ("valid.npy", "valid_y.npy", "train_y.npy", "anchors.csv", "portions.csv", "recipe.json"):
        assert (tmp_path / "online" / name).read_bytes() == (tmp_path / "materialised" / name).read_bytes()
    differing = {key for key in summaries[0] if summaries[0][key] != summaries[1][key]}
    assert differing == {"mode", "sha256"}


def test_images_are_held_where_all_of_them_fit_and_that_changes_nothing(
    tmp_path: Path, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn(tmp_path / "set", pool, "online", params(), trained())
    expected = everything(opened(tmp_path / "set", pool), 1)
    asked: list[int] = []

    def fits(size: int, device: torch.device) -> bool:
        asked.append(size)
        return True

    monkeypatch.setattr("exemplarcnn.training.online.fits", fits)
    held = opened(tmp_path / "set", pool)
    assert asked == [len(TABLE) * 96 * 96 * 3], "bytes of all images of the table"
    monkeypatch.setattr(held.patches, "pool", None)
    assert np.array_equal(everything(held, 1), expected)


def test_each_epoch_has_patches_of_its_own_of_the_same_images(tmp_path: Path, pool: Pool) -> None:
    recipe = params()
    drawn(tmp_path / "set", pool, "online", recipe, trained())
    online = opened(tmp_path / "set", pool)
    epochs = [everything(online, epoch) for epoch in range(3)]
    assert len(np.unique(np.concatenate(epochs).reshape(3 * len(online), -1), axis=0)) == 3 * len(online)
    again = opened(tmp_path / "set", pool)
    assert np.array_equal(everything(again, 2), epochs[2])
    assert not np.array_equal(everything(opened(tmp_path / "set", pool, seed=4), 2), epochs[2])


def test_rows_do_not_depend_on_the_rows_beside_them(tmp_path: Path, pool: Pool) -> None:
    recipe = params()
    drawn(tmp_path / "set", pool, "online", recipe, trained())
    online = opened(tmp_path / "set", pool)
    whole = everything(online, 1)
    order = np.random.default_rng(0).permutation(len(online))
    groups = [order[:50], order[50:51], order[51:51], order[51:]]
    found = list(online.each(groups, 1))
    for rows, (patches, labels) in zip(groups, found, strict=True):
        assert (patches.dtype, labels.dtype) == (torch.uint8, torch.int64)
        assert np.array_equal(patches, whole[rows])
        assert np.array_equal(labels, np.load(tmp_path / "set" / "train_y.npy")[rows])


@pytest.mark.parametrize("changed", [{"range_policy": "rescale"}, {"range_policy": "clip"}, {"recipe": "dosovitskiy"}])
def test_in_torch_the_same_patches_up_to_rounding(tmp_path: Path, pool: Pool, changed: dict[str, Any]) -> None:
    recipe = params(**changed)
    drawn(tmp_path / "set", pool, "online", recipe, trained())
    online = opened(tmp_path / "set", pool)
    expected = everything(online, 1).astype(int)
    online.patches.in_torch = True  # as on an accelerator
    apart = np.abs(everything(online, 1) - expected)
    # Sums in another order: a value halfway between two grey levels can go either way, and near black powers below 1
    # magnify that (tests/patches/recipes/test_on_device.py has each step, and grey images, where hues jump).
    assert apart.mean() < 1e-3
    assert apart.max() <= 3


def test_images_of_several_sizes_are_refused(tmp_path: Path) -> None:
    from PIL import Image

    (tmp_path / "images").mkdir()
    for number, side in enumerate((40, 40, 50, 40)):
        Image.fromarray(np.rint(photo(side, 40, number) * 255).astype(np.uint8)).save(tmp_path / f"images/{number}.png")
    pool = ImageFolder(tmp_path / "images")
    recipe = params()
    drawn(tmp_path / "set", pool, "online", recipe, trained())
    with pytest.raises(DataError, match="to one size"):
        everything(opened(tmp_path / "set", pool), 0)


# Training


def network() -> ExemplarCNN:
    sizes = Network(widths=(4, 5, 6), dense=12, dropout_conv=0.2, dropout_dense=0.5, batch_norm=False)
    return initialise(sizes, 2, SIDE, 0, [0.5] * 3, [0.25] * 3)


def trainer(folder: Path, train: Any, checkpoint: Path) -> Trainer:
    data = TrainingData(train, Batches(folder, "valid", CPU))
    return Trainer(network(), data, train_params(), 5, CPU, Checkpoint(checkpoint, {}, minutes=0))


def test_training_online_differs_after_the_first_epoch(tmp_path: Path, pool: Pool) -> None:
    recipe = params()
    drawn(tmp_path / "set", pool, "materialised", recipe, trained())
    kept = trainer(tmp_path / "set", Batches(tmp_path / "set", "train", CPU), tmp_path / "a").run()
    online = trainer(tmp_path / "set", opened(tmp_path / "set", pool), tmp_path / "b").run()
    assert online[0] == kept[0]
    assert online[1] != kept[1]


def test_training_online_goes_on_to_the_same_bits(tmp_path: Path, pool: Pool) -> None:
    recipe = params()
    drawn(tmp_path / "set", pool, "online", recipe, trained())
    whole = trainer(tmp_path / "set", opened(tmp_path / "set", pool), tmp_path / "whole")
    expected = whole.run()
    cut = trainer(tmp_path / "set", opened(tmp_path / "set", pool), tmp_path / "cut")
    with pytest.raises(Interruption):
        cut.run(stop_after(2))
    resumed = trainer(tmp_path / "set", opened(tmp_path / "set", pool), tmp_path / "cut")
    rows: list[Epoch] = []
    assert resumed.run(rows.append) == expected
    assert same(weights(resumed.network), weights(whole.network))
