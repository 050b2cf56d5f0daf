"""Draw the page's charts as SVG: legible in its light and dark colours, with no file beside it."""

import io
import re
from collections.abc import Iterator
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from exemplarcnn.classes import tables as classes
from exemplarcnn.files import read_table
from exemplarcnn.reporting.figures import style
from exemplarcnn.text import plain

GREY = "#8a8a8a"  # which stands for the page's colour of such text, in light and dark
CURVES = ("train_loss", "valid_loss", "valid_accuracy")
LINES = ("#3b82c4", "#e08a2e", "#4fa36a", "#c95d86", "#8c76c9", "#7d8a94")


def learning_curves(tables: dict[str, Path], titles: dict[str, str]) -> str:
    """Draw learning curves as SVG: loss on training and validation data, accuracy on validation data.

    Parameters
    ----------
    tables
        By variant, the file of its learning curve; missing files are skipped.
    titles
        By variant, its title.
    """
    figure = Figure(figsize=(9, 3.4))
    left, right = figure.subplots(1, 2)
    there = {name: path for name, path in tables.items() if path.exists()}
    lines = []
    for colour, path in zip(_colours(), there.values(), strict=False):
        table = read_table(path, integers=["epoch"], floats=CURVES)
        lines += left.plot(table["epoch"], table["valid_loss"], color=colour)
        left.plot(table["epoch"], table["train_loss"], color=colour, linestyle=":", linewidth=1)
        right.plot(table["epoch"], 100 * table["valid_accuracy"], color=colour)
    for axes, label in ((left, "loss"), (right, "accuracy, %")):
        axes.set_xlabel("epoch")
        axes.set_ylabel(label)
        _quiet(axes)
    # Named here, since matplotlib ignores a line's own label if it begins with _.
    shown = [plain(titles[name], style.IN_A_TITLE) for name in there]
    figure.legend(lines, shown, loc="lower center", ncol=3, frameon=False, labelcolor=GREY, fontsize=9)
    figure.subplots_adjust(bottom=0.33, wspace=0.28)
    return _svg(figure)


def class_sizes(table: Path) -> str:
    """Draw as SVG how many classes of a class table have how many images."""
    counts = np.bincount(classes.sizes(read_table(table, integers=["class_id"])))
    figure = Figure(figsize=(6, 2.6))
    axes = figure.subplots()
    places = np.flatnonzero(counts)
    axes.bar([str(place) for place in places], counts[places], color=LINES[0])
    for at, place in enumerate(places):
        axes.text(at, counts[place], f"{counts[place]:,}", ha="center", va="bottom", color=GREY, fontsize=9)
    axes.set_xlabel("images in a class")
    axes.set_ylabel("classes")
    axes.margins(y=0.15)
    _quiet(axes)
    figure.subplots_adjust(bottom=0.22)
    return _svg(figure)


def _colours() -> Iterator[str]:
    while True:
        yield from LINES


def _quiet(axes: Axes) -> None:
    """Remove what is not data, and make the rest legible on any background."""
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("bottom", "left"):
        axes.spines[side].set_color(GREY)
    axes.tick_params(colors=GREY)
    axes.xaxis.label.set_color(GREY)
    axes.yaxis.label.set_color(GREY)


def _svg(figure: Figure) -> str:
    buffer = io.StringIO()
    with (
        matplotlib.rc_context({"svg.fonttype": "none", "font.family": "sans-serif"}),
        style.without_missing_letters(),
    ):
        # Metadata would name the drawing program, with its address.
        nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(buffer, format="svg", transparent=True, metadata=nothing)
    text = buffer.getvalue()
    # Ids that nothing refers to would be on the page once for each chart.
    return re.sub(r' id="[\w.]+_\d+"', "", text[text.index("<svg") :]).replace(GREY, "currentColor")
