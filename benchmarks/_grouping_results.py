"""What grouping.py makes of the results of rows: gains, claims, and how gains change with the number of steps."""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from _common import bootstrap_seeds
from exemplarcnn.evaluation.intervals import gain

BASELINE, CLUSTERED, DENDROGRAM, NEIGHBOURS = "baseline", "clustered", "dendrogram", "neighbours"
RANDOM, UNGROUPED, SPREAD, ALONE = "random", "ungrouped", "spread", "clusters_alone"
PAPER_BASELINE, PAPER_CLUSTERED = "paper_baseline", "paper_clustered"
# Rows that run at the smallest number of steps alone.
ONCE = (SPREAD, ALONE, PAPER_BASELINE, PAPER_CLUSTERED)
# What the paper says, what differs between two rows, and the two rows. docs/method.md, section 5.7, describes the rows.
CLAIMS = {
    "clustering: more images, in as many classes": (CLUSTERED, BASELINE),
    "clustering as in the paper: more images, as many times the patches and steps": (PAPER_CLUSTERED, PAPER_BASELINE),
    "similarity: the same images in classes of the same sizes, not dealt at random": (CLUSTERED, RANDOM),
    "grouping: the same images in fewer classes, not one class each": (CLUSTERED, UNGROUPED),
    "collisions: as many images, one class each, drawn at random instead of alike": (SPREAD, UNGROUPED),
    "more images, so more classes of one image": (SPREAD, BASELINE),
    "clusters among single images: somewhat more images, in as many classes": (DENDROGRAM, BASELINE),
    "neighbours added to clusters and single images: more images, in as many classes": (CLUSTERED, DENDROGRAM),
    "neighbours without clusters: more images, in as many classes": (NEIGHBOURS, BASELINE),
    "a constant number of classes, by single images beside clusters: more images and more classes": (DENDROGRAM, ALONE),
}
BEST_OTHER = "clustering beside the row that was best at the number of steps before"
CHANGING = ((CLUSTERED, BASELINE), (CLUSTERED, UNGROUPED))

Found = dict[str, Any]
Grouped = dict[tuple[int, str], list[Found]]


def summary(found: list[Found]) -> pd.DataFrame:
    """Make a line of each row at each number of steps: means over seeds, and the gain over the row ``over``."""
    lines = []
    by = grouped(found)
    for (steps, row), mine in by.items():
        line = {"steps": steps, "row": row}
        line |= {key: round(np.mean([float(each[key]) for each in mine])) for key in ("classes", "images")}
        line["steps taken"] = round(np.mean([float(each["steps"]) for each in mine]))
        line |= mean_of([each["alike"] for each in mine], "alike")
        line |= mean_of([each["several"] for each in mine], "several")
        line |= mean_of([each["purity"] and each["purity"]["purity"] for each in mine], "purity")
        line |= mean_of([each["purity"] and each["purity"]["by_chance"] for each in mine], "by chance")
        line["accuracy"] = 100 * np.mean([each["right"].mean() for each in mine])
        line |= {f"seed {each['seed']}": 100 * each["right"].mean() for each in mine}
        if row not in (BASELINE, PAPER_BASELINE):
            over = PAPER_BASELINE if row == PAPER_CLUSTERED else BASELINE
            line["over"] = over
            line |= interval(gains_of(by, steps, row, over))
        lines.append(line)
    return pd.DataFrame(lines)


def grouped(found: list[Found]) -> Grouped:
    """Bring together what the seeds found, by number of steps and row."""
    together: Grouped = {}
    for each in found:
        together.setdefault((each["steps_asked"], each["row"]), []).append(each)
    return together


def mean_of(values: list[float | None], name: str) -> dict[str, float]:
    """Return the mean as an entry of a line; none where a value is missing."""
    known = [value for value in values if value is not None]
    return {name: float(np.mean(known))} if len(known) == len(values) else {}


def gains_of(by: Grouped, steps: int, one: str, other: str) -> NDArray[np.float64]:
    """Return by how many points a row beats another, of each seed of the first: (seeds, test images)."""
    theirs = {each["seed"]: each["right"] for each in by[steps, other]}
    return np.stack([gain(each["right"], theirs[each["seed"]]) for each in by[steps, one]])


def interval(gains: NDArray[np.float64]) -> dict[str, float]:
    """Return the mean of (seeds, test images), its interval over both, and the range of single seeds."""
    low, high = bootstrap_seeds(gains, 0)
    single = gains.mean(axis=1)
    return {"gain": gains.mean(), "low": low, "high": high, "least": single.min(), "largest": single.max()}


def claims(found: list[Found]) -> pd.DataFrame:
    """Make a line of each claim at each number of steps at which both of its rows ran.

    The best other row is chosen by the trainings of one number of steps and compared by those of the next, so that
    what it owes to chance in training does not count. Both are of the same test images: what it owes to these stays,
    and is for it and against clustering.
    """
    by = grouped(found)
    numbers = sorted({steps for steps, _ in by})
    asked = [(claim, *rows, steps) for claim, rows in CLAIMS.items() for steps in numbers]
    if len(numbers) > 1:
        asked += [(BEST_OTHER, CLUSTERED, row, numbers[-1]) for row in best_other(found, numbers[-2])]
    return pd.DataFrame(
        [
            {"claim": claim, "rows": f"{one} - {other}", "steps": steps} | interval(gains_of(by, steps, one, other))
            for claim, one, other, steps in asked
            if (steps, one) in by and (steps, other) in by
        ]
    )


def best_other(found: list[Found], steps: int) -> list[str]:
    """Return the row with the largest mean gain of those that run at every number of steps, besides clustering.

    None where there is none.
    """
    by = grouped(found)
    rows = [row for number, row in by if number == steps and row not in (BASELINE, CLUSTERED, *ONCE)]
    return sorted(rows, key=lambda row: gains_of(by, steps, row, BASELINE).mean())[-1:]


def changes(found: list[Found]) -> pd.DataFrame:
    """Make a line of how a gain changes from the smallest to the largest number of steps at which both rows ran.

    Seeds and test images are those of both gains, so the bootstrap draws them together.
    """
    by = grouped(found)
    lines = []
    for one, other in CHANGING:
        both = sorted(steps for steps, row in by if row == one and (steps, other) in by)
        if len(both) > 1:
            change = gains_of(by, both[-1], one, other) - gains_of(by, both[0], one, other)
            lines.append({"rows": f"{one} - {other}", "from": both[0], "to": both[-1]} | interval(change))
    return pd.DataFrame(lines)
