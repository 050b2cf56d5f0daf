"""Sparse complete linkage against a slow greedy one, against scipy, and on awkward graphs."""

from itertools import combinations
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.cluster import hierarchy
from scipy.sparse import coo_array, csr_array
from scipy.spatial.distance import pdist, squareform

from exemplarcnn.clustering import linkage
from exemplarcnn.clustering.linkage import complete_linkage, diameters, flat_clusters

sizes = st.tuples(st.integers(1, 25), st.integers(1, 3))
grids = hnp.arrays(np.float32, sizes, elements=st.integers(0, 4).map(float))


def graph_of(square: np.ndarray, radius: float) -> csr_array:
    """All pairs within a radius, upper triangle, with stored zeros; numbers have 32 bits, as the search gives them."""
    first, second = (side.astype(np.int32) for side in np.nonzero(np.triu(square <= radius, 1)))
    return coo_array((square[first, second], (first, second)), shape=square.shape).tocsr()


def square_of(points: np.ndarray) -> np.ndarray:
    return squareform(pdist(points.astype(np.float64))) if len(points) > 1 else np.zeros((len(points),) * 2)


def slow_linkage(graph: csr_array) -> list[tuple[set[int], set[int], float]]:
    """Merge the first pair of clusters, again and again: nearest first, ties in the order of the module."""
    points = graph.shape[0]
    pairs = graph.tocoo()
    edges = {(int(i), int(j)): float(d) for i, j, d in zip(pairs.row, pairs.col, pairs.data, strict=True)}
    clusters: dict[int, set[int]] = {point: {point} for point in range(points)}
    merges: list[tuple[set[int], set[int], float]] = []
    while True:
        near = []
        for a, b in combinations(sorted(clusters), 2):
            between = [(min(i, j), max(i, j)) for i in clusters[a] for j in clusters[b]]
            if all(pair in edges for pair in between):
                tie = int(linkage._mixed(np.array([a * points + b], np.uint64))[0])
                near.append((max(edges[pair] for pair in between), tie, a, b))
        if not near:
            return merges
        height, _, a, b = min(near)
        merges.append((set(clusters[a]), set(clusters[b]), height))
        clusters[a] |= clusters.pop(b)


def merges_of(Z: np.ndarray, points: int) -> list[tuple[set[int], set[int], float]]:
    members = [{point} for point in range(points)]
    merges = []
    for one, two, height, size in Z:
        a, b = members[int(one)], members[int(two)]
        merges.append((a, b, float(height)) if min(a) < min(b) else (b, a, float(height)))
        members.append(a | b)
        assert size == len(members[-1])
    return merges


@settings(max_examples=150, deadline=None)
@given(points=grids, radius=st.floats(0, 7))
def test_merge_by_merge_as_a_slow_greedy_with_ties(points: np.ndarray, radius: float) -> None:
    graph = graph_of(square_of(points), radius)
    assert merges_of(complete_linkage(graph), len(points)) == slow_linkage(graph)


@settings(max_examples=150, deadline=None)
@given(n=st.integers(1, 14), pairs=st.data())
def test_any_graph_as_a_slow_greedy(n: int, pairs: st.DataObject) -> None:
    """Weights that are no distances of anything, so that every pattern of missing pairs occurs."""
    square = np.full((n, n), np.inf)
    for i, j in combinations(range(n), 2):
        square[i, j] = pairs.draw(st.sampled_from([0.0, 1.0, 2.0, 3.0, np.inf, np.inf]))
    graph = graph_of(square, 10.0)
    assert merges_of(complete_linkage(graph), n) == slow_linkage(graph)


@settings(max_examples=80, deadline=None)
@given(seed=st.integers(0, 10_000), n=st.integers(2, 60), d=st.integers(1, 6), share=st.floats(0, 1.1))
def test_rows_are_those_of_scipy_below_the_radius(seed: int, n: int, d: int, share: float) -> None:
    points = np.random.default_rng(seed).normal(size=(n, d))
    whole = hierarchy.linkage(pdist(points), "complete")
    radius = share * whole[-1, 2]
    Z = complete_linkage(graph_of(squareform(pdist(points)), radius))
    np.testing.assert_array_equal(Z, whole[whole[:, 2] <= radius])


@settings(max_examples=60, deadline=None)
@given(points=grids, radius=st.floats(0, 7), seed=st.integers(0, 100))
def test_the_order_of_the_pairs_does_not_matter(points: np.ndarray, radius: float, seed: int) -> None:
    graph = graph_of(square_of(points), radius)
    pairs = graph.tocoo()
    order = np.random.default_rng(seed).permutation(len(pairs.data))
    shuffled = csr_array(graph.shape, dtype=float)
    shuffled.data, shuffled.indices, shuffled.indptr = graph.data.copy(), graph.indices.copy(), graph.indptr
    for row in range(graph.shape[0]):
        span = slice(graph.indptr[row], graph.indptr[row + 1])
        turn = np.argsort(order[span])
        shuffled.indices[span], shuffled.data[span] = graph.indices[span][turn], graph.data[span][turn]
    np.testing.assert_array_equal(complete_linkage(shuffled), complete_linkage(graph))


@settings(max_examples=100, deadline=None)
@given(points=grids, radius=st.floats(0, 7))
def test_with_ties_clusters_are_within_the_radius_and_no_two_could_merge(points: np.ndarray, radius: float) -> None:
    square = square_of(points)
    labels = flat_clusters(complete_linkage(graph_of(square, radius)), len(points), radius)
    groups = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    for group in groups:
        assert square[np.ix_(group, group)].max() <= radius
    widths = diameters(complete_linkage(graph_of(square, radius)), labels, radius)
    assert widths.tolist() == [square[np.ix_(group, group)].max() for group in groups]
    for one, two in combinations(groups, 2):
        assert square[np.ix_(one, two)].max() > radius


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000), n=st.integers(1, 40), share=st.floats(0, 1.1))
def test_flat_clusters_of_a_whole_dendrogram_against_scipy(seed: int, n: int, share: float) -> None:
    points = np.random.default_rng(seed).normal(size=(n, 2))
    Z = hierarchy.linkage(pdist(points), "complete") if n > 1 else np.empty((0, 4))
    threshold = share * float(Z[-1, 2]) if n > 1 else 1.0
    labels = flat_clusters(Z, n, threshold)
    expected = hierarchy.fcluster(Z, threshold, "distance") if n > 1 else np.ones(1)
    pairs = set(zip(labels.tolist(), expected.tolist(), strict=True))
    assert len(pairs) == len(set(labels.tolist())) == len(set(expected.tolist()))
    square = square_of(points)
    widths = [square[np.ix_(labels == label, labels == label)].max() for label in range(labels.max() + 1)]
    assert diameters(Z, labels, threshold) == pytest.approx(widths)
    assert list(dict.fromkeys(labels.tolist())) == list(range(labels.max() + 1))


def test_of_no_points_there_is_no_cluster() -> None:
    """Where all images are held out, none is clustered."""
    Z = complete_linkage(graph_of(np.zeros((0, 0)), 1.0))
    labels = flat_clusters(Z, 0, 1.0)
    assert labels.shape == diameters(Z, labels, 1.0).shape == (0,)


def test_a_chain_is_not_one_cluster() -> None:
    """Neighbours within reach, their neighbours not: one connected component, clusters of two."""
    n = 2_000
    steps = np.arange(n - 1)
    graph = coo_array((np.random.default_rng(0).random(n - 1), (steps, steps + 1)), shape=(n, n)).tocsr()
    Z = complete_linkage(graph)
    assert set(Z[:, 3]) == {2.0}
    labels = flat_clusters(Z, n, 1.0)
    alone = np.bincount(labels)[labels] == 1
    assert not (alone[:-1] & alone[1:]).any(), "two neighbours left alone could have merged"


def test_one_giant_component_and_many_small_ones_together() -> None:
    rng = np.random.default_rng(0)
    giant = rng.normal(size=(400, 2))
    small = rng.normal(size=(100, 2)).repeat(3, axis=0) * 1000 + rng.normal(size=(300, 2)) + 10_000
    points = np.concatenate([giant, small])
    radius = float(np.quantile(pdist(giant), 0.7))
    whole = hierarchy.linkage(pdist(points), "complete")
    Z = complete_linkage(graph_of(squareform(pdist(points)), radius))
    np.testing.assert_array_equal(Z, whole[whole[:, 2] <= radius])


def test_many_equal_points_take_few_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the plain order of pairs each round would merge one pair only."""
    rounds: list[int] = []
    mutual = linkage._mutual

    def counted(*words: Any) -> Any:
        rounds.append(1)
        return mutual(*words)

    monkeypatch.setattr(linkage, "_mutual", counted)
    Z = complete_linkage(graph_of(np.zeros((300, 300)), 0.0))
    assert len(Z) == 299
    assert Z[-1, 3] == 300
    assert len(rounds) < 40


@pytest.mark.parametrize("kind", [np.int32, np.int64])
def test_pairs_among_the_last_of_many_points(kind: type) -> None:
    """Numbers of pairs of clusters are beyond 32 bits."""
    points, near = 100_000, np.random.default_rng(0).random((60, 3))
    small = graph_of(squareform(pdist(near)), 0.5).tocoo()
    sides: list[Any] = [(side + points - 60).astype(kind) for side in (small.row, small.col)]
    graph = coo_array((small.data, sides), shape=(points, points)).tocsr()
    assert graph.indices.dtype == kind
    expected = hierarchy.linkage(pdist(near), "complete")
    expected = expected[expected[:, 2] <= 0.5]
    expected[:, :2] += points - 60  # of points and of merges alike
    np.testing.assert_array_equal(complete_linkage(graph), expected)


@pytest.mark.parametrize("points", [0, 1, 5])
def test_no_pairs(points: int) -> None:
    Z = complete_linkage(csr_array((points, points), dtype=float))
    assert Z.shape == (0, 4)
    assert flat_clusters(Z, points, 1.0).tolist() == list(range(points))
