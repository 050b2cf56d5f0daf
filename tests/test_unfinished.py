"""Folders of unfinished work: kept for the same work, emptied for another, removed at its end."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock

from exemplarcnn import unfinished as unfinished_module
from exemplarcnn.locks import LockedError
from exemplarcnn.unfinished import Growing, unfinished


def begin(folder: Path, identity: str) -> list[str]:
    """Fail, after a file is written; return the files that were there."""
    with pytest.raises(OSError, match="the disk is full"), unfinished(folder, identity) as work:
        there = sorted(path.name for path in work.iterdir())
        (work / "rows").write_text("half")
        raise OSError("the disk is full")
    return there


def test_what_failed_stays_for_the_same_work(tmp_path: Path) -> None:
    folder = tmp_path / "work" / "embed"
    assert begin(folder, "a") == ["identity"]
    assert begin(folder, "a") == ["identity", "rows"]
    assert begin(folder, "b") == ["identity"], "what depends on something else is removed"


def test_a_folder_whose_removal_was_cut_off_is_not_taken_for_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin(tmp_path / "work", "a")

    def killed(folder: Path) -> None:
        (folder / "rows").write_text("hal")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", killed)
        with pytest.raises(KeyboardInterrupt), unfinished(tmp_path / "work", "b"):
            pass
    assert begin(tmp_path / "work", "a") == ["identity"]


def test_what_is_done_goes(tmp_path: Path) -> None:
    begin(tmp_path / "work", "a")
    with unfinished(tmp_path / "work", "a") as work:
        assert (work / "rows").exists()
    assert not (tmp_path / "work").exists()


def test_one_process_at_a_time(tmp_path: Path) -> None:
    with (
        FileLock(tmp_path / "baseline.lock"),
        pytest.raises(LockedError, match=r"another process is computing baseline \(it holds .*baseline\.lock\)"),
        unfinished(tmp_path / "baseline", "a"),
    ):
        pass


def test_of_several_processes_one_prepares_and_removes(tmp_path: Path) -> None:
    called = []

    def once(work: Callable[[], None]) -> None:
        called.append(work)
        if len(called) != 2:  # of locking, preparing, waiting, removing: not in this process
            work()

    (tmp_path / "work").mkdir()
    with unfinished(tmp_path / "work", "a", once) as work:
        assert not list(work.iterdir())
    assert len(called) == 4
    assert not (tmp_path / "work").exists()


# Files that grow


@pytest.fixture
def recorded_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unfinished_module, "SECONDS", -1.0)


def grown(path: Path, setting: object = None) -> tuple[int, bytes]:
    """Return how far a file's record says that the work is, and what is in the file then."""
    with Growing(path, setting) as file:
        progress = file.progress
    return progress, path.read_bytes()


@pytest.mark.usefixtures("recorded_at_once")
def test_a_file_goes_on_from_its_record(tmp_path: Path) -> None:
    path = tmp_path / "rows"
    with Growing(path) as file:
        file.write(b"one", 1)
        file.write(b"two", 2)
    with path.open("ab") as other:
        other.write(b"half")
    assert grown(path) == (2, b"onetwo")


def test_what_was_not_recorded_is_written_again(tmp_path: Path) -> None:
    with Growing(tmp_path / "rows") as file:
        file.write(b"one", 1)
        file.record()
        file.write(b"two", 2)
    assert grown(tmp_path / "rows") == (1, b"one")


@pytest.mark.usefixtures("recorded_at_once")
def test_another_setting_begins_anew_and_leaves_nothing_to_an_earlier_one(tmp_path: Path) -> None:
    path = tmp_path / "rows"
    with Growing(path, {"radius": 1}) as file:
        file.write(b"one", 1)
    with Growing(path, {"radius": 2}) as file:
        assert file.progress == 0
        file._file.write(b"more than before")  # and killed before it is recorded
    assert grown(path, {"radius": 1}) == (0, b"")


@pytest.mark.usefixtures("recorded_at_once")
@pytest.mark.parametrize("left", ["", "{", "{}", "[]", '{"setting": null, "progress": 1}', None])
def test_a_record_that_cannot_be_read_is_none(tmp_path: Path, left: str | None) -> None:
    with Growing(tmp_path / "rows") as file:
        file.write(b"one", 1)
    if left is None:
        (tmp_path / "rows.json").unlink()
    else:
        (tmp_path / "rows.json").write_text(left)
    assert grown(tmp_path / "rows") == (0, b"")


@pytest.mark.usefixtures("recorded_at_once")
def test_a_file_that_has_lost_bytes_begins_anew(tmp_path: Path) -> None:
    with Growing(tmp_path / "rows") as file:
        file.write(b"one", 1)
    os.truncate(tmp_path / "rows", 2)
    assert grown(tmp_path / "rows") == (0, b"")


def test_a_full_disk_is_named() -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no full disk to write to")
    file = object.__new__(Growing)
    file.path = Path("rows")
    with Path("/dev/full").open("wb", buffering=0) as full:
        file._file = full  # type: ignore[assignment]
        with pytest.raises(OSError, match=r"No space left on device: 'rows'"):
            file.write(b"one", 1)
