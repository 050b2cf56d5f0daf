"""Anchors, the sharing out of patches, and whole surrogate sets."""

import json
from pathlib import Path
from typing import Any

import albumentations as A
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage, stats

from exemplarcnn import recipe, surrogate
from exemplarcnn.config import Surrogate, Trained
from exemplarcnn.files import digest
from exemplarcnn.images import ImageFolder
from exemplarcnn.rng import Purpose
from exemplarcnn.surrogate import (
    Painter,
    SurrogateError,
    channel_statistics,
    draw_anchors,
    edge_strength,
    portions,
    write_set,
)

from . import defaults

# Height and width: larger than a patch of 16, narrower, smaller, as large as one, a single pixel. The sixth is flat.
SIZES = [(40, 31), (50, 12), (7, 9), (16, 16), (1, 1), (24, 24), (33, 60), (96, 96)]
FLAT = 5
TABLE = [
    (0, 6, "seed"),
    (0, 2, "neighbour"),
    (1, 5, "seed"),
    (2, 0, "cluster"),
    (2, 4, "cluster"),
    (2, 1, "cluster"),
    (3, 3, "seed"),
    (4, 7, "seed"),
]


def params(**changed: Any) -> Surrogate:
    return defaults.surrogate(**({"valid_patches_per_image": 2} | changed))


def trained(**changed: Any) -> Trained:
    values = {"pool": "other", "patch": 16, "patches_per_image": 3, "patches_per_class": None}
    values |= {"table": "table", "patches": None}
    return Trained.model_validate(values | {"cluster_features": False} | changed)


def table(rows: list[tuple[int, int, str]] = TABLE) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["class_id", "image_id", "origin"])


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> ImageFolder:
    folder = tmp_path_factory.mktemp("pool")
    draw = np.random.default_rng(0)
    for number, size in enumerate(SIZES):
        pixels = ndimage.gaussian_filter(draw.uniform(0, 255, (*size, 3)), (1, 1, 0)).astype(np.uint8)
        if number == FLAT:
            pixels[:] = (90, 140, 30)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    return ImageFolder(folder)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def written(folder: Path, pool: ImageFolder, **options: Any) -> dict[str, Any]:
    folder.mkdir()
    values = {"table": table(), "params": params(), "trained": trained(), "seed": 0, "workers": 1}
    return write_set(folder, pool, **(values | options))


@pytest.fixture(scope="module")
def made(pool: ImageFolder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sets") / "one"
    written(folder, pool)
    return folder


# Edges and anchors


@settings(deadline=None, max_examples=50)
@given(hnp.arrays(np.uint8, st.tuples(st.integers(2, 20), st.integers(2, 20), st.just(3))))
def test_edge_strength_is_scipys_sobel_magnitude(image: NDArray[np.uint8]) -> None:
    grey = image.astype(float) @ [0.299, 0.587, 0.114] / 255
    # scipy's "reflect" is d c b a | a b c d | d c b a.
    expected = np.hypot(ndimage.sobel(grey, 0, mode="reflect"), ndimage.sobel(grey, 1, mode="reflect"))
    found = edge_strength(image)
    assert found.dtype == np.float64
    assert found == pytest.approx(expected, abs=2e-6)


@pytest.mark.parametrize("shape", [(96, 96), (8, 16), (1, 1), (1, 8), (9, 3)])
def test_one_colour_has_no_edges(shape: tuple[int, int]) -> None:
    for colour in np.random.default_rng(0).integers(0, 256, (50, 3)):
        image = np.empty((*shape, 3), np.uint8)
        image[:] = colour
        assert edge_strength(image).max() == 0


def even(found: NDArray[np.int64], shape: tuple[int, int]) -> float:
    counts = np.bincount(found[:, 0] * shape[1] + found[:, 1], minlength=shape[0] * shape[1])
    return float(stats.chisquare(counts).pvalue)


@pytest.mark.parametrize("colour", [(0, 0, 0), (255, 255, 255), (90, 140, 30)])
def test_anchors_of_a_flat_image_are_drawn_evenly(colour: tuple[int, int, int]) -> None:
    image = np.empty((8, 16, 3), np.uint8)
    image[:] = colour
    assert even(draw_anchors(image, 10000, np.random.default_rng(0)), (8, 16)) > 1e-3


def test_anchors_of_a_flat_image_of_odd_width_are_drawn_evenly() -> None:
    for colour in np.random.default_rng(0).integers(0, 256, (10, 3)):
        image = np.empty((9, 13, 3), np.uint8)
        image[:] = colour
        assert even(draw_anchors(image, 10000, np.random.default_rng(0)), (9, 13)) > 1e-3


def test_anchors_are_proportional_to_edge_strength_and_never_where_there_is_none() -> None:
    image = np.zeros((12, 16, 3), np.uint8)
    image[2:6, 3:7] = (200, 50, 20)
    image[8:, 10:] = (0, 40, 90)
    strength = edge_strength(image)
    assert (strength == 0).sum() > 40
    found = draw_anchors(image, 50000, np.random.default_rng(0))
    assert found.shape == (50000, 2)
    assert found.dtype == np.int64
    counts = np.zeros((12, 16))
    np.add.at(counts, (found[:, 0], found[:, 1]), 1)
    assert counts[strength == 0].sum() == 0
    edges = strength > 0
    expected = strength[edges] / strength.sum() * 50000
    assert stats.chisquare(counts[edges], expected * counts[edges].sum() / expected.sum()).pvalue > 1e-3


class Fixed:
    """A generator that draws given numbers."""

    def __init__(self, *numbers: float):
        self.numbers = np.array(numbers)

    def random(self, count: int) -> NDArray[np.float64]:
        assert count == len(self.numbers)
        return self.numbers


def test_smallest_and_largest_draw_fall_on_an_edge() -> None:
    image = np.zeros((10, 12, 3), np.uint8)
    image[4:6, 5:7] = 255
    found = draw_anchors(image, 2, Fixed(0.0, np.nextafter(1, 0)))
    # The first and the last pixel that a Sobel window around the square reaches.
    assert found.tolist() == [[3, 4], [6, 7]]
    assert edge_strength(image)[found[:, 0], found[:, 1]].min() > 0


# Sharing out


def test_portions_with_patches_per_image_lie_one_after_the_other() -> None:
    plan = portions(table(), trained(patches_per_image=3), 2)
    assert [portion.image for portion in plan] == [6, 2, 5, 0, 4, 1, 3, 7]
    assert [portion.train for portion in plan] == [(3 * i, 3 * i + 3) for i in range(8)]
    assert [portion.valid for portion in plan] == [(2 * i, 2 * i + 2) for i in range(8)]


def test_portions_with_patches_per_class_are_dealt_in_turn() -> None:
    plan = portions(table(), trained(patches_per_image=None, patches_per_class=7), 1)
    assert [last - first for first, last in (portion.train for portion in plan)] == [4, 3, 7, 3, 2, 2, 7, 7]
    assert [portion.train[0] for portion in plan[1:]] == [portion.train[1] for portion in plan[:-1]]
    assert plan[0].train[0] == 0


@settings(deadline=None)
@given(sizes=st.lists(st.integers(1, 6), min_size=1, max_size=8), budget=st.integers(1, 30))
def test_every_class_gets_its_budget_and_its_images_the_same_up_to_one(sizes: list[int], budget: int) -> None:
    ids = np.repeat(np.arange(len(sizes)), sizes)
    frame = pd.DataFrame({"class_id": ids, "image_id": np.arange(len(ids))[::-1], "origin": "x"})
    plan = portions(frame, trained(patches_per_image=None, patches_per_class=budget), 1)
    numbers = np.array([portion.train[1] - portion.train[0] for portion in plan])
    for class_id in range(len(sizes)):
        share = numbers[ids == class_id]
        assert share.sum() == budget
        assert share.max() - share.min() <= 1
        assert (np.diff(share) <= 0).all()  # the first images get the rest
    assert plan[-1].train[1] == numbers.sum()


@settings(deadline=None)
@given(sizes=st.lists(st.integers(1, 6), min_size=1, max_size=8), budget=st.integers(1, 60))
def test_a_budget_for_all_is_dealt_to_the_classes_and_then_to_their_images(sizes: list[int], budget: int) -> None:
    budget += len(sizes) - 1
    ids = np.repeat(np.arange(len(sizes)), sizes)
    frame = pd.DataFrame({"class_id": ids, "image_id": np.arange(len(ids)), "origin": "x"})
    plan = portions(frame, trained(patches_per_image=None, patches=budget), 1)
    numbers = np.array([portion.train[1] - portion.train[0] for portion in plan])
    assert numbers.sum() == budget == plan[-1].train[1]
    of_class = np.bincount(ids, weights=numbers)
    assert of_class.max() - of_class.min() <= 1
    for class_id in range(len(sizes)):
        assert np.ptp(numbers[ids == class_id]) <= 1


def test_fewer_patches_than_classes() -> None:
    classes = int(table()["class_id"].max()) + 1
    with pytest.raises(SurrogateError, match=f"{classes - 1} patches for {classes} classes: at least one each"):
        portions(table(), trained(patches_per_image=None, patches=classes - 1), 1)


# Single images


def test_a_patch_does_not_depend_on_what_was_drawn_before(pool: ImageFolder) -> None:
    fresh = Painter(pool, params(), 16, 0).patches(6, 5, Purpose.TRAIN_PATCH)
    used = Painter(pool, params(), 16, 0)
    used.anchors(1)
    used.patches(0, 3, Purpose.VALID_PATCH)
    used.patches(6, 2, Purpose.TRAIN_PATCH)
    used.anchors(6)
    assert np.array_equal(used.patches(6, 5, Purpose.TRAIN_PATCH), fresh)
    assert np.array_equal(used.patches(6, 2, Purpose.TRAIN_PATCH), fresh[:2])


def test_patches_follow_the_seed_the_image_and_the_purpose(pool: ImageFolder) -> None:
    def patches(seed: int, image: int, purpose: Purpose) -> NDArray[np.uint8]:
        return Painter(pool, params(), 16, seed).patches(image, 4, purpose)

    base = patches(0, 6, Purpose.TRAIN_PATCH)
    others = [
        patches(1, 6, Purpose.TRAIN_PATCH),
        patches(0, 0, Purpose.TRAIN_PATCH),
        patches(0, 6, Purpose.VALID_PATCH),
    ]
    for one in (*base, *others[0], *others[1], *others[2]):
        same = sum(np.array_equal(one, two) for two in (*base, *others[0], *others[1], *others[2]))
        assert same == 1


def test_image_is_given_to_the_recipe_in_0_to_1_and_rounded_once(pool: ImageFolder) -> None:
    painter = Painter(pool, params(), 16, 3)
    found = painter.patches(6, 2, Purpose.TRAIN_PATCH)
    anchor = tuple(int(value) for value in painter.anchors(6)[0])
    alone = recipe.build(params(), 16)
    bits = np.random.Philox(key=3 | (int(Purpose.TRAIN_PATCH) << 64), counter=(6 << 192) | (1 << 128))
    recipe.bind(alone, np.random.Generator(bits))
    patch = alone(image=np.asarray(pool[6], np.float32) / np.float32(255), anchor=anchor)["image"]
    assert np.array_equal(found[1], np.rint(np.clip(patch, 0, 1) * 255).astype(np.uint8))


def test_one_anchor_is_kept_for_all_patches_and_several_are_dealt_in_turn(pool: ImageFolder) -> None:
    # Nothing but the cut is left of the recipe, so that a patch shows where its anchor is.
    still = {
        "scale": [1, 1],
        "translate": {"distribution": "uniform", "amount": 0},
        "pca_factor": [1, 1],
        "flip": 0,
        "rotate": 0,
        "hsv": {"power": [1, 1], "factor": [1, 1], "shift": [0, 0]},
        "hue": [0, 0],
        "range_policy": "clip",
    }
    for count in (1, 3):
        painter = Painter(pool, params(anchors_per_image=count, **still), 8, 0)
        anchors = painter.anchors(7)
        assert anchors.shape == (count, 2)
        assert len(np.unique(anchors, axis=0)) == count
        found = painter.patches(7, 7, Purpose.TRAIN_PATCH).astype(int)
        for index, patch in enumerate(found):
            row, column = anchors[index % count]
            # Half a pixel from the centre of an even patch: either neighbour will do.
            near = [
                pool[7].astype(int)[top : top + 8, left : left + 8]
                for top in {min(max(row - up, 0), 88) for up in (3, 4)}
                for left in {min(max(column - back, 0), 88) for back in (3, 4)}
            ]
            assert min(np.abs(patch - cut).max() for cut in near) <= 1


def test_more_anchors_keep_the_first(pool: ImageFolder) -> None:
    one = Painter(pool, params(anchors_per_image=1), 16, 0).anchors(7)
    four = Painter(pool, params(anchors_per_image=4), 16, 0).anchors(7)
    assert np.array_equal(four[:1], one)
    assert not np.array_equal(Painter(pool, params(), 16, 1).anchors(7), one)


# Whole sets


def test_set_does_not_depend_on_the_number_of_workers(
    pool: ImageFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(surrogate, "IMAGES_A_TASK", 2)
    for workers in (1, 2, 3):
        written(tmp_path / str(workers), pool, workers=workers)
    one, two, three = (contents(tmp_path / str(workers)) for workers in (1, 2, 3))
    assert sorted(one) == [
        "anchors.csv", "recipe.json", "set.json", "train.npy", "train_y.npy", "valid.npy", "valid_y.npy",
    ]  # fmt: skip
    assert one == two == three


def test_set_does_not_depend_on_how_images_are_put_into_tasks(
    pool: ImageFolder, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(surrogate, "IMAGES_A_TASK", 3)
    written(tmp_path / "again", pool)
    assert contents(tmp_path / "again") == contents(made)


def test_set_is_ordered_by_class_image_and_patch(pool: ImageFolder, made: Path) -> None:
    train, valid = (np.load(made / f"{name}.npy") for name in ("train", "valid"))
    train_y, valid_y = (np.load(made / f"{name}_y.npy") for name in ("train", "valid"))
    assert train.dtype == valid.dtype == np.uint8
    assert train_y.dtype == valid_y.dtype == np.int32
    assert train.shape == (24, 16, 16, 3)
    assert valid.shape == (16, 16, 16, 3)
    assert train_y.tolist() == [class_id for class_id, _, _ in TABLE for _ in range(3)]
    assert valid_y.tolist() == [class_id for class_id, _, _ in TABLE for _ in range(2)]
    painter = Painter(pool, params(), 16, 0)
    # Backwards, one by one.
    for place, (_, image, _) in reversed(list(enumerate(TABLE))):
        assert np.array_equal(train[3 * place : 3 * place + 3], painter.patches(image, 3, Purpose.TRAIN_PATCH))
        assert np.array_equal(valid[2 * place : 2 * place + 2], painter.patches(image, 2, Purpose.VALID_PATCH))


def test_validation_patches_are_none_of_the_training_patches(made: Path) -> None:
    train, valid = (np.load(made / f"{name}.npy") for name in ("train", "valid"))
    labels, valid_labels = np.load(made / "train_y.npy"), np.load(made / "valid_y.npy")
    for patch, label in zip(valid, valid_labels, strict=True):
        if len(np.unique(patch.reshape(-1, 3), axis=0)) > 1:  # those of flat images may well be alike
            assert not any(np.array_equal(patch, other) for other in train[labels == label])


def test_flat_images_give_flat_patches(made: Path) -> None:
    for patch in np.load(made / "train.npy")[[6, 7, 8, 12, 13, 14]]:  # the flat image, the single pixel
        assert np.ptp(patch.astype(int), axis=(0, 1)).max() <= 1


def test_files_beside_the_patches(pool: ImageFolder, made: Path) -> None:
    anchors = pd.read_csv(made / "anchors.csv")
    assert list(anchors.columns) == ["image_id", "anchor", "row", "column"]
    assert anchors["image_id"].tolist() == [image for _, image, _ in TABLE]
    painter = Painter(pool, params(), 16, 0)
    for image, anchor, row, column in anchors.itertuples(index=False):
        assert painter.anchors(image)[anchor].tolist() == [row, column]
        assert 0 <= row < SIZES[image][0]
        assert 0 <= column < SIZES[image][1]

    saved = json.loads((made / "recipe.json").read_text())
    image, patches = np.asarray(pool[7], np.float32) / np.float32(255), []
    for compose in (A.from_dict(saved), painter.recipe):
        recipe.bind(compose, np.random.default_rng(4))
        patches.append(compose(image=image, anchor=(3, 90))["image"])
    assert np.array_equal(*patches)

    train = np.load(made / "train.npy").astype(float) / 255
    summary = json.loads((made / "set.json").read_text())
    assert summary.pop("mean") == pytest.approx(train.mean(axis=(0, 1, 2)))
    assert summary.pop("std") == pytest.approx(train.std(axis=(0, 1, 2)))
    names = ("train", "train_y", "valid", "valid_y")
    assert summary == {
        "classes": 5,
        "images": 8,
        "patch": 16,
        "train_patches": 24,
        "valid_patches": 16,
        "sha256": digest(*(made / f"{name}.npy" for name in names)),
    }


def test_set_with_a_budget_for_each_class_and_several_anchors(pool: ImageFolder, tmp_path: Path) -> None:
    budget = trained(patches_per_image=None, patches_per_class=2)
    summary = written(tmp_path / "set", pool, trained=budget, params=params(anchors_per_image=2))
    assert summary["train_patches"] == 10
    assert summary["valid_patches"] == 16  # the third image of class 2 has no training patch, but these
    labels = np.load(tmp_path / "set" / "train_y.npy")
    assert labels.tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
    painter = Painter(pool, params(anchors_per_image=2), 16, 0)
    train = np.load(tmp_path / "set" / "train.npy")
    expected = [
        painter.patches(image, n, Purpose.TRAIN_PATCH)
        for image, n in [(6, 1), (2, 1), (5, 2), (0, 1), (4, 1), (1, 0), (3, 2), (7, 2)]
    ]
    assert np.array_equal(train, np.concatenate(expected))
    anchors = pd.read_csv(tmp_path / "set" / "anchors.csv")
    assert anchors["anchor"].tolist() == [0, 1] * 8
    assert anchors["image_id"].tolist() == [image for _, image, _ in TABLE for _ in range(2)]


def test_another_seed_draws_another_set(pool: ImageFolder, made: Path, tmp_path: Path) -> None:
    summary = written(tmp_path / "set", pool, seed=1)
    assert summary["sha256"] != json.loads((made / "set.json").read_text())["sha256"]


# Statistics


def test_channel_statistics_against_float64() -> None:
    draw = np.random.default_rng(0)
    # More than one block of 4096, the last one not full, with channels that differ.
    patches = (draw.integers(0, 256, (4096 + 77, 4, 4, 3)) * [1.0, 0.5, 0.1]).astype(np.uint8)
    mean, std = channel_statistics(patches)
    values = patches.reshape(-1, 3).astype(float) / 255
    assert mean == pytest.approx(values.mean(axis=0), rel=1e-12)
    assert std == pytest.approx(values.std(axis=0), rel=1e-12)
    shuffled = channel_statistics(patches[draw.permutation(len(patches))])
    assert shuffled == (mean, std)


@pytest.mark.parametrize("value", [0, 1, 128, 255])
def test_statistics_of_one_value(value: int) -> None:
    mean, std = channel_statistics(np.full((5, 8, 8, 3), value, np.uint8))
    assert mean == pytest.approx([value / 255] * 3)
    assert std == [0, 0, 0]
