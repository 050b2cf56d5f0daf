"""Measure what clustering is worth at the same number of training steps, short and long.

    python benchmarks/grouping.py FOLDER [--stand-in] [--images OTHER]            # hours on two cores
    python benchmarks/grouping.py FOLDER --stand-in --quick                       # some minutes, a tenth of the images
    python benchmarks/grouping.py FOLDER [--stand-in] --profile modern            # only "baseline" and "clustered"

FOLDER, --stand-in and OTHER are those of stl10.py. For each number of steps in --steps, the smallest first, and each
seed, profile `grouping` trains the rows of docs/method.md, section 5.7, from scratch for as many steps, the network
that finds the clusters included, on as many patches, drawn once and dealt evenly to the classes: no row sees its
patches more often than another. (Profile `modern` draws new ones for each epoch.) The paper's budget, as many patches
an image and as many epochs, is a pair of rows of its own, `paper_baseline` and `paper_clustered`. These two, `spread`
and `clusters_alone` run at the smallest number of steps alone. From --few-from steps on, except at the smallest number,
only three rows run: the baseline, the paper's clusters, and of the others that run at every number of steps the one
with the largest mean accuracy on the test images at the number before. Each seed draws everything anew: images,
patches, weights, order.

Hours, by arithmetic, with 0.0373 s a step of `grouping`, twice that of `modern`, and 60 s a row for all else: three
seeds take 7.1 for a pool of 100,000 images (19 rows and 198,700 steps a seed), 6.9 for one of 7,000 (18 rows and
192,200 steps: `spread` does not run), and 1.7 for `modern` on either (4 rows, 23,450 steps), 15.7 in all.

Printed: for each number of steps the accuracy of each row (mean over the folds) with each seed, and its gain over the
baseline of the same seed and steps (`paper_clustered`: over `paper_baseline`), with a 95 % percentile interval from a
bootstrap over seeds and test images together. Resampling three seeds understates how much seeds differ: believe a sign
that all seeds share (columns "least" and "largest"). Then how alike two images of a class are, by their cosine in the
features in which the clusters were found, of the baseline trained for as many steps (0: as two images drawn at random,
1: the same), the share of classes with several images, and their purity, where data/truth.csv tells what images show:
that of FOLDER, or with --stand-in the training labels. Then whether gains change with the steps; what each claim of the
paper rests on, a difference between two rows, with what differs between them; and the hours that all rows took with
this code, kills included. Rows that differ in their number of classes differ in their number of features, too: dense2,
one of the evaluated layers, has an output for each class. The row that was best at the number of steps before was
chosen by the same test images, which is for it and against clustering, if anything. Two pictures are drawn (in
--pictures).

Run the same command again to continue where it stopped, with the same checkout: other code makes all results anew. For
so many hours, freeze one, and keep the results outside:

    git worktree add --detach ../frozen && cd ../frozen
    PYTHONPATH=src python benchmarks/grouping.py FOLDER --work ../grouping

Of a row that is measured, patches and features are removed, if no other row needs them, also from DVC's cache; on
100,000 images some 15 GB are in use.
"""

import argparse
import json
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from numpy.typing import NDArray

from _common import ROOT, Workspace, evaluated, finish, result_file
from _grouping_pictures import draw_alike, draw_steps
from _grouping_results import (
    ALONE,
    BASELINE,
    CLUSTERED,
    ONCE,
    PAPER_CLUSTERED,
    SPREAD,
    Found,
    best_other,
    changes,
    claims,
    summary,
)
from exemplarcnn import paths
from exemplarcnn.classes import quality, tables
from exemplarcnn.config import profiles
from exemplarcnn.config.params import parse
from exemplarcnn.data import stl10
from exemplarcnn.data.stl10_folder import binary_folder
from exemplarcnn.files import Dumper, atomic_write, digest_of, read_array, read_json, read_mapping, write_json
from stl10 import SMALLER, fill, suffices

STEPS = {"grouping": [2345, 9380, 37500], "modern": [2345, 9380]}
QUICK_STEPS = [10, 20, 30]
# Of a small pool, images that are drawn at random are largely those that the clusters have: no comparison then.
MOST_SHARED = 0.2
PAIRS = 50_000  # of images, that tell how alike two are that are drawn at random


def prepare(workspace: Workspace, profile: str, seed: int, steps: int, quick: bool) -> list[str]:
    """Write the parameters; return what the size of the pool changed."""
    workspace.use(profile, seed)
    images = pool_size(workspace)
    said: list[str] = []

    def change(values: dict[str, Any]) -> None:
        if quick:
            shorten(values)
        values["train"]["steps"] = steps
        values["evaluate"] = profiles.compose(workspace.folder / "conf", "grouping")["evaluate"]
        seeds = values["variants"]["seed"]
        if SPREAD in seeds:  # until `clustered` tells the number
            seeds[SPREAD]["classes"] = seeds[BASELINE]["classes"]
        groups = values["variants"]["group"]
        if not suffices(groups[CLUSTERED], images):
            # All rows alike, or they would differ in more than what they are named after.
            for entry in groups.values():
                entry |= SMALLER | {"neighbours": min(SMALLER["neighbours"], entry["neighbours"])}
            said.append(
                f"variants.group: half of the images clustered, at most one neighbour: {images} unlabelled images "
                "are too few for the profile's own"
            )

    workspace.edit(change)
    return said


def pool_size(workspace: Workspace) -> int:
    """Return the number of unlabelled images."""
    return len(stl10.open_pool(workspace.folder / "data", "unlabeled"))


def shorten(values: dict[str, Any]) -> None:
    """Make the profile small enough for --quick."""
    values["network"] |= {"widths": [8, 12, 16], "dense": 24}
    values["variants"]["seed"][BASELINE]["classes"] = 60
    for name, entry in values["variants"]["group"].items():
        if name != ALONE:
            entry["classes"] = 60
    for trained in values["variants"]["train"].values():
        if trained["total_patches"] is None:
            trained["patches_per_image"] = 20
        else:
            trained["total_patches"] = 4500


def measure(workspace: Workspace, row: str, table_name: str) -> Found:
    """Return a row's results, and what its classes are like; run what is missing, then remove what is not needed."""
    identity = workspace.identity()
    about = about_file(workspace, identity, row)
    if ran := not about.exists():
        # The features that classes are measured by must be those of these parameters, too.
        workspace.dvc("repro", "-q", f"embed@{BASELINE}", f"evaluate@{row}")
        evaluated(workspace, row)
        write_json(about, like(workspace, table_name))
    # Also of a row that is kept: what follows may have been interrupted.
    removed = row not in (BASELINE, CLUSTERED) and remove(workspace.folder, row)
    if ran or removed:
        workspace.dvc("gc", "--workspace", "--force", "-q")
    return kept(workspace, identity, row)


def about_file(workspace: Workspace, identity: str, row: str) -> Path:
    """Return where `measure` keeps what the results do not tell."""
    return result_file(workspace, identity, row).with_suffix(".json")


def kept(workspace: Workspace, identity: str, row: str) -> Found:
    """Return what `measure` has found."""
    about: Found = json.loads(about_file(workspace, identity, row).read_text())
    with np.load(result_file(workspace, identity, row), allow_pickle=False) as found:
        return about | dict(found) | {"identity": identity}


def remove(folder: Path, row: str) -> bool:
    """Remove a row's patches and features, and their stages from dvc.lock, or DVC's cache would keep them.

    DVC makes again what it lacks, so an interruption leaves a folder that works. Returns whether there was anything.
    """
    outs = [folder / place(row) for place in (paths.surrogate_set, paths.features)]
    lock = folder / "dvc.lock"
    values = read_mapping(lock)
    stages = {f"surrogate@{row}", f"embed@{row}"} & values["stages"].keys()
    if not stages and not any(out.exists() for out in outs):
        return False
    for out in outs:
        shutil.rmtree(out, ignore_errors=True)
    for stage in stages:
        del values["stages"][stage]
    with atomic_write(lock) as partial:
        partial.write_text(yaml.dump(values, Dumper=Dumper, sort_keys=False, allow_unicode=True))
    return True


def like(workspace: Workspace, table_name: str) -> Found:
    """Measure how alike the images of one class are, how many classes have several, and count the clusters."""
    features = read_array(workspace.folder / paths.cluster_features(BASELINE))
    table = tables.read(workspace.folder / paths.class_table(table_name), len(features))
    truth = quality.read_truth(workspace.folder / paths.TRUTH, len(features))
    return {
        "alike": alike(features, table),
        "several": float((tables.sizes(table) > 1).mean()),
        "clusters": table.loc[table["origin"] == "cluster", "class_id"].nunique(),
        "purity": None if truth is None else quality.purity(table, truth["class"]),
    }


def alike(features: NDArray[np.float32], table: pd.DataFrame) -> float | None:
    """Return the mean cosine of two images of a class, on a scale of 0, two images drawn at random, to 1.

    The mean is over classes with several images, each of which counts as its images do. None where there are none.

    Parameters
    ----------
    features
        (images, features) float32, rows of unit length.
    table
        Class table.
    """
    sums, images = 0.0, 0
    for ids in table.groupby("class_id")["image_id"].apply(np.array):
        if (count := len(ids)) > 1:
            rows = np.asarray(features[np.sort(ids)], np.float64)
            # The squared length of a sum is the sum of all products, those of each row with itself included.
            sums += count * (float(np.square(rows.sum(axis=0)).sum()) - count) / (count * (count - 1))
            images += count
    if not images:
        return None
    one, other = np.random.default_rng(0).choice(len(features), (2, PAIRS))
    chances = [
        np.einsum("nd,nd->n", features[i[i != j]], features[j[i != j]])
        for i, j in zip(np.array_split(one, 50), np.array_split(other, 50), strict=True)
    ]
    chance = float(np.concatenate(chances).mean(dtype=np.float64))
    return (sums / images - chance) / (1 - chance)


def run(
    workspace: Workspace, seed: int, steps: int, arguments: argparse.Namespace, tables_of: dict[str, str]
) -> list[Found]:
    """Run the rows of ``tables_of`` with one seed and number of steps, the two first whose numbers others need."""
    asked = {"seed": seed, "steps_asked": steps}
    code = [workspace.code(), arguments.profile, arguments.quick]
    work = [*code, seed, steps]
    # Rows that are done are read, without a change to params.yaml: DVC's files are those of the work that is not done.
    done = workspace.folder / "found" / f"done-{digest_of([*work, tables_of])[:16]}.json"
    spent = workspace.folder / "found" / f"spent-{digest_of(code)[:16]}.json"

    def hours(row: str) -> dict[str, float]:
        return {"hours": read_json(spent)[clock(seed, steps, row)] / 3600}

    if done.exists():
        rows = read_json(done).items()
        return [asked | {"row": row} | kept(workspace, identity, row) | hours(row) for row, identity in rows]
    drop_unfinished(workspace.folder, digest_of(work))
    for line in prepare(workspace, arguments.profile, seed, steps, arguments.quick):
        print(line, flush=True)
    found: list[Found] = []

    def measured(row: str) -> None:
        with timed(spent, clock(seed, steps, row)):
            about = measure(workspace, row, tables_of[row])
        found.append(asked | {"row": row} | about | hours(row))
        minutes = 60 * found[-1]["hours"]
        print(f"{steps} steps, seed {seed}, {row}: {about['right'].mean():.2%}, {minutes:.1f} minutes", flush=True)

    for row in (BASELINE, CLUSTERED):
        measured(row)
    single, clustered = found

    def suit_to_clusters(values: dict[str, Any]) -> None:
        variants = values["variants"]
        if SPREAD in variants["seed"]:
            variants["seed"][SPREAD]["classes"] = int(clustered["images"])
            variants["group"][ALONE]["classes"] = clustered["clusters"]
            variants["train"][PAPER_CLUSTERED]["steps"] = round(
                steps * int(clustered["images"]) / int(single["images"])
            )

    workspace.edit(suit_to_clusters)
    for row in tables_of:
        if row not in (BASELINE, CLUSTERED) and not (row == SPREAD and crowded(clustered, pool_size(workspace))):
            measured(row)
    write_json(done, {each["row"]: each["identity"] for each in found})
    return found


def clock(seed: int, steps: int, row: str) -> str:
    """Return the name under which the time of a row is kept."""
    return f"{steps} steps, seed {seed}, {row}"


@contextmanager
def timed(file: Path, name: str, every: float = 60.0) -> Iterator[None]:
    """Add the seconds that pass to those that a file has for a name, also now and then: a kill then loses few.

    Parameters
    ----------
    file
        JSON, names to seconds.
    name
        What takes the time.
    every
        Seconds between additions.
    """
    ended = threading.Event()

    def add() -> None:
        last, over = time.monotonic(), False
        while not over:
            over = ended.wait(every)
            now = time.monotonic()
            seconds = read_json(file) if file.exists() else {}
            write_json(file, seconds | {name: seconds.get(name, 0.0) + now - last})
            last = now

    thread = threading.Thread(target=add, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def drop_unfinished(folder: Path, work: str) -> None:
    """Remove what is left of trainings by other code, or of other work: their checkpoints would be refused.

    Parameters
    ----------
    folder
        Where the stages run.
    work
        Hash of the code and of what is asked of it; the file begun.txt keeps the last one.
    """
    record = folder / "begun.txt"
    if not record.exists() or record.read_text() != work:
        shutil.rmtree(folder / paths.WORK / "train", ignore_errors=True)
        record.write_text(work)


def crowded(clustered: Found, images: int) -> bool:
    """Say whether the clusters have so many of a pool's images that drawing as many at random shows nothing."""
    return bool(clustered["images"] > MOST_SHARED * images)


def left_out(found: list[Found], images: int) -> list[str]:
    """Say with which seeds `spread` did not run, and why; it runs at the smallest number of steps alone."""
    first = min(each["steps_asked"] for each in found)
    return [
        f"seed {each['seed']}: no row {SPREAD} and no claim about collisions: the classes of {CLUSTERED} have "
        f"{each['images'] / images:.0%} of the pool's {images} images, and as many drawn at random are largely the same"
        for each in found
        if each["steps_asked"] == first and each["row"] == CLUSTERED and crowded(each, images)
    ]


def rows_at(place: int, steps: list[int], rows: list[str], found: list[Found], few_from: int) -> list[str]:
    """Return the rows that run at one of several numbers of steps, which rise; ``found`` is of the numbers before."""
    if place and steps[place] >= few_from:
        return [BASELINE, CLUSTERED, *best_other(found, steps[place - 1])]
    return [row for row in rows if row not in ONCE or place == 0]


def fill_with_truth(data: Path, source: Path, stand_in: bool, other: Path | None, quick: bool) -> None:
    """Fill a folder as stl10.py does, and add what is known about the pool's images."""
    if not stand_in and (truth := source / "truth.csv").exists():
        shutil.copy(truth, data / "truth.csv")
    fill(data, source, stand_in, other, quick)


def named(arguments: argparse.Namespace) -> str:
    """Return a short name of the pool, for folders and pictures."""
    images = f"-{arguments.images.resolve().name}" if arguments.images else ""
    return arguments.name or f"{arguments.folder.resolve().name}{'-stand-in' if arguments.stand_in else ''}{images}"


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="STL-10's binary files")
    parser.add_argument("--stand-in", action="store_true", help="make a pool and folds from fixed seeds")
    parser.add_argument("--images", type=Path, help="folder of other images for the stand-in pool")
    parser.add_argument("--name", help="of the pool, in folders and pictures (default: names of the folders)")
    parser.add_argument("--profile", choices=list(STEPS), default="grouping", help="default grouping")
    parser.add_argument("--steps", type=int, nargs="+", help="default 2345 9380 37500; with `modern` 2345 9380")
    parser.add_argument("--few-from", type=int, default=37500, help="steps from which on three rows run, default 37500")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="default 0 1 2")
    parser.add_argument("--quick", action="store_true", help="one seed; 10, 20 and 30 steps; a tenth of the images")
    parser.add_argument("--work", type=Path, help="where to run (default work/benchmark-grouping-PROFILE-NAME)")
    parser.add_argument("--pictures", type=Path, help="where to draw (default: the folder pictures in --work)")
    arguments = parser.parse_args()
    seeds = sorted(set(arguments.seeds))
    numbers, few_from = sorted(set(arguments.steps or STEPS[arguments.profile])), arguments.few_from
    if arguments.quick:
        seeds, numbers, few_from = seeds[:1], QUICK_STEPS, QUICK_STEPS[-1]
    config = parse(profiles.compose(ROOT / "conf", arguments.profile), f"profile {arguments.profile}")
    tables_of = {row: trained.table for row, trained in config.variants.train.items()}
    folder = binary_folder(arguments.folder).resolve()
    images = arguments.images and arguments.images.resolve()
    name = named(arguments)
    workspace = Workspace(
        arguments.work
        or ROOT / "work" / f"benchmark-grouping-{arguments.profile}-{name}{'-quick' if arguments.quick else ''}",
        {"folder": str(folder), "stand_in": arguments.stand_in, "images": str(images), "quick": arguments.quick},
        lambda data: fill_with_truth(data, folder, arguments.stand_in, images, arguments.quick),
    )
    found: list[Found] = []
    for place, steps in enumerate(numbers):
        rows = rows_at(place, numbers, list(tables_of), found, few_from)
        for seed in seeds:
            found += run(workspace, seed, steps, arguments, {row: tables_of[row] for row in rows})
    table, changed, differences = summary(found), changes(found), claims(found)
    pictures = arguments.pictures or workspace.folder / "pictures"
    draw_steps(pictures / f"{arguments.profile}-{name}-steps.png", table, name)
    draw_alike(pictures / f"{arguments.profile}-{name}-alike.png", table, name)
    print(f"\n{table.round(3).to_string(index=False)}\n")
    if len(changed):
        print("Gain at the largest number of steps, less that at the smallest:")
        print(f"{changed.round(2).to_string(index=False)}\n")
    hours = sum(each["hours"] for each in found)
    said = left_out(found, pool_size(workspace)) if SPREAD in tables_of else []
    print("\n".join([*said, f"all rows: {hours:.1f} hours, what was interrupted included"]), end="\n\n")
    finish(
        differences.round(2),
        "grouping",
        profile=arguments.profile,
        pool=name,
        seeds=seeds,
        quick=arguments.quick,
        hours=round(hours, 2),
        said=said,
        rows=table.round(3).astype(object).where(table.notna(), None).to_dict("records"),
        changes=changed.round(3).to_dict("records"),
        claims=differences.round(3).to_dict("records"),
    )


if __name__ == "__main__":
    main()
