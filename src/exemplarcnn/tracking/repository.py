"""The repository that the work is done in: its root, which is DVC's, and the commit that results belong to."""

import logging
import os
import shlex
import subprocess
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

# What results depend on.
SOURCES = ("params.yaml", "dvc.yaml", "data.dvc", "src")
NO_COMMIT = "Runs and the page name no commit until this is fixed; the work continues."

log = logging.getLogger(__name__)


def root() -> Path:
    """Return the root of DVC's repository, for stages and commands alike: git's may lie above it.

    ``DVC_ROOT`` tells the main one inside ``dvc exp run --temp`` and queues, where the working folder is a temporary
    one. Else it is the next folder upwards with a ``.dvc``, looked for as DVC does; without one the working folder.
    """
    if told := os.environ.get("DVC_ROOT"):
        return Path(told).resolve()
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / ".dvc").is_dir():
            return folder
        if folder.is_mount():
            break
    return here


def commit() -> str:
    """Return the commit that results belong to, or an empty string where git names none, which is said once."""
    # An experiment of DVC runs on a commit of its own making; the one it started from is the one that people know.
    return os.environ.get("DVC_EXP_BASELINE_REV") or _git("rev-parse", "--verify", "HEAD") or ""


def clean() -> bool:
    """Say whether git knows that the commit has what results depend on: nothing of it was changed since."""
    return _git("status", "--porcelain", "--", *SOURCES) == ""


def state() -> str:
    """Return the commit as people read it, and whether something was changed since."""
    if not (known := commit()):
        return "none"
    return known if clean() else f"{known}, with changes since"


def _git(*words: str) -> str | None:
    """Return what git prints, or None where it refuses or is not there."""
    # In English: what git refuses for is told apart by its words.
    english = os.environ | {"LC_ALL": "C"}
    try:
        done = subprocess.run(["git", *words], capture_output=True, text=True, errors="replace", env=english)
    except OSError as error:
        _say_once(f"git cannot be started: {error.strerror}; install it. {NO_COMMIT}")
        return None
    if done.returncode == 0:
        return done.stdout.strip()
    _say_once(f"git names no commit: {_why(done.stderr)}. {NO_COMMIT}")
    return None


def _why(said: str) -> str:
    first = (said.splitlines() or ["it failed without a word"])[0].removeprefix("fatal: ").rstrip(":")
    if "dubious ownership" in said:
        # The path in git's own line is the one that git wants to hear.
        path = first.partition("'")[2].rpartition("'")[0] or str(root())
        return (
            f"{first}; if you trust whom it belongs to, `git config --global --add safe.directory {shlex.quote(path)}`"
        )
    if "not a git repository" in said:
        return f"{first}; work in a `git clone`, or `git init`, `git add --all` and `git commit` here"
    if "single revision" in said:
        return "there is none yet; `git add --all` and `git commit`"
    return first


@cache
def _say_once(text: str) -> None:
    """Say a line once: in all stages of one `dvc repro` together, each of which is a process of its own."""
    note, pipeline = root() / ".dvc" / "tmp" / "told", _pipeline()
    with suppress(OSError):  # without the note the line is said again
        if pipeline and note.exists() and note.read_text(encoding="utf-8") == pipeline + text:
            return
        if pipeline:
            note.write_text(pipeline + text, encoding="utf-8")
    log.warning(text)


def _pipeline() -> str | None:
    """Tell one `dvc repro` from another, for what works in it; None for what a person started."""
    process = ancestor(lambda words: "dvc" in words[:3])
    return f"{process.pid} {process.create_time()} " if process else None


def ancestor(fits: Callable[[list[str]], bool]) -> Any:
    """Return the nearest process above this one whose command line, its words without folders, fits; or None."""
    import psutil

    for process in psutil.Process().parents():
        with suppress(psutil.Error, OSError):
            if fits([Path(word).name for word in process.cmdline()]):
                return process
    return None
