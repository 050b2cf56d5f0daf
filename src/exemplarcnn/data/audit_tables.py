"""Read and write the tables of the audit: flags of a pool's images, and groups of near duplicates.

:mod:`exemplarcnn.data.audit` and :mod:`exemplarcnn.data.near_duplicates` describe their columns.
"""

from collections.abc import Iterable
from itertools import combinations
from pathlib import Path
from typing import get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from exemplarcnn.config.base import Flag
from exemplarcnn.errors import PipelineError
from exemplarcnn.files import read_table, write_table

SIDES = ("top", "bottom", "left", "right")  # of black borders; columns of a table of flags


class AuditError(PipelineError):
    """A pool has not been audited, or none of its images is left."""


def read_flags(path: Path) -> pd.DataFrame:
    """Read a pool's table of flags; AuditError if it is missing."""
    try:
        return read_table(path, integers=["image_id", "height", "width", *SIDES, *get_args(Flag)])
    except FileNotFoundError:
        raise AuditError(f"{path}: not found; `dvc repro audit` makes it") from None


def write_flags(path: Path, table: pd.DataFrame) -> None:
    """Write a table of flags as CSV; contrast to two decimals."""
    write_table(path, table.assign(contrast=table["contrast"].round(2)))


def is_usable(table: pd.DataFrame, leave_out: Iterable[Flag] = ()) -> "pd.Series[bool]":
    """Tell which images of a table of flags can be used and have none of the flags in ``leave_out``."""
    fit: pd.Series[bool] = table["problem"] == ""
    for name in leave_out:
        fit &= table[name] == 0
    return fit


def usable_images(path: Path, leave_out: Iterable[Flag] = ()) -> NDArray[np.int64]:
    """Return the ids of a pool's usable images, (n,) int64, ascending.

    Parameters
    ----------
    path
        The pool's table of flags.
    leave_out
        Also leave out images with any of these flags.

    Raises
    ------
    AuditError
        If the table is missing, or no image is left.
    """
    table = read_flags(path)
    fit = is_usable(table, leave_out)
    if not fit.any():
        raise AuditError(
            f"{path}: none of {len(table)} images can be used; its columns say why; replace images or shorten leave_out"
        )
    return table.loc[fit, "image_id"].to_numpy(np.int64)


def read_duplicates(path: Path) -> pd.DataFrame:
    """Read the table of near duplicates in all pools, as :func:`exemplarcnn.data.near_duplicates.find` returns it."""
    return read_table(path, integers=["group", "image_id", "exact"], floats=["similarity"])


def duplicate_pairs(groups: pd.DataFrame, pool: str) -> set[tuple[int, int]]:
    """Return all pairs of near duplicates within a pool."""
    mine = groups[groups["pool"] == pool]
    return pairs_within(mine["image_id"], mine["group"])


def pairs_within(members: "pd.Series[int]", group: "pd.Series[int]") -> set[tuple[int, int]]:
    """Return all pairs, the smaller one first, of members that have the same group."""
    return {pair for _, some in members.groupby(group.to_numpy()) for pair in combinations(sorted(some), 2)}
