"""Progress: a bar on a terminal, lines in a file."""

import io
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from exemplarcnn import progress
from exemplarcnn.progress import tqdm


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def written(monkeypatch: pytest.MonkeyPatch, to: io.StringIO, seconds: float, count: int = 5) -> str:
    monkeypatch.setattr(sys, "stderr", to)
    monkeypatch.setattr(progress, "SECONDS", seconds)
    with tqdm(total=count, desc="epoch 1", unit="patch") as bar:
        for number in range(count):
            time.sleep(0.03)
            bar.set_description(f"epoch {number}")
            bar.update()
    return to.getvalue()


def test_work_that_is_soon_done_says_nothing_in_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    assert written(monkeypatch, io.StringIO(), seconds=30.0) == ""


def test_long_work_writes_lines_into_a_file_and_the_last_when_it_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    begun = time.monotonic()
    text = written(monkeypatch, io.StringIO(), seconds=0.05)
    elapsed = time.monotonic() - begun
    assert "\r" not in text
    lines = text.splitlines()
    assert 2 <= len(lines) <= elapsed / 0.05 + 1, "one every 0.05 seconds at most, and the last"
    assert all("patch/s" in line for line in lines)
    assert "| 5/5 [" in lines[-1]
    assert "5/5" not in lines[0]


def test_an_iterable_is_passed_through(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", to := io.StringIO())
    monkeypatch.setattr(progress, "SECONDS", 0.0)
    assert list(tqdm(range(3), desc="numbers")) == [0, 1, 2]
    assert "numbers: 100%" in to.getvalue().splitlines()[-1]


def test_a_terminal_has_a_bar_that_is_drawn_over(monkeypatch: pytest.MonkeyPatch) -> None:
    text = written(monkeypatch, Terminal(), seconds=30.0)
    assert text.count("\r") > 2
    assert "5/5" in text


def test_a_bar_that_is_off_is_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", to := io.StringIO())
    monkeypatch.setattr(progress, "SECONDS", 0.0)
    for _ in tqdm(range(3), disable=True):
        pass
    assert to.getvalue() == ""


@pytest.mark.filterwarnings("error::pytest.PytestUnraisableExceptionWarning")
def test_a_bar_that_ctrl_c_kept_from_being_made_goes_silently(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted() -> float:
        raise KeyboardInterrupt

    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=interrupted))
    with pytest.raises(KeyboardInterrupt):
        tqdm(total=5)
    tqdm.__new__(tqdm).__del__()


def test_every_bar_of_the_package_is_one_of_these() -> None:
    here = Path(progress.__file__)
    assert not [path for path in here.parent.rglob("*.py") if path != here and "from tqdm" in path.read_text()]
