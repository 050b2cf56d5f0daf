"""Draw the classes that a grouping has made."""

from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.spatial.distance import pdist

from exemplarcnn.classes.tables import sizes
from exemplarcnn.data.types import Pool
from exemplarcnn.reporting.figures import style


def draw(
    path: Path, pool: Pool, table: pd.DataFrame, features: NDArray[np.float32], rows: int = 8, columns: int = 6
) -> None:
    """Draw, side by side, the largest clusters, the tightest, and single images with their neighbours."""
    ids, starts = np.unique(table["class_id"].to_numpy(), return_index=True)
    members = dict(zip(ids.tolist(), np.split(table["image_id"].to_numpy(), starts[1:]), strict=True))
    made = [int(c) for c in table.loc[table["origin"] == "cluster", "class_id"].unique()]
    width = {c: diameter(features, members[c]) for c in made}
    size = sizes(table)
    blocks = {
        "largest clusters": sorted(made, key=lambda c: (-size[c], width[c], c)),
        "tightest clusters": sorted(made, key=lambda c: (width[c], c)),
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
    style.save(figure, path)


def _mosaic(pool: Pool, block: list[NDArray[np.int64]], rows: int, columns: int) -> NDArray[np.uint8]:
    """Put images into one picture on white, one row per class; all are resized to one size."""
    side, gap = 96, 6
    canvas = np.full((rows * (side + gap), columns * (side + gap), 3), 255, np.uint8)
    for (row, column), image in (((r, c), i) for r, images in enumerate(block) for c, i in enumerate(images)):
        top, left = row * (side + gap), column * (side + gap)
        canvas[top : top + side, left : left + side] = cv2.resize(pool[int(image)], (side, side))
    return canvas


def diameter(features: NDArray[np.float32], members: NDArray[np.int64]) -> float:
    """Return the largest distance between two members of a cluster."""
    return float(pdist(np.asarray(features[np.sort(members)], np.float64)).max())
