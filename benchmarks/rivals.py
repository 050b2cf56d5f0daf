"""Compare recipes and rivals on STL-10's test images, each with what it costs, for several seeds.

    python benchmarks/rivals.py FOLDER RIVALS.yaml [--stand-in] [--images OTHER] [--seeds 0 1 2] [--only NAME ...]

FOLDER, --stand-in and OTHER are those of stl10.py. RIVALS.yaml is as _trials.py says; search.py chooses its trials by
training labels. Here, each is trained on the whole pool and tested on the test images, once for each seed. A name's
first word is the budget in minutes, such as in `10 modern` and `10 simclr`: rows of one budget are compared with the
first of them.

Printed: for each row the accuracy (mean over the folds and seeds, with a 95 % interval from a bootstrap over seeds and
test images together), each seed, the difference from the first row of its budget with such an interval, minutes, for
how many seeds these are known, whether they are more than 5 % over the budget, and how many folds of all seeds chose an
end of the grid of C (then a better one may lie beyond). Minutes are the seconds of all stages that the row needs, added
up; without the start of processes and DVC's own work. Then, for each budget, who is ahead, and the hours of all rows.
One picture shows accuracy against minutes (--picture).

Run the same command again to continue where it stopped; it tries again what failed. Run it from a checkout that nobody
edits, as search.py says.
"""

import argparse
from itertools import groupby
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray

from _common import ROOT, Workspace, bootstrap_seeds, finish
from _trials import about, asked, check, hours, prepare, resolved, rights, run
from exemplarcnn.data.stl10_folder import binary_folder
from exemplarcnn.evaluation.intervals import gain
from stl10 import fill

matplotlib.use("Agg")
OVER = 1.05  # of the budget


def measure(workspace: Workspace, name: str, trial: dict[str, Any], alone: bool) -> dict[str, Any]:
    """Return what a trial finds: its figures, and which test images are right; run it unless that is done."""
    line: dict[str, Any] = {"name": name, "trial": trial, "suited": prepare(workspace, trial)} | about(workspace, trial)
    line |= run(workspace, trial, line["identity"], alone)
    return line | {"right": None if line["failed"] else rights(workspace, line)}


def budget(name: str) -> float:
    """Return the minutes that a row may take."""
    return float(name.split()[0])


def summary(found: dict[str, list[dict[str, Any]]]) -> pd.DataFrame:
    """Make a line of each row, from what its seeds found."""
    first: dict[float, str] = {}
    lines = []
    for name, mine in found.items():
        start = {each["trial"]["seed"]: each["right"] for each in found[first.setdefault(budget(name), name)]}
        done = [each for each in mine if not each["failed"]]
        line: dict[str, Any] = {"row": name, "minutes": None, "known": f"0 of {len(mine)}"}
        if done:
            line |= spread("accuracy", [100 * each["right"].mean(axis=0) for each in done], ("low", "high"))
            line |= {f"seed {each['trial']['seed']}": each["accuracy"] for each in done}
        both = [(each["right"], start[each["trial"]["seed"]]) for each in done]
        if name not in first.values() and (gains := [gain(one, other) for one, other in both if other is not None]):
            line |= spread("gain", gains, ("gain low", "gain high"))
        if known := [each["minutes"] for each in mine if each["minutes"] is not None]:
            minutes = float(np.mean(known))
            line |= {"minutes": minutes, "known": f"{len(known)} of {len(mine)}"}
            line["budget"] = "over its budget" if minutes > OVER * budget(name) else ""
        line["ends"] = sum(each.get("ends", 0) for each in done)
        line |= {"alone": all(each["alone"] for each in done), "failed": len(mine) - len(done)}
        lines.append(line)
    return pd.DataFrame(lines)


def spread(name: str, values: list[NDArray[np.float64]], ends: tuple[str, str]) -> dict[str, float]:
    """Return the mean over seeds and test images, and the ends of its interval, under these names."""
    each = np.stack(values)
    return {name: float(each.mean())} | dict(zip(ends, bootstrap_seeds(each, 0), strict=True))


def ahead(table: pd.DataFrame) -> list[str]:
    """Say for each budget who is ahead of its first row and by how much, or which row is next to it."""
    said = []
    rows = sorted(table.to_dict("records"), key=lambda line: budget(line["row"]))
    for minutes, (first, *others) in groupby(rows, lambda line: budget(line["row"])):
        compared = [line for line in others if not pd.isna(line.get("gain", np.nan))]
        if not compared:
            continue
        best = max(compared, key=lambda line: float(line["gain"]))
        text = f"{best['row']} is ahead of {first['row']} by {best['gain']:.2f}"
        if best["gain"] <= 0:
            text = f"{first['row']} is ahead; next is {best['row']}, at {best['gain']:.2f}"
        said.append(f"{minutes:g} minutes: {text} ({best['gain low']:.2f} to {best['gain high']:.2f})")
    return said


def draw(path: Path, table: pd.DataFrame) -> None:
    """Draw accuracy against minutes, with intervals and names."""
    shown = table.dropna(subset=["minutes", "accuracy"])
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
    for name in names:
        try:
            budget(name)
        except ValueError:
            parser.error(f"{arguments.rivals}: {name} must begin with its budget in minutes")
    folder = binary_folder(arguments.folder).resolve()
    images = arguments.images and arguments.images.resolve()
    workspace = Workspace(
        arguments.work or ROOT / "work" / "benchmark-rivals",
        {"folder": str(folder), "stand_in": arguments.stand_in, "images": str(images)},
        lambda data: fill(data, folder, arguments.stand_in, images, False),
    )
    check(workspace, trials, names)
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    for seed in arguments.seeds:
        for name in names:
            line = measure(workspace, name, resolved(trials, name) | {"seed": seed}, not arguments.beside)
            found[name].append(line)
            text = "failed" if line["failed"] else f"{line['accuracy']:.2f} %, {line['minutes']} minutes"
            print(f"{name}, seed {seed}: {text}", flush=True)
    table = summary(found)
    draw(arguments.picture or workspace.folder / "rivals.png", table)
    kept = [{key: value for key, value in each.items() if key != "right"} for mine in found.values() for each in mine]
    print(*ahead(table), hours(kept), sep="\n")
    failed = [f"{line['name']}, seed {line['trial']['seed']}, failed" for line in kept if line["failed"]]
    finish(table.round(2), "rivals", failed, seeds=arguments.seeds, rows=table.round(3).to_dict("records"), runs=kept)


if __name__ == "__main__":
    main()
