"""The commit that results belong to, and what is said where git names none."""

import logging
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from exemplarcnn.tracking import repository, runs
from tests.tracking.test_runs import commit
from tests.tracking.test_runs import repository as make


@pytest.fixture(autouse=True)
def unsaid(folder: Path, caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """What was said in another test is said again."""
    repository._say_once.cache_clear()
    yield
    repository._say_once.cache_clear()


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


def refusing(folder: Path, monkeypatch: pytest.MonkeyPatch, line: str) -> None:
    """Put a git first on the path that prints a line and fails."""
    script = folder / "bin" / "git"
    script.parent.mkdir()
    script.write_text(f'#!/bin/sh\necho "{line}" >&2\nexit 128\n')
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{script.parent}:/usr/bin:/bin")


def test_a_clean_commit(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    head = make(folder)
    assert (repository.commit(), repository.clean(), repository.state()) == (head, True, head)
    (folder / "params.yaml").write_text("a: 1")
    assert (repository.clean(), repository.state()) == (False, f"{head}, with changes since")
    (folder / "params.yaml").unlink()
    (folder / "notes").write_text("no result depends on it")
    assert repository.clean()
    assert said(caplog) == []


def test_git_that_refuses_a_folder_is_told_once_with_what_to_type(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    refusing(folder, monkeypatch, "fatal: detected dubious ownership in repository at '/srv/other one'")
    assert (repository.commit(), repository.clean(), repository.state()) == ("", False, "none")
    assert runs._marks() == {}
    assert said(caplog) == [
        "git names no commit: detected dubious ownership in repository at '/srv/other one'; if you trust its owner, "
        "run `git config --global --add safe.directory '/srv/other one'`. Runs and the page name no commit until this "
        "is fixed; the work continues."
    ]


def test_all_stages_of_one_pipeline_tell_it_once(folder: Path) -> None:
    """Each is a process of its own; the next `dvc repro` tells it again."""
    (folder / ".dvc" / "tmp").mkdir(parents=True, exist_ok=True)
    (folder / "bin").mkdir()
    pipeline = folder / "bin" / "dvc"
    stage = f"{shlex.quote(sys.executable)} -c 'from exemplarcnn.tracking import repository; repository.commit()'"
    pipeline.write_text(f"#!/bin/sh\n{stage}\n{stage}\n")
    pipeline.chmod(0o755)
    for _ in range(2):
        done = subprocess.run([pipeline], cwd=folder, capture_output=True, text=True, check=True)
        assert done.stderr.count("not a git repository") == 1
    assert subprocess.run(stage, shell=True, cwd=folder, capture_output=True, text=True).stderr.count("git") > 0


def test_git_really_refuses_with_these_words(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(folder)
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    monkeypatch.setenv("LC_ALL", "C")
    done = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True)
    assert f"safe.directory {shlex.quote(str(folder.resolve()))}" in repository._why(done.stderr)


@pytest.mark.parametrize(
    ("case", "words"),
    [
        ("no repository", "not a git repository (or any of the parent directories): .git; work in a `git clone`, or"),
        ("no commit", "there is none yet; run `git add --all` and `git commit`"),
        ("no git", "git cannot be started: No such file or directory; install it"),
    ],
)
def test_nothing_is_clean_without_a_commit(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, case: str, words: str
) -> None:
    if case == "no commit":
        subprocess.run(["git", "init", "-q", str(folder)], check=True)
    if case == "no git":
        monkeypatch.setenv("PATH", str(folder))
    for _ in range(2):
        assert repository.commit() == ""
        assert runs._marks() == {}
    (line,) = said(caplog)
    assert words in line


def test_an_experiment_names_the_commit_that_it_started_from(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(folder)
    head = commit(folder)
    monkeypatch.setenv("DVC_EXP_BASELINE_REV", head)
    assert repository.commit() == head


def test_the_root_is_not_looked_for_above_a_mount(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As DVC does, which would find no repository there either."""
    (folder / ".dvc").mkdir()
    below = folder / "mounted" / "below"
    below.mkdir(parents=True)
    monkeypatch.chdir(below)
    assert repository.root() == folder.resolve()
    monkeypatch.setattr(Path, "is_mount", lambda self: self.name == "mounted")
    assert repository.root() == below.resolve()
