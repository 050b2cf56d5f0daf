"""Take the gain of clustering apart: every grouping and control of profile `ablation`, on real images, several seeds.

    python benchmarks/ablation.py FOLDER [--stand-in] [--seeds 0 1 2]    # hours on two cores
    python benchmarks/ablation.py FOLDER --stand-in --quick              # one seed, three rows, a tenth of the images

FOLDER holds STL-10's binary files; with --stand-in the labelled ones are enough (see stl10.py). For each row: accuracy,
its mean over the seeds; how much it is above the baseline, with a 95 % percentile bootstrap over test images of the
mean over folds and seeds; and the least and the largest gain of a single seed. Rows `_long`, which take most of the
time, are run for the first of the seeds alone unless --long-seeds says otherwise. Running the same command again goes
on where it stopped.
"""

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from _common import ROOT, Workspace, bootstrap_difference, finish
from exemplarcnn import config, download, images, paths
from exemplarcnn.evaluation import correct
from exemplarcnn.files import whole
from stl10 import fill

QUICK_ROWS = ("baseline", "clustered", "random")


def run(workspace: Workspace, seed: int, rows: list[str], quick: bool) -> list[dict[str, Any]]:
    """Run the rows for one seed; say of each what it was trained on and which test images it got right."""
    workspace.use("ablation", seed)
    if quick:
        workspace.edit(shorten)
    # Kept apart from the pipeline's results, which those of the next seed replace.
    folder = workspace.folder / "found" / workspace.identity()
    folder.mkdir(parents=True, exist_ok=True)
    labels = images.read_labels(workspace.folder / paths.TEST_LABELS, images.check(workspace.folder / "data")["test"])
    begin, found = time.monotonic(), []
    for name in rows:
        file = folder / f"{name}.npz"
        if not file.exists():
            workspace.dvc("repro", "-q", f"evaluate@{name}")
            about = workspace.json(paths.surrogate_set(name) / "set.json")
            predictions = np.load(workspace.folder / paths.classifiers(name) / "predictions.npy")
            kept = {key: about[key] for key in ("classes", "images", "train_patches")}
            with whole(file) as partial:
                np.savez(partial, right=correct(predictions, labels), **kept)
        with np.load(file, allow_pickle=False) as kept:
            found.append({"row": name, "seed": seed} | dict(kept))
        print(f"seed {seed}, {name}: {(time.monotonic() - begin) / 60:.1f} minutes", flush=True)
    return found


def shorten(values: dict[str, Any]) -> None:
    """Make the profile small enough for --quick."""
    values["train"]["epochs"] = 1
    for table in (*values["seeded"].values(), *values["grouped"].values()):
        if "classes" in table:
            table["classes"] = 60
    for trained in values["trained"].values():
        if trained["patches"]:
            trained["patches"] = 1200


def summary(found: list[dict[str, Any]], epochs: int, batch: int) -> pd.DataFrame:
    """One line a row, means over its seeds; gains over the baseline of the same seeds."""
    right: dict[str, dict[int, NDArray[np.bool_]]] = {}
    for entry in found:
        right.setdefault(entry["row"], {})[entry["seed"]] = entry["right"]
    lines = []
    for name, mine in right.items():
        entries = [entry for entry in found if entry["row"] == name]
        accuracies = [100 * float(one.mean()) for one in mine.values()]
        start = [right["baseline"][seed] for seed in mine]
        # Folds of all seeds together: the same number for each, so that seeds count alike.
        gain, low, high = bootstrap_difference(np.concatenate(list(mine.values())), np.concatenate(start), 0)
        single = [100 * float(one.mean() - other.mean()) for one, other in zip(mine.values(), start, strict=True)]
        mean = {
            key: float(np.mean([entry[key] for entry in entries])) for key in ("classes", "images", "train_patches")
        }
        steps = epochs * np.ceil(mean["train_patches"] / batch)
        lines.append(
            {
                "row": name,
                "seeds": len(mine),
                "classes": round(mean["classes"]),
                "images": round(mean["images"]),
                "steps": int(steps),
                "accuracy": np.mean(accuracies),
                "gain": gain,
                "low": low,
                "high": high,
                "least": min(single),
                "largest": max(single),
            }
        )
    return pd.DataFrame(lines).round(2)


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="STL-10's binary files")
    parser.add_argument("--stand-in", action="store_true", help="make a pool and folds by fixed seeds")
    parser.add_argument("--images", type=Path, help="folder of other images for the stand-in pool")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--long-seeds", type=int, default=1, help="how many of the seeds for rows _long (default 1)")
    parser.add_argument("--rows", nargs="+", help="only these, and the baseline")
    parser.add_argument("--quick", action="store_true", help="one seed, three rows, a tenth of the images")
    parser.add_argument("--work", type=Path, help="where to run (default work/benchmark-ablation)")
    arguments = parser.parse_args()
    profile = config.parse(config.compose(ROOT / "conf", "ablation"), "profile ablation")
    rows = [name for name in profile.trained if not arguments.rows or name in ("baseline", *arguments.rows)]
    seeds = arguments.seeds
    if arguments.quick:
        rows, seeds = list(QUICK_ROWS), seeds[:1]
    folder = download.binary_folder(arguments.folder).resolve()
    workspace = Workspace(
        arguments.work or ROOT / "work" / f"benchmark-ablation{'-quick' if arguments.quick else ''}",
        {"folder": str(folder), "stand_in": arguments.stand_in, "images": str(arguments.images)},
        lambda data: fill(data, folder, arguments.stand_in, arguments.images, arguments.quick),
    )
    equal = [name for name in rows if not name.endswith("_long")]
    found = [entry for seed in seeds for entry in run(workspace, seed, equal, arguments.quick)]
    if long := [name for name in rows if name.endswith("_long")]:
        for seed in seeds[: arguments.long_seeds]:
            found += run(workspace, seed, long, arguments.quick)
    epochs = 1 if arguments.quick else profile.train.epochs
    table = summary(found, epochs, profile.train.batch_size)
    finish(table, "ablation", seeds=seeds, quick=arguments.quick, rows=table.to_dict("records"))


if __name__ == "__main__":
    main()
