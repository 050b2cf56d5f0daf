"""Try recipes for a budget of minutes, and choose among them by training labels alone.

    python benchmarks/search.py FOLDER TRIALS.yaml [--images OTHER] [--only NAME ...]
    python benchmarks/search.py FOLDER TRIALS.yaml --show     # the table of what was tried; runs nothing

FOLDER has the training images and labels of STL-10; its test files are never opened and may be missing. 2,000 of the
training images are held out in place of the test set. The other 3,000 are the training set, with ten class-balanced
folds of 1,000, and without their labels, with the images of OTHER, the pool. TRIALS.yaml maps the name of each trial to
`profile`, `row` (an entry of `variants.evaluate`), `seed` (default 0) and `set`, a mapping from dotted keys of
params.yaml to values; `like: NAME` starts from another trial. A trial with `simclr` instead, a mapping of settings in
_simclr.py, trains a ResNet-18 by SimCLR on the same pool.

Each trial's line of JSON is appended to --log as soon as it is done: what was tried, what the size of the pool changed,
the accuracy (mean over the folds, on the 2,000), the gain over the trial that it is like, with a 95 % interval over
these images, the seconds of the stages that the row needs, and the last figures of its training. Minutes are the sum of
these seconds: without the start of processes and DVC's own work, and with 5,000 labelled images to embed instead of
STL-10's 13,000. A stage that another trial has run counts with the time that it took then. Where a stage was
interrupted, minutes are missing. A trial with a line is not run again, unless parameters, data or code have changed.
"""

import argparse
import json
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from numpy.typing import NDArray

from _common import ROOT, Workspace, bootstrap_difference, evaluated, finish, result_file
from exemplarcnn import paths
from exemplarcnn.data import stl10
from exemplarcnn.files import digest, digest_of, read_table, write_json
from stl10 import make_pool, stand_in_folds, suit

HELD_OUT, FOLD, SPLIT_SEED = 2000, 1000, 28


def fill(data: Path, source: Path, other: Path | None) -> None:
    """Split the training set of a folder into a training and a test set, and make a pool without the latter."""
    whole = stl10.ImageFile(source / "train_X.bin")
    labels = stl10.read_labels(source / "train_y.bin", len(whole))
    shutil.copy(source / "class_names.txt", data)
    inside, out = split(labels)
    make_pool(whole.batch(inside), labels[inside], data, other)
    for name, rows in (("train", inside), ("test", out)):
        stl10.write_images(data / f"{name}_X.bin", whole.batch(rows))
        stl10.write_labels(data / f"{name}_y.bin", labels[rows])
    stl10.write_folds(data / "fold_indices.txt", stand_in_folds(labels[inside], FOLD))


def split(labels: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the images that train, and those that are held out, as many of each class; a fixed seed draws them."""
    draw = np.random.Generator(np.random.PCG64(SPLIT_SEED))
    each = HELD_OUT // stl10.CLASSES
    out = np.concatenate([draw.choice(np.flatnonzero(labels == c), each, False) for c in range(stl10.CLASSES)])
    return np.setdiff1d(np.arange(len(labels)), out), np.sort(out)


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


def prepare(workspace: Workspace, trial: dict[str, Any]) -> list[str]:
    """Write the parameters of a trial; return what the size of the pool changed before the trial's own settings."""
    if "simclr" in trial:
        return []
    workspace.use(trial["profile"], trial["seed"])
    pool_size = len(stl10.open_pool(workspace.folder / "data", "unlabeled"))
    changed: list[str] = []
    workspace.edit(lambda values: changed.extend(suit(values, pool_size)))
    workspace.edit(lambda values: put(values, trial["set"]))
    return changed


def run(workspace: Workspace, trial: dict[str, Any], identity: str, alone: bool) -> dict[str, Any]:
    """Run what is prepared, unless that is done; return its figures."""
    file = workspace.folder / "found" / f"figures-{identity}.json"
    if not file.exists():
        figures = run_simclr(workspace, trial, alone) if "simclr" in trial else run_row(workspace, trial["row"], alone)
        write_json(file, figures)
    found: dict[str, Any] = json.loads(file.read_text())
    return found


def run_row(workspace: Workspace, row: str, alone: bool) -> dict[str, Any]:
    """Run a row of the pipeline; return its figures."""
    if (file := result_file(workspace, workspace.identity(), row)).exists():
        # Killed before its figures were kept: what its stages took is no longer known, others may have run since.
        return accuracy(np.load(file, allow_pickle=False)["right"]) | {"minutes": None, "alone": alone}
    begun, mark = time.time(), workspace.folder / f"running-{workspace.identity()}-{row}"
    # As long as a row that was cut off is not finished, a stage may go on and take less than its whole time.
    cut_off = any(workspace.folder.glob("running-*"))
    mark.touch()
    try:
        right = evaluated(workspace, row)["right"]
    finally:
        keep_times(workspace, begun, {"alone": alone, "whole": not cut_off})
    stages = locked(workspace)
    times = known_times(workspace)
    took = {stage: times.get(key(stage, stages[stage])) for stage in sorted(needed(stages, row))}
    known = [entry for entry in took.values() if entry is not None]
    whole = len(known) == len(took) and all(entry["whole"] for entry in known)
    figures = accuracy(right)
    figures["minutes"] = round(sum(entry["seconds"] for entry in known) / 60, 2) if whole else None
    figures["alone"] = all(entry["alone"] for entry in known)
    figures["seconds"] = {stage: entry and entry["seconds"] for stage, entry in took.items()}
    if (file := workspace.folder / paths.learning_curve(row)).exists():  # controls have none
        curve = read_table(file, integers=["step"]).iloc[-1]
        figures |= {name: float(curve[name]) for name in ("step", "train_loss", "valid_loss", "valid_accuracy")}
    mark.unlink()
    return figures


def run_simclr(workspace: Workspace, trial: dict[str, Any], alone: bool) -> dict[str, Any]:
    """Train and evaluate a ResNet-18; return its figures."""
    found = simclr_result(workspace, trial)
    minutes = round(float(found["seconds"]) / 60, 2)
    return accuracy(found["right"]) | {"minutes": minutes, "alone": alone, "step": trial["simclr"]["steps"]}


def simclr_result(workspace: Workspace, trial: dict[str, Any]) -> dict[str, Any]:
    """Return what `_simclr.result` does for a trial."""
    import _simclr  # imports lightly, which only such trials need

    return _simclr.result(workspace.folder, workspace.code(), trial["simclr"], trial["seed"])


def simclr_file(workspace: Workspace, trial: dict[str, Any]) -> Path:
    """Return where `_simclr.result` keeps that."""
    import _simclr

    return _simclr.file_of(workspace.folder, workspace.code(), trial["simclr"], trial["seed"])


def accuracy(right: NDArray[np.bool_]) -> dict[str, Any]:
    """Return mean and standard deviation over the folds, in percent."""
    return {"accuracy": 100 * float(right.mean()), "std": 100 * float(right.mean(axis=1).std())}


def rights(workspace: Workspace, line: dict[str, Any]) -> NDArray[np.bool_] | None:
    """Return which images a trial gets right; None if this code has not run it in this folder."""
    if line["code"] != workspace.code():
        return None
    trial = line["trial"]
    if "simclr" in trial:
        file = simclr_file(workspace, trial)
    else:
        file = result_file(workspace, line["parameters"], trial["row"])
    return np.asarray(np.load(file, allow_pickle=False)["right"]) if file.exists() else None


def about(workspace: Workspace, trial: dict[str, Any]) -> dict[str, str]:
    """Return what the results of a prepared trial depend on: code, parameters and data, and all with the row."""
    found = {"code": workspace.code(), "parameters": "" if "simclr" in trial else workspace.identity()}
    script = Path(__file__).with_name("_simclr.py")
    parts = [found, trial["simclr"], trial["seed"], digest(script)] if "simclr" in trial else [found, trial["row"]]
    return found | {"identity": digest_of(parts)[:16]}


def locked(workspace: Workspace) -> dict[str, Any]:
    """Return the stages of dvc.lock."""
    file = workspace.folder / "dvc.lock"
    stages: dict[str, Any] = yaml.safe_load(file.read_text())["stages"] if file.exists() else {}
    return stages


def key(stage: str, entry: dict[str, Any]) -> str:
    """Return what a stage's results depend on."""
    return json.dumps([stage, entry.get("deps"), entry.get("params")], sort_keys=True)


def known_times(workspace: Workspace) -> dict[str, dict[str, Any]]:
    """Return what stages took when their results were made, by `key`."""
    file = workspace.folder / "times.json"
    found: dict[str, dict[str, Any]] = json.loads(file.read_text()) if file.exists() else {}
    return found


def keep_times(workspace: Workspace, begun: float, about: dict[str, Any]) -> None:
    """Keep what the stages took that have ended since: DVC may restore their results for another trial."""
    known, stages = known_times(workspace), locked(workspace)
    for stage, entry in workspace.took().items() if stages else ():
        if stage in stages and pd.Timestamp(entry["ended"]).timestamp() >= begun - 1:
            known[key(stage, stages[stage])] = about | {"seconds": entry["seconds"]}
    (workspace.folder / "times.json").write_text(json.dumps(known))


def gain_over(workspace: Workspace, line: dict[str, Any], other: dict[str, Any] | None) -> dict[str, float]:
    """Compare a trial with one that has run in this folder, if there is one: points, and the interval's ends."""
    if other is None:
        return {}
    mine, theirs = (rights(workspace, each) for each in (line, other))
    if mine is None or theirs is None:
        return {}
    return dict(zip(("gain", "low", "high"), bootstrap_difference(mine, theirs, 0), strict=True))


def lines(log: Path) -> dict[str, dict[str, Any]]:
    """Read what was tried, by name; of several lines of one name the last."""
    found = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    return {line["name"]: line for line in found}


def asked(parser: argparse.ArgumentParser, file: Path, only: list[str] | None) -> tuple[dict[str, Any], list[str]]:
    """Return the trials of a file, and the names of those to run; end with an error if one is not there."""
    trials: dict[str, dict[str, Any]] = yaml.safe_load(file.read_text())
    names = only or list(trials)
    if unknown := set(names) - set(trials):
        parser.error(f"{file} has no {', '.join(sorted(unknown))}")
    return trials, names


def main() -> None:
    """Run the trials."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="folder with train_X.bin, train_y.bin and class_names.txt")
    parser.add_argument("trials", type=Path, help="YAML file")
    parser.add_argument("--images", type=Path, help="folder of other images for the pool")
    parser.add_argument("--only", nargs="+", help="run these trials only")
    parser.add_argument("--show", action="store_true", help="run nothing; print what was tried")
    parser.add_argument("--beside", action="store_true", help="note that other work runs, so that times say little")
    parser.add_argument("--log", type=Path, help="default: TRIALS with the ending .jsonl")
    parser.add_argument("--work", type=Path, help="where to run (default work/benchmark-search)")
    arguments = parser.parse_args()
    trials, names = asked(parser, arguments.trials, arguments.only)
    log = arguments.log or arguments.trials.with_suffix(".jsonl")
    if not arguments.show:
        origin = {"folder": arguments.folder.resolve(), "images": arguments.images and arguments.images.resolve()}
        workspace = Workspace(
            arguments.work or ROOT / "work" / "benchmark-search",
            {name: path and str(path) for name, path in origin.items()} | {"search": SPLIT_SEED},
            lambda data: fill(data, arguments.folder, arguments.images),
        )
        for name in names:
            line: dict[str, Any] = {"name": name, "like": trials[name].get("like"), "trial": resolved(trials, name)}
            line["suited"] = prepare(workspace, line["trial"])
            line |= about(workspace, line["trial"])
            if lines(log).get(name, {}).get("identity") == line["identity"]:
                continue
            line |= run(workspace, line["trial"], line["identity"], not arguments.beside)
            line |= gain_over(workspace, line, lines(log).get(line["like"]))
            with log.open("a") as file:
                file.write(json.dumps(line) + "\n")
            print(f"{name}: {line['accuracy']:.2f} %, {line['minutes']} minutes", file=sys.stderr)
    rows = [line for name, line in lines(log).items() if arguments.only is None or name in arguments.only]
    columns = ["name", "accuracy", "std", "like", "gain", "low", "high", "minutes", "alone", "step"]
    columns += ["train_loss", "valid_loss", "valid_accuracy"]
    finish(pd.DataFrame(rows).reindex(columns=columns).round(3), "search", rows=rows)


if __name__ == "__main__":
    main()
