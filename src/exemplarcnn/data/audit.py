"""Find what is wrong with the images of a pool, from their pixels (docs/method.md, section 1.1).

The table has one row per image: black borders, no content, too small, too large, unreadable.
:mod:`exemplarcnn.data.near_duplicates` finds near duplicates; :func:`add_flags` puts both together.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import cv2
import pandas as pd

from exemplarcnn.config.sections import Audit, Borders
from exemplarcnn.data import folder_walk
from exemplarcnn.data.audit_tables import SIDES, count_pairs, duplicate_groups
from exemplarcnn.data.file_names import readable
from exemplarcnn.data.folder_walk import PassedOver
from exemplarcnn.data.types import DataError, Pixels, Pool
from exemplarcnn.files import read_table
from exemplarcnn.progress import tqdm

ARROWS = ("↑", "↓", "←", "→")


def border_widths(image: Pixels, params: Borders) -> list[int]:
    """Measure black borders.

    A row or column is black if nearly all of its pixels are. A border is a run of black rows or columns from a side
    inwards, up to one that is not black: an image that is black all over has no border.

    Parameters
    ----------
    image
        (height, width, 3) uint8.
    params
        Which level counts as black, what fraction of a row or column must be black, and the smallest width.

    Returns
    -------
    list of int
        Widths in pixels at the top, bottom, left and right; 0 where there is none.
    """
    black = image.max(axis=2) <= params.level
    widths = []
    for axis in (1, 0):
        lines = black.mean(axis=axis) >= params.fraction
        for ordered in (lines, lines[::-1]):
            width = 0 if lines.all() else int(ordered.argmin())
            widths.append(width if width >= params.width else 0)
    return widths


def contrast(image: Pixels) -> float:
    """Return the standard deviation of an image's grey levels, 0–255."""
    return float(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).std())


def colourfulness(image: Pixels) -> int:
    """Return the largest difference between two channels of one pixel, 0–255."""
    return int((image.max(axis=2) - image.min(axis=2)).max())


def inspect(pool: Pool, params: Audit) -> pd.DataFrame:
    """Inspect every image of a pool.

    Parameters
    ----------
    pool
        The images.
    params
        What to look for.

    Returns
    -------
    DataFrame
        ``image_id``; ``name``, the image's own file, or empty; ``height``, ``width`` in pixels; ``top``, ``bottom``,
        ``left``, ``right``, the widths of black borders in pixels; ``contrast`` and ``colourfulness``, 0–255;
        ``problem``, why the image cannot be used, or empty; ``note``, a remark on how it was read, or empty. Values
        that are not known, because an image cannot be used, are 0.
    """
    rows = []
    for index in tqdm(range(len(pool)), desc="audit", unit="image"):
        height, width, problem, note = 0, 0, "", ""
        found, grey, colour = [0, 0, 0, 0], 0.0, 0
        try:
            height, width = pool.size(index)
            problem = size_problem(height, width, params)
            if not problem:
                image, note = pool.read(index)
                found, grey, colour = border_widths(image, params.borders), contrast(image), colourfulness(image)
        except DataError as error:
            problem = readable(f"cannot be read: {error}")
        rows.append([index, pool.name(index), height, width, *found, grey, colour, problem, note])
    columns = ["image_id", "name", "height", "width", *SIDES, "contrast", "colourfulness", "problem", "note"]
    return pd.DataFrame(rows, columns=columns)


def size_problem(height: int, width: int, params: Audit) -> str:
    """Return why images of this size, in pixels, cannot be used; an empty string if they can."""
    if min(height, width) < params.smallest_side:
        return f"too small: {height}×{width}, audit.smallest_side is {params.smallest_side}"
    if height * width > params.most_megapixels * 1e6:
        return f"too large: {height}×{width}, audit.most_megapixels is {params.most_megapixels:g}"
    return ""


def add_flags(
    table: pd.DataFrame, pool: str, groups: pd.DataFrame, params: Audit, labelled: Iterable[str] = ("train", "test")
) -> pd.DataFrame:
    """Add the flags that an image can be left out for.

    Parameters
    ----------
    table
        What :func:`inspect` found in a pool.
    pool
        The name of the pool.
    groups
        Near duplicates in all pools, as :func:`exemplarcnn.data.near_duplicates.find` returns them.
    params
        Below which contrast an image is empty, and up to which difference of channels it is grey.
    labelled
        The pools of labelled images, which features are tested with.

    Returns
    -------
    DataFrame
        The table with five more columns, 0 or 1: ``border``, ``empty`` and ``grey``; ``duplicate``, 1 for all but the
        first image of a group in this pool; and ``leak``, 1 if a labelled image of another pool is in its group.
    """
    usable = table["problem"] == ""
    mine = groups[groups["pool"] == pool].sort_values("image_id")
    later = mine.loc[mine["group"].duplicated(), "image_id"]
    others = groups[groups["pool"].isin([name for name in labelled if name != pool])]
    leaks = mine.loc[mine["group"].isin(others["group"]), "image_id"]
    flags = {
        "border": (table[list(SIDES)] > 0).any(axis=1),
        "empty": usable & (table["contrast"] < params.empty_below),
        "grey": usable & (table["colourfulness"] <= params.grey_up_to),
        "duplicate": table["image_id"].isin(later),
        "leak": table["image_id"].isin(leaks),
    }
    return table.assign(**{name: values.astype(int) for name, values in flags.items()})


def widest_borders(table: pd.DataFrame) -> list[tuple[int, str]]:
    """Return the ids of images with a black border, widest first, each with sides and widths, such as ``↑3 →12``."""
    rows = table[table["border"] == 1]
    order = rows[list(SIDES)].max(axis=1).sort_values(ascending=False, kind="stable").index
    return [
        (
            int(row["image_id"]),
            " ".join(f"{arrow}{row[side]}" for side, arrow in zip(SIDES, ARROWS, strict=True) if row[side]),
        )
        for _, row in rows.loc[order].iterrows()
    ]


def score_detection(table: pd.DataFrame, groups: pd.DataFrame, truth: Path) -> dict[str, Any] | None:
    """Compare what was found in the unlabelled images with what is known about them.

    Parameters
    ----------
    table, groups
        Flags of the unlabelled images; near duplicates in all pools.
    truth
        The sample's table of planted defects.

    Returns
    -------
    dict or None
        For ``borders`` (images) and ``duplicates`` (pairs): ``true`` and ``found``, how many there are and how many
        were found; ``precision`` and ``recall``, 0–1, or None where that would divide by 0. None if nothing is known.
    """
    if not truth.exists():
        return None
    known = read_table(truth, integers=["index"], floats=["original"])
    if "kind" not in known.columns:
        return None
    border = set(known.loc[known["kind"] == "black_border", "index"])
    borders = set(table.loc[table["border"] == 1, "image_id"])
    known = known.set_index("index")
    copies = known["original"].fillna(known.index.to_series()).astype(int)
    near = duplicate_groups(groups, "unlabeled")
    return {
        "borders": _precision_recall(len(border), len(borders), len(border & borders)),
        "duplicates": _precision_recall(count_pairs(copies), count_pairs(near), count_pairs(copies, near)),
    }


def _precision_recall(true: int, found: int, both: int) -> dict[str, Any]:
    return {
        "true": true,
        "found": found,
        "precision": both / found if found else None,
        "recall": both / true if true else None,
    }


def summary(table: pd.DataFrame, passed_over: Iterable[PassedOver]) -> dict[str, Any]:
    """Count what was found in one pool; list unusable images, remarks, and files that are not images."""
    rows = table[table["border"] == 1]
    sides = rows[list(SIDES)].gt(0).apply(lambda row: "+".join(row.index[row]), axis=1)
    unusable = table[table["problem"] != ""]
    return {
        "images": len(table),
        "borders": len(rows),
        "borders_by_side": sides.value_counts().sort_index().to_dict() if len(rows) else {},
        "empty": int(table["empty"].sum()),
        "grey": int(table["grey"].sum()),
        "duplicates": int(table["duplicate"].sum()),
        "leaks": int(table["leak"].sum()),
        "unusable": [f"{row['name'] or row['image_id']}: {row['problem']}" for _, row in unusable.iterrows()],
        "noticed": [f"{name}: no colour" for name in table.loc[table["grey"] == 1, "name"] if name]
        + [f"{name}: {note}" for name, note in zip(table["name"], table["note"], strict=True) if note],
        "passed_over": folder_walk.summary_lines(passed_over),
    }
