"""What the stages of a workspace took when their results were made, whatever was killed since.

DVC restores results, but not times, and the project's own note of times holds the last run of each stage alone. So
times are kept in times.json, by what the results depend on. Where a stage went on from a checkpoint, they add up: what
the killed run took up to its last write, and what the later one took.
"""

import json
import shutil
import time
from functools import reduce
from operator import getitem
from pathlib import Path
from typing import Any

import pandas as pd

from _common import Workspace
from exemplarcnn import paths
from exemplarcnn.files import digest_of, read_mapping, write_json
from exemplarcnn.tracking import timings

FILE = "times.json"


def begin(workspace: Workspace, trial: str, alone: bool) -> set[str]:
    """Note that stages will run for a trial; return those that may go on with unfinished work of an earlier run."""
    state = settle(workspace)
    for stage, (folder, _) in unfinished(workspace).items():
        # A training refuses a checkpoint of other settings, but other stages may keep such work or begin anew, and
        # nothing says which. They are short.
        if state["trial"] != trial and not stage.startswith("train@"):
            shutil.rmtree(folder)
    left = {stage: state["left"].get(stage) for stage in unfinished(workspace)}
    write_json(workspace.folder / FILE, state | {"left": left, "trial": trial, "alone": alone, "begun": time.time()})
    return set(left)


def settle(workspace: Workspace) -> dict[str, Any]:
    """Keep what the stages took that have ended since the last `begin`, also in a killed process; return all times."""
    # `stages`: seconds by `key`. `left`: seconds spent on unfinished work, by stage; None if not known. The others are
    # of the run that began last; `begun` is None once it was settled.
    state: dict[str, Any] = {"stages": {}, "left": {}, "trial": None, "alone": True, "begun": None}
    if (file := workspace.folder / FILE).exists():
        state = json.loads(file.read_text())
    if state["begun"] is None:
        return state
    stages, left, since = locked(workspace), dict(state["left"]), state["begun"]
    for stage, entry in workspace.json(timings.PLACE).items() if stages else ():
        ended = pd.Timestamp(entry["ended"]).timestamp()
        if ended < state["begun"] - 1:  # noted in whole seconds
            continue
        since = max(since, ended)
        before = left.pop(stage, 0.0)
        if stage in stages and before is not None:
            about = {"seconds": round(entry["seconds"] + before, 1), "alone": state["alone"]}
            # What is known stays: killed before DVC noted the stage, dvc.lock still names what it made before.
            state["stages"].setdefault(key(stage, stages[stage]), about)
    for stage, (_, written) in unfinished(workspace).items():
        if (before := left.get(stage, 0.0)) is not None:
            left[stage] = before + max(0.0, written - since)
    state |= {"left": left, "begun": None}
    write_json(file, state)
    return state


def forget(workspace: Workspace) -> None:
    """Remove the checkpoints of trainings: one that failed would keep all others of its variant from running."""
    for stage, (folder, _) in unfinished(workspace).items():
        if stage.startswith("train@"):
            shutil.rmtree(folder)


def took(workspace: Workspace, row: str) -> dict[str, dict[str, Any] | None]:
    """Return seconds, and whether nothing ran beside, of each stage that a row needs; None where that is not known.

    Empty if dvc.lock is not of the parameters in the folder: another trial has run since. Names end with what tells
    apart the runs of one stage.
    """
    known, stages = settle(workspace)["stages"], locked(workspace)
    names = sorted(needed(stages, row)) if f"evaluate@{row}" in stages else []
    values = read_mapping(workspace.folder / paths.PARAMS)
    if not all(_holds(values, stages[name].get("params", {}).get(paths.PARAMS.name, {})) for name in names):
        return {}
    keys = {name: key(name, stages[name]) for name in names}
    return {f"{name} {made[:8]}": known.get(made) for name, made in keys.items()}


def whole(workspace: Workspace) -> dict[str, dict[str, Any]]:
    """Return what `Workspace.took` does, with the seconds of killed runs, where they are known."""
    known, stages = settle(workspace)["stages"], locked(workspace)
    keys = {stage: key(stage, entry) for stage, entry in stages.items()}
    return {
        stage: entry | {"seconds": known.get(keys.get(stage), entry)["seconds"]}
        for stage, entry in workspace.took().items()
    }


def needed(stages: dict[str, Any], row: str) -> set[str]:
    """Return the stages of dvc.lock that the evaluation of a row needs, itself included."""
    makers = {out["path"]: stage for stage, entry in stages.items() for out in entry.get("outs", [])}
    found, left = set(), [f"evaluate@{row}"]
    while left:
        stage = left.pop()
        if stage in found:
            continue
        found.add(stage)
        for dep in stages[stage].get("deps", []):
            left += [maker for path, maker in makers.items() if Path(dep["path"]).is_relative_to(path)]
    return found


def locked(workspace: Workspace) -> dict[str, Any]:
    """Return the stages of dvc.lock."""
    file = workspace.folder / "dvc.lock"
    stages: dict[str, Any] = read_mapping(file)["stages"] if file.exists() else {}
    return stages


def key(stage: str, entry: dict[str, Any]) -> str:
    """Return a hash of what a stage's results depend on."""
    return digest_of([stage, entry.get("deps"), entry.get("params")])


def unfinished(workspace: Workspace) -> dict[str, tuple[Path, float]]:
    """Return the folders of unfinished work by stage, and when each was last written to, in seconds since 1970."""
    found = {}
    for folder in sorted((workspace.folder / paths.WORK).glob("*/*")):
        if files := [path.stat().st_mtime for path in folder.rglob("*") if path.is_file()]:
            found[f"{folder.parent.name}@{folder.name}"] = folder, max(files)
    return found


def _holds(values: dict[str, Any], params: dict[str, Any]) -> bool:
    """Say whether nested parameters have the values that dvc.lock has for dotted keys."""
    try:
        return all(reduce(getitem, name.split("."), values) == value for name, value in params.items())
    except KeyError:
        return False
