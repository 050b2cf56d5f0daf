"""Trials, which search.py and rivals.py run: a row of the pipeline with some parameters, or a ResNet-18.

A YAML file maps the name of each to `profile`, `row` (an entry of `variants.evaluate`), `seed` (default 0) and `set`, a
mapping from dotted keys of params.yaml to values; `like: NAME` starts from another one. With `simclr` instead, a
mapping of settings in _simclr.py, a ResNet-18 is trained by SimCLR on the same pool.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

import _times
from _common import Workspace, evaluated, result_file
from exemplarcnn import paths
from exemplarcnn.config.params import load
from exemplarcnn.data import stl10
from exemplarcnn.errors import PipelineError
from exemplarcnn.files import digest, digest_of, read_table, write_json
from stl10 import suit

# The same for all trials, whatever their profiles say.
EVALUATION = {
    "protocols": [{"name": "folds", "labels": "folds", "classifier": "svm"}],
    "C": [0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0],
}


def asked(parser: argparse.ArgumentParser, file: Path, only: list[str] | None) -> tuple[dict[str, Any], list[str]]:
    """Return the trials of a file, and the names of those to run; end with an error if one is not there."""
    trials: dict[str, dict[str, Any]] = yaml.safe_load(file.read_text())
    names = only or list(trials)
    if unknown := set(names) - set(trials):
        parser.error(f"{file} has no {', '.join(sorted(unknown))}")
    return trials, names


def resolved(trials: dict[str, dict[str, Any]], name: str) -> dict[str, Any]:
    """Return a trial with what it takes over from others."""
    trial = trials[name]
    if unknown := set(trial) - {"like", "profile", "row", "seed", "set", "simclr"}:
        sys.exit(f"error: trial {name} has {', '.join(sorted(unknown))}; correct the spelling")
    start = resolved(trials, trial["like"]) if "like" in trial else {"seed": 0}
    own = {key: value for key, value in trial.items() if key != "like"}
    both = {key: start.get(key, {}) | own.get(key, {}) for key in ("set", "simclr") if key in start or key in own}
    found = start | own | both
    if "simclr" in found and {"profile", "row", "set"} & set(found):
        sys.exit(f"error: trial {name} has a profile and simclr; make two of it")
    return found if "simclr" in found else {"set": {}} | found


def put(values: dict[str, Any], changes: dict[str, Any]) -> None:
    """Set dotted keys, each of which must be there, or be a new entry of a mapping that is."""
    for key, value in changes.items():
        *parents, last = key.split(".")
        place = values
        for name in parents:
            place = place[name]
        place[last] = value


def prepare(workspace: Workspace, trial: dict[str, Any]) -> list[str]:
    """Write the parameters of a trial; return what the size of the pool changed before the trial's own settings."""
    changed: list[str] = []
    # Of the parameters, a ResNet depends on the seed and the evaluation.
    workspace.use(trial.get("profile", "core"), trial["seed"])
    workspace.edit(lambda values: values["evaluate"].update(EVALUATION))
    if "row" in trial:
        pool_size = len(stl10.open_pool(workspace.folder / "data", "unlabeled"))
        workspace.edit(lambda values: changed.extend(suit(values, pool_size)))
        workspace.edit(lambda values: put(values, trial["set"]))
    return changed


def check(workspace: Workspace, trials: dict[str, dict[str, Any]], names: Iterable[str]) -> dict[str, str]:
    """Return the identity of each trial, as `about`; end with an error if one cannot be run, before any runs."""
    found = {}
    for name in names:
        trial = resolved(trials, name)
        try:
            prepare(workspace, trial)
            config = load(workspace.folder / paths.PARAMS)
            if "simclr" in trial:
                _simclr().Settings(**trial["simclr"])
            elif trial["row"] not in config.variants.evaluate:
                raise KeyError(trial["row"])
        except (PipelineError, KeyError, TypeError) as error:
            sys.exit(f"error: trial {name}: {type(error).__name__}: {error}")
        found[name] = about(workspace, trial)["identity"]
    return found


def about(workspace: Workspace, trial: dict[str, Any]) -> dict[str, str]:
    """Return hashes of what a prepared trial's results depend on: parameters, data and code; these, and what runs."""
    parameters = workspace.identity()
    script = Path(__file__).with_name("_simclr.py")
    own = [trial["row"]] if "row" in trial else [trial["simclr"], digest(script)]
    return {"parameters": parameters, "identity": digest_of([parameters, *own])[:16]}


def run(workspace: Workspace, trial: dict[str, Any], identity: str, alone: bool) -> dict[str, Any]:
    """Run what is prepared, unless that is done; return its figures, of a trial that fails only that."""
    file = workspace.folder / "found" / f"figures-{identity}.json"
    if not file.exists():
        run_one = run_row if "row" in trial else run_resnet
        try:
            figures = run_one(workspace, trial, identity, alone)
        except (subprocess.CalledProcessError, PipelineError) as error:
            print(f"error: {error}", file=sys.stderr)
            return {"failed": True, "minutes": None}
        write_json(file, figures)
        if "row" in trial:
            # Patches and features are gigabytes. What dvc.lock names stays for the next trial.
            workspace.dvc("gc", "--workspace", "--force", "-q")
    found: dict[str, Any] = json.loads(file.read_text())
    return found


def run_row(workspace: Workspace, trial: dict[str, Any], identity: str, alone: bool) -> dict[str, Any]:
    """Run a row of the pipeline; return its figures."""
    row = trial["row"]
    going_on = _times.begin(workspace, identity, alone)
    try:
        right = evaluated(workspace, row)["right"]
    except subprocess.CalledProcessError:
        _times.forget(workspace)
        if not any(stage.startswith("train@") for stage in going_on):
            raise
        # A trial that was killed and then changed has left a checkpoint that is refused.
        return run_row(workspace, trial, identity, alone)
    took = _times.took(workspace, row)
    known = [entry for entry in took.values() if entry is not None]
    figures = accuracy(right) | {"failed": False, "minutes": None, "alone": all(entry["alone"] for entry in known)}
    figures["seconds"] = {stage: entry and entry["seconds"] for stage, entry in took.items()}
    if not took:
        # Killed before the figures were kept, and another trial has run since: what lies in the folder is of that one.
        return figures
    if len(known) == len(took):
        figures["minutes"] = round(sum(entry["seconds"] for entry in known) / 60, 2)
    chosen = workspace.json(paths.classifiers(row) / "search.json")
    figures["ends"] = at_ends(chosen["C"], chosen["grid"])
    if (file := workspace.folder / paths.learning_curve(row)).exists():  # controls have none
        curve = read_table(file, integers=["step"]).iloc[-1]
        figures |= {name: float(curve[name]) for name in ("step", "train_loss", "valid_loss", "valid_accuracy")}
    return figures


def run_resnet(workspace: Workspace, trial: dict[str, Any], identity: str, alone: bool) -> dict[str, Any]:
    """Train and evaluate a ResNet-18; return its figures."""
    found = resnet_result(workspace, trial)
    seconds = round(float(found["seconds"]), 1)
    figures = accuracy(found["right"]) | {"failed": False, "minutes": round(seconds / 60, 2), "alone": alone}
    figures |= {"seconds": {f"resnet {identity[:8]}": seconds}, "step": trial["simclr"]["steps"]}
    return figures | {"ends": at_ends(found["C"].tolist(), EVALUATION["C"])}


def resnet_result(workspace: Workspace, trial: dict[str, Any]) -> dict[str, Any]:
    """Return what `_simclr.result` does for a trial."""
    found: dict[str, Any] = _simclr().result(workspace.folder, workspace.identity(), trial["simclr"])
    return found


def rights(workspace: Workspace, line: dict[str, Any]) -> NDArray[np.bool_] | None:
    """Return which images a trial gets right; None if it has not run in this folder."""
    trial = line["trial"]
    if "row" in trial:
        file = result_file(workspace, line["parameters"], trial["row"])
    else:
        file = _simclr().file_of(workspace.folder, line["parameters"], trial["simclr"])
    return np.asarray(np.load(file, allow_pickle=False)["right"]) if file.exists() else None


def accuracy(right: NDArray[np.bool_]) -> dict[str, Any]:
    """Return mean and standard deviation over the folds, in percent."""
    return {"accuracy": 100 * float(right.mean()), "std": 100 * float(right.mean(axis=1).std())}


def at_ends(chosen: list[float], grid: Any) -> int:
    """Return how many folds chose an end of the grid: beyond it there may be a better C."""
    return sum(value in (min(grid), max(grid)) for value in chosen)


def hours(found: Iterable[dict[str, Any]]) -> str:
    """Say what trials took in all; what several share counts once."""
    found = list(found)
    seconds = {stage: took for line in found for stage, took in line.get("seconds", {}).items() if took is not None}
    text = f"{sum(seconds.values()) / 3600:.1f} hours in all; what several share counts once"
    missing = sum(line["minutes"] is None for line in found)
    return text + (f"; without parts of {missing} whose time is not known" if missing else "")


def _simclr() -> Any:
    """Import what needs lightly, which only some trials do."""
    import _simclr

    return _simclr
