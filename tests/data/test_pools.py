"""Folders of images, and pools by their names."""

import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import ExifTags, Image

from exemplarcnn.data import pools, stl10
from exemplarcnn.data.pools import ImageFolder, open_pool
from exemplarcnn.data.stl10 import write_images
from exemplarcnn.data.types import DataError
from exemplarcnn.files import write_table
from tests.data.small_sets import pixels, save


def test_a_second_pools_file_has_stl10s_side_in_any_set(data: Path) -> None:
    write_images(data / "other_X.bin", pixels(16))
    (data / "import.json").write_text('{"name": "mine", "side": 128}')
    assert open_pool(data, "other")[15].shape == (96, 96, 3)
    assert len(stl10.open_file(data / "other_X.bin")) == 16


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


def test_a_subset_of_a_folder_carries_its_own_files_alone(tmp_path: Path) -> None:
    for number in range(40):
        save(tmp_path / f"{number:02}.png", (4, 3), colour=(number, 0, 0))
        (tmp_path / f"{number:02}.txt").touch()
    pool = ImageFolder(tmp_path)
    part = pool.subset(30, 33)
    assert (len(pool.passed_over), len(part.passed_over)) == (40, 0)
    assert [part.name(index) for index in range(len(part))] == ["30.png", "31.png", "32.png"]
    assert part[1][0, 0].tolist() == [31, 0, 0]
    assert len(pool.subset(39, 50)) == 1
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
    options: dict[str, Any] = {"quality": 100} if suffix in ("jpg", "webp") else {}
    Image.fromarray(np.rot90(upright, turns[orientation]).copy()).save(
        tmp_path / f"photo.{suffix}", exif=exif, **options
    )
    folder = ImageFolder(tmp_path)
    assert folder.size(0) == (60, 40)
    assert folder[0].shape == (60, 40, 3)
    assert np.abs(folder[0].astype(int) - upright).mean() < 10
