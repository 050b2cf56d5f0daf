"""Try recipes for a budget of minutes, and choose among them by training labels alone.

    python benchmarks/search.py FOLDER TRIALS.yaml [--images OTHER] [--only NAME ...]
    python benchmarks/search.py FOLDER TRIALS.yaml --show     # the table of what was tried; runs nothing

FOLDER has the training images and labels of STL-10; its test files are never opened and may be missing. The pool is
the training images without their labels and the images of OTHER, as with `stl10.py --stand-in`. 3,000 of the training
images take the place of the training set, with ten class-balanced folds of 1,000, and the other 2,000 that of the test
set. TRIALS.yaml maps the name of each trial to `profile`, `row` (an entry of `variants.train`) and `set`, a mapping
from dotted keys of params.yaml to values; `like: NAME` starts from another trial.

Each trial's line of JSON is appended to --log as soon as it is done: what was tried, its accuracy (mean over the folds,
on the 2,000), the minutes of the stages that the row needs, alone on the machine or not (--beside says it was not), and
the last figures of its training. A trial with a line is not run again.
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

from _common import ROOT, Workspace, finish
from exemplarcnn import paths
from exemplarcnn.data import stl10
from exemplarcnn.files import read_table
from stl10 import make_pool, stand_in_folds, suit

HELD_OUT, FOLD, SPLIT_SEED = 2000, 1000, 28


def fill(data: Path, source: Path, other: Path | None) -> None:
    """Split the training set of a folder into a training and a test set, and make the pool."""
    train = stl10.ImageFile(source / "train_X.bin")
    labels = stl10.read_labels(source / "train_y.bin", len(train))
    shutil.copy(source / "class_names.txt", data)
    make_pool(train, labels, data, other)
    inside, out = split(labels)
    for name, rows in (("train", inside), ("test", out)):
        stl10.write_images(data / f"{name}_X.bin", train.batch(rows))
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
    if "like" not in trial:
        return {"set": {}} | trial
    start = resolved(trials, trial["like"])
    return (
        start
        | {key: value for key, value in trial.items() if key != "like"}
        | {"set": start["set"] | trial.get("set", {})}
    )


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


def run(workspace: Workspace, trial: dict[str, Any]) -> dict[str, Any]:
    """Run a trial; return its figures."""
    row = trial["row"]
    workspace.use(trial["profile"], trial.get("seed", 0))
    pool_size = len(stl10.open_pool(workspace.folder / "data", "unlabeled"))
    workspace.edit(lambda values: put(values, trial["set"]))
    workspace.edit(lambda values: print("\n".join(suit(values, pool_size)), file=sys.stderr))
    begun = time.time()
    workspace.dvc("repro", "-q", f"evaluate@{row}")
    stages = yaml.safe_load((workspace.folder / "dvc.lock").read_text())["stages"]
    took = kept_times(workspace, stages, begun)
    seconds = {stage: took[stage] for stage in sorted(needed(stages, row))}
    summary = workspace.json(paths.evaluation(row))
    curve = read_table(workspace.folder / paths.learning_curve(row), integers=["step"]).iloc[-1]
    figures = {"accuracy": summary["accuracy_mean"], "std": summary["accuracy_std"], "chosen": summary["chosen"]}
    figures |= {"minutes": round(sum(seconds.values()) / 60, 2), "seconds": seconds}
    return figures | {key: float(curve[key]) for key in ("step", "train_loss", "valid_loss", "valid_accuracy")}


def kept_times(workspace: Workspace, stages: dict[str, Any], begun: float) -> dict[str, float]:
    """Return what each stage took when these results were made: DVC restores some that an earlier trial has made."""
    file = workspace.folder / "times.json"
    known: dict[str, float] = json.loads(file.read_text()) if file.exists() else {}
    keys = {
        stage: json.dumps([stage, entry.get("deps"), entry.get("params")], sort_keys=True)
        for stage, entry in stages.items()
    }
    for stage, entry in workspace.took().items():
        if stage in keys and pd.Timestamp(entry["ended"]).timestamp() >= begun - 1:
            known[keys[stage]] = entry["seconds"]
    file.write_text(json.dumps(known))
    return {stage: known.get(key, 0.0) for stage, key in keys.items()}


def lines(log: Path) -> list[dict[str, Any]]:
    """Read what was tried."""
    return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []


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
    trials: dict[str, dict[str, Any]] = yaml.safe_load(arguments.trials.read_text())
    log = arguments.log or arguments.trials.with_suffix(".jsonl")
    names = arguments.only or list(trials)
    if unknown := set(names) - set(trials):
        parser.error(f"{arguments.trials} has no trial {', '.join(sorted(unknown))}")
    if not arguments.show:
        workspace = Workspace(
            arguments.work or ROOT / "work" / "benchmark-search",
            {"folder": str(arguments.folder.resolve()), "images": str(arguments.images), "search": SPLIT_SEED},
            lambda data: fill(data, arguments.folder, arguments.images),
        )
        for name in names:
            trial = resolved(trials, name)
            if any(line["name"] == name and line["trial"] == trial for line in lines(log)):
                continue
            line = {"name": name, "trial": trial, "alone": not arguments.beside} | run(workspace, trial)
            with log.open("a") as file:
                file.write(json.dumps(line) + "\n")
            print(f"{name}: {line['accuracy']:.2f} %, {line['minutes']} minutes", file=sys.stderr)
    table = pd.DataFrame(lines(log))
    columns = ["name", "accuracy", "std", "minutes", "alone", "step", "train_loss", "valid_loss", "valid_accuracy"]
    finish(table.reindex(columns=columns).round(3), "search", rows=lines(log))


if __name__ == "__main__":
    main()
