"""Run profile `bench` on a folder with STL-10's binary files, and print the table of results.

    python benchmarks/stl10.py FOLDER [--images OTHER]       # the real STL-10: FOLDER has all files
    python benchmarks/stl10.py FOLDER --stand-in [--images OTHER]
                                                             # FOLDER has only the labelled files: makes pool and folds
    python benchmarks/stl10.py FOLDER --stand-in --quick     # within a minute: profile `tiny`, a tenth of the images,
                                                             # only the rows raw_pixels and baseline

OTHER is a folder of other images, the pool of the ImageNet experiment; without it, profile `core` runs, which lacks
that experiment. With --stand-in the unlabelled pool is the training images without their labels, and the images of
OTHER if given (their middle square, resized to 96×96), in an order drawn from a fixed seed. The folds are ten
class-balanced draws of 1,000. Such accuracies are on STL-10's real test set, but not comparable with published ones.
If a pool is too small for a profile's classes, half of it is clustered, and each single image gets one neighbour; the
benchmark says so first.

The pipeline runs in its own folder (--work), so that the project's data and results stay as they are. Run the same
command again to continue there. Before anything runs, `exemplarcnn plan` says what it will cost, and at the end a table
compares the two, stage by stage.
"""

import argparse
import json
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

import _times
from _common import ROOT, Workspace, finish
from exemplarcnn import paths
from exemplarcnn.classes import capacity, tables
from exemplarcnn.config.variants import ClusterEntry
from exemplarcnn.data import pools, stl10
from exemplarcnn.data.stl10_folder import binary_folder

POOL_SEED, FOLD_SEED = 19, 2011
QUICK_ROWS = ("raw_pixels", "baseline")
# What profile `core` had for the pools of 5,000 and 7,000 images in docs/results.md.
SMALLER = {"clustered_fraction": 0.5, "neighbours": 1}
LABELLED = ("train_X.bin", "train_y.bin", "test_X.bin", "test_y.bin", "class_names.txt")


def stand_in_pool(train: NDArray[np.uint8], other: Path | None) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Join the training images and those of a folder, shuffled with a fixed seed; return images and their order."""
    pool = [train]
    if other is not None:
        folder = pools.ImageFolder(other)
        pool.append(np.stack([pools.centre_square(folder[i]) for i in range(len(folder))]))
    together = np.concatenate(pool)
    order = np.random.Generator(np.random.PCG64(POOL_SEED)).permutation(len(together))
    return together[order], order


def stand_in_folds(labels: NDArray[np.int64], size: int) -> list[NDArray[np.int64]]:
    """Make ten class-balanced draws of ``size`` training images from a fixed seed."""
    draw = np.random.Generator(np.random.PCG64(FOLD_SEED))
    each = size // stl10.CLASSES
    return [
        np.sort(np.concatenate([draw.choice(np.flatnonzero(labels == c), each, False) for c in range(stl10.CLASSES)]))
        for _ in range(stl10.FOLDS)
    ]


def make_pool(train: NDArray[np.uint8], labels: NDArray[np.int64], data: Path, other: Path | None) -> None:
    """Write the stand-in pool to ``data``, and what its images show; the class names must be there."""
    pool, source_index = stand_in_pool(train, other)
    stl10.write_images(data / "unlabeled_X.bin", pool)
    names = np.array([*stl10.read_class_names(data / "class_names.txt"), ""])
    tables = names[np.append(labels, np.full(len(pool) - len(train), stl10.CLASSES))[source_index]]
    truth = pd.DataFrame({"index": np.arange(len(pool)), "class": tables, "original": ""})
    truth.to_csv(data / "truth.csv", index=False)


def make_stand_in(source: Path, data: Path, other: Path | None) -> None:
    """Put the labelled files, a stand-in pool and stand-in folds into ``data``."""
    for name in LABELLED:
        shutil.copy(source / name, data / name)
    train = stl10.ImageFile(data / "train_X.bin")
    labels = stl10.read_labels(data / "train_y.bin", len(train))
    make_pool(train.batch(range(len(train))), labels, data, other)
    stl10.write_folds(data / "fold_indices.txt", stand_in_folds(labels, 1000))


def shrink(data: Path) -> None:
    """Keep a tenth of every set, for --quick."""
    for split in stl10.SPLITS:
        file = stl10.ImageFile(data / f"{split}_X.bin")
        keep = np.arange(0, len(file), 10)
        stl10.write_images(data / f"{split}_X.bin", file.batch(keep))
        if split == "unlabeled" and (truth := data / "truth.csv").exists():
            table = pd.read_csv(truth).iloc[keep].assign(index=np.arange(len(keep)))
            table.to_csv(truth, index=False)
        if split != "unlabeled":
            labels = stl10.read_labels(data / f"{split}_y.bin", len(file))
            stl10.write_labels(data / f"{split}_y.bin", labels[keep])
    train = stl10.ImageFile(data / "train_X.bin")
    labels = stl10.read_labels(data / "train_y.bin", len(train))
    stl10.write_folds(data / "fold_indices.txt", stand_in_folds(labels, 100))


def fill(data: Path, source: Path, stand_in: bool, other: Path | None, quick: bool) -> None:
    """Put this benchmark's image set into ``data``."""
    if stand_in:
        make_stand_in(source, data, other)
    else:
        for name in (*LABELLED, "unlabeled_X.bin", "fold_indices.txt"):
            shutil.copy(source / name, data / name)
    if other is not None:
        shutil.copytree(other, data / "other")
    if quick:
        shrink(data)


def suit(values: dict[str, Any], pool_size: int) -> list[str]:
    """Change a profile that asks for more classes than a small pool can give; return what was changed, and why."""
    said = []
    for name, entry in values["variants"]["group"].items():
        smaller = entry | SMALLER
        if entry["method"] == "clusters" and not suffices(entry, pool_size) and suffices(smaller, pool_size):
            changed = ", ".join(f"{key} {value} for {entry[key]}" for key, value in SMALLER.items())
            said.append(
                f"variants.group.{name}: {changed}: {pool_size} unlabelled images are too few for the profile's own"
            )
            values["variants"]["group"][name] = smaller
    return said


def suffices(entry: dict[str, Any], pool_size: int) -> bool:
    """Say whether a pool can give the classes that an entry of `variants.group` asks for."""
    try:
        capacity.check_clusters(ClusterEntry.model_validate(entry), pool_size)
    except tables.ClassTableError:
        return False
    return True


def compared(plan: dict[str, Any], took: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """Set what stages took beside what was planned: seconds, peak memory in GB, results in MB."""
    lines = []
    for planned in plan["stages"]:
        if (found := took.get(planned["stage"])) is not None:
            line = {"stage": planned["stage"], "seconds": found["seconds"], "planned": planned["seconds"]}
            line |= {"GB": round(found["memory"] / 1e9, 2), "planned GB": round(planned["memory"] / 1e9, 2)}
            line |= {"MB": round(found["outs"] / 1e6, 1), "planned MB": round(planned["outs"] / 1e6, 1)}
            lines.append(line | {"mostly": max(planned["parts"], key=planned["parts"].get, default="")})
    return lines


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="STL-10's binary files")
    parser.add_argument("--stand-in", action="store_true", help="make a pool and folds from fixed seeds")
    parser.add_argument("--images", type=Path, help="folder of other images")
    parser.add_argument("--profile", help="default: bench with --images, core without")
    parser.add_argument("--seed", type=int, default=0, help="the pipeline's seed (default 0)")
    parser.add_argument("--work", type=Path, help="where to run (default work/benchmark-PROFILE)")
    parser.add_argument("--plan", action="store_true", help="only plan the run, and print the plan as JSON")
    parser.add_argument("--quick", action="store_true", help="two rows, profile tiny, a tenth of the images")
    arguments = parser.parse_args()
    profile = arguments.profile or ("bench" if arguments.images else "core")
    profile = "tiny" if arguments.quick else profile
    work = arguments.work or ROOT / "work" / f"benchmark-{'quick' if arguments.quick else profile}"
    folder = binary_folder(arguments.folder).resolve()
    origin = {
        "folder": str(folder),
        "stand_in": arguments.stand_in,
        "images": str(arguments.images.resolve()) if arguments.images else None,
        "quick": arguments.quick,
    }
    workspace = Workspace(
        work, origin, lambda data: fill(data, folder, arguments.stand_in, arguments.images, arguments.quick)
    )
    workspace.use(profile, arguments.seed)
    changed: list[str] = []
    pool_size = len(stl10.open_pool(workspace.folder / "data", "unlabeled"))
    workspace.edit(lambda values: changed.extend(suit(values, pool_size)))
    for line in changed:
        print(line, flush=True)
    plan = workspace.planned()
    if arguments.plan:
        print(json.dumps(plan, indent=2))
        return
    _times.begin(workspace, workspace.identity(), alone=True)
    start = time.monotonic()
    workspace.dvc("repro", "-q", *(f"evaluate@{name}" for name in QUICK_ROWS if arguments.quick))
    seconds = time.monotonic() - start

    stages = compared(plan, _times.whole(workspace))
    print(pd.DataFrame(stages).to_string(index=False))
    print(f"this run: {seconds / 60:.1f} minutes; all stages: {sum(line['seconds'] for line in stages) / 60:.1f}\n")
    if arguments.quick:
        results = {"rows": [{"variant": name, **workspace.json(paths.evaluation(name))} for name in QUICK_ROWS]}
    else:
        results = workspace.json(paths.RESULTS_JSON)
    finish(
        pd.DataFrame(results["rows"])[["variant", "accuracy_mean", "accuracy_std"]],
        "stl10",
        stand_in=arguments.stand_in,
        quick=arguments.quick,
        seed=arguments.seed,
        changed=changed,
        seconds=round(seconds, 1),
        stages=stages,
        **({"profile": profile} | results),
    )


if __name__ == "__main__":
    main()
