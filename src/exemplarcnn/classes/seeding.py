"""Draw class tables of single images, one surrogate class each (docs/method.md, section 2)."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from exemplarcnn import rng
from exemplarcnn.classes.tables import ClassTableError
from exemplarcnn.config.variants import SeedEntry


def seed_table(pool_size: int, classes: int, seed: int, usable: NDArray[np.int64] | None = None) -> pd.DataFrame:
    """Draw single images at random, one surrogate class each (docs/method.md, section 2).

    The first k classes are the same for any number of classes, and leaving images out keeps the order of the others.

    Parameters
    ----------
    pool_size
        Number of images in the pool.
    classes, seed
        How many images to draw; the experiment's seed.
    usable
        Ids of the images that may be drawn; all by default.

    Raises
    ------
    ClassTableError
        If there are fewer images than classes.
    """
    order = rng.generator(seed, rng.Purpose.SEED_IMAGES).permutation(pool_size)
    if usable is not None:
        order = order[np.isin(order, usable)]
    _check_enough(classes, len(order), pool_size)
    images = order[:classes]
    return pd.DataFrame({"class_id": np.arange(classes), "image_id": images, "origin": "seed"})


def seed_count(params: SeedEntry, usable: int, pool_size: int) -> int:
    """Return how many classes of single images to make, given how many images of a pool can be used.

    Raises
    ------
    ClassTableError
        If the images suffice for fewer classes than asked for, or for fewer than two.
    """
    count = min(params.classes, usable) if params.or_fewer else params.classes
    _check_enough(count, usable, pool_size)
    if count < 2:
        raise ClassTableError(
            f"{usable} of the pool's {pool_size} images can be used, but a network needs two classes to tell apart; "
            "add images, or leave out less (leave_out)"
        )
    return count


def _check_enough(classes: int, usable: int, pool_size: int) -> None:
    if classes > usable:
        raise ClassTableError(
            f"cannot make {classes} classes of one image each: only {usable} of the pool's {pool_size} images can be "
            "used; ask for at most that many"
        )
