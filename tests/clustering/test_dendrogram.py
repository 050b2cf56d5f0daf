"""Complete linkage against scipy, its defining properties, and the choice of the cut."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.cluster import hierarchy
from scipy.spatial.distance import pdist, squareform

from exemplarcnn.clustering import radius_graph
from exemplarcnn.clustering.dendrogram import cut, growth, merged_after, threshold_for
from exemplarcnn.clustering.errors import NeighboursError
from exemplarcnn.clustering.linkage import complete_linkage
from exemplarcnn.clustering.radius_graph import neighbour_graph

# scipy's distances and ours differ in their last bits.
SLACK = 1e-9

sizes = st.tuples(st.integers(2, 25), st.integers(1, 4))
grids = hnp.arrays(np.float32, sizes, elements=st.integers(0, 4).map(float))


def smooth(seed: int, n: int, d: int) -> np.ndarray:
    """Points with no two distances alike."""
    return np.random.default_rng(seed).normal(size=(n, d)).astype(np.float32)


def partition(labels: np.ndarray) -> set[frozenset[int]]:
    return {frozenset(np.flatnonzero(labels == label).tolist()) for label in np.unique(labels)}


# The cut


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000), n=st.integers(2, 40), d=st.integers(1, 5), share=st.floats(0, 1.1))
def test_cut_at_a_threshold_against_scipy(seed: int, n: int, d: int, share: float) -> None:
    points = smooth(seed, n, d)
    Z = hierarchy.linkage(pdist(points.astype(np.float64)), "complete")
    threshold = share * float(Z[-1, 2])
    assume(np.abs(Z[:, 2] - threshold).min() > SLACK)
    found = cut(points, threshold, None)
    assert partition(found.labels) == partition(hierarchy.fcluster(Z, threshold, "distance"))
    np.testing.assert_allclose(found.heights, Z[Z[:, 2] <= threshold, 2], rtol=1e-12)
    assert found.threshold == threshold


@settings(max_examples=60, deadline=None)
@given(points=grids, threshold=st.floats(0.01, 9))
def test_clusters_are_within_the_threshold_and_no_two_of_them_together(points: np.ndarray, threshold: float) -> None:
    found = cut(points, threshold, None)
    square = squareform(pdist(points.astype(np.float64)))
    groups = [np.flatnonzero(found.labels == label) for label in np.unique(found.labels)]
    for group in groups:
        assert square[np.ix_(group, group)].max() <= threshold + SLACK
    for one, two in combinations(groups, 2):
        assert square[np.ix_(one, two)].max() > threshold - SLACK
    together = [square[np.ix_(g, g)].max() for g in groups if len(g) > 1]
    assert len(found.heights) == len(points) - len(groups)
    if together:
        assert max(found.heights) == pytest.approx(max(together), abs=SLACK)


@settings(max_examples=40, deadline=None)
@given(points=grids, threshold=st.floats(0, 9))
def test_clusters_are_numbered_by_their_first_point(points: np.ndarray, threshold: float) -> None:
    labels = cut(points, threshold, None).labels
    assert labels.dtype == np.int64
    assert list(dict.fromkeys(labels.tolist())) == list(range(labels.max() + 1))


def test_complete_linkage_is_not_single_linkage() -> None:
    points = np.array([[0.0], [1.0], [2.1], [3.3]], np.float32)
    assert cut(points, 1.25, None).labels.tolist() == [0, 0, 1, 1]
    assert cut(points, 3.4, None).labels.tolist() == [0, 0, 0, 0]


def test_a_distance_just_at_the_threshold_is_inside() -> None:
    points = np.array([[0.0], [3.0], [10.0]], np.float32)
    assert cut(points, 3.0, None).labels.tolist() == [0, 0, 1]
    assert cut(points, float(np.nextafter(3.0, 0)), None).labels.tolist() == [0, 1, 2]


# The share of merged points


def linkage(points: np.ndarray) -> np.ndarray:
    return hierarchy.linkage(pdist(points.astype(np.float64)), "complete")


def threshold_of(Z: np.ndarray, fraction: float) -> float:
    """Threshold read off a whole dendrogram."""
    threshold = threshold_for(Z, len(Z) + 1, fraction)
    assert threshold is not None
    return threshold


def all_cuts(Z: np.ndarray) -> dict[float, float]:
    """Share of points in clusters of two or more, for a threshold at zero and at every height."""
    shares = {}
    for threshold in (0.0, *Z[:, 2]):
        counts = np.bincount(hierarchy.fcluster(Z, threshold, "distance"))
        shares[float(threshold)] = float(counts[counts > 1].sum() / (len(Z) + 1))
    return shares


def share_at(Z: np.ndarray, threshold: float) -> float:
    counts = np.bincount(hierarchy.fcluster(Z, threshold, "distance"))
    return float(counts[counts > 1].sum() / (len(Z) + 1))


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000), n=st.integers(2, 30), fraction=st.floats(0, 1))
def test_share_is_the_closest_of_all_cuts(seed: int, n: int, fraction: float) -> None:
    Z = linkage(smooth(seed, n, 2))
    best = min(abs(share - fraction) for share in all_cuts(Z).values())
    assert abs(share_at(Z, threshold_of(Z, fraction)) - fraction) == pytest.approx(best, abs=1e-12)


@settings(max_examples=100, deadline=None)
@given(points=grids, fraction=st.floats(0, 1))
def test_share_is_the_closest_of_all_cuts_with_equal_heights(points: np.ndarray, fraction: float) -> None:
    Z = linkage(points)
    best = min(abs(share - fraction) for share in all_cuts(Z).values())
    assert abs(share_at(Z, threshold_of(Z, fraction)) - fraction) == pytest.approx(best, abs=1e-12)


@settings(max_examples=40, deadline=None)
@given(points=grids, fraction=st.floats(0, 1))
def test_cut_by_share_is_the_cut_at_its_threshold(points: np.ndarray, fraction: float) -> None:
    found = cut(points, None, fraction)
    # The whole dendrogram with the same order of ties: scipy may take another of equal pairs first.
    whole = complete_linkage(neighbour_graph(points, np.inf))
    assert found.threshold == threshold_of(whole, fraction)
    np.testing.assert_array_equal(found.labels, cut(points, found.threshold, None).labels)


@settings(max_examples=40, deadline=None)
@given(points=grids)
def test_merged_after_each_merge_against_a_slow_count(points: np.ndarray) -> None:
    Z = linkage(points)
    inside: set[int] = set()
    members = {i: {i} for i in range(len(points))}
    expected = []
    for step, (one, two) in enumerate(Z[:, :2].astype(int)):
        members[len(points) + step] = members[one] | members[two]
        inside |= members[len(points) + step]
        expected.append(len(inside))
    assert merged_after(Z, len(points)).tolist() == expected


def test_threshold_by_hand() -> None:
    # Pairs at 1, 2 and 4 apart, far from one another.
    points = np.array([[0.0], [1.0], [100.0], [102.0], [300.0], [304.0], [1000.0], [2000.0]], np.float32)
    Z = linkage(points)
    assert [threshold_of(Z, share) for share in (0, 0.25, 0.5)] == pytest.approx([0.5, 1.5, 3.0])
    assert threshold_of(Z, 0.3) == pytest.approx(1.5)
    assert threshold_of(Z, 1.0) == pytest.approx(2000.0)


def test_of_two_equally_close_shares_the_lower_is_taken() -> None:
    points = np.array([[0.0], [1.0], [100.0], [102.0], [300.0], [304.0], [1000.0], [2000.0]], np.float32)
    Z = linkage(points)
    assert threshold_of(Z, 0.125) == pytest.approx(0.5), "between none and a quarter"
    assert threshold_of(Z, 0.375) == pytest.approx(1.5), "between a quarter and a half"


def test_equal_heights_are_taken_together() -> None:
    # Three pairs of the same width: no cut gives a share between 0 and 3/4.
    points = np.array([[0.0], [1.0], [100.0], [101.0], [300.0], [301.0], [1000.0], [2000.0]], np.float32)
    Z = linkage(points)
    assert share_at(Z, threshold_of(Z, 0.25)) == 0
    assert share_at(Z, threshold_of(Z, 0.5)) == 0.75


def test_heights_one_bit_apart() -> None:
    low = float(np.nextafter(1.0, 2))
    high = float(np.nextafter(low, 2))
    Z = np.array([[0, 1, low, 2], [2, 3, high, 2], [4, 5, 5.0, 4]])
    assert share_at(Z, threshold_of(Z, 0.5)) == 0.5


@settings(max_examples=80, deadline=None)
@given(points=grids, fraction=st.floats(0, 1), rows=st.integers(0, 25))
def test_merges_up_to_a_height_say_the_same_as_all_or_that_they_do_not_know(
    points: np.ndarray, fraction: float, rows: int
) -> None:
    Z = linkage(points)
    rows = int(np.count_nonzero(Z[:, 2] <= Z[min(rows, len(Z) - 1), 2])) if rows else 0
    assert threshold_for(Z[:rows], len(points), fraction) in (None, threshold_of(Z, fraction))


def test_how_far_merges_must_be_known() -> None:
    points = np.array([[0.0], [1.0], [100.0], [102.0], [300.0], [304.0], [1000.0], [2000.0]], np.float32)
    Z = linkage(points)
    assert threshold_for(Z[:1], 8, 0.25) is None, "where the next merge is decides the threshold"
    assert threshold_for(Z[:2], 8, 0.25) == threshold_for(Z, 8, 0.25)
    assert threshold_for(Z[:2], 8, 0.6) is None, "a higher cut may come closer"


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 1000), fraction=st.sampled_from([0.0, 0.02, 0.1, 0.4, 0.8, 1.0]))
@pytest.mark.slow
def test_share_of_more_points_than_are_sampled(seed: int, fraction: float) -> None:
    points = smooth(seed, 800, 12)
    Z = linkage(points)
    found = cut(points, None, fraction)
    assert found.threshold == pytest.approx(threshold_of(Z, fraction), rel=1e-12)
    assert partition(found.labels) == partition(hierarchy.fcluster(Z, found.threshold, "distance"))


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 1000), n=st.integers(2, 60), size=st.floats(1, 20))
def test_mean_size_is_the_closest_of_all_cuts(seed: int, n: int, size: float) -> None:
    points = smooth(seed, n, 2)
    found = cut(points, None, None, size=size)
    reached = [n / clusters for clusters in range(1, n + 1)]  # no two heights are alike
    best = min(abs(mean - size) for mean in reached)
    assert abs(n / (found.labels.max() + 1) - size) == pytest.approx(best)
    np.testing.assert_array_equal(found.labels, cut(points, found.threshold, None).labels)


def test_a_radius_grows_by_as_much_as_its_last_twentieth_suggests() -> None:
    """Ten pairs of twenty points in a hundred: eight within 0.9, and two more within 1."""
    heights = [*np.linspace(0.1, 0.9, 8), 0.96, 0.99]
    Z = np.array([[2 * i, 2 * i + 1, height, 2] for i, height in enumerate(heights)])
    assert growth(Z, 100, 1.0, 0.2) == pytest.approx(1.03)
    assert growth(Z, 100, 1.0, 0.22) == pytest.approx(1.03 + 0.05 * 0.02 / 0.04)
    assert growth(Z, 100, 1.0, 0.5) == 1.15
    assert growth(Z, 100, 2.0, 0.22) == 1.15, "nothing was merged in the last twentieth"
    assert growth(Z[:0], 100, 1.0, 0.22) == 1.15


def test_a_point_far_away_does_not_make_the_graph_dense() -> None:
    points = np.concatenate([smooth(0, 900, 12), np.full((1, 12), 1e3, np.float32)])
    Z = linkage(points)
    memory = 30_000 * radius_graph.BYTES_A_PAIR / radius_graph.GIB
    found = cut(points, None, 0.6, memory)
    assert partition(found.labels) == partition(hierarchy.fcluster(Z, found.threshold, "distance"))
    with pytest.raises(NeighboursError, match=r"cannot cut beyond a distance of .* % of the points are merged"):
        cut(points, None, 1.0, memory)


# Few points


@pytest.mark.parametrize(("threshold", "fraction"), [(0.0, None), (5.0, None), (None, 0.0), (None, 0.5), (None, 1.0)])
@pytest.mark.parametrize("n", [0, 1])
def test_no_point_and_one_point(n: int, threshold: float | None, fraction: float | None) -> None:
    found = cut(np.zeros((n, 3), np.float32), threshold, fraction)
    assert found.labels.tolist() == [0] * n
    assert found.heights.tolist() == []
    assert found.threshold == (threshold or 0.0)


@pytest.mark.parametrize(
    ("threshold", "fraction", "expected"),
    [(4.9, None, [0, 1]), (5.0, None, [0, 0]), (None, 0.0, [0, 1]), (None, 0.5, [0, 1]), (None, 0.51, [0, 0])],
)
def test_two_points(threshold: float | None, fraction: float | None, expected: list[int]) -> None:
    points = np.array([[0.0, 0.0], [3.0, 4.0]], np.float32)
    assert cut(points, threshold, fraction).labels.tolist() == expected


def test_points_that_are_not_finite_are_named() -> None:
    points = smooth(0, 5, 3)
    points[3, 1] = np.nan
    for threshold, fraction in ((1.0, None), (None, 0.5)):
        with pytest.raises(NeighboursError, match="point 3 has a coordinate that is not finite"):
            cut(points, threshold, fraction)


@pytest.mark.parametrize("fraction", [0.5, 0.51, 1.0])
def test_all_points_in_one_place(fraction: float) -> None:
    # Small whole numbers, for which distances are exact.
    found = cut(np.full((6, 3), 2.0, np.float32), None, fraction)
    assert found.labels.tolist() == [0] * 6
    assert found.heights.tolist() == [0.0] * 5
    assert cut(np.full((6, 3), 2.0, np.float32), 0.0, None).labels.tolist() == [0] * 6


def test_copies_of_an_image_are_no_distance_apart() -> None:
    points = smooth(0, 1, 40).repeat(5, axis=0)
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    assert cut(points, 0.0, None).labels.tolist() == [0] * 5
