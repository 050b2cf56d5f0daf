"""Lay out the page's forest plot: where each difference and its interval lie on a scale, in percent of its width.

The page draws it with CSS, so that its words are text at any width, in light and dark, and on paper. The picture for
``results.md`` is drawn by :mod:`exemplarcnn.reporting.figures.forest`.
"""

import math
from typing import Any, NamedTuple

from exemplarcnn.reporting import differences

STEPS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100)  # points between two marks of the scale
MARKS = 6  # at most


class Line(NamedTuple):
    """A line of the plot: its names and numbers as texts, its places in percent of the scale."""

    title: str
    against: str
    difference: str
    interval: str
    folds: str
    sure: bool
    low: float
    point: float
    high: float


class Plot(NamedTuple):
    """The lines, the place of zero, and the marks of the scale as (place, text)."""

    lines: list[Line]
    zero: float
    marks: list[tuple[float, str]]


def lay_out(entries: list[dict[str, Any]], titles: dict[str, str]) -> Plot:
    """Lay out differences, as `differences.between_rows` returns them, on a scale that ends at whole marks."""
    least = min((entry["low"] for entry in entries), default=0.0)
    most = max((entry["high"] for entry in entries), default=0.0)
    step = next((each for each in STEPS if _ends(least, most, each)[2] <= MARKS), STEPS[-1])
    first, last, _ = _ends(least, most, step)

    def place(value: float) -> float:
        return round(100 * (value / step - first) / (last - first), 2)

    lines = [
        Line(
            title=title,
            against=against,
            difference=difference,
            interval=interval,
            folds=folds,
            sure=differences.distinct(entry),
            low=place(entry["low"]),
            point=place(entry["difference"]),
            high=place(entry["high"]),
        )
        for (title, against, difference, interval, folds), entry in zip(
            differences.texts(entries, titles), entries, strict=True
        )
    ]
    marks = [(place(step * number), f"{step * number:+g}" if number else "0") for number in range(first, last + 1)]
    return Plot(lines, place(0), marks)


def _ends(least: float, most: float, step: float) -> tuple[int, int, int]:
    """Return the first and the last mark of a scale that contains zero, in steps, and how many there are."""
    first = math.floor(min(least, 0) / step)
    last = math.ceil(max(most, 0) / step)
    last = max(last, first + 1)
    return first, last, last - first + 1
