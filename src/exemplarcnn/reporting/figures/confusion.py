"""Draw which classes a classifier confuses: its confusion matrix, and its most confident mistakes."""

from math import isqrt
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from exemplarcnn.data.types import Pool
from exemplarcnn.reporting.figures import style
from exemplarcnn.reporting.figures.sheet import Sheet
from exemplarcnn.text import plain

NAMES = 50  # most names that are legible along an axis


def draw_matrix(path: Path, table: pd.DataFrame, title: str) -> None:
    """Draw a confusion matrix in percent of each true class.

    With up to `CLASSES` classes, each cell shows its number. With more, colours show it, with a scale beside them;
    with more than `NAMES`, only some classes are named.

    Parameters
    ----------
    path
        The file to write.
    table
        One row per cell, class by class: ``actual``, ``predicted`` and ``percent``.
    title
        The name of the classifier.
    """
    classes = isqrt(len(table))
    names = table["predicted"].tolist()[:classes]
    percent = table["percent"].to_numpy().reshape(classes, classes)
    numbered = classes <= style.CLASSES
    figure = Figure(figsize=(6.4, 5.6) if numbered else (10.5, 9.2))
    axes = figure.subplots()
    drawn = axes.imshow(percent, cmap="Blues", vmin=0, vmax=100, interpolation="nearest")
    step = -(-classes // NAMES)
    places = range(0, classes, step)
    shown = [plain(names[place], style.ON_AN_AXIS) for place in places]
    size = None if numbered else 7  # None: matplotlib's own
    axes.set_xticks(places, shown, rotation=45 if numbered else 90, ha="right" if numbered else "center", fontsize=size)
    axes.set_yticks(places, shown, fontsize=size)
    thinned = "" if step == 1 else f" (of {classes} classes one in {step} is named)"
    axes.set_xlabel(f"predicted{thinned}")
    axes.set_ylabel(f"actual{thinned}")
    axes.set_title(f"{plain(title, style.IN_A_TITLE)}: percent of each class, mean of the folds", fontsize=10)
    if numbered:
        for row in range(classes):
            for column, value in enumerate(percent[row]):
                colour = "white" if value > 50 else "black"
                axes.text(column, row, f"{value:.0f}", ha="center", va="center", color=colour, fontsize=8)
    else:
        figure.colorbar(drawn, ax=axes, shrink=0.8, label="percent")
    style.save(figure, path)


def draw_mistakes(path: Path, pool: Pool, table: pd.DataFrame, columns: int = 8) -> None:
    """Draw test images that the classifiers get wrong most confidently.

    Parameters
    ----------
    path, pool
        The file to write, and the test images.
    table
        As :func:`exemplarcnn.evaluation.metrics.confident_mistakes` returns it.
    """
    sheet = Sheet(-(-len(table) // columns), columns, side=1.15, line=0.3)
    rows = table[["image_id", "actual", "predicted", "margin"]].itertuples(index=False)
    for place, (image, actual, predicted, margin) in enumerate(rows):
        true, found = (plain(name, style.IN_A_TILE) for name in (actual, predicted))
        caption = f"{true}, not {found}\nimage {image}, by {margin:.1f}"
        sheet.tile(*divmod(place, columns), pool[image], caption)
    sheet.save(path, "Most confident mistakes: the true class, and the one that scores highest")
