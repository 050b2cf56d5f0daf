"""Draw what the audit found: images with black borders, empty images, and near duplicates."""

from pathlib import Path

import pandas as pd

from exemplarcnn.data import audit
from exemplarcnn.data.types import Pool
from exemplarcnn.reporting.figures.sheet import TILES, Tile, gallery, lines, spread

# How many a gallery shows at most.
IMAGES, GROUPS = 32, 24


def draw_borders(path: Path, pool: Pool, table: pd.DataFrame, name: str) -> None:
    """Draw images with a black border, the widest first; ``table`` is the audit's, ``name`` the pool's."""
    bordered = spread(audit.widest_borders(table), IMAGES)
    tiles = [[(pool[image], f"image {image}\n{widths}")] for image, widths in bordered]
    gallery(path, f"Black borders in {name}, from the widest to the narrowest", lines(tiles))


def draw_empty(path: Path, pool: Pool, table: pd.DataFrame, name: str) -> None:
    """Draw images without content; ``table`` is the audit's, ``name`` the pool's."""
    empty = spread(table.loc[table["empty"] == 1, "image_id"].tolist(), IMAGES)
    gallery(path, f"Empty images in {name}", lines([[(pool[image], f"image {image}")] for image in empty]))


def draw_duplicates(path: Path, pools: dict[str, Pool], groups: pd.DataFrame, across: bool) -> None:
    """Draw groups of near duplicates, the most alike first.

    Parameters
    ----------
    path, pools
        The file to write, and the pools by name.
    groups
        All groups, as :func:`exemplarcnn.data.audit_tables.read_duplicates` returns them.
    across
        Whether to draw groups with images of several pools, or those within one.
    """
    members = [rows for _, rows in groups.groupby("group", sort=True) if (rows["pool"].nunique() > 1) == across]
    chosen = spread(sorted(members, key=lambda rows: -rows["similarity"].max()), GROUPS)
    title = "Near duplicates in several pools" if across else "Near duplicates"
    gallery(path, f"{title}, from the most to the least alike", lines([_tiles(pools, rows) for rows in chosen]))


def _tiles(pools: dict[str, Pool], rows: pd.DataFrame) -> list[Tile]:
    columns = ["group", "pool", "image_id", "similarity"]
    return [
        (pools[pool][image], f"group {group}: {alike:.2f}\n{pool} {image}")
        for group, pool, image, alike in rows[columns].head(TILES).itertuples(index=False)
    ]
