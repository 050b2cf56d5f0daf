"""Arrays that are computed row by row: after a kill, those that are on the disk are not computed again."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from exemplarcnn import unfinished
from exemplarcnn.networks import kept_rows

COUNT, SIZE = 23, 4
IMAGES = np.random.default_rng(0).integers(0, 256, (COUNT, 2, 2, 3), dtype=np.uint8)


class Work:
    """Counts the chunks that it gets, and fails after so many."""

    def __init__(self, most: int = 1_000):
        self.most, self.chunks = most, 0

    def __call__(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return the colours of the first pixel."""
        if self.chunks == self.most:
            raise OSError("the disk is full")
        self.chunks += 1
        return images[:, 0, 0].astype(np.float32)


def array(folder: Path, work: Work) -> Path:
    folder.mkdir(exist_ok=True)
    return kept_rows.kept_rows(folder, "found", lambda rows: IMAGES[rows], work, COUNT, SIZE, "images")


@pytest.fixture
def saved_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unfinished, "SECONDS", -1.0)


def test_an_array_is_what_the_work_returns(tmp_path: Path) -> None:
    path = array(tmp_path / "work", Work())
    assert np.array_equal(np.load(path), IMAGES[:, 0, 0])
    assert np.load(path).dtype == np.float32
    again = Work()
    assert array(tmp_path / "work", again) == path
    assert again.chunks == 0, "it was complete"


@pytest.mark.usefixtures("saved_at_once")
@pytest.mark.parametrize("most", [0, 1, 3, 5])
def test_after_a_failure_only_the_missing_rows_are_computed(tmp_path: Path, most: int) -> None:
    expected = array(tmp_path / "whole", Work()).read_bytes()
    with pytest.raises(OSError, match="the disk is full"):
        array(tmp_path / "work", Work(most))
    left = Work()
    assert array(tmp_path / "work", left).read_bytes() == expected
    assert left.chunks == -(-COUNT // SIZE) - most


@pytest.mark.usefixtures("saved_at_once")
def test_what_was_written_after_the_last_record_is_written_again(tmp_path: Path) -> None:
    expected = array(tmp_path / "whole", Work()).read_bytes()
    with pytest.raises(OSError, match="the disk is full"):
        array(tmp_path / "work", Work(3))
    with (tmp_path / "work" / "found.partial").open("ab") as file:
        file.write(b"half a row")
    assert array(tmp_path / "work", Work()).read_bytes() == expected


@pytest.mark.usefixtures("saved_at_once")
def test_what_has_lost_rows_is_computed_anew(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="the disk is full"):
        array(tmp_path / "work", Work(3))
    os.truncate(tmp_path / "work" / "found.partial", 200)
    assert np.array_equal(np.load(array(tmp_path / "work", Work())), IMAGES[:, 0, 0])


def test_without_a_record_all_rows_are_computed(tmp_path: Path) -> None:
    """Less than `SECONDS` have passed."""
    with pytest.raises(OSError, match="the disk is full"):
        array(tmp_path / "work", Work(3))
    left = Work()
    assert np.array_equal(np.load(array(tmp_path / "work", left)), IMAGES[:, 0, 0])
    assert left.chunks == -(-COUNT // SIZE)


KILLED = """
import os, signal, sys
from pathlib import Path
from tests.networks import test_kept_rows as t

class Last(t.Work):
    def __call__(self, images):
        if Path(sys.argv[1], "found.json").exists():
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__call__(images)

t.unfinished.SECONDS = -1.0
t.array(Path(sys.argv[1]), Last())
"""


@pytest.mark.slow
def test_after_a_kill_the_same_bytes(tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path / "work")], env=environment)
    assert done.returncode == -signal.SIGKILL
    left = Work()
    assert array(tmp_path / "work", left).read_bytes() == array(tmp_path / "whole", Work()).read_bytes()
    assert 0 < left.chunks < -(-COUNT // SIZE)
