"""Folders of unfinished work: kept for the same work, emptied for another, removed at its end."""

from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock

from exemplarcnn.locks import LockedError
from exemplarcnn.unfinished import unfinished


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
        if len(called) != 2:  # of locking, preparing, removing: not in this process
            work()

    (tmp_path / "work").mkdir()
    with unfinished(tmp_path / "work", "a", once) as work:
        assert not list(work.iterdir())
    assert len(called) == 3
