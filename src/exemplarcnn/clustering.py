"""Complete-linkage clustering, and where to cut the dendrogram (docs/method.md, section 5.2)."""

from dataclasses import dataclass

import fastcluster
import numpy as np
from numpy.typing import NDArray
from scipy.cluster.hierarchy import fcluster
from scipy.spatial.distance import pdist

from exemplarcnn.errors import PipelineError

# fastcluster holds all pairs as float64: at this many images 10 GB.
LARGEST = 50_000


class ClusteringError(PipelineError):
    """Points that cannot be clustered as asked."""


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


def distances(points: NDArray[np.float32]) -> NDArray[np.float64]:
    """Euclidean distances of all pairs, in scipy's condensed order.

    Raises
    ------
    ClusteringError
        If a coordinate is not finite, or all pairs would not fit.
    """
    if len(points) > LARGEST:
        raise ClusteringError(
            f"{len(points)} images to cluster: all pairs of more than {LARGEST} do not fit; lower clustered_share"
        )
    if not (good := np.isfinite(points).all(axis=1)).all():
        raise ClusteringError(f"point {int(np.argmin(good))} has a coordinate that is not finite")
    result: NDArray[np.float64] = pdist(points.astype(np.float64))
    return result


def linkage(points: NDArray[np.float32]) -> NDArray[np.float64]:
    """Complete-linkage dendrogram in scipy's ``Z`` convention, (points − 1, 4) float64."""
    if len(points) < 2:
        return np.empty((0, 4))
    Z: NDArray[np.float64] = fastcluster.linkage(distances(points), "complete", preserve_input=False)
    return Z


def merged_after(Z: NDArray[np.float64]) -> NDArray[np.int64]:
    """How many points are in clusters of two or more after each merge, shape (merges,)."""
    points = len(Z) + 1
    # A merge takes in those of its two sides that were single points until then.
    return np.cumsum((Z[:, :2] < points).sum(axis=1))


def threshold_for(Z: NDArray[np.float64], fraction: float) -> float:
    """Find the cut that puts a share of the points into clusters of two or more (docs/method.md, section 5.2).

    Merges of equal height cannot be told apart, so only cuts between different heights count; the one whose
    share is closest is taken, the lower of two equally close ones.

    Returns
    -------
    float
        A threshold halfway between the last merge below it and the next above. Points at distance zero are
        merged by every cut.
    """
    points = len(Z) + 1
    if len(Z) == 0:
        return 0.0
    heights = np.concatenate([[0.0], Z[:, 2]])
    merged = np.concatenate([[0], merged_after(Z)])
    last = np.flatnonzero(np.append(heights[1:] > heights[:-1], True))
    levels, shares = heights[last], merged[last] / points
    best = int(np.argmin(np.abs(shares - fraction)))
    low, high = float(levels[best]), float(levels[min(best + 1, len(levels) - 1)])
    # Halfway between two neighbouring floats lies the upper one, which would be a merge too many.
    return middle if (middle := (low + high) / 2) < high else low


def cut(points: NDArray[np.float32], threshold: float | None, fraction: float | None) -> Cut:
    """Cluster points by complete linkage and cut at a threshold, or where a share of them is merged.

    Parameters
    ----------
    points
        (n, d) float32.
    threshold, fraction
        One of the two; the other None.
    """
    Z = linkage(points)
    if threshold is None:
        assert fraction is not None
        threshold = threshold_for(Z, fraction)
    raw = fcluster(Z, threshold, "distance") if len(Z) else np.ones(len(points), np.int64)
    _, first, inverse = np.unique(raw, return_index=True, return_inverse=True)
    order = np.argsort(np.argsort(first))
    return Cut(order[inverse].astype(np.int64), threshold, Z[Z[:, 2] <= threshold, 2])
