"""Try recipes for a budget of minutes, and choose among them by training labels alone.

    python benchmarks/search.py FOLDER TRIALS.yaml [--images OTHER] [--only NAME ...]
    python benchmarks/search.py FOLDER TRIALS.yaml --show     # the table of what was tried; runs nothing

FOLDER has the training images and labels of STL-10; its test files are never opened and may be missing. 2,000 of the
training images are held out in place of the test set. The other 3,000 are the training set, with ten class-balanced
folds of 1,000, and without their labels, with the images of OTHER, the pool. This takes the place of cross-validation:
no held-out image may be in the pool, as in STL-10, where no test image is, so that holding out each part in turn would
take as many pools, and as many trainings. TRIALS.yaml is as _trials.py says; all trials are evaluated alike.

Each trial's line of JSON is added to --log as soon as it is done: what was tried, what the size of the pool changed,
the accuracy (mean over the folds, on the 2,000), the gain over the trial that it is like, with a 95 % interval over
these images, how many folds chose an end of the grid of C (then a better one may lie beyond), the seconds of the stages
that the row needs, and the last figures of its training. Minutes are the sum of these seconds: without the start of
processes and DVC's own work, and with 5,000 labelled images to embed instead of STL-10's 13,000. A stage that another
trial has run, or a killed process, counts with the time that it took then.

A trial with a line is not run again, unless parameters, data or code have changed. One that fails gets a line that says
so, the others go on, and the exit status is 1; --only runs it again. Other results are kept in DVC's cache only until
the next trial is done: put trials that share a training one after the other.

Any edit of the code makes all trials run again. So run from a checkout that nobody edits:

    git worktree add ../search
    PYTHONPATH=../search/src python ../search/benchmarks/search.py FOLDER ../search/benchmarks/search.yaml ...

PYTHONPATH, because otherwise the installed package is imported, which may be the checkout that you edit.
"""

import argparse
import json
import shutil
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from _common import ROOT, Workspace, bootstrap_difference, finish
from _trials import about, asked, check, hours, prepare, resolved, rights, run
from exemplarcnn.data import stl10
from exemplarcnn.files import atomic_write
from stl10 import make_pool, stand_in_folds

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


def gain_over(workspace: Workspace, line: dict[str, Any], other: dict[str, Any] | None) -> dict[str, float]:
    """Compare a trial with one that has run in this folder, if there is one: points, and the interval's ends."""
    if other is None or line["failed"] or other["failed"]:
        return {}
    mine, theirs = (rights(workspace, each) for each in (line, other))
    if mine is None or theirs is None:
        return {}
    return dict(zip(("gain", "low", "high"), bootstrap_difference(mine, theirs, 0), strict=True))


def lines(log: Path) -> dict[str, dict[str, Any]]:
    """Read what was tried, by name; of several lines of one name the last."""
    found = {}
    for text in log.read_text().splitlines() if log.exists() else ():
        with suppress(json.JSONDecodeError):  # half a line, or an empty one
            line = json.loads(text)
            found[line["name"]] = line
    return found


def add(log: Path, line: dict[str, Any]) -> None:
    """Add a line to the log; a kill leaves it with the line or without."""
    before = log.read_text() if log.exists() else ""
    if before and not before.endswith("\n"):
        before += "\n"
    with atomic_write(log) as partial:
        partial.write_text(f"{before}{json.dumps(line)}\n")


def search(workspace: Workspace, trials: dict[str, Any], names: list[str], log: Path, again: bool, alone: bool) -> None:
    """Run trials; those that failed before only if ``again``."""
    others = [trials[name]["like"] for name in names if "like" in trials[name]]
    identities = check(workspace, trials, [*names, *others])
    for name in names:
        before, like = lines(log).get(name), trials[name].get("like")
        if before and before["identity"] == identities[name] and not (again and before["failed"]):
            continue
        line: dict[str, Any] = {"name": name, "like": like, "trial": resolved(trials, name)}
        line["suited"] = prepare(workspace, line["trial"])
        line |= about(workspace, line["trial"])
        line |= run(workspace, line["trial"], line["identity"], alone)
        other = lines(log).get(like)
        # Another version of the code may have made the other line.
        line |= gain_over(workspace, line, other if other and other["identity"] == identities[like] else None)
        add(log, line)
        text = "failed" if line["failed"] else f"{line['accuracy']:.2f} %, {line['minutes']} minutes"
        print(f"{name}: {text}", file=sys.stderr)


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
        search(workspace, trials, names, log, bool(arguments.only), not arguments.beside)
    rows = [line for name, line in lines(log).items() if arguments.only is None or name in arguments.only]
    columns = ["name", "accuracy", "std", "like", "gain", "low", "high", "ends", "minutes", "alone", "failed", "step"]
    columns += ["train_loss", "valid_loss", "valid_accuracy"]
    print(hours(rows))
    failed = [f"{line['name']} failed" for line in rows if line["failed"] and not arguments.show]
    finish(pd.DataFrame(rows).reindex(columns=columns).round(3), "search", failed, rows=rows)


if __name__ == "__main__":
    main()
