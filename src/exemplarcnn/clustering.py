"""Exact complete-linkage clustering in little memory, and where to cut it (docs/method.md, section 5.2).

A cut needs the merges below it and no others, and these come from the few pairs that are near enough
(`neighbours`, `linkage`): the n × n distances are never computed in full nor held.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from exemplarcnn.linkage import complete_linkage, flat_clusters
from exemplarcnn.neighbours import Points, Sample, centre, neighbour_graph


@dataclass(frozen=True)
class Cut:
    """A dendrogram cut at a threshold.

    Attributes
    ----------
    labels
        (points,) int64, clusters numbered 0, 1, … in the order of their first point.
    threshold
        The largest distance allowed inside a cluster.
    heights
        Heights of the merges below the cut, ascending: each the largest distance inside the cluster it made.
    """

    labels: NDArray[np.int64]
    threshold: float
    heights: NDArray[np.float64]


def merged_after(Z: NDArray[np.float64], points: int) -> NDArray[np.int64]:
    """How many points are in clusters of two or more after each merge, shape (merges,)."""
    # A merge takes in those of its two sides that were single points until then.
    return np.cumsum((Z[:, :2] < points).sum(axis=1))


def threshold_for(Z: NDArray[np.float64], points: int, fraction: float) -> float | None:
    """Find the cut that puts a share of the points into clusters of two or more (docs/method.md, section 5.2).

    Merges of equal height cannot be told apart, so only cuts between different heights count; the one whose
    share is closest is taken, the lower of two equally close ones.

    Parameters
    ----------
    Z
        The merges up to some height, or all.
    points
        Number of points.
    fraction
        The share asked for.

    Returns
    -------
    float or None
        A threshold halfway between the last merge below it and the next above. Points at distance zero are
        merged by every cut. None if merges higher than those in ``Z`` may matter.
    """
    heights = np.concatenate([[0.0], Z[:, 2]])
    merged = np.concatenate([[0], merged_after(Z, points)])
    last = np.flatnonzero(np.append(heights[1:] > heights[:-1], True))
    levels, shares = heights[last], merged[last] / max(points, 1)
    best = int(np.argmin(np.abs(shares - fraction)))
    whole = len(Z) >= points - 1
    if not whole and (best == len(levels) - 1 or shares[-1] < fraction):
        return None
    low, high = float(levels[best]), float(levels[min(best + 1, len(levels) - 1)])
    # Halfway between two neighbouring floats lies the upper one, which would be a merge too many.
    return middle if (middle := (low + high) / 2) < high else low


def cut(
    points: Points,
    threshold: float | None,
    fraction: float | None,
    memory: float = 2.0,
    device: torch.device | None = None,
) -> Cut:
    """Cluster points by complete linkage and cut at a threshold, or where a share of them is merged.

    The clusters are those of the full dendrogram, cut there. Of equal distances a fixed order decides, so that the
    same points give the same clusters; then too no cluster is wider than the threshold, and no two clusters could
    be one within it.

    Parameters
    ----------
    points
        (n, d) float32, for instance a memory map.
    threshold, fraction
        One of the two; the other None.
    memory
        GiB that near pairs may take.
    device
        Where to compute, the CPU by default.

    Raises
    ------
    NeighboursError
        If a point is not finite, or there are more near pairs than fit.
    """
    if threshold is not None:
        Z = complete_linkage(neighbour_graph(points, threshold, memory, device=device))
    else:
        assert fraction is not None
        Z, threshold = _at_fraction(points, fraction, memory, device)
    return Cut(flat_clusters(Z, len(points), threshold), threshold, Z[Z[:, 2] <= threshold, 2])


def _at_fraction(
    points: Points, fraction: float, memory: float, device: torch.device | None
) -> tuple[NDArray[np.float64], float]:
    """Compute the merges up to a radius that is just wide enough, and read the threshold off them."""
    if len(points) < 2:
        return np.empty((0, 4)), 0.0
    sample = Sample.draw(points, centre(points))
    # Within the cut every merged point has its nearest neighbour, and some have theirs without being merged. That
    # half as many more are enough is only likely; if not, the radius grows.
    radius = sample.nearest_within(1.5 * fraction + 4 / len(sample.distances))
    while True:
        Z = complete_linkage(neighbour_graph(points, radius, memory, device=device, sample=sample))
        if (threshold := threshold_for(Z, len(points), fraction)) is not None:
            return Z, threshold
        radius = sample.wider(radius)
