"""A whole data folder: its name, its side, and files that must agree."""

import json
from pathlib import Path

import numpy as np
import pytest

from exemplarcnn.data import image_set, stl10
from exemplarcnn.data.image_set import check, folds_are_official
from exemplarcnn.data.stl10 import ImageFile, open_pool, write_images, write_labels
from exemplarcnn.data.types import DataError
from exemplarcnn.files import md5_of
from tests.data.small_sets import NAMES, pixels, save


def test_a_set_says_the_side_of_its_images(data: Path) -> None:
    assert stl10.side_of(data) == 96
    (data / "import.json").write_text('{"name": "mine"}')
    assert stl10.side_of(data) == 96, "imported before there was another"
    # Nine images of 128×128 have as many bytes as sixteen of 96×96: sizes cannot tell.
    written = {}
    for split, count in {"train": 12, "test": 5, "unlabeled": 9}.items():
        written[split] = np.random.default_rng(count).integers(0, 256, (count, 128, 128, 3), dtype=np.uint8)
        write_images(data / f"{split}_X.bin", written[split], 128)
    assert len(open_pool(data, "unlabeled")) == 16
    (data / "import.json").write_text('{"name": "mine", "side": 128}')
    for split, expected in written.items():
        pool = open_pool(data, split)
        assert np.array_equal(pool.batch(range(len(pool))), expected)
        assert np.array_equal(stl10.open_file(data / f"{split}_X.bin")[0], expected[0])
    found = check(data)
    assert (found["dataset"], found["side"], found["unlabeled"]) == ("mine", 128, 9)


@pytest.mark.parametrize("side", [31, 257, 0, -96, "x", "96", 96.0, True, None, [96]])
def test_a_side_that_cannot_be_is_refused(data: Path, side: object) -> None:
    (data / "import.json").write_text(json.dumps({"name": "mine", "side": side}))
    for look in (stl10.side_of, check):
        with pytest.raises(DataError, match=r"import\.json: found .* for the side .* from 32 to 256"):
            look(data)


@pytest.mark.parametrize(("text", "found"), [("{", "something else"), ("[96]", "list"), ("", "something else")])
def test_what_an_import_did_not_write_is_refused(data: Path, text: str, found: str) -> None:
    (data / "import.json").write_text(text)
    with pytest.raises(DataError, match=rf"import\.json: .*{found}.*import the images again"):
        check(data)


def test_official_folds_are_known_by_their_md5(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = data / "fold_indices.txt"
    assert not folds_are_official(path)
    monkeypatch.setattr(image_set, "STL10_FOLDS_MD5", md5_of(path))
    assert folds_are_official(path)


def test_check_counts_everything(data: Path) -> None:
    expected = {
        "dataset": "custom",
        "side": 96,
        "train": 12,
        "test": 5,
        "unlabeled": 7,
        "other": None,
        "fold_sizes": [3] * 10,
        "folds_official": False,
        "class_names": NAMES,
    }
    assert check(data) == expected
    save(data / "other" / "a.png", (4, 3))
    (data / "sample.json").write_text("{}")
    assert check(data) == {**expected, "other": 1, "dataset": "sample"}


def test_check_knows_stl10_by_counts_and_md5s(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_set, "STL10_MD5", {name: md5_of(data / name) for name in image_set.STL10_MD5})
    assert check(data)["dataset"] == "custom"
    monkeypatch.setattr(image_set, "STL10_COUNTS", {"train": 12, "test": 5, "unlabeled": 7})
    assert check(data)["dataset"] == "STL-10"
    write_labels(data / "test_y.bin", [0, 9, 3, 3, 2])
    assert check(data)["dataset"] == "custom"


def test_check_hashes_no_large_file_without_need(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hashed: list[str] = []

    def spy(path: Path) -> str:
        hashed.append(path.name)
        return md5_of(path)

    monkeypatch.setattr(image_set, "md5_of", spy)
    check(data)
    assert hashed == ["fold_indices.txt"]


@pytest.mark.parametrize(
    "name",
    [
        "train_X.bin",
        "train_y.bin",
        "test_X.bin",
        "test_y.bin",
        "unlabeled_X.bin",
        "fold_indices.txt",
        "class_names.txt",
    ],
)
def test_check_misses_each_file(data: Path, name: str) -> None:
    (data / name).unlink()
    with pytest.raises(DataError, match=rf"{name}: found no such file"):
        check(data)


def test_check_compares_the_files_with_each_other(data: Path) -> None:
    write_images(data / "test_X.bin", pixels(6))
    with pytest.raises(DataError, match=r"test_y\.bin: found 5 labels, expected 6"):
        check(data)
    write_labels(data / "test_y.bin", [0] * 6)
    assert check(data)["test"] == 6
    write_images(data / "train_X.bin", pixels(11))
    write_labels(data / "train_y.bin", [0] * 11)
    with pytest.raises(DataError, match=r"fold_indices\.txt, line 1: found '11', expected .* 0 to 10"):
        check(data)


def test_check_refuses_an_empty_second_pool(data: Path) -> None:
    (data / "other").mkdir()
    with pytest.raises(DataError, match=r"other: found no image.*or remove the folder"):
        check(data)


def test_a_set_without_labels_is_whole(data: Path) -> None:
    for name in stl10.LABELLED_FILES:
        (data / name).unlink()
    found = check(data)
    assert (found["train"], found["test"], found["fold_sizes"], found["class_names"]) == (0, 0, [], [])
    assert found["unlabeled"] == len(ImageFile(data / "unlabeled_X.bin"))
    with pytest.raises(DataError, match="no labelled images"):
        stl10.open_pool(data, "test")
