"""Complete linkage as an estimator of scikit-learn's."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from numbers import Integral, Real
from typing import Any, ClassVar, Self

import numpy as np
import torch
from joblib import effective_n_jobs
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, ClusterMixin, _fit_context
from sklearn.utils._param_validation import Interval
from sklearn.utils.validation import validate_data
from threadpoolctl import threadpool_limits

from exemplarcnn import threads
from exemplarcnn.clustering.dendrogram import cut

# What `fit` sets and restores holds for the whole process.
_LOCK = threading.RLock()


class CompleteLinkage(ClusterMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """Complete-linkage clustering, cut at a distance or where a fraction of the samples is merged.

    The clusters are those of the full dendrogram, cut there, as `AgglomerativeClustering(linkage="complete")` finds
    them, with two differences: a distance equal to the threshold is inside, and where distances are equal another order
    may give another partition. Of the n × n distances only those below the cut are measured, so that it suits many
    samples in many small clusters (docs/results.md has figures).

    Parameters
    ----------
    distance_threshold : float, default=None
        The largest Euclidean distance inside a cluster. Give either this or ``merged_fraction``.
    merged_fraction : float, default=None
        The fraction of the samples that is in clusters of two or more, 0 to 1. Of all cuts, the one that comes closest
        is made.
    memory_gib : float, default=2.0
        GiB that pairs of near samples may take. If they take more, `fit` raises an error that says how much they need.
    n_jobs : int, default=None
        Number of threads; None means 1, and -1 all processors. It changes no result.

    Attributes
    ----------
    labels_ : ndarray of shape (n_samples,)
        Cluster of each sample, numbered from 0 in the order of their first sample.
    n_clusters_ : int
        The number of clusters, single samples included.
    threshold_ : float
        The largest distance allowed inside a cluster.
    children_ : ndarray of shape (n_merges, 2)
        The two nodes of each merge below the cut, as in `AgglomerativeClustering`: values below ``n_samples`` are
        samples, ``i`` above is the cluster that merge ``i - n_samples`` made.
    distances_ : ndarray of shape (n_merges,)
        The largest distance inside the cluster that each merge made, ascending.
    n_features_in_ : int
        Number of features seen during `fit`.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of features seen during `fit`, if ``X`` has names that are all strings.

    Notes
    -----
    Distances are those of samples in float32, measured in float64; samples in other types are centred and rounded.
    Equal distances are taken in a fixed order, so the same samples always give the same clusters. docs/method.md,
    section 5.2, says how and why it is exact. Equal samples are near pairs, too: n of them take n² / 2 pairs of 112
    bytes, so that thousands of copies need more memory than the rest.

    References
    ----------
    D. Defays (1977). An efficient algorithm for a complete link method. The Computer Journal 20(4).

    Examples
    --------
    >>> import numpy as np
    >>> from exemplarcnn.clustering import CompleteLinkage
    >>> X = np.array([[0.0, 0.0], [0.0, 1.0], [4.0, 0.0], [4.0, 1.5], [9.0, 9.0]])
    >>> CompleteLinkage(distance_threshold=1.2).fit_predict(X)
    array([0, 0, 1, 2, 3])
    >>> CompleteLinkage(merged_fraction=0.8).fit(X).n_clusters_
    3
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "distance_threshold": [Interval(Real, 0, None, closed="left"), None],
        "merged_fraction": [Interval(Real, 0, 1, closed="both"), None],
        "memory_gib": [Interval(Real, 0, None, closed="neither")],
        "n_jobs": [Integral, None],
    }

    def __init__(
        self,
        distance_threshold: float | None = None,
        *,
        merged_fraction: float | None = None,
        memory_gib: float = 2.0,
        n_jobs: int | None = None,
    ):
        self.distance_threshold = distance_threshold
        self.merged_fraction = merged_fraction
        self.memory_gib = memory_gib
        self.n_jobs = n_jobs

    @_fit_context(prefer_skip_nested_validation=True)  # type: ignore[untyped-decorator]  # as above
    def fit(self, X: ArrayLike, y: Any = None) -> Self:
        """Cluster samples.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Samples, for instance a memory map of float32, which is never loaded as a whole.
        y : Ignored
            Not used.

        Returns
        -------
        self : object
            This estimator.

        Raises
        ------
        ValueError
            If not exactly one of ``distance_threshold`` and ``merged_fraction`` is given.
        NeighboursError
            If the near pairs do not fit into ``memory_gib``, or there are 2³¹ samples or more.
        """
        if (self.distance_threshold is None) == (self.merged_fraction is None):
            raise ValueError("give either distance_threshold or merged_fraction, and leave the other None")
        points = validate_data(self, X, dtype=[np.float64, np.float32], ensure_min_samples=2)
        if points.dtype != np.float32:  # rounding would move samples that lie far from the origin
            points = (points - points.mean(axis=0)).astype(np.float32)
        with _threads(effective_n_jobs(self.n_jobs)):
            found = cut(points, self.distance_threshold, self.merged_fraction, self.memory_gib)
        self.labels_, self.threshold_ = found.labels, found.threshold
        self.n_clusters_ = int(found.labels.max()) + 1
        self.children_ = found.merges[:, :2].astype(np.int64)
        self.distances_ = found.heights
        return self


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """Compute with some threads of our own, each of them with one thread inside the libraries; one caller at a time."""
    with _LOCK:
        before, of_torch = threads.count(), torch.get_num_threads()
        threads.use(count)
        torch.set_num_threads(1)
        try:
            with threadpool_limits(1):
                yield
        finally:
            threads.use(before)
            torch.set_num_threads(of_torch)
