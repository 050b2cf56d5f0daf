"""Draw images and their nearest neighbours in the features of several networks."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from exemplarcnn.data.types import Pool
from exemplarcnn.reporting.figures.sheet import GAP, Sheet
from exemplarcnn.reporting.figures.style import IN_A_TITLE
from exemplarcnn.text import plain

ROWS = 4096  # rows of features that are converted at a time


def draw(path: Path, pool: Pool, features: dict[str, NDArray[np.float32]], queries: list[int], nearest: int) -> None:
    """Draw images and, for each of several networks, the images whose features are nearest.

    Parameters
    ----------
    path, pool
        The file to write, and the images.
    features
        By the network's title: (images, d) float32.
    queries, nearest
        Indices of the images, one line each, and how many neighbours each gets.
    """
    columns = 1 + len(features) * nearest
    sheet = Sheet(len(queries), columns, side=0.85, line=0.2)
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
    """Return one row's distances to all, block by block: all features at once in float64 would take gigabytes."""
    blocks = (features[start : start + ROWS].astype(np.float64) for start in range(0, len(features), ROWS))
    return np.concatenate([np.linalg.norm(block - features[query], axis=1) for block in blocks])
