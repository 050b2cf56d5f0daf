"""Measure what grouping images gains, what the number of classes does, and whether layers need their own rates.

    python benchmarks/ablation.py FOLDER [--stand-in] [--seeds 0 1 2]    # hours on two cores
    python benchmarks/ablation.py FOLDER --stand-in --quick              # one seed, three rows, a tenth of the images

Runs profile `ablation` on real images with several seeds. FOLDER holds STL-10's binary files; with --stand-in the
labelled ones are enough (see stl10.py). Each question gets a table and a picture (in --pictures). Each row has its mean
accuracy over the seeds; its gain over the baseline, with a 95 % percentile interval from a bootstrap over test images
of the mean over folds and seeds; and the least and the largest gain of a single seed. Rows `_long` take most of the
time: only the first seed runs them unless --long-seeds says otherwise. Run the same command again to continue where it
stopped.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray

from _common import ROOT, Workspace, bootstrap_difference, evaluated, finish
from exemplarcnn.config import profiles
from exemplarcnn.config.params import parse
from exemplarcnn.data.stl10_folder import binary_folder
from stl10 import fill

matplotlib.use("Agg")

QUICK_ROWS = ("baseline", "clustered", "random")
# The baseline belongs to all.
QUESTIONS: dict[str, tuple[str, Callable[[str], bool]]] = {
    "classes": ("What the number of classes does", lambda name: name.startswith("classes_")),
    "rates": ("What rates and L2 by layer do", lambda name: name in ("one_l2", "by_layer")),
    "long": ("What grouping gains, as many epochs", lambda name: name.endswith("_long")),
    "groupings": ("What grouping gains, as many steps", lambda name: True),
}


def run(workspace: Workspace, seed: int, rows: list[str], quick: bool) -> list[dict[str, Any]]:
    """Run the rows for one seed; return for each what it was trained on and which test images it got right."""
    workspace.use("ablation", seed)
    if quick:
        workspace.edit(shorten)
    begin, found = time.monotonic(), []
    for name in rows:
        found.append({"row": name, "seed": seed} | evaluated(workspace, name))
        print(f"seed {seed}, {name}: {(time.monotonic() - begin) / 60:.1f} minutes", flush=True)
    return found


def shorten(values: dict[str, Any]) -> None:
    """Make the profile small enough for --quick."""
    values["train"]["epochs"] = 1
    for table in (*values["variants"]["seed"].values(), *values["variants"]["group"].values()):
        if "classes" in table:
            table["classes"] = 60
    for trained in values["variants"]["train"].values():
        trained["patches_per_image"] = 20
        if trained["steps"]:
            trained["steps"] = 10


def summary(found: list[dict[str, Any]]) -> pd.DataFrame:
    """Make a table of the rows: means over their seeds, and gains over the baseline with the same seeds."""
    right: dict[str, dict[int, NDArray[np.bool_]]] = {}
    for entry in found:
        right.setdefault(entry["row"], {})[entry["seed"]] = entry["right"]
    lines = []
    for name, mine in right.items():
        entries = [entry for entry in found if entry["row"] == name]
        accuracies = [100 * float(one.mean()) for one in mine.values()]
        start = [right["baseline"][seed] for seed in mine]
        # Folds of all seeds together: each seed has as many, so that all count alike.
        gain, low, high = bootstrap_difference(np.concatenate(list(mine.values())), np.concatenate(start), 0)
        single = [100 * float(one.mean() - other.mean()) for one, other in zip(mine.values(), start, strict=True)]
        mean = {key: float(np.mean([entry[key] for entry in entries])) for key in ("classes", "images", "steps")}
        lines.append(
            {
                "row": name,
                "seeds": len(mine),
                "classes": round(mean["classes"]),
                "images": round(mean["images"]),
                "steps": round(mean["steps"]),
                "accuracy": np.mean(accuracies),
                "gain": gain,
                "low": low,
                "high": high,
                "least": min(single),
                "largest": max(single),
            }
        )
    return pd.DataFrame(lines).round(2)


def answers(table: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Give each question its rows, the baseline first."""
    asked = pd.Series(
        [next(key for key, (_, belongs) in QUESTIONS.items() if belongs(name)) for name in table["row"]], table.index
    )
    start = table["row"] == "baseline"
    of = {key: table[start | ((asked == key) & ~start)] for key in QUESTIONS}
    return {key: rows.reset_index(drop=True) for key, rows in of.items() if len(rows) > 1}


def draw(path: Path, title: str, rows: pd.DataFrame) -> None:
    """Draw gains over the baseline with their intervals, and the range of single seeds as a thin line."""
    against = rows["row"].str.startswith("classes_").any()
    rows = rows.sort_values("classes") if against else rows.sort_values("gain", ascending=False)
    figure = Figure(figsize=(7, 3.6 if against else 0.42 * len(rows) + 1.2))
    axes = figure.subplots()
    places = rows["classes"].to_numpy() if against else np.arange(len(rows))
    gains, low, high = (rows[name].to_numpy() for name in ("gain", "low", "high"))
    errors = np.abs(np.stack([gains - low, high - gains]))
    if against:
        axes.vlines(places, rows["least"], rows["largest"], color="#9a9a9a", linewidth=1)
        axes.errorbar(places, gains, yerr=errors, fmt="o-", color="#2a6fb0", elinewidth=3)
        axes.set_xscale("log")
        axes.set_xticks(places, [f"{count:,}" for count in places], minor=False)
        axes.minorticks_off()
        axes.set_xlabel("surrogate classes of one image")
        axes.set_ylabel("points above the baseline")
        axes.axhline(0, color="black", linewidth=0.6)
    else:
        axes.hlines(places, rows["least"], rows["largest"], color="#9a9a9a", linewidth=1)
        axes.errorbar(gains, places, xerr=errors, fmt="o", color="#2a6fb0", elinewidth=3)
        axes.set_yticks(places, rows["row"])
        axes.invert_yaxis()
        axes.set_xlabel("points above the baseline")
        axes.axvline(0, color="black", linewidth=0.6)
    axes.set_title(f"{title} (thick: 95 % over test images; thin: least and largest of the seeds)", fontsize=9)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110, bbox_inches="tight", metadata={"Software": None})


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="STL-10's binary files")
    parser.add_argument("--stand-in", action="store_true", help="make a pool and folds from fixed seeds")
    parser.add_argument("--images", type=Path, help="folder of other images for the stand-in pool")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="default 0 1 2")
    parser.add_argument("--long-seeds", type=int, default=1, help="how many seeds run the rows _long (default 1)")
    parser.add_argument("--rows", nargs="+", help="run only these and the baseline")
    parser.add_argument("--quick", action="store_true", help="one seed, three rows, a tenth of the images")
    parser.add_argument("--work", type=Path, help="where to run (default work/benchmark-ablation)")
    parser.add_argument("--pictures", type=Path, help="where to draw (default: the folder pictures in --work)")
    arguments = parser.parse_args()
    profile = parse(profiles.compose(ROOT / "conf", "ablation"), "profile ablation")
    rows = [name for name in profile.variants.train if not arguments.rows or name in ("baseline", *arguments.rows)]
    seeds = arguments.seeds
    if arguments.quick:
        rows, seeds = list(QUICK_ROWS), seeds[:1]
    folder = binary_folder(arguments.folder).resolve()
    workspace = Workspace(
        arguments.work or ROOT / "work" / f"benchmark-ablation{'-quick' if arguments.quick else ''}",
        {
            "folder": str(folder),
            "stand_in": arguments.stand_in,
            "images": arguments.images and str(arguments.images.resolve()),
            "quick": arguments.quick,
        },
        lambda data: fill(data, folder, arguments.stand_in, arguments.images, arguments.quick),
    )
    equal = [name for name in rows if not name.endswith("_long")]
    found = [entry for seed in seeds for entry in run(workspace, seed, equal, arguments.quick)]
    if long := [name for name in rows if name.endswith("_long")]:
        for seed in seeds[: arguments.long_seeds]:
            found += run(workspace, seed, long, arguments.quick)
    table = summary(found)
    for key, lines in answers(table).items():
        print(f"\n{QUESTIONS[key][0]}\n{lines.to_string(index=False)}")
        draw((arguments.pictures or workspace.folder / "pictures") / f"ablation-{key}.png", QUESTIONS[key][0], lines)
    print()
    finish(table, "ablation", seeds=seeds, quick=arguments.quick, rows=table.to_dict("records"))


if __name__ == "__main__":
    main()
