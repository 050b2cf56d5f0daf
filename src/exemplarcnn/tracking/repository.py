"""Find the repository: its root, which is DVC's, and the commit that results belong to."""

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
    """Return the root of DVC's repository, the same for stages and commands; git's root may be above it.

    Inside ``dvc exp run --temp`` and queues, where the working folder is a temporary one, ``DVC_ROOT`` names the main
    repository. Otherwise it is the nearest folder upwards with a ``.dvc``, found as DVC finds it; if there is none,
    the working folder.
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
    """Return the commit that results belong to; empty if git names none, which is logged once."""
    # A DVC experiment runs on a commit that DVC makes; people know the one it started from.
    return os.environ.get("DVC_EXP_BASELINE_REV") or _git("rev-parse", "--verify", "HEAD") or ""


def clean() -> bool:
    """Say whether nothing that results depend on has changed since the commit; false if git cannot tell."""
    return _git("status", "--porcelain", "--", *SOURCES) == ""


def state() -> str:
    """Say in words which commit this is, and whether something has changed since."""
    if not (known := commit()):
        return "none"
    return known if clean() else f"{known}, with changes since"


def _git(*words: str) -> str | None:
    """Return what git prints; None if it refuses or cannot be started."""
    # In English, since git's reasons are recognised by their words.
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
    first = (said.splitlines() or ["it failed without a message"])[0].removeprefix("fatal: ").rstrip(":")
    if "dubious ownership" in said:
        # safe.directory needs the path as git's own line has it.
        path = first.partition("'")[2].rpartition("'")[0] or str(root())
        return f"{first}; if you trust its owner, run `git config --global --add safe.directory {shlex.quote(path)}`"
    if "not a git repository" in said:
        return f"{first}; work in a `git clone`, or run `git init`, `git add --all` and `git commit` here"
    if "single revision" in said:
        return "there is none yet; run `git add --all` and `git commit`"
    return first


@cache
def _say_once(text: str) -> None:
    """Log a line once per `dvc repro`, although each of its stages is a process of its own."""
    note, pipeline = root() / ".dvc" / "tmp" / "told", _pipeline()
    with suppress(OSError):  # without the note the line is logged again
        if pipeline and note.exists() and note.read_text(encoding="utf-8") == pipeline + text:
            return
        if pipeline:
            note.write_text(pipeline + text, encoding="utf-8")
    log.warning(text)


def _pipeline() -> str | None:
    """Return what identifies the `dvc repro` that this process belongs to; None if a person started it."""
    process = ancestor(lambda words: "dvc" in words[:3])
    return f"{process.pid} {process.create_time()} " if process else None


def ancestor(fits: Callable[[list[str]], bool]) -> Any:
    """Return the nearest ancestor process whose command line fits, its words without folders; None if none does."""
    import psutil

    for process in psutil.Process().parents():
        with suppress(psutil.Error, OSError):
            if fits([Path(word).name for word in process.cmdline()]):
                return process
    return None
