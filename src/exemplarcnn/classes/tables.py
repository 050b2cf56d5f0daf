"""Read, check and write class tables: which images make up which surrogate class.

A table is a CSV file with the columns ``class_id`` (0 to classes − 1), ``image_id`` (index into the pool) and
``origin`` (why the image is in the class), sorted by class. A variant of the method *is* such a table.
"""

from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from exemplarcnn.errors import PipelineError
from exemplarcnn.files import read_table, write_table

COLUMNS = ["class_id", "image_id", "origin"]


class ClassTableError(PipelineError):
    """A class table is missing, malformed, or does not fit the pool."""


def check(table: pd.DataFrame, pool_size: int, origin: str = "class table") -> None:
    """Check that classes are numbered without gaps, and that each image is in the pool and listed once.

    Raises
    ------
    ClassTableError
        If it is not so; the message names the first wrong image.
    """
    if list(table.columns) != COLUMNS:
        raise ClassTableError(f"{origin}: found the columns {list(table.columns)}, expected {COLUMNS}")
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
        If the file is missing or not a table, or :func:`check` refuses it.
    """
    try:
        table = read_table(path, integers=["class_id", "image_id"])
    except FileNotFoundError:
        raise ClassTableError(f"{path}: not found; `dvc repro` makes it") from None
    except ValueError as error:  # for files that are not tables, and ids that are not integers
        raise ClassTableError(f"{path}: {error}; expected the columns {COLUMNS}, ids as whole numbers") from None
    check(table, pool_size, str(path))
    return table


def count(table: pd.DataFrame) -> int:
    """Return the number of classes."""
    return int(table["class_id"].max()) + 1


def sizes(table: pd.DataFrame) -> NDArray[np.int64]:
    """Return the number of images in each class, (classes,) int64."""
    return np.bincount(table["class_id"])
