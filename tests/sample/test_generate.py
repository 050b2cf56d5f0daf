"""The embedded sample: repeatable, small, and with defects exactly where the truth table puts them."""

import csv
import json
import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from exemplarcnn.data import image_set, pools, stl10
from exemplarcnn.sample import generate
from exemplarcnn.sample.scene import draw_scene
from exemplarcnn.sample.shapes import CLASSES, ODD, Shape

SEED = 0
Truths = list[dict[str, str]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sample")
    generate.write_sample(path, SEED)
    return path


@pytest.fixture(scope="module")
def truths(folder: Path) -> Truths:
    with (folder / "truth.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def unlabeled(folder: Path) -> npt.NDArray[np.uint8]:
    return stl10.open_pool(folder, "unlabeled").batch(range(540))


def test_the_same_seed_draws_the_same_image_and_another_one_another() -> None:
    plan = generate.plan_unlabeled(SEED)
    for index in (0, 7):
        first, again = (generate.draw_unlabeled(SEED, plan, index) for _ in range(2))
        assert first.shape == (96, 96, 3)
        assert first.dtype == np.uint8
        np.testing.assert_array_equal(first, again)
        other = generate.draw_unlabeled(SEED + 1, generate.plan_unlabeled(SEED + 1), index)
        assert (first != other).any()


def luma(picture: npt.NDArray[np.number]) -> npt.NDArray[np.float64]:
    return np.asarray(picture @ np.array([0.299, 0.587, 0.114]), np.float64)


def of_kind(truths: Truths, kind: str) -> Truths:
    return [row for row in truths if row["kind"] == kind]


@pytest.mark.slow
def test_is_a_complete_data_folder(folder: Path) -> None:
    found = image_set.check(folder)
    assert found["dataset"] == "sample"
    assert (found["unlabeled"], found["train"], found["test"], found["other"]) == (540, 300, 500, 60)
    assert found["class_names"] == [shape.__name__ for shape in CLASSES]
    stated = json.loads((folder / "sample.json").read_text())
    assert stated["seed"] == SEED
    assert stated["counts"] == {"unlabeled": 540, "train": 300, "test": 500, "other": 60}


@pytest.mark.slow
def test_same_seed_same_bytes(folder: Path, tmp_path: Path) -> None:
    generate.write_sample(tmp_path, SEED)
    names = sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    assert names == sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file())
    for name in names:
        assert (folder / name).read_bytes() == (tmp_path / name).read_bytes(), name


@pytest.mark.slow
def test_an_image_drawn_alone_is_the_one_in_the_file(unlabeled: npt.NDArray[np.uint8]) -> None:
    plan = generate.plan_unlabeled(SEED)
    for index in (539, 7, 200):
        np.testing.assert_array_equal(generate.draw_unlabeled(SEED, plan, index), unlabeled[index])


@pytest.mark.slow
def test_other_seed_other_pictures(unlabeled: npt.NDArray[np.uint8]) -> None:
    other = generate.plan_unlabeled(SEED + 1)
    assert other != generate.plan_unlabeled(SEED)
    assert (generate.draw_unlabeled(SEED + 1, other, 0) != unlabeled[0]).any()


@pytest.mark.slow
def test_fits_into_git(folder: Path) -> None:
    packed = sum(len(zlib.compress(path.read_bytes(), 6)) for path in folder.rglob("*") if path.is_file())
    assert packed < 10 * 2**20


@pytest.mark.slow
def test_labels_and_folds_are_balanced(folder: Path) -> None:
    labels = stl10.read_labels(folder / "train_y.bin", 300)
    assert (np.bincount(labels, minlength=10) == 30).all()
    assert (np.bincount(stl10.read_labels(folder / "test_y.bin", 500), minlength=10) == 50).all()
    folds = stl10.read_folds(folder / "fold_indices.txt", 300)
    assert len({tuple(fold) for fold in folds}) == 10
    for fold in folds:
        assert (np.bincount(labels[fold], minlength=10) == 10).all()


@pytest.mark.slow
def test_truth_has_a_row_for_every_image(truths: Truths) -> None:
    assert [int(row["index"]) for row in truths] == list(range(540))
    for kind, count in generate.KINDS.items():
        assert len(of_kind(truths, kind)) == count
    for kind in (generate.NEAR_DUPLICATE, generate.BLACK_BORDER, generate.OUT_OF_DISTRIBUTION):
        assert len(of_kind(truths, kind)) >= 40
    counts = np.unique([row["class"] for row in of_kind(truths, generate.ORDINARY)], return_counts=True)[1]
    assert len(counts) == 10 and counts.min() >= 20


@pytest.mark.slow
def test_odd_objects_have_no_class(truths: Truths) -> None:
    odd = {shape.__name__ for shape in ODD}
    for row in truths:
        assert (row["class"] == "") == (row["kind"] == generate.OUT_OF_DISTRIBUTION) == (row["object"] in odd)


@pytest.mark.slow
def test_near_duplicates_match_their_originals(truths: Truths, unlabeled: npt.NDArray[np.uint8]) -> None:
    rows = of_kind(truths, generate.NEAR_DUPLICATE)
    assert len({row["original"] for row in rows}) == len(rows)
    margin = generate.MAX_SHIFT
    inner = slice(margin, 96 - margin)
    for row in rows:
        original = truths[int(row["original"])]
        assert original["kind"] == generate.ORDINARY and original["class"] == row["class"]
        down, right, factor = int(row["shift_y"]), int(row["shift_x"]), float(row["brightness"])
        assert max(abs(down), abs(right)) <= 6 and 40 <= int(row["jpeg_quality"]) <= 90
        assert 0.8 <= factor <= 1.2
        # Encoding halves the resolution of colour, so luma is compared.
        copy = luma(unlabeled[int(row["index"])])
        expected = luma(np.clip(unlabeled[int(row["original"])] * factor, 0, 255))[inner, inner]
        error = np.abs(np.roll(copy, (-down, -right), axis=(0, 1))[inner, inner] - expected).mean()
        assert 0 < error < 8, row
        if (down, right) != (0, 0):
            assert np.abs(copy[inner, inner] - expected).mean() > error, row


def black_widths(image: npt.NDArray[np.uint8]) -> list[int]:
    """Return how many whole rows or columns are black at the top, bottom, left and right."""
    brightest = image.max(axis=2)
    rows, columns = brightest.max(axis=1) > 0, brightest.max(axis=0) > 0
    return [int(np.argmax(line)) for line in (rows, rows[::-1], columns, columns[::-1])]


@pytest.mark.slow
def test_black_borders_are_as_stated_and_nowhere_else(truths: Truths, unlabeled: npt.NDArray[np.uint8]) -> None:
    for row, image in zip(truths, unlabeled, strict=True):
        stated = [row[f"border_{side}"] for side in ("top", "bottom", "left", "right")]
        if row["kind"] == generate.BLACK_BORDER:
            widths = [int(width) for width in stated]
            assert max(widths) >= 2 and all(width == 0 or 2 <= width <= 12 for width in widths)
        else:
            assert stated == [""] * 4
            widths = [0] * 4
        assert black_widths(image) == widths, row


@pytest.mark.slow
def test_decoys_have_a_dark_edge(truths: Truths, unlabeled: npt.NDArray[np.uint8]) -> None:
    rows = of_kind(truths, generate.DARK_EDGE_DECOY)
    assert {row["decoy"] for row in rows} == set(generate.DECOYS)
    for row in rows:
        image = unlabeled[int(row["index"])].astype(float)
        edges = [image[0], image[-1], image[:, 0], image[:, -1]]
        assert min(np.median(edge.max(axis=1)) for edge in edges) < 60, row


@pytest.mark.slow
def test_colour_and_brightness_say_nothing_about_the_class(folder: Path) -> None:
    def statistics(part: str, count: int) -> npt.NDArray[np.float64]:
        pixels = stl10.open_pool(folder, part).batch(range(count)).reshape(count, -1, 3).astype(float)
        return np.concatenate([pixels.mean(axis=1), pixels.std(axis=1)], axis=1)

    train, test = statistics("train", 300), statistics("test", 500)
    train, test = (
        (train - train.mean(axis=0)) / train.std(axis=0),
        (test - train.mean(axis=0)) / train.std(axis=0),
    )
    labels, truth = (
        stl10.read_labels(folder / "train_y.bin", 300),
        stl10.read_labels(folder / "test_y.bin", 500),
    )
    centroids = np.stack([train[labels == label].mean(axis=0) for label in range(10)])
    nearest = ((test[:, None] - centroids) ** 2).sum(axis=2).argmin(axis=1)
    assert (nearest == truth).mean() < 0.2


@pytest.mark.slow
def test_second_pool_has_mixed_sizes_from_96_up(folder: Path) -> None:
    pool = pools.open_pool(folder, "other")
    sizes = [pool[index].shape[:2] for index in range(len(pool))]
    assert min(min(size) for size in sizes) >= 96
    assert len(set(sizes)) > 30


@pytest.mark.parametrize("shape", [*CLASSES, *ODD], ids=lambda shape: str(shape.__name__))
def test_outlines_are_finite_and_about_one_unit_in_size(shape: Shape) -> None:
    for seed in range(20):
        points = np.concatenate([part for solid, part in shape(np.random.default_rng(seed)) if solid])
        assert np.isfinite(points).all()
        assert 0.8 <= np.abs(points).max() <= 1.15


def test_objects_stand_out_from_the_background() -> None:
    # The same draws without an object give the background; what the object covers must differ in luma.
    for index in range(30):
        shape = CLASSES[index % 10]
        pictures = [
            draw_scene(np.random.default_rng(index), shapes, 96, 96, extent=(50.0, 74.0), jitter=(5.0, 5.0))
            for shapes in ([], [shape])
        ]
        difference = np.abs(luma(pictures[1]) - luma(pictures[0]))
        assert (difference > 20).mean() > 0.05, shape.__name__
