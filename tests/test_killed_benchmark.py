"""benchmarks/killed.py kills all that a stage has started, and tells results apart that are not as before."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from exemplarcnn.files import write_json
from tests.conftest import ROOT

NOTE = {"seconds": 20.0, "memory": 0, "ended": "2026-01-01T00:00:00+00:00"}
# What takes the place of DVC: a stage that takes 20 s the first time, and makes what dvc.lock then names.
DVC = """
import subprocess, sys, time
from pathlib import Path
if not Path("begun").exists():
    Path("begun").touch()
    subprocess.run([sys.executable, "-c", "import time; time.sleep(20)", "exemplarcnn.stages.embed"])
Path("dvc.lock").write_text(Path("next.lock").read_text())
"""


@pytest.fixture
def killed(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import killed

    return killed


def lock_file(md5: str) -> str:
    return yaml.safe_dump({"stages": {"embed@x": {"outs": [{"path": "features/x", "md5": md5}]}}})


@pytest.fixture
def folder(killed: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "dvc.lock").write_text(lock_file("1"))
    (tmp_path / "next.lock").write_text(lock_file("1"))
    (tmp_path / "data.dvc").touch()
    (tmp_path / "origin.json").write_text("{}")
    (tmp_path / "work").mkdir()
    write_json(tmp_path / "work" / "timings.json", {"embed@x": NOTE})

    def start(workspace: Any, *words: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen([sys.executable, "-c", DVC], cwd=workspace.folder)

    monkeypatch.setattr(killed.Workspace, "start", start)
    monkeypatch.setattr(killed.random.Random, "uniform", lambda self, low, high: 0.025)
    return tmp_path


def run(killed: Any, monkeypatch: pytest.MonkeyPatch, *words: str) -> None:
    monkeypatch.setattr(sys, "argv", ["killed.py", *words])
    killed.main()


def test_a_stage_is_killed_and_run_again(killed: Any, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    start = time.monotonic()
    run(killed, monkeypatch, str(folder))
    assert time.monotonic() - start < 15
    line = json.loads((folder / "killed.json").read_text())["embed@x"]
    assert line["killed after"] == 0.5
    assert line["same"]


def test_another_result_is_an_error(
    killed: Any, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "next.lock").write_text(lock_file("2"))
    with pytest.raises(SystemExit, match="embed@x made something else"):
        run(killed, monkeypatch, str(folder))
    # What was shown is kept, and so is the hash that was expected.
    with pytest.raises(SystemExit, match="embed@x made something else"):
        run(killed, monkeypatch, str(folder))
    shown = json.loads(capsys.readouterr().out.splitlines()[-1])["stages"]
    assert shown[0]["hashes"] == {"features/x": "1"}


def test_a_stage_that_ends_before_it_is_killed_shows_nothing(
    killed: Any, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "begun").touch()
    with pytest.raises(SystemExit, match=r"embed@x ended with status 0 within 0\.5 s, before it was killed"):
        run(killed, monkeypatch, str(folder))


def test_all_descendants_are_killed(killed: Any) -> None:
    script = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'import time; time.sleep(60)'])"
    with subprocess.Popen([sys.executable, "-c", script]) as started:
        while len(family := killed.family(started)) < 2:
            time.sleep(0.01)
        assert killed.kill(started, 0)
        assert not any(map(killed.lives, family))


def test_a_signal_to_a_process_that_has_ended(killed: Any) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as started:
        process = killed.family(started)[0]
        started.kill()
        started.wait()
        killed.send(process, signal.SIGSTOP)
        assert not killed.lives(process)


def test_a_process_that_has_ended_is_not_killed(killed: Any) -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as started:
        assert not killed.kill(started, 60)


def test_a_folder_in_which_nothing_has_run(killed: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SystemExit, match=r"nothing has run in .*; run stl10\.py with --work"):
        run(killed, monkeypatch, str(tmp_path))


def test_a_stage_that_has_not_run(
    killed: Any, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        run(killed, monkeypatch, str(folder), "--only", "embed@y")
    assert "no embed@y has run in" in capsys.readouterr().err
