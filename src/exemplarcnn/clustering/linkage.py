"""Complete linkage on a sparse graph of near pairs: exactly the merges of the full dendrogram up to its radius.

docs/method.md, section 5.2, gives the reasons. This module works on graphs only, not on images or features.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array, csr_array
from scipy.sparse.csgraph import connected_components

_NONE = np.iinfo(np.uint64).max


def _mixed(numbers: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Scramble 64-bit numbers one to one (the finaliser of SplitMix64).

    Pairs of equal distance are taken in the order of their scrambled numbers. In plain order, a thousand equal points
    would have one reciprocal pair per round; scrambled, about half of the points are in one.
    """
    x = (numbers ^ (numbers >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def _mutual(
    first: NDArray[Any], second: NDArray[Any], distances: NDArray[np.float64], points: int
) -> tuple[NDArray[np.int64], NDArray[np.uint64]]:
    """Find the pairs that come first among all pairs of both their clusters, by distance, then by scrambled number.

    Returns
    -------
    tuple of ndarray
        Which pairs, ascending, and their scrambled numbers.
    """
    best = np.full(points, np.inf)
    np.minimum.at(best, first, distances)
    np.minimum.at(best, second, distances)
    sides = [distances == best[side] for side in (first, second)]
    # A pair that is shortest for one side only can still precede others of the same length there.
    shortest = np.flatnonzero(sides[0] | sides[1])
    order = _mixed(first[shortest].astype(np.uint64) * np.uint64(points) + second[shortest].astype(np.uint64))
    place = np.full(points, _NONE)
    for side, nearest in zip((first, second), sides, strict=True):
        at = nearest[shortest]
        np.minimum.at(place, side[shortest[at]], order[at])
    here = sides[0][shortest] & sides[1][shortest]
    here &= (place[first[shortest]] == order) & (place[second[shortest]] == order)
    return shortest[here], order[here]


def _joined(
    low: NDArray[Any], high: NDArray[Any], lengths: NDArray[np.float64], parts: NDArray[np.int64]
) -> tuple[NDArray[Any], NDArray[Any], NDArray[np.float64]]:
    """Join the pairs between two clusters into one, as long as the longest, if each of their parts has its pair.

    Parameters
    ----------
    low, high, lengths
        Pairs of clusters that have just merged, (pairs,): the lower and the higher number, and the distance of parts.
    parts
        How many clusters each cluster was before, (points,).
    """
    keys = low.astype(np.int64)
    keys *= len(parts)
    keys += high
    order = np.argsort(keys)
    keys = keys[order]
    starts = np.flatnonzero(np.diff(keys, prepend=-1))
    count = np.diff(starts, append=len(keys))
    low, high = low[order[starts]], high[order[starts]]
    longest = np.maximum.reduceat(lengths[order], starts) if len(starts) else lengths[:0]
    whole = count == parts[low] * parts[high]
    return low[whole], high[whole], longest[whole]


def complete_linkage(graph: csr_array[Any, Any]) -> NDArray[np.float64]:
    """Cluster the points of a graph by complete linkage, up to the graph's radius.

    Two clusters can merge only if **all** pairs between them are in the graph; their distance is the longest of these
    pairs. So all pairs within a radius give exactly the merges that the dendrogram of all pairs has up to that radius.
    A fixed order of the pairs breaks ties: the result is that of merging the first pair again and again, in whatever
    order the graph lists its pairs.

    Parameters
    ----------
    graph
        (points, points), upper triangle: the distance of each pair within the radius. A stored zero is a pair at
        distance zero; pairs that are not stored are too far apart.

    Returns
    -------
    (merges, 4) float64
        Rows as in scipy's ``Z``, heights ascending: the two clusters (points are 0 to points − 1, row i makes
        cluster points + i), their distance, the size of the new cluster. With fewer than points − 1 rows, several
        clusters are left.

    Notes
    -----
    In each round all reciprocal nearest neighbours merge at once. Under complete linkage a merged cluster is never
    nearer to a third one than its nearer half was, and in the order of ties it keeps the number of one of its halves,
    so merges in different places do not affect each other. A round works on all points and all pairs that are left. A
    few dozen rounds are usual, but a chain of ever longer links takes half as many rounds as it has points.
    """
    points = graph.shape[0]
    pairs = graph.tocoo(copy=False)
    del graph  # if nobody else holds it, its memory goes with the first round
    first, second, distances = pairs.row, pairs.col, pairs.data.astype(np.float64, copy=False)
    del pairs
    merges: list[tuple[NDArray[Any], NDArray[Any], NDArray[np.float64], NDArray[np.uint64]]] = []
    while len(first):
        mutual, order = _mutual(first, second, distances, points)
        merges.append((first[mutual], second[mutual], distances[mutual], order))

        # A merged cluster is known by the lower of its two numbers.
        merged_into = np.arange(points, dtype=first.dtype)
        merged_into[second[mutual]] = first[mutual]
        parts = np.ones(points, np.int64)
        parts[first[mutual]] = 2
        touched = (parts[merged_into[first]] == 2) | (parts[merged_into[second]] == 2)
        a, b = merged_into[first[touched]], merged_into[second[touched]]
        between = a != b
        low, high, lengths = np.minimum(a, b)[between], np.maximum(a, b)[between], distances[touched][between]
        first, second, distances = first[~touched], second[~touched], distances[~touched]
        del a, b, between, touched
        low, high, longest = _joined(low, high, lengths, parts)
        first, second = np.concatenate([first, low]), np.concatenate([second, high])
        distances = np.concatenate([distances, longest])
    return _dendrogram(merges, points)


def _dendrogram(
    merges: list[tuple[NDArray[Any], NDArray[Any], NDArray[np.float64], NDArray[np.uint64]]], points: int
) -> NDArray[np.float64]:
    """Convert merges of representatives to scipy's numbering, (merges, 4) float64."""
    if not merges:
        return np.empty((0, 4))
    first, second, heights, order = (np.concatenate(column) for column in zip(*merges, strict=True))
    sequence = np.lexsort((order, heights))
    Z = np.empty((len(sequence), 4))
    number, size = np.arange(points), np.ones(points, np.int64)
    for row, merge in enumerate(sequence):
        a, b = first[merge], second[merge]
        size[a] += size[b]
        Z[row] = min(number[a], number[b]), max(number[a], number[b]), heights[merge], size[a]
        number[a] = points + row
    return Z


def flat_clusters(Z: NDArray[np.float64], points: int, threshold: float) -> NDArray[np.int64]:
    """Return the clusters after all merges up to a threshold.

    Parameters
    ----------
    Z
        As `complete_linkage` returns it, or a full dendrogram of scipy's.
    points
        Number of points.
    threshold
        Largest distance allowed inside a cluster.

    Returns
    -------
    (points,) int64
        Clusters numbered 0, 1, … in the order of their first point.
    """
    rows = np.count_nonzero(Z[:, 2] <= threshold)
    sides = Z[:rows, :2].astype(np.int64)
    # Every merge is a node of a forest; its trees are the clusters.
    links = np.concatenate([sides[:, 0], sides[:, 1]]), np.tile(np.arange(points, points + rows), 2)
    nodes = points + rows
    forest = coo_array((np.ones(2 * rows, bool), links), shape=(nodes, nodes))
    trees = connected_components(forest, directed=False)[1][:points]
    _, first, inverse = np.unique(trees, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[inverse].astype(np.int64)


def diameters(Z: NDArray[np.float64], labels: NDArray[np.int64], threshold: float) -> NDArray[np.float64]:
    """Return the largest distance inside each cluster, the height of its last merge; 0 for a single point.

    Parameters
    ----------
    Z, threshold
        As for `flat_clusters`.
    labels
        (points,) int64, what `flat_clusters` returns for these.

    Returns
    -------
    (clusters,) float64
    """
    rows = np.count_nonzero(Z[:, 2] <= threshold)
    of = np.concatenate([labels, np.empty(rows, np.int64)])  # the clusters of points, then of merges
    for row, side in enumerate(Z[:rows, 0].astype(np.int64).tolist(), len(labels)):
        of[row] = of[side]
    result = np.zeros(labels.max(initial=-1) + 1)
    np.maximum.at(result, of[len(labels) :], Z[:rows, 2])
    return result
