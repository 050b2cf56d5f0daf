"""The binary layout, its checks, and folders of images."""

import json
import os
import pickle
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from exemplarcnn.data.image_set import check, folds_are_official
from exemplarcnn.data.pools import ImageFolder
from exemplarcnn.data.stl10 import (
    ImageFile,
    open_pool,
    read_class_names,
    read_folds,
    read_labels,
    write_class_names,
    write_folds,
    write_images,
    write_labels,
)
from exemplarcnn.data.types import DataError
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import ExifTags, Image

from exemplarcnn.data import image_set, pools, stl10
from exemplarcnn.files import md5_of, write_table

NAMES = [f"class {number}" for number in range(10)]


def pixels(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 96, 96, 3), dtype=np.uint8)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    for seed, (split, count) in enumerate({"train": 12, "test": 5, "unlabeled": 7}.items()):
        write_images(folder / f"{split}_X.bin", pixels(count, seed))
    write_labels(folder / "train_y.bin", np.arange(12) % 10)
    write_labels(folder / "test_y.bin", [0, 9, 3, 3, 1])
    write_folds(folder / "fold_indices.txt", [[fold, fold + 1, 11] for fold in range(10)])
    write_class_names(folder / "class_names.txt", NAMES)
    return folder


def save(path: Path, size: tuple[int, int], mode: str = "RGB", colour: object = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, colour).save(path)


# The binary image file


def test_pixel_order_on_disk_is_channel_then_column_then_row(tmp_path: Path) -> None:
    raw = np.zeros(2 * 27648, np.uint8)
    row, column, channel = 5, 70, 2
    raw[27648 + channel * 9216 + column * 96 + row] = 200
    (tmp_path / "a_X.bin").write_bytes(raw.tobytes())
    pool = ImageFile(tmp_path / "a_X.bin")
    assert len(pool) == 2
    assert pool[0].max() == 0
    assert np.argwhere(pool[1]).tolist() == [[row, column, channel]]


@settings(max_examples=30, deadline=None)
@given(count=st.integers(1, 5), seed=st.integers(0, 2**32 - 1), chosen=st.lists(st.integers(0, 4), max_size=8))
def test_images_come_back_as_written(count: int, seed: int, chosen: list[int]) -> None:
    written = pixels(count, seed)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a_X.bin"
        write_images(path, written)
        assert path.stat().st_size == count * 27648
        pool = ImageFile(path)
        assert len(pool) == count
        for index in range(count):
            assert np.array_equal(pool[index], written[index])
        chosen = [index % count for index in chosen]
        batch = pool.batch(chosen)
        assert batch.shape == (len(chosen), 96, 96, 3)
        assert np.array_equal(batch, written[np.array(chosen, dtype=int)])


def test_images_are_contiguous_writable_copies(data: Path) -> None:
    pool = ImageFile(data / "train_X.bin")
    before = pool[0].copy()
    for image in (pool[0], pool.batch(np.array([0, 3]))):
        assert type(image) is np.ndarray
        assert image.dtype == np.uint8
        assert image.flags.c_contiguous
        image[:] = 7
    assert np.array_equal(pool[0], before)


def test_index_outside_the_file_is_refused(data: Path) -> None:
    pool = ImageFile(data / "test_X.bin")
    with pytest.raises(IndexError):
        pool[5]
    with pytest.raises(IndexError):
        pool.batch([0, 5])


def test_pickled_pool_carries_its_path_and_not_its_pixels(data: Path) -> None:
    pool = ImageFile(data / "train_X.bin")
    text = pickle.dumps(pool)
    assert len(text) < 1000
    assert np.array_equal(pickle.loads(text)[3], pool[3])


def test_long_files_are_written_in_pieces_without_seams(tmp_path: Path) -> None:
    written = np.broadcast_to(np.arange(1003, dtype=np.uint16).view(np.uint8).reshape(-1, 2, 1, 1), (1003, 2, 1, 1))
    full = np.zeros((1003, 96, 96, 3), np.uint8)
    full[:, :2, :1, :1] = written
    write_images(tmp_path / "a_X.bin", full)
    assert np.array_equal(ImageFile(tmp_path / "a_X.bin").batch(range(1003)), full)


@pytest.mark.parametrize("size", [0, 27647, 27649])
def test_file_that_is_no_whole_number_of_images_is_refused(tmp_path: Path, size: int) -> None:
    (tmp_path / "a_X.bin").write_bytes(bytes(size))
    with pytest.raises(DataError, match=rf"a_X\.bin: found {size:,} bytes, expected .*27,648.*dvc pull"):
        ImageFile(tmp_path / "a_X.bin")


@pytest.mark.parametrize("side", [32, 64, 128, 256])
def test_images_of_another_side_come_back_as_written(tmp_path: Path, side: int) -> None:
    written = np.random.default_rng(side).integers(0, 256, (5, side, side, 3), dtype=np.uint8)
    path = tmp_path / "a_X.bin"
    write_images(path, written, side)
    raw = np.fromfile(path, np.uint8).reshape(5, 3, side, side)
    assert np.array_equal(raw[2, 1], written[2, :, :, 1].T), "channel, then column, then row"
    pool = ImageFile(path, side)
    assert (len(pool), pool.side, pool.size(3)) == (5, side, (side, side))
    assert np.array_equal(pool[4], written[4])
    assert np.array_equal(pool.batch([3, 0]), written[[3, 0]])
    again = pickle.loads(pickle.dumps(pool))
    assert np.array_equal(again[1], written[1]), "worker processes read with the same side"
    with pytest.raises(DataError, match=rf"found images of shape .*expected \(n, {side}, {side}, 3\)"):
        write_images(path, pixels(1), side)


def test_a_file_of_another_side_is_no_whole_number_of_images(tmp_path: Path) -> None:
    write_images(tmp_path / "a_X.bin", pixels(2))
    with pytest.raises(DataError, match=r"found 55,296 bytes, expected .* 49,152 \(one 3×128×128 image\)"):
        ImageFile(tmp_path / "a_X.bin", 128)


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


def test_a_second_pools_file_has_stl10s_side_in_any_set(data: Path) -> None:
    write_images(data / "other_X.bin", pixels(16))
    (data / "import.json").write_text('{"name": "mine", "side": 128}')
    assert open_pool(data, "other")[15].shape == (96, 96, 3)
    assert len(stl10.open_file(data / "other_X.bin")) == 16


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


def test_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"a_X\.bin: found no such file.*dvc pull data\.dvc"):
        ImageFile(tmp_path / "a_X.bin")


@pytest.mark.parametrize(
    "wrong", [np.zeros((0, 96, 96, 3), np.uint8), np.zeros((2, 96, 96), np.uint8), np.zeros((1, 96, 96, 3))]
)
def test_writing_anything_but_images_is_refused(tmp_path: Path, wrong: np.ndarray) -> None:
    with pytest.raises(DataError, match=r"a_X\.bin: found images of shape .*expected \(n, 96, 96, 3\) and uint8"):
        write_images(tmp_path / "a_X.bin", wrong)
    assert not list(tmp_path.iterdir())


def test_writing_replaces_a_hard_link_and_leaves_its_other_name_alone(tmp_path: Path) -> None:
    cached, path = tmp_path / "cached", tmp_path / "a_y.bin"
    cached.write_bytes(b"\x01")
    os.link(cached, path)
    write_labels(path, [4])
    assert cached.read_bytes() == b"\x01"
    assert path.read_bytes() == b"\x05"
    assert {file.name for file in tmp_path.iterdir()} == {"cached", "a_y.bin"}


def test_failed_write_keeps_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "fold_indices.txt"
    write_folds(path, [[1, 2]])
    folds: list[Any] = [[1], ["no number"]]
    with pytest.raises(ValueError, match="no number"):
        write_folds(path, folds)
    assert path.read_text() == "1 2\n"
    assert list(tmp_path.iterdir()) == [path]


# Labels, folds, names


@settings(max_examples=30, deadline=None)
@given(labels=hnp.arrays(np.int64, st.integers(1, 50), elements=st.integers(0, 9)))
def test_labels_come_back_as_written_and_count_from_one_on_disk(labels: np.ndarray) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a_y.bin"
        write_labels(path, labels)
        assert list(path.read_bytes()) == [label + 1 for label in labels]
        read = read_labels(path, len(labels))
    assert read.dtype == np.int64
    assert np.array_equal(read, labels)


@pytest.mark.parametrize("wrong", [-1, 255])
def test_label_outside_the_classes_is_not_written(tmp_path: Path, wrong: int) -> None:
    with pytest.raises(DataError, match=rf"a_y\.bin: found label {wrong}, expected 0\.\.254"):
        write_labels(tmp_path / "a_y.bin", [3, wrong])


@pytest.mark.parametrize("wrong", [0, 11, 255])
def test_label_outside_the_classes_is_not_read(tmp_path: Path, wrong: int) -> None:
    (tmp_path / "a_y.bin").write_bytes(bytes([1, 10, wrong, wrong]))
    with pytest.raises(DataError, match=rf"a_y\.bin: found label {wrong} at index 2 \(2 such.*expected 1\.\.10"):
        read_labels(tmp_path / "a_y.bin", 4)


def test_labels_go_as_far_as_there_are_names(tmp_path: Path) -> None:
    write_class_names(tmp_path / "class_names.txt", NAMES[:3])
    write_labels(tmp_path / "a_y.bin", [0, 2, 1])
    assert read_labels(tmp_path / "a_y.bin", 3).tolist() == [0, 2, 1]
    write_labels(tmp_path / "a_y.bin", [0, 3])
    with pytest.raises(DataError, match=r"a_y\.bin: found label 4 at index 1 \(1 such.*expected 1\.\.3"):
        read_labels(tmp_path / "a_y.bin", 2)


@pytest.mark.parametrize("count", [2, 4])
def test_labels_must_be_as_many_as_images(tmp_path: Path, count: int) -> None:
    (tmp_path / "a_y.bin").write_bytes(bytes([1, 2, 3]))
    with pytest.raises(DataError, match=rf"a_y\.bin: found 3 labels, expected {count}"):
        read_labels(tmp_path / "a_y.bin", count)


@settings(max_examples=30, deadline=None)
@given(folds=st.lists(st.lists(st.integers(0, 30), min_size=1, unique=True), min_size=10, max_size=10))
def test_folds_come_back_as_written(folds: list[list[int]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "fold_indices.txt"
        write_folds(path, folds)
        read = read_folds(path, 31)
    assert [fold.tolist() for fold in read] == folds
    assert all(fold.dtype == np.int64 for fold in read)


def test_official_spacing_of_folds_is_read(tmp_path: Path) -> None:
    path = tmp_path / "fold_indices.txt"
    path.write_text("3 1 0 \n" * 10)
    assert [fold.tolist() for fold in read_folds(path, 4)] == [[3, 1, 0]] * 10


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("0 1 5", r"line 4: found '5', expected distinct indices from 0 to 4; correct"),
        ("0 -1", r"line 4: found '-1', expected"),
        ("0 1.5", r"line 4: found '1\.5', expected"),
        ("0 x", r"line 4: found 'x', expected"),
        ("2 1 2", r"line 4: found index 2 twice, expected distinct"),
        ("2 1 02", r"line 4: found index 2 twice, expected distinct"),
        ("", r"line 4: found an empty fold, expected"),
    ],
)
def test_damaged_fold_is_refused(tmp_path: Path, line: str, message: str) -> None:
    lines = ["0 1 2"] * 10
    lines[3] = line
    (tmp_path / "fold_indices.txt").write_text("\n".join(lines) + "\n")
    with pytest.raises(DataError, match=r"fold_indices\.txt, " + message):
        read_folds(tmp_path / "fold_indices.txt", 5)


@pytest.mark.parametrize("count", [0, 9, 11])
def test_number_of_folds_is_ten(tmp_path: Path, count: int) -> None:
    (tmp_path / "fold_indices.txt").write_text("0 1\n" * count)
    with pytest.raises(DataError, match=rf"fold_indices\.txt: found {count} lines, expected 10"):
        read_folds(tmp_path / "fold_indices.txt", 5)


def test_folds_that_are_not_text_are_refused(tmp_path: Path) -> None:
    (tmp_path / "fold_indices.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(DataError, match=r"fold_indices\.txt: expected plain text"):
        read_folds(tmp_path / "fold_indices.txt", 5)


def test_official_folds_are_known_by_their_md5(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = data / "fold_indices.txt"
    assert not folds_are_official(path)
    monkeypatch.setattr(images, "STL10_FOLDS_MD5", md5_of(path))
    assert folds_are_official(path)


def test_class_names_come_back_as_written(tmp_path: Path) -> None:
    write_class_names(tmp_path / "class_names.txt", NAMES)
    assert read_class_names(tmp_path / "class_names.txt") == NAMES


@pytest.mark.parametrize("names", [[], NAMES[:1], [*NAMES[:9], NAMES[0]], [str(number) for number in range(256)]])
def test_class_names_are_two_at_least_and_different(tmp_path: Path, names: list[str]) -> None:
    write_class_names(tmp_path / "class_names.txt", names)
    found = rf"found {len(names)} names, {len(set(names))} of them different, expected 2 to 255"
    with pytest.raises(DataError, match=r"class_names\.txt: " + found):
        read_class_names(tmp_path / "class_names.txt")


def test_md5_of_a_file_longer_than_one_chunk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "_CHUNK", 3)
    (tmp_path / "a").write_bytes(b"message digest")
    assert md5_of(tmp_path / "a") == "f96b697d7cb7938d525a2f31aaf161d0"  # from RFC 1321


# Folders of images


def test_folder_is_read_in_the_order_of_relative_paths(tmp_path: Path) -> None:
    save(tmp_path / "b.png", (4, 3), colour=(1, 2, 3))
    save(tmp_path / "a" / "z.PNG", (5, 6), colour=(4, 5, 6))
    save(tmp_path / "c.png", (4, 3), "L", 9)
    (tmp_path / "readme.txt").write_text("no image")
    save(tmp_path / ".hidden.png", (1, 1))
    pool = ImageFolder(tmp_path)
    assert [file.name for file in pool.files] == ["z.PNG", "b.png", "c.png"]
    assert len(pool) == 3
    assert pool[0].shape == (6, 5, 3)
    assert pool[0][0, 0].tolist() == [4, 5, 6]
    assert pool[2].dtype == np.uint8
    assert pool[2][0, 0].tolist() == [9, 9, 9]
    assert pool.batch([2, 1])[:, 0, 0].tolist() == [[9, 9, 9], [1, 2, 3]]
    assert len(pool.batch([])) == 0


def test_e_links_are_followed_once_and_what_is_no_image_is_told(tmp_path: Path) -> None:
    save(tmp_path / "elsewhere" / "1.png", (4, 3))
    save(tmp_path / "set" / "a" / "2.png", (4, 3))
    save(tmp_path / "set" / ".thumbnails" / "2.png", (4, 3))
    (tmp_path / "set/b").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "set/c").symlink_to("a")
    (tmp_path / "set/gone.png").symlink_to("nowhere.png")
    (tmp_path / "set/readme.txt").write_text("no image")
    pool = ImageFolder(tmp_path / "set")
    assert [pool.name(index) for index in range(len(pool))] == ["a/2.png", "b/1.png"]
    told = {each.path: each.why for each in pool.passed_over}
    assert list(told) == [".thumbnails", "c", "gone.png", "readme.txt"]
    assert told["c"] == "the same folder as a, entered once"
    assert told["gone.png"].startswith("cannot be followed: ")


def test_j_names_that_are_not_utf8_are_spelled_so_that_tables_can_be_written(tmp_path: Path) -> None:
    for number, name in enumerate((b"caf\xe9.png", b"line\r\nend.png", "grün, 1.png".encode())):
        save(tmp_path / os.fsdecode(name), (4, 3), colour=(number, 0, 0))
    pool = ImageFolder(tmp_path)
    names = [pool.name(index) for index in range(3)]
    assert names == [r"caf\xe9.png", "grün, 1.png", r"line\r\nend.png"]
    assert [int(pool[index][0, 0, 0]) for index in range(3)] == [0, 2, 1]
    write_table(tmp_path / "table.csv", pd.DataFrame({"file": names}))
    assert pd.read_csv(tmp_path / "table.csv")["file"].tolist() == names


def test_a_part_of_a_folder_carries_its_own_files_alone(tmp_path: Path) -> None:
    for number in range(40):
        save(tmp_path / f"{number:02}.png", (4, 3), colour=(number, 0, 0))
        (tmp_path / f"{number:02}.txt").touch()
    pool = ImageFolder(tmp_path)
    part = pool.part(30, 33)
    assert (len(pool.passed_over), len(part.passed_over)) == (40, 0)
    assert [part.name(index) for index in range(len(part))] == ["30.png", "31.png", "32.png"]
    assert part[1][0, 0].tolist() == [31, 0, 0]
    assert len(pool.part(39, 50)) == 1
    assert len(pool) == 40
    assert len(pickle.dumps(part)) < len(pickle.dumps(pool)) / 3


def test_batch_of_unequal_sizes_is_refused(tmp_path: Path) -> None:
    save(tmp_path / "a.png", (4, 3))
    save(tmp_path / "b.png", (5, 3))
    with pytest.raises(DataError, match=r"b\.png: found 3×5 pixels, expected 3×4 like .*a\.png; bring"):
        ImageFolder(tmp_path).batch([0, 1])


def test_damaged_image_is_named(tmp_path: Path) -> None:
    save(tmp_path / "a.png", (40, 30))
    (tmp_path / "b.png").write_bytes((tmp_path / "a.png").read_bytes()[:60])
    pool = ImageFolder(tmp_path)
    assert pool[0].shape == (30, 40, 3)
    with pytest.raises(DataError, match=r"b\.png: expected a readable image.*replace"):
        pool[1]


def test_folder_without_images_is_refused(tmp_path: Path) -> None:
    (tmp_path / "readme.txt").write_text("no image")
    with pytest.raises(
        DataError, match=r"found no image \(readme\.txt: no image by its name\), expected files .*\.png"
    ):
        ImageFolder(tmp_path)
    with pytest.raises(DataError, match=r"nowhere: found no such folder"):
        ImageFolder(tmp_path / "nowhere")


# The data folder


@pytest.mark.parametrize("name", ["a\nb", "a\u2028b", " a", "a ", "", "\x1c"])
def test_h_a_class_name_that_would_shift_the_others_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match=r"names\.txt: found the name .*, expected one on a line"):
        write_class_names(tmp_path / "names.txt", ["cat", name, "dog"])
    assert not (tmp_path / "names.txt").exists()


def test_fingerprint_sees_another_file_size_or_time(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        Image.new("RGB", (8, 8)).save(tmp_path / name)
    before = pools.fingerprint(ImageFolder(tmp_path))
    assert pools.fingerprint(ImageFolder(tmp_path)) == before
    stat = (tmp_path / "a.png").stat()
    os.utime(tmp_path / "a.png", ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
    later = pools.fingerprint(ImageFolder(tmp_path))
    (tmp_path / "b.png").rename(tmp_path / "c.png")
    assert len({before, later, pools.fingerprint(ImageFolder(tmp_path))}) == 3


def test_pools_open_by_name(data: Path) -> None:
    save(data / "other" / "a.png", (4, 3))
    assert [len(open_pool(data, name)) for name in ("train", "test", "unlabeled", "other")] == [12, 5, 7, 1]
    with pytest.raises(DataError, match=r"'labeled', expected one of train, test, unlabeled, other"):
        open_pool(data, "labeled")


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
    monkeypatch.setattr(images, "STL10_MD5", {name: md5_of(data / name) for name in image_set.STL10_MD5})
    assert check(data)["dataset"] == "custom"
    monkeypatch.setattr(images, "STL10_COUNTS", {"train": 12, "test": 5, "unlabeled": 7})
    assert check(data)["dataset"] == "STL-10"
    write_labels(data / "test_y.bin", [0, 9, 3, 3, 2])
    assert check(data)["dataset"] == "custom"


def test_check_hashes_no_large_file_without_need(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hashed: list[str] = []
    real = md5_of

    def spy(path: Path) -> str:
        hashed.append(path.name)
        return real(path)

    monkeypatch.setattr(images, "md5_of", spy)
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


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif"])
@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_photographs_are_upright_and_their_size_is_that_of_their_pixels(
    tmp_path: Path, suffix: str, orientation: int
) -> None:
    upright = np.zeros((60, 40, 3), np.uint8)
    upright[:30, :20], upright[:30, 20:], upright[30:] = (255, 0, 0), (0, 255, 0), (0, 0, 255)
    turns = {1: 0, 3: 2, 6: 1, 8: 3}
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    Image.fromarray(np.rot90(upright, turns[orientation]).copy()).save(
        tmp_path / f"photo.{suffix}", exif=exif, **({"quality": 100} if suffix in ("jpg", "webp") else {})
    )
    folder = ImageFolder(tmp_path)
    assert folder.size(0) == (60, 40)
    assert folder[0].shape == (60, 40, 3)
    assert np.abs(folder[0].astype(int) - upright).mean() < 10


def test_a_set_without_labels_is_whole(data: Path) -> None:
    for name in stl10.LABELLED_FILES:
        (data / name).unlink()
    found = image_set.check(data)
    assert (found["train"], found["test"], found["fold_sizes"], found["class_names"]) == (0, 0, [], [])
    assert found["unlabeled"] == len(ImageFile(data / "unlabeled_X.bin"))
    with pytest.raises(DataError, match="no labelled images"):
        stl10.open_pool(data, "test")
