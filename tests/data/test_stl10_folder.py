"""A folder of STL-10's files as arrays."""

from pathlib import Path

import numpy as np
import pytest

from exemplarcnn.data.stl10_folder import read_stl10
from exemplarcnn.data.types import DataError
from tests.data.small_sets import NAMES, pixels


def test_arrays_are_what_was_written(data: Path) -> None:
    found = read_stl10(str(data))
    for seed, (images, count) in enumerate(
        ((found.train_images, 12), (found.test_images, 5), (found.unlabeled_images, 7))
    ):
        assert np.array_equal(images, pixels(count, seed))
        assert not images.flags.writeable
        assert not images.flags.owndata, "a view of the file"
    assert found.train_labels.tolist() == [*range(10), 0, 1]
    assert found.test_labels.tolist() == [0, 9, 3, 3, 1]
    assert [fold.tolist() for fold in found.folds] == [[fold, fold + 1, 11] for fold in range(10)]
    assert found.class_names == tuple(NAMES)


def test_the_folder_above_will_do(data: Path, tmp_path: Path) -> None:
    (tmp_path / "above").mkdir()
    data.rename(tmp_path / "above" / "stl10_binary")
    assert len(read_stl10(tmp_path / "above").test_images) == 5


def test_what_is_missing_is_named(data: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"found no train_X\.bin there or in stl10_binary/"):
        read_stl10(tmp_path)
    (data / "test_y.bin").unlink()
    with pytest.raises(DataError, match=r"test_y\.bin: found no such file"):
        read_stl10(data)
