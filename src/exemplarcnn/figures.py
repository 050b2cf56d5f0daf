"""Pictures: for looking, where a number would have to be read. The same inputs give the same bytes."""

from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from exemplarcnn.classes import sizes
from exemplarcnn.files import read_array, whole
from exemplarcnn.images import Pool

matplotlib.use("Agg")

OURS, PAPER = "#2a6fb0", "#c9c9c9"


def _save(figure: Figure, path: Path) -> None:
    with whole(path) as partial:
        # Without this matplotlib would write its own version into the file.
        figure.savefig(partial, dpi=110, bbox_inches="tight", metadata={"Software": None})


def _tile(axes: Axes, image: NDArray[np.uint8], title: str = "") -> None:
    axes.imshow(image)
    axes.set_title(title, fontsize=7)
    axes.set_axis_off()


def patches(path: Path, pool: Pool, table: pd.DataFrame, surrogate_set: Path, rows: int = 6, columns: int = 12) -> None:
    """Draw one image of each of the first classes, its anchor, and patches of the class (the paper's Figure 1)."""
    labels, train = read_array(surrogate_set / "train_y.npy"), read_array(surrogate_set / "train.npy")
    anchors = pd.read_csv(surrogate_set / "anchors.csv").set_index("image_id")
    rows = min(rows, int(labels.max()) + 1)
    figure = Figure(figsize=(columns + 1, rows + 0.5))
    grid = figure.subplots(rows, columns + 1, squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    for class_id in range(rows):
        image = int(table["image_id"].to_numpy()[table["class_id"] == class_id][0])
        _tile(grid[class_id, 0], pool[image], f"image {image}")
        for row, column in anchors.loc[[image], ["row", "column"]].to_numpy():
            grid[class_id, 0].plot(column, row, "+", color="red", markersize=9)
        start = int(np.searchsorted(labels, class_id))
        shown = min(columns, int(np.searchsorted(labels, class_id, side="right")) - start)
        for column in range(shown):
            _tile(grid[class_id, column + 1], train[start + column])
    figure.suptitle("Surrogate classes: an image with its anchor, and patches drawn around it", fontsize=10)
    _save(figure, path)


def clusters(
    path: Path,
    pool: Pool,
    table: pd.DataFrame,
    features: NDArray[np.float32],
    rows: int = 6,
    columns: int = 8,
) -> None:
    """Draw the largest and the tightest clusters, and some single images with their neighbours."""
    ids, starts = np.unique(table["class_id"].to_numpy(), return_index=True)
    split = np.split(table["image_id"].to_numpy(), starts[1:])
    members = dict(zip(ids.tolist(), split, strict=True))
    made = [int(c) for c in table.loc[table["origin"] == "cluster", "class_id"].unique()]
    spread = {c: _diameter(features, members[c]) for c in made}
    size = sizes(table)
    largest = sorted(made, key=lambda c: (-size[c], spread[c], c))[:rows]
    tightest = sorted(made, key=lambda c: (spread[c], c))[:rows]
    singles = [int(c) for c in table.loc[table["origin"] == "single", "class_id"].unique()][:rows]
    blocks = [
        ("largest clusters", largest),
        ("tightest clusters", tightest),
        ("single images with neighbours", singles),
    ]
    blocks = [(name, chosen) for name, chosen in blocks if chosen]
    figure = Figure(figsize=(columns, sum(len(chosen) + 0.4 for _, chosen in blocks)))
    parts = np.atleast_1d(
        np.array(figure.subfigures(len(blocks), 1, height_ratios=[len(c) + 0.4 for _, c in blocks]), dtype=object)
    )
    for part, (name, chosen) in zip(parts, blocks, strict=True):
        part.suptitle(name, fontsize=9, x=0.02, ha="left")
        grid = part.subplots(len(chosen), columns, squeeze=False)
        for axes in grid.flat:
            axes.set_axis_off()
        for row, class_id in enumerate(chosen):
            for column, image in enumerate(members[class_id][:columns]):
                _tile(grid[row, column], pool[int(image)], _caption(class_id, column, spread))
    _save(figure, path)


def _caption(class_id: int, column: int, spread: dict[int, float]) -> str:
    if column:
        return ""
    return f"class {class_id}" + (f", Ø {spread[class_id]:.2f}" if class_id in spread else "")


def _diameter(features: NDArray[np.float32], members: NDArray[np.int64]) -> float:
    """Largest distance between two members of a cluster."""
    points = np.asarray(features[np.sort(members)], np.float64)
    return float(np.sqrt(((points[:, None] - points[None]) ** 2).sum(axis=2)).max())


def confusion(path: Path, matrix: NDArray[np.float64], names: list[str], title: str) -> None:
    """Draw a confusion matrix in percent of each true class."""
    figure = Figure(figsize=(6.4, 5.6))
    axes = figure.subplots()
    axes.imshow(matrix, cmap="Blues", vmin=0, vmax=1)
    axes.set_xticks(range(len(names)), names, rotation=45, ha="right")
    axes.set_yticks(range(len(names)), names)
    axes.set_xlabel("predicted")
    axes.set_ylabel("actual")
    axes.set_title(f"{title}: percent of each class, mean of the folds", fontsize=10)
    for row, column in np.ndindex(matrix.shape):
        colour = "white" if matrix[row, column] > 0.5 else "black"
        axes.text(
            column,
            row,
            f"{100 * matrix[row, column]:.0f}",
            ha="center",
            va="center",
            color=colour,
            fontsize=8,
        )
    _save(figure, path)


def results(path: Path, gathered: dict[str, Any]) -> None:
    """Draw our accuracies as bars, with the folds as dots and the paper's figures as lines apart."""
    rows = gathered["rows"]
    figure = Figure(figsize=(7.2, 0.7 * len(rows) + 1.2))
    axes = figure.subplots()
    for place, row in enumerate(rows):
        axes.barh(place, row["accuracy_mean"], color=OURS, height=0.55, label="this run" if place == 0 else None)
        axes.plot(row["fold_accuracies"], [place] * len(row["fold_accuracies"]), "k.", markersize=3)
        axes.text(
            row["accuracy_mean"] - 1,
            place,
            f"{row['accuracy_mean']:.1f}",
            va="center",
            ha="right",
            color="white",
        )
        if row["paper"]:
            axes.plot([row["paper"]["mean"]] * 2, [place - 0.38, place + 0.38], color=PAPER, linewidth=4, zorder=0)
    axes.plot([], [], color=PAPER, linewidth=4, label="the paper, on all of STL-10")
    axes.plot([], [], "k.", markersize=3, label="single folds")
    axes.set_yticks(range(len(rows)), [row["title"] for row in rows])
    axes.invert_yaxis()
    axes.set_xlim(0, 100)
    axes.set_xlabel("test accuracy, %")
    axes.set_title(f"{gathered['dataset']['name']}, profile {gathered['profile']}", fontsize=10)
    axes.legend(fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.28), ncol=3, frameon=False)
    _save(figure, path)
