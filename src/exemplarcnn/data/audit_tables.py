"""Read and write the tables of the audit: flags of a pool's images, and groups of near duplicates.

:mod:`exemplarcnn.data.audit` and :mod:`exemplarcnn.data.near_duplicates` describe their columns.
"""

from collections.abc import Iterable
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


def duplicate_groups(groups: pd.DataFrame, pool: str) -> "pd.Series[int]":
    """Return the group of each near duplicate within a pool, by image."""
    return groups[groups["pool"] == pool].set_index("image_id")["group"]


def count_pairs(*groupings: "pd.Series[int]") -> int:
    """Count the pairs of images that are in one group of each of the groupings: a large group has too many to list."""
    together = pd.concat(groupings, axis=1, join="inner", keys=range(len(groupings)))
    sizes = together.groupby(list(together.columns)).size()
    return int((sizes * (sizes - 1) // 2).sum())
