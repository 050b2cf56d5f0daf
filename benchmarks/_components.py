"""Check clusters of very many points on whole connected components of their near pairs, found by brute force.

Two points in different components are in different clusters of complete linkage, so that within a component the
clusters are those of its points alone, which scipy finds. Nothing here uses the project's search for near pairs.
"""

import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.cluster import hierarchy
from scipy.sparse.csgraph import connected_components
from scipy.spatial.distance import pdist, squareform

from exemplarcnn.clustering.linkage import flat_clusters

Features = NDArray[np.float32]

STRIP = 2000  # points that are read at a time
MOST = 20_000  # points whose components are looked at


class TooLargeError(Exception):
    """Components have too many points to be compared."""


def check(points: Features, labels: NDArray[np.int64], threshold: float, seeds: int) -> dict[str, Any]:
    """Compare the components of some points, half of them drawn from those in clusters, with scipy's clusters.

    That the threshold merges as many points as it should is for the caller to see.

    Returns
    -------
    dict
        Components and points that were compared, the size of the largest component, and how many components differ.
    """
    sizes = np.bincount(labels)[labels]
    draw = np.random.default_rng(0)
    merged = np.flatnonzero(sizes > 1)
    half = max(1, seeds // 2)
    drawn = [draw.choice(merged, min(half, len(merged)), replace=False), draw.integers(0, len(points), half)]
    members = closed(points, np.unique(np.concatenate(drawn)), threshold)
    own = np.asarray(points[members], np.float64)
    apart = squareform(pdist(own))
    count, of = connected_components(apart <= threshold, directed=False)
    differ = 0
    for component in range(count):
        inside = np.flatnonzero(of == component)
        theirs = np.zeros(len(inside), np.int64)
        if len(inside) > 1:
            Z = hierarchy.linkage(squareform(apart[np.ix_(inside, inside)], checks=False), "complete")
            theirs = flat_clusters(Z, len(inside), threshold)
        ours = labels[members[inside]]
        pairs = np.unique(np.stack([theirs, ours]), axis=1)
        same = len(pairs[0]) == len(np.unique(theirs)) == len(np.unique(ours))
        same &= np.array_equal(np.bincount(theirs)[theirs], sizes[members[inside]])  # none has points elsewhere
        differ += not same
    largest = int(np.bincount(of).max())
    return {"components": count, "points in them": len(members), "largest": largest, "components that differ": differ}


def closed(points: Features, seeds: NDArray[np.int64], threshold: float) -> NDArray[np.int64]:
    """Return the points that a chain of near pairs joins to some points, ascending, and these."""
    known, fresh = seeds, seeds
    while len(fresh):
        print(f"{len(known):,} points in components, {len(fresh):,} of them new", file=sys.stderr)
        if len(known) > MOST:
            raise TooLargeError(f"the components have more than {MOST:,} points; lower --components")
        found = near(points, fresh, threshold)
        fresh = np.setdiff1d(found, known)
        known = np.union1d(known, fresh)
    return known


def near(points: Features, some: NDArray[np.int64], threshold: float) -> NDArray[np.int64]:
    """Return all points within a distance of one of some points, from float64 products of all with these."""
    mean = np.asarray(points[some], np.float64).mean(axis=0)
    chosen = points[some] - mean
    lengths = np.einsum("ij,ij->i", chosen, chosen)
    found = []
    for start in range(0, len(points), STRIP):
        rows = points[start : start + STRIP] - mean
        squares = rows @ chosen.T
        squares *= -2
        squares += lengths
        squares += np.einsum("ij,ij->i", rows, rows)[:, None]
        found.append(start + np.flatnonzero((squares <= threshold**2).any(axis=1)))
    return np.concatenate(found)
