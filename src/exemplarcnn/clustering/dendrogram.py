"""Exact complete-linkage clustering in little memory, and where to cut it (docs/method.md, section 5.2).

A cut needs only the merges below it. These come from the few pairs that are near enough (`radius_graph`, `linkage`):
the n × n distances are never all measured or held.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from exemplarcnn.clustering.errors import NeighboursError
from exemplarcnn.clustering.linkage import complete_linkage, diameters, flat_clusters
from exemplarcnn.clustering.radius_graph import RadiusSearch, most_pairs, neighbour_graph
from exemplarcnn.clustering.sample import Points


@dataclass(frozen=True)
class Cut:
    """A dendrogram cut at a threshold.

    Attributes
    ----------
    labels
        (points,) int64, clusters numbered 0, 1, … in the order of their first point.
    threshold
        The largest distance allowed inside a cluster.
    merges
        (merges, 4) float64, the merges below the cut as `linkage.complete_linkage` returns them.
    diameters
        (clusters,) float64, the largest distance inside each; 0 for a single point.
    """

    labels: NDArray[np.int64]
    threshold: float
    merges: NDArray[np.float64]
    diameters: NDArray[np.float64]

    @property
    def heights(self) -> NDArray[np.float64]:
        """Heights of the merges, ascending: each is the largest distance inside the cluster that it made."""
        return self.merges[:, 2]


def merged_after(Z: NDArray[np.float64], points: int) -> NDArray[np.int64]:
    """Count the points in clusters of two or more after each merge, (merges,) int64."""
    # A merge adds those of its two sides that were single points.
    return np.cumsum((Z[:, :2] < points).sum(axis=1))


def threshold_for(Z: NDArray[np.float64], points: int, fraction: float) -> float | None:
    """Find the cut that puts a share of the points into clusters of two or more (docs/method.md, section 5.2).

    Merges of equal height cannot be separated, so only cuts between different heights count. The one with the closest
    share is chosen, the lower of two equally close ones.

    Parameters
    ----------
    Z
        (merges, 4) float64, as from `linkage.complete_linkage`: the merges up to some height, or all.
    points
        Number of points.
    fraction
        The share wanted, 0–1.

    Returns
    -------
    float or None
        A threshold halfway between the last merge below it and the next above. Points at distance zero are
        merged by every cut. None if merges higher than those in ``Z`` may matter.
    """
    return _threshold(Z, points, merged_after(Z, points) / max(points, 1), 0.0, fraction)


def threshold_for_size(Z: NDArray[np.float64], points: int, size: float) -> float | None:
    """Find the cut whose clusters, single points included, have ``size`` points on average; as `threshold_for`."""
    return _threshold(Z, points, points / (points - np.arange(1, len(Z) + 1)), 1.0, size)


def _threshold(
    Z: NDArray[np.float64], points: int, after: NDArray[np.float64], before: float, wanted: float
) -> float | None:
    """Find the cut that brings a quantity, which no merge lowers, closest to the value wanted."""
    heights, quantity = np.concatenate([[0.0], Z[:, 2]]), np.concatenate([[before], after])
    last = np.flatnonzero(np.append(heights[1:] > heights[:-1], True))
    levels, reached = heights[last], quantity[last]
    best = int(np.argmin(np.abs(reached - wanted)))
    whole = len(Z) >= points - 1
    if not whole and (best == len(levels) - 1 or reached[-1] < wanted):
        return None
    low, high = float(levels[best]), float(levels[min(best + 1, len(levels) - 1)])
    # The middle of two neighbouring floats may round to the upper one, which would be a merge too many.
    return middle if (middle := (low + high) / 2) < high else low


def cut(
    points: Points,
    threshold: float | None,
    fraction: float | None,
    memory: float = 2.0,
    device: torch.device | None = None,
    size: float | None = None,
    shared: bool = False,
    folder: Path | None = None,
) -> Cut:
    """Cluster points by complete linkage and cut at a threshold, a share of merged points or a mean size of clusters.

    The clusters are those of the full dendrogram, cut there. A fixed order decides between equal distances, so the same
    points always give the same clusters. No cluster is wider than the threshold, and no two clusters could be one
    within it.

    Parameters
    ----------
    points
        (n, d) float32, for instance a memory map.
    threshold, fraction, size
        The largest distance inside a cluster, the share of points in clusters of two or more, or the mean size of
        clusters. Give one of the three; the others are None.
    memory
        GiB that near pairs may take.
    device
        Where to compute; the CPU by default.
    shared
        Whether the processes of ``torchrun`` share the search for near pairs, all of them on the same points.
    folder
        An existing folder, for these points alone, in which an interrupted search for near pairs goes on.

    Returns
    -------
    Cut
        The cluster of each point, the threshold, and the merges below it.

    Raises
    ------
    NeighboursError
        If a point is not finite, there are 2³¹ points or more, or ``memory`` does not hold the near pairs.
    """
    if threshold is not None:
        Z = complete_linkage(neighbour_graph(points, threshold, memory, device=device, shared=shared, folder=folder))
    elif fraction is not None:
        search = RadiusSearch(points, memory, device=device, shared=shared, folder=folder)
        Z, threshold = _grown(search, lambda Z: threshold_for(Z, len(points), fraction), fraction)
    else:
        assert size is not None
        # Where clusters have k points on average, at least 1 − 1/k of the points have been merged.
        share, choose = 1 - 1 / size, lambda Z: threshold_for_size(Z, len(points), size)
        Z, threshold = _grown(RadiusSearch(points, memory, device=device, shared=shared, folder=folder), choose, share)
    labels = flat_clusters(Z, len(points), threshold)
    return Cut(labels, threshold, Z[Z[:, 2] <= threshold], diameters(Z, labels, threshold))


def _grown(
    search: RadiusSearch, choose: Callable[[NDArray[np.float64]], float | None], merged: float
) -> tuple[NDArray[np.float64], float]:
    """Compute the merges up to a radius that is just wide enough, and read the threshold off them."""
    points, sample, memory = len(search.points), search.sample, search.memory
    if points < 2:
        return np.empty((0, 4)), 0.0
    most = search.agreed(sample.radius_with(0.8 * most_pairs(memory)))
    # Within the cut every merged point has its nearest neighbour, and so have some points that are not merged. Three
    # quarters as many more are likely to be enough; if they are not, the radius grows. A second search costs as much as
    # the first, a radius that is wider than necessary some percent.
    radius = sample.nearest_within(1.75 * merged + 4 / len(sample.distances))
    while True:
        radius = search.agreed(min(radius, most))
        Z = complete_linkage(search.graph(radius))
        if (threshold := choose(Z)) is not None:
            return Z, threshold
        if radius >= most:
            share = (merged_after(Z, points)[-1] if len(Z) else 0) / points
            raise NeighboursError(
                f"cannot cut beyond a distance of {radius:.4g}, where {100 * share:.1f} % of the points are merged: "
                f"{memory:g} GiB hold no more pairs; ask for smaller clusters, or raise "
                "memory_gib (in params.yaml: machine.memory_gib)"
            )
        radius = sample.wider(radius, growth(Z, points, radius, merged))


def growth(Z: NDArray[np.float64], points: int, radius: float, wanted: float) -> float:
    """Say by what factor a radius should grow, from 1.03 to 1.15, if it must merge a larger share of the points.

    Parameters
    ----------
    Z, points
        The merges up to the radius, and the number of points.
    radius, wanted
        The present radius, and the share that it must merge.
    """
    near, far = ((merged_after(Z[Z[:, 2] <= edge], points)[-1:].sum() / points) for edge in (0.95 * radius, radius))
    if far <= near:
        return 1.15
    # Shares grow faster and faster with the radius, so that a straight line rather overshoots.
    missing = 0.05 * max(wanted - far, 0.0) / (far - near)
    return float(min(1.03 + missing, 1.15))
