"""Class tables: which images make up which surrogate class.

A table is a CSV file with the columns ``class_id`` (0 to classes − 1), ``image_id`` (index into the pool) and
``origin`` (why the image is in the class), ordered by class. A variant of the method *is* such a table.
"""

from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from exemplarcnn import rng
from exemplarcnn.config import Grouped, Seeded
from exemplarcnn.errors import PipelineError
from exemplarcnn.files import read_table, write_table

COLUMNS = ["class_id", "image_id", "origin"]


class ClassTableError(PipelineError):
    """A class table is not one, or does not fit the pool."""


def seed_table(pool_size: int, classes: int, seed: int, usable: NDArray[np.int64] | None = None) -> pd.DataFrame:
    """Draw single images at random, one surrogate class each (docs/method.md, section 2).

    The first k classes are the same whatever the number of classes; leaving images out leaves the order of the others.

    Parameters
    ----------
    pool_size
        Images of the pool.
    classes, seed
        How many to draw; the experiment's seed.
    usable
        The images that may be drawn; all by default.

    Raises
    ------
    ClassTableError
        If there are fewer images than classes are asked for.
    """
    order = rng.generator(seed, rng.Purpose.SEED_IMAGES).permutation(pool_size)
    if usable is not None:
        order = order[np.isin(order, usable)]
    _check_enough(classes, len(order), pool_size)
    images = order[:classes]
    return pd.DataFrame({"class_id": np.arange(classes), "image_id": images, "origin": "seed"})


def seed_count(params: Seeded, usable: int, pool_size: int) -> int:
    """Return how many classes of single images there are to be, by how many images of a pool can be used.

    Raises
    ------
    ClassTableError
        If there are fewer than are asked for, or than two.
    """
    count = min(params.classes, usable) if params.or_fewer else params.classes
    _check_enough(count, usable, pool_size)
    if count < 2:
        raise ClassTableError(
            f"{usable} of the pool's {pool_size} images can be used, and a network needs two classes to tell apart; "
            "add images, or leave out less (leave_out)"
        )
    return count


def _check_enough(classes: int, usable: int, pool_size: int) -> None:
    if classes > usable:
        raise ClassTableError(
            f"{classes} classes of one image each, but {usable} of the pool's {pool_size} images can be used; "
            "ask for at most that"
        )


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


def clustered_part(pool_size: int, share: float) -> int:
    """Return how many images of a pool are clustered; the others are held out."""
    return round(share * pool_size)


def single_classes(alone: int, held_out: int, neighbours: int) -> int:
    """Return how many classes of a single image and held-out neighbours, no image in two, there can be."""
    return min(alone, held_out // neighbours) if neighbours else alone


def most_grouped(clustered: int, held_out: int, neighbours: int) -> int:
    """Return how many classes there can be at most, by the images of the two parts, however they cluster."""
    singles = single_classes(clustered, held_out, neighbours)
    return singles + (clustered - singles) // 2


def check_grouped(params: Grouped, pool_size: int) -> None:
    """Refuse what no clustering of a pool can give.

    Raises
    ------
    ClassTableError
        If more classes are asked for than there can be, or there cannot be two.
    """
    clustered = clustered_part(pool_size, params.clustered_fraction)
    most = most_grouped(clustered, pool_size - clustered, params.neighbours)
    least = 2 if params.or_fewer else params.classes
    if most < least:
        raise ClassTableError(
            f"{clustered} images to cluster and {pool_size - clustered} held out make {most} classes at most, with "
            f"{params.neighbours} neighbour(s) of each single image; {least} are needed: ask for fewer classes "
            "or neighbours, set another clustered_fraction, or add images"
        )
