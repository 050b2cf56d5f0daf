"""Measure what clustering is worth at the same number of training steps, short and long.

    python benchmarks/grouping.py FOLDER [--stand-in] [--images OTHER]            # many hours on two cores
    python benchmarks/grouping.py FOLDER --stand-in --quick                       # some minutes, a tenth of the images
    python benchmarks/grouping.py FOLDER [--stand-in] --profile modern            # only "baseline" and "clustered"

FOLDER, --stand-in and OTHER are those of stl10.py. For each number of steps in --steps, the smallest first, and each
seed, profile `grouping` trains the rows of docs/method.md, section 5.7, from scratch for as many steps, the network
that finds the clusters included. Row `clustered_long`, which has as many epochs as the baseline, as in the paper, runs
beside the smallest number of steps alone. The largest of several numbers is for three rows: the baseline, the paper's
clusters, and of the other rows the one with the largest mean accuracy on the test images at the number before. Each
seed draws everything anew: images, patches, weights, order.

Printed: for each number of steps the accuracy of each row (mean over the folds) with each seed, and its gain over the
baseline of the same seed and steps, with a 95 % percentile interval from a bootstrap over seeds and test images
together. Resampling three seeds understates how much seeds differ: believe a sign that all seeds share (columns "least"
and "largest"). Then how alike two images of a class are, by their cosine in the features in which the clusters were
found, of the baseline trained for as many steps (0: as two images drawn at random, 1: the same), and by purity, where
data/truth.csv tells what images show: that of FOLDER, or with --stand-in the training labels. Then what each claim of
the paper rests on, a difference between two rows; and the hours that all rows took. Two pictures are drawn (in
--pictures).

Run the same command again to continue where it stopped, with the same checkout: other code makes all results anew. Sets
of patches that are not needed again are removed from DVC's cache on the way; on 100,000 images some 25 GB are in use.
"""

import argparse
import json
import shutil
import time
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray

from _common import ROOT, Workspace, bootstrap_seeds, evaluated, finish, result_file
from exemplarcnn import paths
from exemplarcnn.classes import quality, tables
from exemplarcnn.config import profiles
from exemplarcnn.config.params import parse
from exemplarcnn.data import stl10
from exemplarcnn.data.stl10_folder import binary_folder
from exemplarcnn.evaluation.intervals import gain
from exemplarcnn.files import digest_of, read_array, write_json
from stl10 import SMALLER, fill, suffices

matplotlib.use("Agg")

STEPS = (2345, 9380, 37500)
BASELINE, CLUSTERED, LONG, SPREAD = "baseline", "clustered", "clustered_long", "spread"
COLLISIONS = "collisions: as many single images, drawn at random instead of alike"
# What the paper says, and the two rows whose difference shows it. docs/method.md, section 5.7, describes the rows.
CLAIMS = {
    "clustering helps": (CLUSTERED, BASELINE),
    "clustering helps, with as many epochs": (LONG, BASELINE),
    "similarity counts: clusters and neighbours, not random groups": (CLUSTERED, "random"),
    "grouping: images in classes, not one by one": (CLUSTERED, "ungrouped"),
    COLLISIONS: (SPREAD, "ungrouped"),
    "more images, one class each": (SPREAD, BASELINE),
    "clusters without neighbours": ("dendrogram", BASELINE),
    "neighbours beside clusters": (CLUSTERED, "dendrogram"),
    "neighbours without clusters": ("neighbours", BASELINE),
    "a constant number of classes: clusters filled up, or alone": ("dendrogram", "clusters_alone"),
}
# Of a small pool, images that are drawn at random are largely those that the clusters have: no comparison then.
MOST_SHARED = 0.2
PAIRS = 50_000  # of images, that tell how alike two are that are drawn at random

Found = dict[str, Any]


def prepare(workspace: Workspace, profile: str, seed: int, steps: int, quick: bool) -> list[str]:
    """Write the parameters; return what the size of the pool changed."""
    workspace.use(profile, seed)
    pool_size = len(stl10.open_pool(workspace.folder / "data", "unlabeled"))
    said: list[str] = []

    def change(values: dict[str, Any]) -> None:
        if quick:
            shorten(values)
        values["train"]["steps"] = steps
        seeds = values["variants"]["seed"]
        if "spread" in seeds:  # until `clustered` tells the number
            seeds["spread"]["classes"] = seeds[BASELINE]["classes"]
        groups = values["variants"]["group"]
        if not suffices(groups[CLUSTERED], pool_size):
            # All rows alike, or they would differ in more than what they are named after.
            for entry in groups.values():
                entry |= SMALLER | {"neighbours": min(SMALLER["neighbours"], entry["neighbours"])}
            said.append(
                f"variants.group: half of the images clustered, at most one neighbour: {pool_size} unlabelled images "
                "are too few for the profile's own"
            )

    workspace.edit(change)
    return said


def shorten(values: dict[str, Any]) -> None:
    """Make the profile small enough for --quick."""
    values["network"] |= {"widths": [8, 12, 16], "dense": 24}
    values["variants"]["seed"][BASELINE]["classes"] = 60
    for name, entry in values["variants"]["group"].items():
        if name != "clusters_alone":
            entry["classes"] = 60
    for trained in values["variants"]["train"].values():
        trained["patches_per_image"] = 20


def measure(workspace: Workspace, row: str, table_name: str) -> Found:
    """Return a row's results, what its classes are like, and the minutes that it took; run what is missing."""
    identity = workspace.identity()
    if not about_file(workspace, identity, row).exists():
        begin = time.monotonic()
        # The features that classes are measured by must be those of these parameters, too.
        workspace.dvc("repro", "-q", f"embed@{BASELINE}", f"evaluate@{row}")
        evaluated(workspace, row)
        about = like(workspace, table_name) | {"minutes": (time.monotonic() - begin) / 60}
        write_json(about_file(workspace, identity, row), about)
        # Each row has a set of patches of its own, which is not needed again.
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


def like(workspace: Workspace, table_name: str) -> Found:
    """Measure how alike the images of one class are, count the clusters, and compare images with the clusters'."""
    features = read_array(workspace.folder / paths.cluster_features(BASELINE))
    table = tables.read(workspace.folder / paths.class_table(table_name), len(features))
    truth = quality.read_truth(workspace.folder / paths.TRUTH, len(features))
    found: Found = {"alike": alike(features, table), "shared": None}
    found["clusters"] = table.loc[table["origin"] == "cluster", "class_id"].nunique()
    found["purity"] = None if truth is None else quality.purity(table, truth["class"])
    if table_name == SPREAD:
        others = tables.read(workspace.folder / paths.class_table(CLUSTERED), len(features))
        found["shared"] = float(table["image_id"].isin(others["image_id"]).mean())
    return found


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
    work = [workspace.code(), arguments.profile, seed, steps, arguments.quick, tables_of]
    # Rows that are done are read, without a change to params.yaml: DVC's files are those of the work that is not done.
    done = workspace.folder / "found" / f"done-{digest_of(work)[:16]}.json"
    if done.exists():
        return [asked | {"row": row} | kept(workspace, each, row) for row, each in json.loads(done.read_text()).items()]
    for line in prepare(workspace, arguments.profile, seed, steps, arguments.quick):
        print(line, flush=True)
    begin = time.monotonic()
    found: list[Found] = []

    def measured(row: str) -> None:
        found.append(asked | {"row": row} | measure(workspace, row, tables_of[row]))
        minutes = (time.monotonic() - begin) / 60
        print(f"{steps} steps, seed {seed}, {row}: {found[-1]['right'].mean():.2%}, {minutes:.1f} minutes", flush=True)

    for row in (BASELINE, CLUSTERED):
        measured(row)
    single, clustered = found

    def suit_to_clusters(values: dict[str, Any]) -> None:
        variants = values["variants"]
        if SPREAD in variants["seed"]:
            variants["seed"][SPREAD]["classes"] = int(clustered["images"])
            variants["group"]["clusters_alone"]["classes"] = clustered["clusters"]
            variants["train"][LONG]["steps"] = round(steps * int(clustered["images"]) / int(single["images"]))

    workspace.edit(suit_to_clusters)
    for row in tables_of:
        if row not in (BASELINE, CLUSTERED):
            measured(row)
    write_json(done, {each["row"]: each["identity"] for each in found})
    return found


def rows_at(place: int, steps: list[int], rows: list[str], found: list[Found]) -> list[str]:
    """Return the rows that run at one of several numbers of steps, which rise; ``found`` is of the numbers before."""
    if place and place == len(steps) - 1:
        return [BASELINE, CLUSTERED, *best_other(found, steps[place - 1])]
    return [row for row in rows if row != LONG or place == 0]


def summary(found: list[Found]) -> pd.DataFrame:
    """Make a line of each row at each number of steps: means over seeds, and the gain over the baseline."""
    lines = []
    for (steps, row), mine in grouped(found).items():
        start = [each["right"] for each in grouped(found)[steps, BASELINE]]
        line = {"steps": steps, "row": row}
        line |= {key: round(np.mean([float(each[key]) for each in mine])) for key in ("classes", "images")}
        line["steps taken"] = round(np.mean([float(each["steps"]) for each in mine]))
        line |= mean_of([each["alike"] for each in mine], "alike")
        line |= mean_of([each["purity"] and each["purity"]["purity"] for each in mine], "purity")
        line |= mean_of([each["purity"] and each["purity"]["by_chance"] for each in mine], "by chance")
        line |= mean_of([each["shared"] for each in mine], "shared")
        line["accuracy"] = 100 * np.mean([each["right"].mean() for each in mine])
        line |= {f"seed {each['seed']}": 100 * each["right"].mean() for each in mine}
        if row != BASELINE:
            line |= difference([each["right"] for each in mine], start)
        lines.append(line)
    return pd.DataFrame(lines)


def grouped(found: list[Found]) -> dict[tuple[int, str], list[Found]]:
    """Bring together what the seeds found, by number of steps and row."""
    together: dict[tuple[int, str], list[Found]] = {}
    for each in found:
        together.setdefault((each["steps_asked"], each["row"]), []).append(each)
    return together


def mean_of(values: list[float | None], name: str) -> dict[str, float]:
    """Return the mean as an entry of a line; none where a value is missing."""
    known = [value for value in values if value is not None]
    return {name: float(np.mean(known))} if len(known) == len(values) else {}


def difference(mine: list[NDArray[np.bool_]], other: list[NDArray[np.bool_]]) -> dict[str, float]:
    """Return by how many points rows beat others of the same seeds, the interval, and the range of single seeds."""
    gains = np.stack([gain(one, two) for one, two in zip(mine, other, strict=True)])
    low, high = bootstrap_seeds(gains, 0)
    single = gains.mean(axis=1)
    return {"gain": gains.mean(), "low": low, "high": high, "least": single.min(), "largest": single.max()}


def claims(found: list[Found]) -> pd.DataFrame:
    """Make a line of each claim at each number of steps at which both of its rows ran."""
    by = grouped(found)
    lines = []
    numbers = sorted({steps for steps, _ in by})
    asked = [(claim, *rows, steps) for claim, rows in CLAIMS.items() for steps in numbers]
    asked += [
        ("clustering beside the best other row", CLUSTERED, row, n) for n in numbers for row in best_other(found, n)
    ]
    for claim, one, other, steps in asked:
        if (steps, one) in by and (steps, other) in by:
            if claim == COLLISIONS and max(each["shared"] for each in by[steps, one]) > MOST_SHARED:
                continue
            rights = [[each["right"] for each in by[steps, row]] for row in (one, other)]
            lines.append({"claim": claim, "rows": f"{one} - {other}", "steps": steps} | difference(*rights))
    return pd.DataFrame(lines)


def best_other(found: list[Found], steps: int) -> list[str]:
    """Return the row with the largest mean gain besides the baseline and clustering; none where none ran."""
    table = summary(found)
    rows = table[(table["steps"] == steps) & ~table["row"].isin([BASELINE, CLUSTERED, LONG])].sort_values("gain")
    return [str(row) for row in rows["row"].tolist()[-1:]]


def draw_steps(path: Path, table: pd.DataFrame) -> None:
    """Draw gains against steps: a line for each row, bars for the intervals."""
    figure = Figure(figsize=(7, 4.2))
    axes = figure.subplots()
    rows = [row for row in dict.fromkeys(table["row"]) if row != BASELINE]
    numbers = sorted(table["steps"].unique())
    for place, row in enumerate(rows):
        lines = table[table["row"] == row].sort_values("steps")
        shifted = lines["steps"] * 1.03 ** (place - (len(rows) - 1) / 2)
        errors = np.abs(np.stack([lines["gain"] - lines["low"], lines["high"] - lines["gain"]]))
        axes.errorbar(shifted, lines["gain"], yerr=errors, fmt="o-", markersize=4, elinewidth=1, label=row)
    axes.axhline(0, color="black", linewidth=0.8)
    axes.set_xscale("log")
    axes.set_xticks(numbers, [f"{number:,}" for number in numbers], minor=False)
    axes.minorticks_off()
    axes.set_xlabel("steps of the baseline")
    axes.set_ylabel("points above the baseline")
    axes.set_title(f"Gain of groupings ({bars(table)})", fontsize=10)
    axes.legend(fontsize=7, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    save(figure, path)


def draw_alike(path: Path, table: pd.DataFrame) -> None:
    """Draw gains against how alike the images of a class are: a colour for each number of steps."""
    figure = Figure(figsize=(7, 4.2))
    axes = figure.subplots()
    shown = table[(table["row"] != BASELINE) & (table["row"] != LONG) & table["alike"].notna()]
    for steps, lines in shown.groupby("steps"):
        errors = np.abs(np.stack([lines["gain"] - lines["low"], lines["high"] - lines["gain"]]))
        axes.errorbar(lines["alike"], lines["gain"], yerr=errors, fmt="o", elinewidth=1, label=f"{steps:,} steps")
        for line in lines.to_dict("records"):
            axes.annotate(line["row"], (line["alike"], line["gain"]), (4, 3), textcoords="offset points", fontsize=7)
    axes.axhline(0, color="black", linewidth=0.8)
    axes.set_xlabel("how alike two images of a class are (0: drawn at random, 1: the same)")
    axes.set_ylabel("points above the baseline")
    axes.set_title(f"Gain and likeness ({bars(table)})", fontsize=10)
    axes.legend(fontsize=8, frameon=False)
    save(figure, path)


def bars(table: pd.DataFrame) -> str:
    """Say what the bars of a picture are."""
    seeds = sum(str(name).startswith("seed ") for name in table)
    return f"bars: 95 % over {f'{seeds} seeds and ' if seeds > 1 else ''}test images"


def save(figure: Figure, path: Path) -> None:
    """Write a picture, without a date."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110, bbox_inches="tight", metadata={"Software": None})


def fill_with_truth(data: Path, source: Path, stand_in: bool, other: Path | None, quick: bool) -> None:
    """Fill a folder as stl10.py does, and add what is known about the pool's images."""
    if not stand_in and (truth := source / "truth.csv").exists():
        shutil.copy(truth, data / "truth.csv")
    fill(data, source, stand_in, other, quick)


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="STL-10's binary files")
    parser.add_argument("--stand-in", action="store_true", help="make a pool and folds from fixed seeds")
    parser.add_argument("--images", type=Path, help="folder of other images for the stand-in pool")
    parser.add_argument("--profile", choices=["grouping", "modern"], default="grouping", help="default grouping")
    parser.add_argument("--steps", type=int, nargs="+", default=list(STEPS), help="default 2345 9380 37500")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="default 0 1 2")
    parser.add_argument("--quick", action="store_true", help="one seed; 10, 20 and 30 steps; a tenth of the images")
    parser.add_argument("--work", type=Path, help="where to run (default work/benchmark-grouping-PROFILE)")
    parser.add_argument("--pictures", type=Path, help="where to draw (default: the folder pictures in --work)")
    arguments = parser.parse_args()
    seeds, numbers = sorted(set(arguments.seeds)), sorted(set(arguments.steps))
    if arguments.quick:
        seeds, numbers = seeds[:1], [10, 20, 30]
    config = parse(profiles.compose(ROOT / "conf", arguments.profile), f"profile {arguments.profile}")
    tables_of = {row: trained.table for row, trained in config.variants.train.items()}
    folder = binary_folder(arguments.folder).resolve()
    images = arguments.images and arguments.images.resolve()
    name = f"benchmark-grouping-{arguments.profile}{'-quick' if arguments.quick else ''}"
    workspace = Workspace(
        arguments.work or ROOT / "work" / name,
        {"folder": str(folder), "stand_in": arguments.stand_in, "images": str(images), "quick": arguments.quick},
        lambda data: fill_with_truth(data, folder, arguments.stand_in, images, arguments.quick),
    )
    found: list[Found] = []
    for place, steps in enumerate(numbers):
        rows = rows_at(place, numbers, list(tables_of), found)
        for seed in seeds:
            found += run(workspace, seed, steps, arguments, {row: tables_of[row] for row in rows})
    table, differences = summary(found), claims(found)
    pictures = arguments.pictures or workspace.folder / "pictures"
    draw_steps(pictures / f"{arguments.profile}-steps.png", table)
    draw_alike(pictures / f"{arguments.profile}-alike.png", table)
    print(f"\n{table.round(3).to_string(index=False)}\n")
    hours = sum(each["minutes"] for each in found) / 60
    print(f"all rows: {hours:.1f} hours, without what was interrupted\n")
    finish(
        differences.round(2),
        "grouping",
        profile=arguments.profile,
        seeds=seeds,
        quick=arguments.quick,
        hours=round(hours, 2),
        rows=table.round(3).astype(object).where(table.notna(), None).to_dict("records"),
        claims=differences.round(3).to_dict("records"),
    )


if __name__ == "__main__":
    main()
