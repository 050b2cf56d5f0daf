"""What happens before a stage works: little, and a copy of ``dvc.lock``."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from exemplarcnn.errors import INTERRUPTED
from exemplarcnn.launching import launcher, preflight
from exemplarcnn.planning import plan
from exemplarcnn.tracking import timings
from tests.conftest import ROOT


def test_nothing_that_starts_a_stage_or_plans_imports_torch() -> None:
    """Stages that compute nothing do without: torch takes seconds and memory."""
    code = "import sys, exemplarcnn.launching.launcher, exemplarcnn.stages.seed; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_a_copy_of_the_lock_is_kept_as_long_as_it_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    launcher._keep_lock()
    assert not (tmp_path / "work/dvc.lock").exists(), "there is nothing to keep"
    stage = "  {0}:\n    cmd: x\n    outs:\n    - path: {0}\n      md5: m\n"
    text = "schema: '2.0'\nstages:\n" + "".join(map(stage.format, "abc"))
    (tmp_path / "dvc.lock").write_text(text)
    launcher._keep_lock()
    assert (tmp_path / "work/dvc.lock").read_text() == text
    two = text[: text.index("  c:")]
    broken = ["", text[:-15], "schema: '2.0'\n  stages: :"]
    incomplete = [text[: text.rindex("      md5")], text[: text.rindex("    outs")], two, two.replace("x", "y", 1)]
    for cut in broken + incomplete:
        (tmp_path / "dvc.lock").write_text(cut)
        launcher._keep_lock()
        assert (tmp_path / "work/dvc.lock").read_text() == text
    assert [path.name for path in (tmp_path / "work").iterdir()] == ["dvc.lock"]
    for other in (text.replace("x", "y"), two.replace("x", "z"), text + stage.format("d")):
        (tmp_path / "dvc.lock").write_text(other)
        launcher._keep_lock()
        assert (tmp_path / "work/dvc.lock").read_text() == other


def test_a_copy_that_cannot_be_made_stops_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dvc.lock").write_text("stages: {}\n")
    (tmp_path / "work").write_text("no folder")
    launcher._keep_lock()


def test_a_copy_that_is_damaged_itself_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dvc.lock").write_text("stages: {}\n")
    (tmp_path / "work").mkdir()
    (tmp_path / "work/dvc.lock").write_text("")
    launcher._keep_lock()
    assert (tmp_path / "work/dvc.lock").read_text() == "stages: {}\n"


@pytest.fixture
def prepared(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing but the stage itself is done."""
    for module, name in ((preflight, "check"), (plan, "check_disk"), (launcher, "use_threads"), (timings, "note")):
        monkeypatch.setattr(module, name, lambda *_, **__: None)
    monkeypatch.setattr(launcher, "_keep_lock", lambda: None)
    monkeypatch.setattr(sys, "argv", ["stage", "v"])
    monkeypatch.chdir(ROOT)


def test_a_time_that_cannot_be_kept_does_not_fail_what_is_done(prepared: None, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(timings, "note", full)
    launcher.main(lambda variant, config: done.append(variant))
    assert done == ["v"]


@pytest.fixture
def interruptible() -> Iterator[None]:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    assert signal.signal(signal.SIGINT, before) is signal.default_int_handler


def test_ctrl_c_of_which_a_library_makes_another_error(prepared: None, interruptible: None) -> None:
    """As matplotlib does while it resamples an image."""

    def stage(variant: str, config: object) -> None:
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            raise ValueError("Invalid affine transformation matrix") from None

    with pytest.raises(SystemExit) as ended:
        launcher.main(stage)
    assert ended.value.code == INTERRUPTED


def test_an_error_without_ctrl_c_is_none(prepared: None, interruptible: None) -> None:
    def stage(variant: str, config: object) -> None:
        raise ValueError("no transformation")

    with pytest.raises(ValueError, match="no transformation"):
        launcher.main(stage)
