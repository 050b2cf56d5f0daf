"""Bad days, acted out: what is said, that nothing finished is lost, and that the next run continues."""

import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from .conftest import Project

# Every kind of stage that profile `tiny` has, the longest of its kind.
STAGES = [
    "audit",
    "seed@baseline",
    "colours@unlabeled",
    "surrogate@clustered",
    "train@clustered",
    "embed@clustered",
    "group@clustered",
    "outliers",
    "control@kmeans",
    "describe@random_network",
    "evaluate@kmeans",
    "report",
    "draw",
]


@pytest.fixture(scope="module")
def project(finished: Project) -> Project:
    """The finished project with its results committed, to be broken: every test leaves it whole."""
    finished.edit("src/exemplarcnn/tracking/store.py", "\nLOCKED_FOR = 10.0 ", "\nLOCKED_FOR = 1.0 ")
    finished.git("add", "-A")
    finished.git("-c", "user.name=test", "-c", "user.email=test@localhost", "commit", "-qm", "results", "--allow-empty")
    return finished


@pytest.fixture(autouse=True)
def whole_again(project: Project) -> Iterator[dict[str, str]]:
    """Everything is as it was after each test, hash by hash."""
    before = project.outs()
    yield before
    assert project.outs() == before


@pytest.fixture(scope="module", autouse=True)
def nothing_has_to_run(project: Project) -> Iterator[None]:
    """After all tests, everything is as it was byte by byte, and DVC too finds nothing to do."""
    yield
    assert project.run("exemplarcnn", "verify").returncode == 0
    assert project.repro() == []


def start(project: Project, *words: str, cold: bool = False) -> "subprocess.Popen[str]":
    """Start DVC in a group of processes of its own, as a terminal does; `cold`: with stages that import everything."""
    return subprocess.Popen(
        [sys.executable, "-m", "dvc", *words],
        cwd=project.folder,
        env=project.cold_environment if cold else project.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def stage_runs(project: Project) -> bool:
    """Whether a stage's own process is there, not only DVC's."""
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if "exemplarcnn.stages." in (entry / "cmdline").read_text() and (entry / "cwd").resolve() == project.folder:
                return True
        except OSError:
            continue
    return False


def wait_for_a_stage(project: Project, running: "subprocess.Popen[str]") -> None:
    begun = time.monotonic()
    while not stage_runs(project):
        assert running.poll() is None, running.communicate()[0]
        assert time.monotonic() - begun < 60
        time.sleep(0.02)


# Ctrl-C


@pytest.mark.parametrize("stage", STAGES)
def test_ctrl_c_in_each_stage(project: Project, stage: str, whole_again: dict[str, str]) -> None:
    times = json.loads((project.folder / "work/timings.json").read_text())
    interrupt(project, stage, 0.3 + times[stage]["seconds"] / 2)
    assert project.repro("-f", "-s", stage) == [stage]


@pytest.mark.parametrize("seconds", [0.1, 1.0])
def test_ctrl_c_while_libraries_are_imported(project: Project, seconds: float, whole_again: dict[str, str]) -> None:
    interrupt(project, "train@baseline", seconds, cold=True)
    assert project.repro("-f", "-s", "train@baseline") == ["train@baseline"]


def interrupt(project: Project, stage: str, seconds: float, cold: bool = False) -> None:
    """Run a stage and press Ctrl-C so many seconds after it was started."""
    before = project.outs()
    running = start(project, "repro", "-f", "-s", stage, cold=cold)
    wait_for_a_stage(project, running)
    time.sleep(seconds)
    os.killpg(running.pid, signal.SIGINT)
    said, _ = running.communicate(timeout=120)
    mend(project, before)
    if "Unable to read RWLock-file" in said:  # DVC could not read its own file afterwards
        return
    # DVC itself may have something to say of its own last moments.
    assert str(project.folder / "src") not in said, said
    if running.returncode == 0 or "Use `dvc push`" in said:  # it was faster than the signal; DVC's last words
        return
    # -2: the signal came before or after Python could act on it.
    assert "interrupted" in said.lower() or "exited with -2" in said, said


def mend(project: Project, before: dict[str, str]) -> None:
    """Do what docs/troubleshooting.md says where Ctrl-C caught DVC while it wrote a file of its own, now cut off."""
    locks = project.folder / ".dvc/tmp/rwlock"
    try:
        json.loads(locks.read_text())
    except ValueError:
        locks.unlink()
    try:
        whole = project.outs().keys() == before.keys()
    except (yaml.YAMLError, TypeError, KeyError):
        whole = False
    if not whole:
        shutil.copy(project.folder / "work/dvc.lock", project.folder / "dvc.lock")


# Two at once


def test_two_pipelines_at_once(project: Project, whole_again: dict[str, str]) -> None:
    first = start(project, "repro", "-f", "-s", "control@kmeans")
    wait_for_a_stage(project, first)
    second = project.dvc("repro", "-f", "-s", "control@kmeans", check=False)
    assert second.returncode != 0
    assert "is busy, it is being blocked by" in second.stderr
    assert f"(PID {first.pid})" in second.stderr
    assert first.wait(120) == 0, first.communicate()[0]
    assert project.outs() == whole_again


def test_a_lock_that_was_cut_off(project: Project, whole_again: dict[str, str]) -> None:
    """As Ctrl-C leaves it while DVC writes it."""
    assert project.repro("-f", "-s", "seed@baseline") == ["seed@baseline"]
    lock = project.folder / "dvc.lock"
    text = lock.read_text()
    assert (project.folder / "work/dvc.lock").read_text() == text, "its stage gave what it had given"
    lock.write_text(text[: len(text) // 2] + "\n    si")
    done = project.dvc("repro", "-s", "seed@baseline", check=False)
    assert "'./dvc.lock' is invalid" in done.stderr
    done = project.run("exemplarcnn", "log", check=False)
    assert "dvc.lock: not valid YAML: could not find expected ':'" in done.stderr
    assert "`cp work/dvc.lock dvc.lock` brings back that of before the last stage" in done.stderr
    project.run("cp", "work/dvc.lock", "dvc.lock")
    assert project.repro("-s", "seed@baseline") == []


# The store


class SilentServer:
    """Takes connections and never answers."""

    def __enter__(self) -> str:
        self.socket = socket.socket()
        self.socket.bind(("127.0.0.1", 0))
        self.socket.listen(100)
        return f"http://127.0.0.1:{self.socket.getsockname()[1]}"

    def __exit__(self, *_: object) -> None:
        self.socket.close()


def with_server_down(tmp_path: Path) -> Iterator[dict[str, str]]:
    yield {"MLFLOW_TRACKING_URI": "http://127.0.0.1:9"}


def with_silent_server(tmp_path: Path) -> Iterator[dict[str, str]]:
    with SilentServer() as uri:
        yield {"MLFLOW_TRACKING_URI": uri, "MLFLOW_HTTP_REQUEST_TIMEOUT": "1", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}


def with_corrupt_store(tmp_path: Path) -> Iterator[dict[str, str]]:
    (tmp_path / "mlflow.db").write_bytes(b"no database" * 1000)
    yield {"MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/mlflow.db"}
    assert (tmp_path / "mlflow.db").read_bytes() == b"no database" * 1000, "it is not ours to overwrite"


def with_locked_store(tmp_path: Path) -> Iterator[dict[str, str]]:
    with sqlite3.connect(tmp_path / "mlflow.db", isolation_level=None) as holder:
        holder.execute("create table held (x)")
        holder.execute("begin exclusive")
        yield {"MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/mlflow.db"}
        holder.execute("rollback")


def with_read_only_place(tmp_path: Path) -> Iterator[dict[str, str]]:
    yield {"MLFLOW_TRACKING_URI": "sqlite:////proc/mlflow.db"}


@pytest.mark.parametrize(
    "fault", [with_server_down, with_silent_server, with_corrupt_store, with_locked_store, with_read_only_place]
)
def test_a_store_that_fails_never_stops_a_stage(
    project: Project, tmp_path: Path, whole_again: dict[str, str], fault: Callable[[Path], Iterator[dict[str, Any]]]
) -> None:
    begun = time.monotonic()
    with contextmanager(fault)(tmp_path) as variables:
        done = project.run("dvc", "repro", "-f", "-s", "evaluate@raw_pixels", **variables)
        assert time.monotonic() - begun < 120
        assert "The work continues; later, `exemplarcnn log` sends what the store lacks" in done.stderr
        assert "Traceback" not in done.stderr, done.stderr
        assert project.outs() == whole_again
        later = project.run("exemplarcnn", "log", check=False, **variables)
        assert later.returncode == 1
        assert later.stderr.splitlines()[-1].startswith("error: MLflow store")
    # The store of the project, which is well, gets it all.
    assert "evaluate@raw_pixels: " in project.run("exemplarcnn", "log").stdout


# The disk


@contextmanager
def small_disk(folder: Path, room: int) -> Iterator[None]:
    """Mount a file system with so many bytes free on a folder; skip where that is not allowed."""
    folder.mkdir(parents=True, exist_ok=True)
    words = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if subprocess.run(words, capture_output=True).returncode:
        pytest.skip("mounting a small file system takes root")
    try:
        (folder / "filler").write_bytes(b"x" * (2**20 - room))
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.parametrize(
    ("stage", "folder"),
    [("surrogate@baseline", "work/surrogate"), ("embed@baseline", "features"), ("evaluate@baseline", "classifiers")],
)
def test_a_full_disk(project: Project, stage: str, folder: str, whole_again: dict[str, str]) -> None:
    place, aside = project.folder / folder, project.folder.parent / "aside"
    if place.exists():
        place.rename(aside)
    with small_disk(place, 16_384):
        done = project.dvc("repro", "-f", "-s", stage, check=False)
    if aside.exists():
        place.rmdir()
        aside.rename(place)
    assert done.returncode != 0
    assert "error: " in done.stderr
    assert "No space left on device" in done.stderr or "GB free; free some space" in done.stderr, done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    assert project.repro("-f", "-s", stage) == [stage]
    assert project.outs() == whole_again


# DVC's cache and lock


def damage(project: Project, path: str, name: str) -> Path:
    """Turn one bit of a result's object in the cache, as a disk may, and take the result away."""
    lock = yaml.safe_load((project.folder / "dvc.lock").read_text())
    (md5,) = (out["md5"] for stage in lock["stages"].values() for out in stage["outs"] if out["path"] == path)
    cache = project.folder / ".dvc/cache/files/md5"
    listing = json.loads((cache / md5[:2] / md5[2:]).read_text())
    (inner,) = (entry["md5"] for entry in listing if entry["relpath"] == name)
    stored: Path = cache / inner[:2] / inner[2:]
    content = bytearray(stored.read_bytes())
    content[-1] ^= 1
    mode = stored.stat().st_mode
    stored.unlink()
    stored.write_bytes(content)
    stored.chmod(mode)
    shutil.rmtree(project.folder / path)
    return stored


def test_a_damaged_object_in_the_cache(project: Project, whole_again: dict[str, str]) -> None:
    stored = damage(project, "models/baseline", "weights.safetensors")
    project.dvc("checkout", "-q", "models/baseline")
    # DVC trusts what is write-protected: this is what `verify` is for.
    assert project.repro("train@baseline") == []
    done = project.run("exemplarcnn", "verify", check=False)
    assert done.returncode == 1
    assert f"damaged in DVC's cache: {stored}" in done.stderr
    assert "not as recorded: models/baseline/weights.safetensors (of models/baseline)" in done.stderr
    assert "`exemplarcnn verify --repair`" in done.stderr
    project.run("exemplarcnn", "verify", "--repair")
    assert project.repro("embed@baseline") == ["train@baseline"]
    assert project.outs() == whole_again


def test_an_object_that_is_gone_from_the_cache(project: Project, whole_again: dict[str, str]) -> None:
    damage(project, "models/baseline", "weights.safetensors").unlink()
    done = project.dvc("checkout", "models/baseline", check=False)
    assert "Checkout failed" in done.stderr
    assert project.repro("embed@baseline") == ["train@baseline"]
    assert project.outs() == whole_again


def test_verify_leaves_what_somebody_has_changed(project: Project) -> None:
    file = project.folder / "metrics/baseline/eval.json"
    before = file.read_text()
    file.write_text(before + " ")
    done = project.run("exemplarcnn", "verify", "--repair")
    assert "not as recorded: metrics/baseline/eval.json" in done.stderr
    assert file.read_text() == before + " "
    file.write_text(before)


def test_a_lock_from_another_branch(project: Project, whole_again: dict[str, str]) -> None:
    lock = project.folder / "dvc.lock"
    mine = lock.read_text()
    project.change(lambda values: values["train"].update(epochs=1))
    assert "train@baseline" in project.repro("evaluate@baseline")
    theirs = lock.read_text()
    assert theirs != mine
    # The parameters of this branch, the lock of the other.
    project.reset()
    said = project.run("exemplarcnn", "log").stdout
    assert "train@baseline: params.yaml says train.epochs: 2, but train@baseline ran with 1" in said
    done = project.run("exemplarcnn", "register", "baseline", check=False)
    assert "cannot register baseline: evaluate@baseline: params.yaml says train.epochs: 2" in done.stderr
    # With its own lock and figures back, nothing runs; left with the other's, DVC builds the same results again.
    project.git("checkout", "-q", "dvc.lock", "metrics", "reports")
    project.dvc("checkout", "-q")
    assert project.repro() == []
    lock.write_text(theirs)
    assert "evaluate@baseline" in project.repro()  # the network comes from DVC's cache
    assert project.outs() == whole_again
