"""Bound the number of classes that a pool can give, before anything is clustered (docs/method.md, section 5.3)."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exemplarcnn import rng
from exemplarcnn.classes.tables import ClassTableError
from exemplarcnn.config.variants import ClusterEntry


def clustered_part(pool_size: int, share: float) -> int:
    """Return how many images of a pool are clustered; the others are held out."""
    return round(share * pool_size)


def split_pool(pool_size: int, share: float, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Split a pool at random into the ids to cluster and those held out, each ascending, (n,) int64."""
    order = rng.generator(seed, rng.Purpose.HALVES).permutation(pool_size)
    size = clustered_part(pool_size, share)
    return np.sort(order[:size]), np.sort(order[size:])


def single_classes(alone: int, held_out: int, neighbours: int) -> int:
    """Return how many classes of a single image and its held-out neighbours are possible, no image in two."""
    return min(alone, held_out // neighbours) if neighbours else alone


def most_grouped(clustered: int, held_out: int, neighbours: int) -> int:
    """Return the largest possible number of classes, from the sizes of the two parts, however they cluster."""
    singles = single_classes(clustered, held_out, neighbours)
    return singles + (clustered - singles) // 2


def check_clusters(params: ClusterEntry, pool_size: int) -> int:
    """Refuse a number of classes that no clustering of a pool can give; return the smallest number there will be.

    Raises
    ------
    ClassTableError
        If more classes are asked for than are possible, or two are not possible.
    """
    clustered = clustered_part(pool_size, params.clustered_fraction)
    most = most_grouped(clustered, pool_size - clustered, params.neighbours)
    least = 2 if params.or_fewer else params.classes
    if most < least:
        raise ClassTableError(
            f"{clustered} images to cluster and {pool_size - clustered} held out make at most {most} classes, with "
            f"{params.neighbours} neighbour(s) for each single image, but {least} are needed: ask for fewer classes "
            "or neighbours, set another clustered_fraction, or add images"
        )
    return least


# By `variants.group.VARIANT.method`: from the entry and the size of the pool to the smallest number of classes. Methods
# that nothing can be said about beforehand have no entry.
CHECKS: dict[str, Callable[[Any, int], int]] = {"clusters": check_clusters}
