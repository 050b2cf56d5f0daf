"""Compare recipes and rivals on STL-10's test images, each with what it costs, for several seeds.

    python benchmarks/rivals.py FOLDER RIVALS.yaml [--stand-in] [--images OTHER] [--seeds 0 1 2] [--only NAME ...]

FOLDER, --stand-in and OTHER are those of stl10.py. RIVALS.yaml is written like the trials of search.py, which chooses
them by training labels; here, each is trained on the whole pool and tested on the test images, once for each seed. A
name's first word groups the rows that are compared, such as `10 exemplar` and `10 simclr` for recipes of ten minutes;
the first of a group is what the others are compared with.

Printed: for each row the accuracy (mean over the folds and seeds, with a 95 % interval from a bootstrap over seeds and
test images together), each seed, the difference from the first row of its group with such an interval, and minutes: the
seconds of all stages that the row needs, added up; without the start of processes and DVC's own work. One picture shows
accuracy against minutes (--picture). Run the same command again to continue where it stopped.
"""

import argparse
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray

from _common import ROOT, Workspace, bootstrap_seeds, finish
from exemplarcnn.data.stl10_folder import binary_folder
from exemplarcnn.evaluation.intervals import gain
from search import about, asked, prepare, resolved, rights, run
from stl10 import fill

matplotlib.use("Agg")


def measure(workspace: Workspace, name: str, trial: dict[str, Any], alone: bool) -> dict[str, Any]:
    """Return what a trial finds: its figures, and which test images are right; run it unless that is done."""
    line: dict[str, Any] = {"name": name, "trial": trial, "suited": prepare(workspace, trial)} | about(workspace, trial)
    line |= run(workspace, trial, line["identity"], alone)
    right = rights(workspace, line)
    assert right is not None, "kept where it ran"
    return line | {"right": right}


def group_of(name: str) -> str:
    """Return the group that a row is in."""
    return name.split()[0]


def summary(found: dict[str, list[dict[str, Any]]]) -> pd.DataFrame:
    """Make a line of each row, from what its seeds found."""
    first: dict[str, str] = {}
    lines = []
    for name, mine in found.items():
        start = found[first.setdefault(group_of(name), name)]
        right = [each["right"] for each in mine]
        accuracies = np.stack([100 * each.mean(axis=0) for each in right])
        line: dict[str, Any] = {"row": name, "accuracy": accuracies.mean()}
        line |= dict(zip(("low", "high"), bootstrap_seeds(accuracies, 0), strict=True))
        line |= {f"seed {each['trial']['seed']}": each["accuracy"] for each in mine}
        if start is not mine:
            gains = np.stack([gain(one, other["right"]) for one, other in zip(right, start, strict=True)])
            line |= {"gain": gains.mean()}
            line |= dict(zip(("gain low", "gain high"), bootstrap_seeds(gains, 0), strict=True))
        minutes = [each["minutes"] for each in mine]
        line["minutes"] = None if None in minutes else float(np.mean(minutes))
        line["alone"] = all(each["alone"] for each in mine)
        lines.append(line)
    return pd.DataFrame(lines)


def draw(path: Path, table: pd.DataFrame) -> None:
    """Draw accuracy against minutes, with intervals and names."""
    shown = table.dropna(subset=["minutes"])
    figure = Figure(figsize=(8, 5))
    axes = figure.subplots()
    errors: NDArray[np.float64] = np.abs(
        np.stack([shown["accuracy"] - shown["low"], shown["high"] - shown["accuracy"]]).astype(float)
    )
    axes.errorbar(shown["minutes"].astype(float), shown["accuracy"], yerr=errors, fmt="o", elinewidth=1)
    for line in shown.to_dict("records"):
        place = (float(line["minutes"]), line["accuracy"])
        axes.annotate(line["row"], place, (5, 2), textcoords="offset points", fontsize=7)
    axes.set_xscale("log")
    axes.set_xlabel("minutes")
    axes.set_ylabel("accuracy, %")
    axes.set_title("Accuracy and cost (bars: 95 % over seeds and test images)", fontsize=10)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110, bbox_inches="tight", metadata={"Software": None})


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="STL-10's binary files")
    parser.add_argument("rivals", type=Path, help="YAML file")
    parser.add_argument("--stand-in", action="store_true", help="make a pool and folds from fixed seeds")
    parser.add_argument("--images", type=Path, help="folder of other images for the stand-in pool")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="default 0 1 2")
    parser.add_argument("--only", nargs="+", help="run these rows only")
    parser.add_argument("--beside", action="store_true", help="note that other work runs, so that times say little")
    parser.add_argument("--work", type=Path, help="where to run (default work/benchmark-rivals)")
    parser.add_argument("--picture", type=Path, help="where to draw (default: rivals.png in --work)")
    arguments = parser.parse_args()
    trials, names = asked(parser, arguments.rivals, arguments.only)
    folder = binary_folder(arguments.folder).resolve()
    images = arguments.images and arguments.images.resolve()
    workspace = Workspace(
        arguments.work or ROOT / "work" / "benchmark-rivals",
        {"folder": str(folder), "stand_in": arguments.stand_in, "images": str(images)},
        lambda data: fill(data, folder, arguments.stand_in, images, False),
    )
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    for seed in arguments.seeds:
        for name in names:
            line = measure(workspace, name, resolved(trials, name) | {"seed": seed}, not arguments.beside)
            found[name].append(line)
            print(f"{name}, seed {seed}: {line['accuracy']:.2f} %, {line['minutes']} minutes", flush=True)
        # Sets of patches of earlier seeds are not needed again; within a seed rows share some.
        workspace.dvc("gc", "--workspace", "--force", "-q")
    table = summary(found)
    draw(arguments.picture or workspace.folder / "rivals.png", table)
    kept = [{key: value for key, value in each.items() if key != "right"} for mine in found.values() for each in mine]
    finish(table.round(2), "rivals", seeds=arguments.seeds, rows=table.round(3).to_dict("records"), runs=kept)


if __name__ == "__main__":
    main()
