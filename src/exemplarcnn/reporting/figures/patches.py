"""Draw surrogate classes: images, their anchors, and patches."""

from pathlib import Path

import numpy as np
import pandas as pd

from exemplarcnn.data.types import Pool
from exemplarcnn.files import read_array, read_table
from exemplarcnn.reporting.figures.sheet import Sheet


def draw(path: Path, pool: Pool, table: pd.DataFrame, surrogate_set: Path, rows: int = 6, columns: int = 12) -> None:
    """Draw the first image of each of the first classes, its anchor, and patches spread over the class.

    In the style of the paper's Figure 1.
    """
    # In mode `online` only the validation patches are on disk.
    name = "train" if (surrogate_set / "train.npy").exists() else "valid"
    labels, drawn = (read_array(surrogate_set / f"{name}{kind}.npy") for kind in ("_y", ""))
    anchors = read_table(surrogate_set / "anchors.csv", integers=["image_id", "row", "column"]).set_index("image_id")
    rows = min(rows, int(labels.max()) + 1)
    sheet = Sheet(rows, columns + 1, side=0.8, line=0.2)
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
