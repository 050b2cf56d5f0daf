"""Putting an image set in place of the data: whatever fails, the old data stay."""

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from exemplarcnn.data.image_set import check
from exemplarcnn.data.stl10 import OTHER_FILE, ImageFile, write_images
from exemplarcnn.data.types import DataError
from exemplarcnn.importing.install import install, install_folder
from exemplarcnn.importing.second_pool import install_other
from tests.importing.projects import add_other, image_set, names, run, snapshot


@pytest.mark.parametrize("nested", [False, True])
def test_installs_a_copy_where_nothing_was(tmp_path: Path, nested: bool) -> None:
    source = image_set(tmp_path / "given" / "stl10_binary", 3)
    before = snapshot(source)
    summary = install(source.parent if nested else source, tmp_path / "root" / "data")
    assert snapshot(tmp_path / "root") == {f"data/{k}": v for k, v in before.items()}
    assert (summary["unlabeled"], summary["other"]) == (3, None)
    assert snapshot(source) == before
    (tmp_path / "root" / "data" / "train_y.bin").write_bytes(b"")
    assert snapshot(source) == before


def test_replaces_all_of_the_old_data_but_the_second_pool(tmp_path: Path) -> None:
    data, source = image_set(tmp_path / "data", 5), image_set(tmp_path / "source", 3)
    add_other(data, "a.png", "deep/b.png")
    (data / "sample.json").write_text("{}")
    (data / "truth.csv").write_text("stale")
    expected = snapshot(source) | {k: v for k, v in snapshot(data).items() if k.startswith("other/")}
    summary = install(source, data)
    assert snapshot(data) == expected
    assert (summary["dataset"], summary["unlabeled"], summary["other"]) == ("custom", 3, 2)
    assert names(tmp_path) == {"data", "source"}


def test_second_pool_and_description_of_the_source_win(tmp_path: Path) -> None:
    data, source = image_set(tmp_path / "data", 5), image_set(tmp_path / "source", 3)
    add_other(data, "a.png")
    add_other(source, "c.png")
    (source / "sample.json").write_text("{}")
    (source / "truth.csv").write_text("new")
    summary = install(source, data)
    assert snapshot(data) == snapshot(source)
    assert (summary["dataset"], summary["other"]) == ("sample", 1)


def test_moving_takes_the_files_but_only_the_source_s(tmp_path: Path) -> None:
    data, source = image_set(tmp_path / "data", 5), image_set(tmp_path / "source", 3)
    add_other(data, "a.png")
    expected = snapshot(source)
    install(source, data, move=True)
    assert snapshot(source) == {}
    assert {k: v for k, v in snapshot(data).items() if k != "other/a.png"} == expected
    assert (data / "other" / "a.png").is_file()


def test_read_only_links_into_a_cache_are_replaced_and_not_written_through(tmp_path: Path) -> None:
    data, source, cache = (
        image_set(tmp_path / "data", 5),
        image_set(tmp_path / "source", 3),
        tmp_path / "cache",
    )
    cache.mkdir()
    for name in names(data):
        os.link(data / name, cache / name)
        (cache / name).chmod(0o444)
        (source / name).chmod(0o444)
    before = snapshot(cache)
    install(source, data)
    assert snapshot(cache) == before
    assert snapshot(data) == snapshot(source)
    assert all(file.stat().st_mode & 0o200 for file in data.iterdir())


def test_data_can_be_installed_over_itself(tmp_path: Path) -> None:
    data = image_set(tmp_path / "data", 5)
    add_other(data, "a.png")
    before = snapshot(data)
    install(data, data)
    assert snapshot(data) == before


def test_damaged_source_leaves_the_old_data(tmp_path: Path) -> None:
    data, source = image_set(tmp_path / "data", 5), image_set(tmp_path / "source", 3)
    before = snapshot(data)
    (source / "train_y.bin").write_bytes(bytes([1] * 9))
    with pytest.raises(DataError, match=r"source/train_y\.bin: found 9 labels, expected 10"):
        install(source, data)
    assert snapshot(data) == before
    assert names(tmp_path) == {"data", "source"}


def test_folder_without_images_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"found no train_X\.bin.*stl10_binary/.*expected a folder with"):
        install(tmp_path, tmp_path / "data")
    assert names(tmp_path) == set()


@pytest.mark.parametrize("step", range(9))
def test_failure_at_any_step_leaves_the_old_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """Seven copies and two renames: the disk refuses at each of them in turn."""
    data, source = image_set(tmp_path / "data", 5), image_set(tmp_path / "source", 3)
    before = snapshot(data)
    calls = iter(range(100))

    def failing(real: Callable[..., object]) -> Callable[..., object]:
        def call(*arguments: Path) -> object:
            if next(calls) == step:
                raise OSError(28, "No space left on device")
            return real(*arguments)

        return call

    monkeypatch.setattr(shutil, "copyfile", failing(shutil.copyfile))
    monkeypatch.setattr(Path, "rename", failing(Path.rename))
    with pytest.raises(
        DataError, match=r"data: cannot put the images of .* No space left on device; the old data is unchanged"
    ):
        install(source, data)
    assert snapshot(data) == before
    assert names(tmp_path) == {"data", "source"}
    install(source, data)
    assert snapshot(data) == snapshot(source)


@pytest.mark.parametrize("move", [False, True])
def test_interruption_leaves_the_old_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, move: bool) -> None:
    data, source = image_set(tmp_path / "data", 5), image_set(tmp_path / "source", 3)
    add_other(data, "a.png")
    before = snapshot(data)
    real = Path.rename

    def interrupted(self: Path, target: Path) -> Path:
        if self.name == ".data.incoming":
            raise KeyboardInterrupt
        return real(self, target)

    monkeypatch.setattr(Path, "rename", interrupted)
    with pytest.raises(KeyboardInterrupt):
        install(source, data, move=move)
    assert snapshot(data) == before
    assert names(tmp_path) == {"data", "source"}


def test_swap_that_was_killed_halfway_is_undone_by_the_next_try(tmp_path: Path) -> None:
    old = image_set(tmp_path / ".data.old", 5)
    image_set(tmp_path / ".data.incoming", 4)
    before = snapshot(old)
    with pytest.raises(DataError, match=r"found no train_X\.bin"):
        install(tmp_path / "nowhere", tmp_path / "data")
    assert snapshot(tmp_path / "data") == before
    install(image_set(tmp_path / "source", 3), tmp_path / "data")
    assert names(tmp_path) == {"data", "source"}
    assert len(ImageFile(tmp_path / "data" / "unlabeled_X.bin")) == 3


def test_leftovers_of_a_killed_try_do_not_matter(tmp_path: Path) -> None:
    data, source = image_set(tmp_path / "data", 5), image_set(tmp_path / "source", 3)
    image_set(tmp_path / ".data.old", 4)
    add_other(tmp_path / ".data.incoming", "stale.png")
    install(source, data)
    assert snapshot(data) == snapshot(source)
    assert names(tmp_path) == {"data", "source"}


def test_a_set_of_another_side_keeps_it(tmp_path: Path) -> None:
    given = image_set(tmp_path / "given", 3)
    for split, count in {"train": 10, "test": 4, "unlabeled": 9}.items():
        write_images(given / f"{split}_X.bin", np.zeros((count, 128, 128, 3), np.uint8), 128)
    (given / "import.json").write_text('{"name": "mine", "side": 128}')
    install(given, tmp_path / "data")
    found = check(tmp_path / "data")
    assert (found["dataset"], found["side"], found["unlabeled"]) == ("mine", 128, 9)


def untouched(root: Path) -> bool:
    """Tell whether the data are those of the record, and the documented way back works."""
    done = "Data and pipelines are up to date."
    before = run(root, "dvc", "status", "data.dvc").strip() == done
    run(root, "dvc", "checkout", "data.dvc")
    return before and run(root, "dvc", "status", "data.dvc").strip() == done and not list(root.glob(".data*"))


@pytest.mark.slow
def test_j_names_that_dvc_cannot_record_are_refused_before_anything_moves(project: Path, tmp_path: Path) -> None:
    before, pointer = snapshot(project / "data"), (project / "data.dvc").read_bytes()
    add_other(tmp_path / "photos", "x.png", os.fsdecode(b"caf\xe9.png"))
    with pytest.raises(DataError, match=r"1 names that are not UTF-8, such as caf\\xe9\.png.*unchanged.*convmv"):
        install_other(project, tmp_path / "photos" / "other")
    whole = image_set(tmp_path / "whole", 3)
    add_other(whole, os.fsdecode(b"caf\xe9.png"))
    with pytest.raises(DataError, match=r"1 names that are not UTF-8"):
        install_folder(project, whole)
    assert snapshot(project / "data") == before
    assert (project / "data.dvc").read_bytes() == pointer
    assert untouched(project)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("had", "source"), [(had, source) for had in ("folder", "file", "nothing") for source in ("folder", "file", "set")]
)
def test_j_whatever_dvc_refuses_the_data_are_as_they_were(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, had: str, source: str
) -> None:
    given = image_set(tmp_path / "given", 3)
    if had != "folder":
        shutil.rmtree(project / "data" / "other")
    if had == "file":
        shutil.copy(given / "unlabeled_X.bin", project / "data" / OTHER_FILE)
    run(project, "dvc", "add", "--quiet", "data")
    before, pointer = snapshot(project / "data"), (project / "data.dvc").read_bytes()
    add_other(tmp_path / "photos", "x.png")
    real = subprocess.run

    def refuse(words: list[str], **options: Any) -> Any:
        if "add" in words:  # DVC has looked at the new files, and stops for some reason of its own
            assert snapshot(project / "data") != before
            return subprocess.CompletedProcess(words, 255, "", "ERROR: no")
        return real(words, **options)

    with monkeypatch.context() as patch:
        patch.setattr(subprocess, "run", refuse)
        with pytest.raises(DataError, match=r"`dvc add data`.*ERROR: no\. data/ is unchanged"):
            if source == "set":
                install_folder(project, given)
            else:
                other = tmp_path / "photos" / "other" if source == "folder" else given / "test_X.bin"
                install_other(project, other)
    assert snapshot(project / "data") == before
    assert (project / "data.dvc").read_bytes() == pointer
    assert untouched(project)


@pytest.mark.slow
def test_j_an_interruption_while_dvc_works_leaves_data_and_record(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, pointer = snapshot(project / "data"), (project / "data.dvc").read_bytes()

    def interrupt(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(subprocess, "run", interrupt)
        with pytest.raises(KeyboardInterrupt):
            install_folder(project, image_set(tmp_path / "given", 3))
    assert snapshot(project / "data") == before
    assert (project / "data.dvc").read_bytes() == pointer
    assert untouched(project)
