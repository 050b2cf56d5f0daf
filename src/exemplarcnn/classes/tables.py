"""Class tables: which images make up which surrogate class.

A table is a CSV file with the columns ``class_id`` (0 to classes − 1), ``image_id`` (index into the pool) and
``origin`` (why the image is in the class), ordered by class. A variant of the method *is* such a table.
"""

from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from exemplarcnn.errors import PipelineError
from exemplarcnn.files import read_table, write_table

COLUMNS = ["class_id", "image_id", "origin"]


class ClassTableError(PipelineError):
    """A class table is not one, or does not fit the pool."""


def check(table: pd.DataFrame, pool_size: int, origin: str = "class table") -> None:
    """Check that classes are numbered without gaps and that no image is in two places.

    Raises
    ------
    ClassTableError
        Naming the first offending class or image.
    """
    if list(table.columns) != COLUMNS:
        raise ClassTableError(f"{origin}: columns {list(table.columns)}, expected {COLUMNS}")
    found = np.unique(table["class_id"])
    if len(found) == 0 or not np.array_equal(found, np.arange(len(found))):
        raise ClassTableError(f"{origin}: class ids must be 0, 1, 2, … without a gap")
    if not table["class_id"].is_monotonic_increasing:
        raise ClassTableError(f"{origin}: rows must be ordered by class_id")
    if (twice := table["image_id"].duplicated()).any():
        raise ClassTableError(f"{origin}: image {table.loc[twice, 'image_id'].iloc[0]} is listed twice")
    if (outside := ~table["image_id"].between(0, pool_size - 1)).any():
        raise ClassTableError(
            f"{origin}: image {table.loc[outside, 'image_id'].iloc[0]} is not in the pool of {pool_size} images"
        )


def write(path: Path, table: pd.DataFrame) -> None:
    """Write a class table as CSV."""
    write_table(path, table)


def read(path: Path, pool_size: int) -> pd.DataFrame:
    """Read and check a class table.

    Raises
    ------
    ClassTableError
        If the file is missing, is no table, or what :func:`check` refuses.
    """
    try:
        table = read_table(path, integers=["class_id", "image_id"])
    except FileNotFoundError:
        raise ClassTableError(f"{path}: not found; `dvc repro` makes it") from None
    except ValueError as error:  # pandas raises it for what is no table, and for ids that are no whole numbers
        raise ClassTableError(f"{path}: {error}; expected the columns {COLUMNS}, ids as whole numbers") from None
    check(table, pool_size, str(path))
    return table


def count(table: pd.DataFrame) -> int:
    """Return the number of classes."""
    return int(table["class_id"].max()) + 1


def sizes(table: pd.DataFrame) -> NDArray[np.int64]:
    """Return images a class, shape (classes,)."""
    return np.bincount(table["class_id"])
