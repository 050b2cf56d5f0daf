"""Images in memory, and reading pictures back from matplotlib."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from exemplarcnn.data.types import Indices, Pixels
from tests import pools


class Images(pools.Images):
    """Images in memory, each of one grey that is its number."""

    def __init__(self) -> None:
        super().__init__(np.empty((0, 96, 96, 3), np.uint8))

    def __len__(self) -> int:
        return 60

    def __getitem__(self, index: int) -> Pixels:
        return np.full((96, 96, 3), index, np.uint8)

    def batch(self, indices: Indices) -> Pixels:
        return np.stack([self[i] for i in indices])


POOL = Images()
FEATURES = np.random.default_rng(0).normal(size=(60, 5)).astype(np.float32)


def class_table(clusters: list[list[int]], singles: list[list[int]]) -> pd.DataFrame:
    rows = [(c, image, "cluster") for c, members in enumerate(clusters) for image in members]
    for c, members in enumerate(singles, len(clusters)):
        rows += [(c, image, "neighbour" if place else "single") for place, image in enumerate(members)]
    return pd.DataFrame(rows, columns=["class_id", "image_id", "origin"])


TABLE = class_table([[30, 1, 2], [3, 4], [5, 6, 7, 8]], [[40, 9], [41, 10]])


CLASSES = ["cat", "dog", "owl"]
MATRIX = np.array([[80, 20, 0], [10, 50, 40], [0, 0, 100]])
MISTAKES = pd.DataFrame(
    [(40, "dog", "owl", 3.25), (7, "dog", "cat", 1.5), (9, "cat", "owl", 0.5)],
    columns=["image_id", "actual", "predicted", "margin"],
)


DIFFERENCES: list[dict[str, Any]] = [
    {"variant": "ours", "against": "raw", "difference": 6.25, "low": 4.5, "high": 8.0, "folds": [6.0, 6.5]},
    {"variant": "theirs", "against": "raw", "difference": 0.5, "low": -1.0, "high": 2.0, "folds": []},
]
TITLES = {"ours": "Ours", "theirs": "Theirs", "raw": "Raw"}


def cells(percent: np.ndarray, names: list[str]) -> pd.DataFrame:
    """A confusion matrix with one row a cell."""
    rows = [(names[row], names[column], percent[row, column]) for row, column in np.ndindex(percent.shape)]
    return pd.DataFrame(rows, columns=["actual", "predicted", "percent"])


def picture(axes: Axes) -> np.ndarray:
    (image,) = axes.get_images()
    return shown(image)


def shown(image: AxesImage) -> np.ndarray:
    values = image.get_array()
    assert values is not None
    return np.asarray(values)


def sheet(figure: Figure) -> list[tuple[str, int]]:
    """Caption and grey value of the images on a sheet, line by line; a caption stands right above its image."""
    (axes,) = figure.get_axes()
    captions = {round(sum(text.get_position()), 6): text for text in axes.texts}
    found = []
    for image in axes.get_images():
        left, right, bottom, upper = image.get_extent()
        pixels = shown(image)
        assert (right - left) / (bottom - upper) == pytest.approx(pixels.shape[1] / pixels.shape[0])
        text = captions.get(round((left + right) / 2 + upper - 0.04, 6))
        found.append((upper, left, text.get_text() if text else "", int(pixels[0, 0, 0])))
    return [(caption, grey) for _, _, caption, grey in sorted(found)]


def tiles(axes: Axes) -> list[list[int]]:
    """Grey values in a mosaic, one list a row; white is no image."""
    canvas = picture(axes)
    rows = []
    for top in range(0, len(canvas), 102):
        row = [canvas[top : top + 96, left : left + 96] for left in range(0, canvas.shape[1], 102)]
        assert all((tile == tile[0, 0, 0]).all() for tile in row)
        rows.append([int(tile[0, 0, 0]) for tile in row if tile[0, 0, 0] != 255])
        assert (canvas[top + 96 : top + 102] == 255).all()
    return [row for row in rows if row]


def blocks(figure: Figure) -> dict[str, list[list[int]]]:
    return {axes.get_title(): tiles(axes) for axes in figure.get_axes()}


def gathered() -> dict[str, Any]:
    return {
        "profile": "tiny",
        "dataset": {"name": "sample"},
        "rows": [
            {"title": "Raw", "accuracy_mean": 30.5, "fold_accuracies": [30.0, 31.0], "paper": None},
            {
                "title": "Ours",
                "accuracy_mean": 60.0,
                "fold_accuracies": [59.0, 61.0],
                "paper": {"mean": 74.1, "std": 0.4},
            },
        ],
    }
