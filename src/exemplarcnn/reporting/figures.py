"""Pictures: for looking, where a number would have to be read. The same inputs give the same bytes."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import cv2
import matplotlib
import numpy as np
import pandas as pd
from matplotlib import font_manager
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.spatial.distance import pdist

from exemplarcnn.classes.tables import sizes
from exemplarcnn.data.types import Pool
from exemplarcnn.files import atomic_write, read_array, read_table
from exemplarcnn.text import plain

matplotlib.use("Agg")
matplotlib.rcParams["text.parse_math"] = False  # a class may be called US$ and A$, or $\frac$
# For letters that matplotlib's own font lacks, the first of these that is installed and has them.
FALLBACKS = (
    "Noto Sans CJK SC",
    "WenQuanYi Zen Hei",
    "PingFang SC",
    "Microsoft YaHei",
    "Noto Sans Arabic",
    "Noto Sans Hebrew",
    "Noto Sans Devanagari",
    "Noto Sans Thai",
    "Noto Emoji",
)
INSTALLED = {font.name for font in font_manager.fontManager.ttflist}
matplotlib.rcParams["font.family"] = ["DejaVu Sans", *(name for name in FALLBACKS if name in INSTALLED), "sans-serif"]

# Letters of a name that there is room for.
IN_A_TILE, ON_AN_AXIS, IN_A_TITLE = 10, 30, 60
TILES = 8  # images in a line of a gallery
GAP = 0.15  # inches between them
CLASSES = 20  # up to so many are shown one by one: each with its numbers, its row of images, its line of a table
NAMES = 50  # that can be told apart along an axis
ROWS = 4096  # of features that are held at a time
Tile = tuple[NDArray[np.uint8], str]
Item = TypeVar("Item")
OURS, PAPER = "#2a6fb0", "#c9c9c9"


@contextmanager
def without_missing_letters() -> Iterator[None]:
    """Say nothing of letters that no font here has: an empty box is drawn for each."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from")
        yield


def _save(figure: Figure, path: Path) -> None:
    with atomic_write(path) as partial, without_missing_letters():
        # Without this matplotlib would write its own version into the file.
        figure.savefig(partial, dpi=110, bbox_inches="tight", metadata={"Software": None})


class _Sheet:
    """Images in rows and columns with a caption above each.

    On one pair of axes, whose coordinates are inches from the upper left: with a pair for each image matplotlib takes
    seconds.
    """

    def __init__(self, rows: int, columns: int, side: float, line: float, top: float = 0.3):
        self.side, self.line, self.top = side, line, top
        width, height = columns * (side + GAP) - GAP, top + rows * (side + line)
        self.figure = Figure(figsize=(width, height))
        self.axes = self.figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(height, 0), autoscale_on=False)
        self.axes.set_axis_off()

    def tile(self, row: int, column: int, image: NDArray[np.uint8], caption: str = "") -> tuple[float, float, float]:
        """Draw an image; its left edge, its upper edge and the side of its pixels."""
        height, width = image.shape[:2]
        pixel = self.side / max(height, width)
        left = column * (self.side + GAP) + (self.side - width * pixel) / 2
        bottom = self.top + (row + 1) * (self.side + self.line)
        upper = bottom - height * pixel
        self.axes.imshow(image, extent=(left, left + width * pixel, bottom, upper), aspect="auto")
        if caption:
            middle = left + width * pixel / 2
            self.axes.text(middle, upper - 0.04, caption, fontsize=7, ha="center", va="bottom", linespacing=1)
        return left, upper, pixel

    def save(self, path: Path, title: str = "") -> None:
        """Write the picture, with a title in the middle above."""
        if title:
            self.axes.set_title(title, fontsize=10, y=1, pad=-self.top * 72 / 2)
        _save(self.figure, path)


def patches(path: Path, pool: Pool, table: pd.DataFrame, surrogate_set: Path, rows: int = 6, columns: int = 12) -> None:
    """Draw the first image of each of the first classes, its anchor, and patches from all over the class.

    In the manner of the paper's Figure 1.
    """
    # In mode `online` the validation patches alone are on disk.
    name = "train" if (surrogate_set / "train.npy").exists() else "valid"
    labels, drawn = (read_array(surrogate_set / f"{name}{kind}.npy") for kind in ("_y", ""))
    anchors = read_table(surrogate_set / "anchors.csv", integers=["image_id", "row", "column"]).set_index("image_id")
    rows = min(rows, int(labels.max()) + 1)
    sheet = _Sheet(rows, columns + 1, side=0.8, line=0.2)
    for class_id in range(rows):
        image = int(table["image_id"].to_numpy()[table["class_id"] == class_id][0])
        left, upper, pixel = sheet.tile(class_id, 0, pool[image], f"image {image}")
        for row, column in anchors.loc[[image], ["row", "column"]].to_numpy():
            at = left + (column + 0.5) * pixel, upper + (row + 0.5) * pixel
            sheet.axes.plot(*at, "+", color="red", markersize=9)
        start, stop = np.searchsorted(labels, [class_id, class_id + 1])
        for column, place in enumerate(np.linspace(start, stop - 1, min(columns, stop - start)).round().astype(int)):
            sheet.tile(class_id, column + 1, drawn[place])
    sheet.save(path, "Surrogate classes: an image with its anchor, and patches of its class")


def spread(items: list[Item], most: int) -> list[Item]:
    """Choose as many of a list as are shown, evenly."""
    return [items[place] for place in np.unique(np.linspace(0, len(items) - 1, min(most, len(items))).astype(int))]


def lines(blocks: list[list[Tile]]) -> list[list[Tile]]:
    """Put blocks of tiles side by side as long as a line has room."""
    result: list[list[Tile]] = []
    for block in blocks:
        if not result or len(result[-1]) + len(block) > TILES:
            result.append([])
        result[-1] += block
    return result


def gallery(path: Path, title: str, rows: list[list[Tile]], columns: int = TILES) -> None:
    """Draw rows of images, each with a line below it; where there are none, say so."""
    sheet = _Sheet(len(rows), columns, side=1.1, line=0.3)
    for row, tiles in enumerate(rows):
        for column, (image, caption) in enumerate(tiles):
            sheet.tile(row, column, image, caption)
    sheet.save(path, title if rows else f"{title}: none")


def neighbours(
    path: Path, pool: Pool, features: dict[str, NDArray[np.float32]], queries: list[int], nearest: int
) -> None:
    """Draw images and, by the features of several networks, the images whose features are nearest.

    Parameters
    ----------
    path, pool
        Where to, and the images.
    features
        By title: (images, d).
    queries, nearest
        The images, a line each, and how many neighbours each has.
    """
    columns = 1 + len(features) * nearest
    sheet = _Sheet(len(queries), columns, side=0.85, line=0.2)
    for line, query in enumerate(queries):
        sheet.tile(line, 0, pool[query], f"image {query}")
        for block, found in enumerate(features.values()):
            distances = _distances(found, query)
            distances[query] = np.inf
            for rank, image in enumerate(np.argsort(distances, kind="stable")[: min(nearest, len(pool) - 1)]):
                sheet.tile(line, 1 + block * nearest + rank, pool[int(image)], f"{distances[image]:.2f}")
    for block, title in enumerate(features):
        left = (1 + block * nearest) * (sheet.side + GAP)
        sheet.axes.text(left, sheet.top / 2, f"nearest in {plain(title, IN_A_TITLE)}", fontsize=10)
    sheet.save(path)


def _distances(features: NDArray[np.float32], query: int) -> NDArray[np.float64]:
    """Distances of one row to all, in blocks: in float64 the features of many images would take gigabytes."""
    blocks = (features[start : start + ROWS].astype(np.float64) for start in range(0, len(features), ROWS))
    return np.concatenate([np.linalg.norm(block - features[query], axis=1) for block in blocks])


def filters(path: Path, weights: NDArray[np.float32], columns: int = 16) -> None:
    """Draw the first layer's filters, (n, 3, height, width), each stretched to the full range of colours."""
    count, _, height, width = weights.shape
    low, high = weights.min(axis=(1, 2, 3), keepdims=True), weights.max(axis=(1, 2, 3), keepdims=True)
    stretched = (weights - low) / np.maximum(high - low, np.finfo(np.float32).tiny)
    rows = -(-count // columns)
    sheet = np.ones((rows * (height + 1) - 1, columns * (width + 1) - 1, 3), np.float32)
    for index, image in enumerate(stretched.transpose(0, 2, 3, 1)):
        row, column = divmod(index, columns)
        top, left = row * (height + 1), column * (width + 1)
        sheet[top : top + height, left : left + width] = image
    figure = Figure(figsize=(8, 8 * sheet.shape[0] / sheet.shape[1]))
    axes = figure.subplots()
    axes.imshow(sheet, interpolation="nearest")
    axes.set_axis_off()
    axes.set_title(f"Filters of the first layer ({count})", fontsize=10)
    _save(figure, path)


def clusters(
    path: Path, pool: Pool, table: pd.DataFrame, features: NDArray[np.float32], rows: int = 8, columns: int = 6
) -> None:
    """Draw, side by side, the largest clusters, the tightest, and single images with their neighbours."""
    ids, starts = np.unique(table["class_id"].to_numpy(), return_index=True)
    members = dict(zip(ids.tolist(), np.split(table["image_id"].to_numpy(), starts[1:]), strict=True))
    made = [int(c) for c in table.loc[table["origin"] == "cluster", "class_id"].unique()]
    spread = {c: _diameter(features, members[c]) for c in made}
    size = sizes(table)
    blocks = {
        "largest clusters": sorted(made, key=lambda c: (-size[c], spread[c], c)),
        "tightest clusters": sorted(made, key=lambda c: (spread[c], c)),
        "single images, nearest held-out": [
            int(c) for c in table.loc[table["origin"] == "single", "class_id"].unique()
        ],
    }
    shown = {name: [members[c][:columns] for c in chosen[:rows]] for name, chosen in blocks.items() if chosen}
    widths = [max(map(len, block)) for block in shown.values()]
    figure = Figure(figsize=(sum(widths) + 0.4 * len(widths), rows + 0.6))
    for axes, (name, block) in zip(
        figure.subplots(1, len(shown), width_ratios=widths, squeeze=False)[0], shown.items(), strict=True
    ):
        axes.imshow(_mosaic(pool, block, rows, max(map(len, block))))
        axes.set_axis_off()
        axes.set_title(name, fontsize=9)
    _save(figure, path)


def _mosaic(pool: Pool, block: list[NDArray[np.int64]], rows: int, columns: int) -> NDArray[np.uint8]:
    """Put images into one picture, a row a class, on white; all are brought to one size."""
    side, gap = 96, 6
    canvas = np.full((rows * (side + gap), columns * (side + gap), 3), 255, np.uint8)
    for (row, column), image in (((r, c), i) for r, images in enumerate(block) for c, i in enumerate(images)):
        top, left = row * (side + gap), column * (side + gap)
        canvas[top : top + side, left : left + side] = cv2.resize(pool[int(image)], (side, side))
    return canvas


def _diameter(features: NDArray[np.float32], members: NDArray[np.int64]) -> float:
    """Largest distance between two members of a cluster."""
    return float(pdist(np.asarray(features[np.sort(members)], np.float64)).max())


def confusion(path: Path, matrix: NDArray[np.float64], names: list[str], title: str) -> None:
    """Draw a confusion matrix in percent of each true class.

    Up to `CLASSES` classes each cell has its number. Of more classes colours tell, with a scale beside them, and of
    more than `NAMES` only some are named.
    """
    numbered = len(names) <= CLASSES
    figure = Figure(figsize=(6.4, 5.6) if numbered else (10.5, 9.2))
    axes = figure.subplots()
    drawn = axes.imshow(matrix, cmap="Blues", vmin=0, vmax=1, interpolation="nearest")
    step = -(-len(names) // NAMES)
    places = range(0, len(names), step)
    shown = [plain(names[place], ON_AN_AXIS) for place in places]
    size = None if numbered else 7  # None: matplotlib's own
    axes.set_xticks(places, shown, rotation=45 if numbered else 90, ha="right" if numbered else "center", fontsize=size)
    axes.set_yticks(places, shown, fontsize=size)
    thinned = "" if step == 1 else f" (of {len(names)} classes one in {step} is named)"
    axes.set_xlabel(f"predicted{thinned}")
    axes.set_ylabel(f"actual{thinned}")
    axes.set_title(f"{plain(title, IN_A_TITLE)}: percent of each class, mean of the folds", fontsize=10)
    if numbered:
        for row, column in np.ndindex(matrix.shape):
            colour = "white" if matrix[row, column] > 0.5 else "black"
            text = f"{100 * matrix[row, column]:.0f}"
            axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=8)
    else:
        figure.colorbar(drawn, ax=axes, format=lambda share, _: f"{100 * share:.0f}", shrink=0.8, label="percent")
    _save(figure, path)


def mistakes(
    path: Path,
    pool: Pool,
    found: list[tuple[int, int, float]],
    labels: NDArray[np.int64],
    names: list[str],
    columns: int = 8,
) -> None:
    """Draw test images that the classifiers are surest and wrong about; see `evaluation.confident_mistakes`."""
    sheet = _Sheet(-(-len(found) // columns), columns, side=1.15, line=0.3)
    shown = [plain(name, IN_A_TILE) for name in names]
    for place, (image, predicted, margin) in enumerate(found):
        caption = f"{shown[labels[image]]}, not {shown[predicted]}\nimage {image}, by {margin:.1f}"
        sheet.tile(*divmod(place, columns), pool[image], caption)
    sheet.save(path, "Most confident mistakes: the true class, and the one that scores highest")


def results(path: Path, gathered: dict[str, Any]) -> None:
    """Draw our accuracies as bars, with the folds as dots and the paper's figures as lines apart.

    Where nothing was tested: how many validation patches each network tells right.
    """
    rows = gathered["rows"] or [
        {"title": entry["title"], "accuracy_mean": entry["valid_accuracy"], "fold_accuracies": [], "paper": None}
        for entry in gathered["learned"]
    ]
    figure = Figure(figsize=(7.2, 0.7 * len(rows) + 1.2))
    axes = figure.subplots()
    for place, row in enumerate(rows):
        axes.barh(place, row["accuracy_mean"], color=OURS, height=0.55, label="this run" if place == 0 else None)
        axes.plot(row["fold_accuracies"], [place] * len(row["fold_accuracies"]), "k.", markersize=3)
        axes.text(
            1,
            place,
            f"{row['accuracy_mean']:.1f}",
            va="center",
            color="white",
        )
        if row["paper"]:
            axes.plot([row["paper"]["mean"]] * 2, [place - 0.38, place + 0.38], color=PAPER, linewidth=4, zorder=0)
    if any(row["paper"] for row in rows):
        axes.plot([], [], color=PAPER, linewidth=4, label="the paper, on all of STL-10")
    if gathered["rows"]:
        axes.plot([], [], "k.", markersize=3, label="single folds")
    axes.set_yticks(range(len(rows)), [plain(row["title"], IN_A_TITLE) for row in rows])
    axes.invert_yaxis()
    axes.set_xlim(0, 100)
    axes.set_xlabel("test accuracy, %" if gathered["rows"] else "validation patches given to their surrogate class, %")
    name = plain(gathered["dataset"]["name"], IN_A_TITLE)
    axes.set_title(f"{name}, profile {plain(gathered['profile'], IN_A_TITLE)}", fontsize=10)
    figure.legend(fontsize=8, loc="upper center", bbox_to_anchor=(0.5, 0.0), ncol=3, frameon=False)
    _save(figure, path)
