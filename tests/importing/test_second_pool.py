"""A folder or a file becomes the second pool of a project's data."""

from pathlib import Path

import numpy as np
import pytest

from exemplarcnn.data import image_set as whole_set
from exemplarcnn.data import pools
from exemplarcnn.data.stl10 import write_images
from exemplarcnn.data.types import DataError
from exemplarcnn.importing.install import install_folder
from exemplarcnn.importing.second_pool import install_other
from tests.importing.projects import add_other, image_set, out, run, snapshot


@pytest.mark.slow
def test_a_folder_of_images_becomes_the_second_pool(project: Path, tmp_path: Path) -> None:
    source = tmp_path / "photos"
    add_other(source, "x.png", "deep/y.png")  # they lie in other/ below
    (source / "other" / "notes.txt").write_text("kept, for the audit to name")
    kept = {k: v for k, v in snapshot(project / "data").items() if not k.startswith("other/")}
    assert install_other(project, source / "other") == (2, ["notes.txt: no image by its name"])
    found = snapshot(project / "data")
    assert {k: v for k, v in found.items() if not k.startswith("other/")} == kept
    assert {k for k in found if k.startswith("other/")} == {"other/x.png", "other/deep/y.png", "other/notes.txt"}
    assert len(pools.open_pool(project / "data", "other")) == 2
    assert "remote" not in out(project)
    assert run(project, "dvc", "status", "data.dvc").strip() == "Data and pipelines are up to date."


@pytest.mark.slow
def test_a_file_in_stl10s_format_becomes_the_second_pool_and_back(project: Path, tmp_path: Path) -> None:
    given = image_set(tmp_path / "given", 4) / "unlabeled_X.bin"
    assert install_other(project, given) == (4, [])
    assert not (project / "data" / "other").exists()
    assert whole_set.check(project / "data")["other"] == 4
    assert pools.open_pool(project / "data", "other")[1].shape == (96, 96, 3)
    # It stays when the set is replaced, like a folder.
    install_folder(project, image_set(tmp_path / "next", 3))
    assert whole_set.check(project / "data")["other"] == 4
    add_other(tmp_path / "photos", "x.png")
    assert install_other(project, tmp_path / "photos" / "other") == (1, [])
    assert not (project / "data" / "other_X.bin").exists()


def test_a_file_of_a_set_of_another_side_is_no_second_pool(project: Path, tmp_path: Path) -> None:
    before = snapshot(project / "data")
    given = tmp_path / "given"
    given.mkdir()
    # As many bytes as sixteen images of 96×96, which they would be read as.
    write_images(given / "unlabeled_X.bin", np.zeros((9, 128, 128, 3), np.uint8), 128)
    (given / "import.json").write_text('{"name": "mine", "side": 128}')
    with pytest.raises(DataError, match=r"found images of 128×128 pixels, expected 96×96.*the folder of images"):
        install_other(project, given / "unlabeled_X.bin")
    assert snapshot(project / "data") == before


def test_e_the_second_pool_counts_what_has_arrived(project: Path, tmp_path: Path) -> None:
    source = tmp_path / "photos" / "other"
    add_other(tmp_path / "photos", "a/x.png", "b/y.png", ".thumbnails/x.png", ".hidden.png")
    add_other(tmp_path / "else", "z.png")
    (source / "linked").symlink_to(tmp_path / "else" / "other")
    (source / "again").symlink_to("a")
    (source / "a" / "loop").symlink_to(source)
    (source / "one.png").symlink_to(source / "a" / "x.png")
    (source / "gone.png").symlink_to("nowhere.png")
    count, notes = install_other(project, source)
    arrived = snapshot(project / "data" / "other")
    assert set(arrived) == {"a/x.png", "b/y.png", "linked/z.png", "one.png"}
    assert count == len(arrived)
    assert not any(file.is_symlink() for file in (project / "data").rglob("*"))
    told = {note.split(": ")[0] for note in notes}
    assert told == {"again", "a/loop", "gone.png", ".thumbnails", ".hidden.png"}


def test_what_is_no_pool_leaves_the_old_one(project: Path, tmp_path: Path) -> None:
    before = snapshot(project / "data")
    (tmp_path / "empty").mkdir()
    (tmp_path / "cut.bin").write_bytes(b"123")
    told = {"empty": "found no image", "cut.bin": "found 3 bytes", "none": "no such folder"}
    for name, message in told.items():
        with pytest.raises(DataError, match=message):
            install_other(project, tmp_path / name)
    assert snapshot(project / "data") == before
    assert out(project)["remote"] == "embedded"
