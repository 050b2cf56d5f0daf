"""The pictures of grouping.py: gains against steps, and against how alike the images of a class are."""

from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from _grouping_results import BASELINE, PAPER_CLUSTERED

matplotlib.use("Agg")

# The least share of classes with several images: the likeness of fewer says little about a row.
MOSTLY = 0.5


def draw_steps(path: Path, table: pd.DataFrame, pool: str) -> None:
    """Draw gains against steps: a line for each row, bars for the intervals."""
    figure = Figure(figsize=(7, 4.2))
    axes = figure.subplots()
    gained = table[table["gain"].notna()]
    rows = list(dict.fromkeys(gained["row"]))
    for place, row in enumerate(rows):
        lines = gained[gained["row"] == row].sort_values("steps")
        over = lines["over"].iloc[0]
        label = row if over == BASELINE else f"{row} over {over}"
        draw_gains(axes, lines["steps"] * 1.03 ** (place - (len(rows) - 1) / 2), lines, "o-", label)
    numbers = sorted(table["steps"].unique())
    axes.set_xscale("log")
    axes.set_xticks(numbers, [f"{number:,}" for number in numbers], minor=False)
    axes.minorticks_off()
    axes.set_xlabel("steps of the baseline")
    axes.set_ylabel("points above the baseline")
    axes.set_title(f"{pool}: gain of groupings ({bars(table)})", fontsize=10)
    axes.legend(fontsize=7, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    save(figure, path)


def draw_alike(path: Path, table: pd.DataFrame, pool: str) -> None:
    """Draw gains against how alike the images of a class are, a panel for each number of steps.

    Likeness is measured in another network's features in each. Rows in which fewer than half of the classes have
    several images are left out.
    """
    shown = table[table["gain"].notna() & (table["row"] != PAPER_CLUSTERED) & (table["several"] >= MOSTLY)]
    numbers = sorted(shown["steps"].unique())
    figure = Figure(figsize=(1 + 3.6 * len(numbers), 4.2))
    panels = figure.subplots(1, len(numbers), sharey=True, squeeze=False)[0]
    for axes, steps in zip(panels, numbers, strict=True):
        lines = shown[shown["steps"] == steps]
        draw_gains(axes, lines["alike"], lines, "o", "")
        for line in lines.to_dict("records"):
            axes.annotate(line["row"], (line["alike"], line["gain"]), (4, 3), textcoords="offset points", fontsize=7)
        axes.margins(x=0.25)  # names stand to the right of their points
        axes.set_title(f"{steps:,} steps", fontsize=9)
    panels[0].set_ylabel("points above the baseline")
    figure.suptitle(f"{pool}: gain and likeness ({bars(table)})", fontsize=10)
    figure.supxlabel(
        "how alike two images of a class are, to the baseline of as many steps (0: drawn at random, 1: the same)\n"
        "only rows in which at least half of the classes have several images",
        fontsize=8,
    )
    figure.subplots_adjust(bottom=0.2)
    save(figure, path)


def draw_gains(axes: Axes, across: "pd.Series[float]", lines: pd.DataFrame, style: str, label: str) -> None:
    """Draw gains with their intervals, and the line of none."""
    errors = np.abs(np.stack([lines["gain"] - lines["low"], lines["high"] - lines["gain"]]))
    axes.errorbar(across, lines["gain"], yerr=errors, fmt=style, markersize=4, elinewidth=1, label=label)
    axes.axhline(0, color="black", linewidth=0.8)


def bars(table: pd.DataFrame) -> str:
    """Say what the bars of a picture are."""
    seeds = sum(str(name).startswith("seed ") for name in table)
    return f"bars: 95 % over {f'{seeds} seeds and ' if seeds > 1 else ''}test images"


def save(figure: Figure, path: Path) -> None:
    """Write a picture, without a date."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110, bbox_inches="tight", metadata={"Software": None})
