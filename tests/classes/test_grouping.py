"""Class tables from clusters: who joins which class, and how many classes a pool can give."""

import re
from typing import Any, get_args

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import pdist

from exemplarcnn.classes import tables
from exemplarcnn.classes.capacity import CHECKS, most_grouped, split_pool
from exemplarcnn.classes.grouping import GROUPINGS, GroupingError, group
from exemplarcnn.clustering.dendrogram import cut
from exemplarcnn.config.variants import ClusterEntry, PruneEntry, Variants
from tests.classes.test_expansion import distance, slow_expand
from tests.classes.unit_features import unit


def params(**changes: Any) -> ClusterEntry:
    values: dict[str, Any] = {
        "source": "baseline",
        "method": "clusters",
        "classes": 12,
        "or_fewer": False,
        "clustered_fraction": 0.5,
        "merged_fraction": 0.3,
        "threshold": None,
        "neighbours": 2,
        "neighbour_order": "query",
    }
    return ClusterEntry(**(values | changes))


def test_every_method_of_the_parameters_has_its_function() -> None:
    union, _ = get_args(get_args(Variants.model_fields["group"].annotation)[1])
    methods: set[Any] = {get_args(kind.model_fields["method"].annotation)[0] for kind in get_args(union)}
    assert set(GROUPINGS) == methods >= set(CHECKS)


# Class tables


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 1000),
    size=st.integers(2, 60),
    share=st.floats(0, 1),
    fraction=st.floats(0, 1),
    neighbours=st.integers(0, 3),
    wanted=st.integers(2, 40),
)
def test_every_image_is_in_one_class_at_most(
    seed: int, size: int, share: float, fraction: float, neighbours: int, wanted: int
) -> None:
    features = unit(seed, size)
    asked = params(classes=wanted, clustered_fraction=share, merged_fraction=fraction, neighbours=neighbours)
    try:
        table, statistics, *_ = group(features, asked, seed)
    except GroupingError:
        return
    tables.check(table, size)
    assert tables.count(table) == wanted
    assert statistics["clusters"] + statistics["single_classes"] == wanted
    clustered, held_out = (set(half.tolist()) for half in split_pool(size, share, seed))
    origins = {name: set(rows["image_id"]) for name, rows in table.groupby("origin")}
    assert origins.get("cluster", set()) | origins.get("single", set()) <= clustered
    assert origins.get("neighbour", set()) <= held_out
    for _, rows in table.groupby("class_id"):
        origin = rows["origin"].tolist()
        assert origin == ["single"] + ["neighbour"] * neighbours or (len(origin) > 1 and set(origin) == {"cluster"})


def test_a_table_piece_by_piece() -> None:
    features, asked = unit(3, 40), params()
    table, *_ = group(features, asked, seed=1)
    clustered, held_out = split_pool(40, 0.5, seed=1)
    labels = cut(features[clustered], None, 0.3).labels
    sets = [clustered[labels == label].tolist() for label in range(labels.max() + 1)]
    clusters = [members for members in sets if len(members) > 1]
    alone = {members[0] for members in sets if len(members) == 1}
    found = table.groupby("class_id")["image_id"].apply(list).tolist()
    assert len(clusters) == 3
    assert found[:3] == clusters, "clusters first, by their first image"
    singles = [members[0] for members in found[3:]]
    assert len(singles) == 9
    assert set(singles) <= alone
    near, _ = slow_expand(features[singles], features[held_out], 2, "query")
    assert [members[1:] for members in found[3:]] == [held_out[row].tolist() for row in near]


def test_the_table_depends_on_the_seed_alone() -> None:
    features = unit(3, 40)
    first, again, other = (group(features, params(), seed)[0] for seed in (1, 1, 2))
    pd.testing.assert_frame_equal(first, again)
    assert not first.equals(other)


def test_singles_are_drawn_at_random() -> None:
    features = unit(3, 80)
    table, *_ = group(features, params(classes=20), seed=1)
    singles = table.loc[table["origin"] == "single", "image_id"].tolist()
    assert singles != sorted(singles)


def test_a_given_threshold_is_used() -> None:
    features = unit(3, 40)
    _, statistics, _ = group(features, params(merged_fraction=None, threshold=0.5), seed=1)
    assert statistics["threshold"] == 0.5
    labels = cut(features[split_pool(40, 0.5, 1)[0]], 0.5, None).labels
    assert statistics["clusters"] == int((np.bincount(labels) > 1).sum())


def test_clusters_alone_can_fill_the_table() -> None:
    features = np.repeat(np.eye(4, dtype=np.float32), 5, axis=0)
    asked = params(classes=4, clustered_fraction=1.0, merged_fraction=None, threshold=0.5)
    table, statistics, *_ = group(features + unit(0, 20) * np.float32(0.01), asked, seed=0)
    assert statistics["clusters"] == 4
    assert set(table["origin"]) == {"cluster"}
    assert statistics["neighbour_ranks"] is None
    assert statistics["neighbour_distances"] is None


# What is possible


@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 300),
    size=st.integers(8, 50),
    share=st.floats(0.2, 0.9),
    fraction=st.floats(0, 0.6),
    neighbours=st.integers(0, 3),
)
def test_the_largest_possible_number_is_named_and_right(
    seed: int, size: int, share: float, fraction: float, neighbours: int
) -> None:
    features = unit(seed, size)

    def asked(number: int) -> ClusterEntry:
        return params(classes=number, clustered_fraction=share, merged_fraction=fraction, neighbours=neighbours)

    with pytest.raises(GroupingError, match="largest possible number of classes") as caught:
        group(features, asked(1_000), seed)
    largest = int(re.findall(r"\d+", str(caught.value))[-1])
    if largest >= 2:
        assert tables.count(group(features, asked(largest), seed)[0]) == largest
    with pytest.raises(GroupingError, match=f"classes is {largest}$"):
        group(features, asked(max(largest + 1, 2)), seed)
    any_number = asked(1_000).model_copy(update={"or_fewer": True})
    if largest < 2:
        with pytest.raises(GroupingError, match="a network needs two"):
            group(features, any_number, seed)
    else:
        assert tables.count(group(features, any_number, seed)[0]) == largest
    clustered, held_out = split_pool(size, share, seed)
    assert largest <= most_grouped(len(clustered), len(held_out), neighbours)


@pytest.mark.parametrize(
    ("neighbours", "why"),
    [
        (3, "the 30 held-out images suffice for 10 single ones with 3 neighbour(s) each"),
        (1, "every image outside clusters is used"),
        (0, "every image outside clusters is used"),
    ],
)
def test_fewer_classes_than_wanted_are_told_with_the_reason(neighbours: int, why: str) -> None:
    """Each single image has all its neighbours: where they are too few there are fewer classes."""
    asked = params(classes=50, or_fewer=True, neighbours=neighbours)
    table, _, warnings = group(unit(0, 60), asked, seed=0)
    count = tables.count(table)
    assert (table["origin"] == "neighbour").sum() == neighbours * (table["origin"] == "single").sum()
    assert warnings == (f"{count} of up to 50 classes: {why}",)
    assert group(unit(0, 60), asked.model_copy(update={"classes": count}), seed=0).warnings == ()


def test_more_clusters_than_classes() -> None:
    with pytest.raises(GroupingError, match=r"gives \d+ clusters, more than the 2 classes .*lower merged_fraction"):
        group(unit(0, 60), params(classes=2, merged_fraction=0.9), seed=0)


def clumps(*sizes: int) -> np.ndarray:
    """Images around one direction each, the clumps far from each other, the later ones the tighter."""
    axes = np.eye(len(sizes) + 1, dtype=np.float64)
    rows = [axes[k] + np.arange(size)[:, None] * 0.02 / (k + 1) * axes[-1] for k, size in enumerate(sizes)]
    features = np.concatenate(rows)
    return np.asarray(features / np.linalg.norm(features, axis=1, keepdims=True), np.float32)


@pytest.mark.parametrize(
    ("wanted", "kept"),
    [
        (2, [1, 4]),  # the largest, of 5 and of 4
        (3, [1, 3, 4]),  # of those of 3 the tightest
        (4, [1, 2, 3, 4]),
        (5, [0, 1, 2, 3, 4]),
        (50, [0, 1, 2, 3, 4]),
    ],
)
def test_of_too_many_clusters_the_largest_are_kept_where_fewer_classes_are_allowed(
    wanted: int, kept: list[int]
) -> None:
    """A folder of 99,980 images worked for twenty minutes, and then had 226 clusters too many."""
    sizes = np.array([3, 5, 3, 3, 4])
    ends = np.cumsum(sizes)
    asked = params(
        classes=wanted, or_fewer=True, clustered_fraction=1.0, merged_fraction=None, threshold=0.5, neighbours=0
    )
    table, statistics, warnings = group(clumps(*sizes), asked, seed=0)
    assert table.groupby("class_id")["image_id"].apply(list).tolist() == [
        list(range(ends[k] - sizes[k], ends[k])) for k in kept
    ]
    assert statistics["clusters"] == len(kept)
    assert statistics["images_in_clusters"] == len(table) == sizes[kept].sum()
    assert statistics["single_classes"] == 0
    left = {"clusters_left_out": 5 - len(kept), "images_left_out": 18 - len(table)}
    assert {key: value for key, value in statistics.items() if "left_out" in key} == (left if len(kept) < 5 else {})
    told = (
        f"more clusters than classes: the largest are kept, and {5 - len(kept)} with {18 - len(table)} images left out"
    )
    assert (told in warnings) == (len(kept) < 5)
    if wanted < 5:
        with pytest.raises(GroupingError, match=rf"gives 5 clusters, more than the {wanted} .*or_fewer: true"):
            group(clumps(*sizes), asked.model_copy(update={"or_fewer": False}), seed=0)


def test_of_clusters_that_are_alike_the_one_of_the_first_image_is_kept() -> None:
    features = np.repeat(np.eye(4, dtype=np.float32), 3, axis=0)
    asked = params(classes=2, or_fewer=True, clustered_fraction=1.0, merged_fraction=None, threshold=0.0)
    assert group(features, asked, seed=0)[0]["image_id"].tolist() == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("fraction", [0.0, 0.0974, 1.0])
def test_images_that_are_all_the_same_are_refused(fraction: float) -> None:
    features = np.full((100, 4), 0.5, np.float32)
    for fewer in (True, False):
        with pytest.raises(GroupingError, match=r"makes? 1 class|classes is 1$"):
            group(features, params(classes=30, or_fewer=fewer, merged_fraction=fraction), seed=0)


def test_exactly_as_many_classes_as_clusters() -> None:
    clusters = group(unit(0, 60), params(classes=16), seed=0)[1]["clusters"]
    table, statistics, *_ = group(unit(0, 60), params(classes=clusters), seed=0)
    assert statistics["single_classes"] == 0
    assert tables.count(table) == clusters


# Large clusters, pruned


def pruned(**changes: Any) -> PruneEntry:
    values = {"source": "baseline", "method": "pruned", "clustered_fraction": 1.0}
    values |= {"mean_cluster_size": 5.0, "drop_fraction": 0.25, "merge_distance": 0.0}
    return PruneEntry(**(values | changes))


def test_clusters_grow_to_the_size_asked_for() -> None:
    table, statistics, *_ = group(unit(1, 200), pruned(drop_fraction=0.0), 0)
    tables.check(table, 200)
    Z = linkage(pdist(unit(1, 200).astype(float)), "complete")
    labels = fcluster(Z, statistics["threshold"], "distance")
    sizes = np.bincount(labels)[1:]
    assert 200 / len(sizes) == pytest.approx(5, abs=0.1)
    assert tables.count(table) == statistics["clusters"] == np.count_nonzero(sizes > 1)
    assert statistics["dropped_clusters"] == statistics["joined_clusters"] == 0


def test_noisy_clusters_are_dropped() -> None:
    features = unit(1, 200)
    whole, *_ = group(features, pruned(drop_fraction=0.0), 0)
    table, statistics, *_ = group(features, pruned(drop_fraction=0.5), 0)
    noise = {
        tuple(rows["image_id"]): pdist(features[rows["image_id"]].astype(float)).mean()
        for _, rows in whole.groupby("class_id")
    }
    kept = {tuple(rows["image_id"]) for _, rows in table.groupby("class_id")}
    assert kept == {images for images, value in noise.items() if value <= np.median(list(noise.values()))}
    assert statistics["dropped_clusters"] == len(noise) - len(kept)


def test_similar_clusters_are_merged() -> None:
    # Five directions; around each two clumps that a cut at clumps keeps apart, 10 degrees from each other.
    rng = np.random.default_rng(0)
    angles = np.deg2rad(np.add.outer(np.arange(5) * 70, [0, 10]).ravel().repeat(4)) + rng.normal(size=40) * 0.002
    features = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    apart, *_ = group(features, pruned(mean_cluster_size=4.0, drop_fraction=0.0), 0)
    assert set(tables.sizes(apart)) == {4}
    table, statistics, *_ = group(features, pruned(mean_cluster_size=4.0, drop_fraction=0.0, merge_distance=0.02), 0)
    assert tables.sizes(table).tolist() == [8] * 5
    assert statistics["joined_clusters"] == 5
    assert [set(rows["image_id"]) for _, rows in table.groupby("class_id")] == [
        set(range(start, start + 8)) for start in range(0, 40, 8)
    ]


def test_nothing_is_left_of_the_clusters() -> None:
    with pytest.raises(
        GroupingError,
        match=r"at least two classes are needed; lower mean_cluster_size, drop_fraction or merge_distance",
    ):
        group(unit(1, 60), pruned(merge_distance=2.0), 0)
    with pytest.raises(GroupingError, match=r"^0 clusters of two images or more"):
        group(unit(1, 60), pruned(mean_cluster_size=1.0), 0)


# Statistics


def test_statistics_against_the_table() -> None:
    features = unit(3, 41)
    table, statistics, *_ = group(features, params(merged_fraction=0.6), seed=1)
    clustered, held_out = split_pool(41, 0.5, seed=1)
    in_clusters = table[table["origin"] == "cluster"]
    assert statistics["clustered_images"] == len(clustered) == 20
    assert statistics["held_out_images"] == len(held_out) == 21
    assert statistics["images_in_clusters"] == len(in_clusters)
    assert statistics["merged_fraction"] == len(in_clusters) / 20
    sizes = in_clusters["class_id"].value_counts().value_counts()
    assert len(sizes) > 1
    assert statistics["cluster_sizes"] == {str(size): int(number) for size, number in sorted(sizes.items())}
    assert statistics["single_classes"] == int((table["origin"] == "single").sum())

    spreads = []
    for _, rows in in_clusters.groupby("class_id"):
        points = features[rows["image_id"]].astype(float)
        spreads.append(float(np.linalg.norm(points[:, None] - points[None], axis=2).max()))
    assert statistics["merge_heights"]["max"] == pytest.approx(max(spreads), rel=1e-6)
    assert max(spreads) <= statistics["threshold"]

    singles = table.loc[table["origin"] == "single", "image_id"].to_numpy()
    near, ranks = slow_expand(features[singles], features[held_out], 2, "query")
    lengths = [
        [distance(features[one], features[held_out[i]]) for i in row] for one, row in zip(singles, near, strict=True)
    ]
    for name, values in (("neighbour_ranks", ranks), ("neighbour_distances", lengths)):
        expected = [np.min(values), *np.percentile(values, [25, 50, 75]), np.max(values)]
        assert list(statistics[name]) == ["min", "quarter", "median", "three_quarters", "max"]
        assert list(statistics[name].values()) == pytest.approx(expected, abs=1e-6)


def test_statistics_without_clusters_and_neighbours() -> None:
    _, statistics, _ = group(unit(0, 20), params(classes=5, merged_fraction=0.0, neighbours=0), seed=0)
    assert statistics["clusters"] == statistics["images_in_clusters"] == 0
    assert statistics["cluster_sizes"] == {}
    assert statistics["merge_heights"] is None
    assert statistics["neighbour_ranks"] is None
    assert statistics["single_classes"] == 5


def test_nothing_clustered() -> None:
    with pytest.raises(GroupingError, match=r"0 single and 20 held-out images; .* classes is 0$"):
        group(unit(0, 20), params(clustered_fraction=0.0), seed=0)
