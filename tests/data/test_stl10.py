"""The binary layout: image files, labels, folds, class names."""

import os
import pickle
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from exemplarcnn.data.stl10 import (
    ImageFile,
    read_class_names,
    read_folds,
    read_labels,
    write_class_names,
    write_folds,
    write_images,
    write_labels,
)
from exemplarcnn.data.types import DataError
from tests.data.small_sets import NAMES, pixels


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
    with pytest.raises(DataError, match=r"fold_indices\.txt: found bytes that are not UTF-8"):
        read_folds(tmp_path / "fold_indices.txt", 5)


def test_class_names_come_back_as_written(tmp_path: Path) -> None:
    write_class_names(tmp_path / "class_names.txt", NAMES)
    assert read_class_names(tmp_path / "class_names.txt") == NAMES


@pytest.mark.parametrize("names", [[], NAMES[:1], [*NAMES[:9], NAMES[0]], [str(number) for number in range(256)]])
def test_class_names_are_two_at_least_and_different(tmp_path: Path, names: list[str]) -> None:
    write_class_names(tmp_path / "class_names.txt", names)
    found = rf"found {len(names)} names, {len(set(names))} of them different, expected 2 to 255"
    with pytest.raises(DataError, match=r"class_names\.txt: " + found):
        read_class_names(tmp_path / "class_names.txt")


@pytest.mark.parametrize("name", ["a\nb", "a\u2028b", " a", "a ", "", "\x1c"])
def test_h_a_class_name_that_would_shift_the_others_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match=r"names\.txt: found the name .*, expected a name on one line"):
        write_class_names(tmp_path / "names.txt", ["cat", name, "dog"])
    assert not (tmp_path / "names.txt").exists()
