"""Draw images with the labels that a network learns from."""

from pathlib import Path

import numpy as np
import pandas as pd

from exemplarcnn.data.types import Pool
from exemplarcnn.reporting.figures.sheet import gallery, spread
from exemplarcnn.reporting.figures.style import CLASSES, IN_A_TILE
from exemplarcnn.text import plain

IMAGES = 6  # of each class


def draw(path: Path, pools: dict[str, Pool], table: pd.DataFrame, names: list[str]) -> None:
    """Draw some images of each label, the surest first.

    Parameters
    ----------
    path, pools
        The file to write, and the pools by name.
    table
        ``pool``, ``image_id``, ``label`` (from 0) and ``margin``, which is NaN if the label was given.
    names
        Names of the classes.
    """
    rows = []
    chosen = spread(list(enumerate(names)), CLASSES)
    for label, name in chosen:
        mine = table[table["label"] == label].sort_values("margin", ascending=False, kind="stable")
        some = spread(list(mine[["pool", "image_id", "margin"]].itertuples(index=False)), IMAGES)
        rows.append([(pools[pool][image], _caption(name, image, margin)) for pool, image, margin in some])
    which = "" if len(chosen) == len(names) else f", {len(chosen)} of {len(names)} classes"
    gallery(path, f"Images by label, from the surest to the least sure{which}", rows)


def _caption(name: str, image: int, margin: float) -> str:
    return f"{plain(name, IN_A_TILE)}: image {image}" + ("" if np.isnan(margin) else f"\nby {margin:.2f}")
