"""Draw unlabelled images by a network's features: farthest from all classes, nearest to one, and closest pairs."""

from pathlib import Path

import pandas as pd

from exemplarcnn.data.types import Pool
from exemplarcnn.reporting.figures.sheet import gallery, lines
from exemplarcnn.reporting.figures.style import IN_A_TILE
from exemplarcnn.text import plain

# How many a gallery shows at most.
IMAGES, PAIRS = 32, 24


def draw_farthest(path: Path, pool: Pool, scores: pd.DataFrame) -> None:
    """Draw the images that are farthest from every labelled class."""
    _draw_scored(path, pool, "Farthest from every labelled class", _ranked(scores).head(IMAGES))


def draw_nearest(path: Path, pool: Pool, scores: pd.DataFrame) -> None:
    """Draw the images that are nearest to a labelled class, the nearest first."""
    _draw_scored(path, pool, "Nearest to a labelled class", _ranked(scores).tail(IMAGES)[::-1])


def _ranked(scores: pd.DataFrame) -> pd.DataFrame:
    """Sort ``image_id``, ``nearest`` (a class's name) and ``score`` (the distance from it), the farthest first."""
    return scores[["image_id", "nearest", "score"]].sort_values("score", ascending=False, kind="stable")


def _draw_scored(path: Path, pool: Pool, title: str, scores: pd.DataFrame) -> None:
    tiles = [
        [(pool[image], f"image {image}\n{plain(nearest, IN_A_TILE)}? {score:.2f}")]
        for image, nearest, score in scores.itertuples(index=False)
    ]
    gallery(path, title, lines(tiles))


def draw_pairs(path: Path, pool: Pool, pairs: pd.DataFrame) -> None:
    """Draw the closest pairs; the table has ``first``, ``second`` and ``distance``, and is sorted by distance."""
    tiles = [
        [(pool[first], f"image {first}"), (pool[second], f"image {second}\n{distance:.3f} apart")]
        for first, second, distance in pairs.head(PAIRS)[["first", "second", "distance"]].itertuples(index=False)
    ]
    gallery(path, "Closest pairs in feature space", lines(tiles))
