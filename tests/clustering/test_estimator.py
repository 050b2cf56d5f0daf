"""Complete linkage as scikit-learn's users know it."""

import doctest
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.cluster import AgglomerativeClustering
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils._param_validation import InvalidParameterError
from sklearn.utils.estimator_checks import parametrize_with_checks

from exemplarcnn import distributed, threads
from exemplarcnn.clustering import CompleteLinkage, NeighboursError, cut, estimator, radius_graph, sample, sketch
from tests.clustering.test_dendrogram import partition, smooth

BLOCKS_OF_32 = {"device": None, "block": 32, "width": None, "shared": False, "folder": None}


# Some checks want three clusters found in three clouds. scikit-learn has no types.
@parametrize_with_checks([CompleteLinkage(merged_fraction=1.0), CompleteLinkage(distance_threshold=2.5)])  # type: ignore[untyped-decorator]
def test_it_is_an_estimator(estimator: Any, check: Any) -> None:
    check(estimator)


@pytest.mark.parametrize("threshold", [0.5, 1.0, 2.5, 100.0])
def test_clusters_are_those_of_agglomerative_clustering(threshold: float) -> None:
    X = smooth(3, 200, 4)
    found = CompleteLinkage(distance_threshold=threshold).fit(X)
    peer = AgglomerativeClustering(None, linkage="complete", distance_threshold=threshold).fit(X.astype(np.float64))
    assert partition(found.labels_) == partition(peer.labels_)
    assert found.n_clusters_ == peer.n_clusters_ == len(np.unique(found.labels_))
    merges = len(found.children_)
    assert merges == 200 - found.n_clusters_
    np.testing.assert_allclose(found.distances_, np.sort(peer.distances_)[:merges], rtol=1e-6)
    assert [set(pair) for pair in found.children_] == [set(pair) for pair in peer.children_[:merges].tolist()]
    assert found.threshold_ == threshold


def test_a_fraction_of_the_samples_is_merged() -> None:
    found = CompleteLinkage(merged_fraction=0.3).fit(smooth(4, 500, 6))
    sizes = np.bincount(found.labels_)
    assert sizes[sizes > 1].sum() / 500 == pytest.approx(0.3, abs=0.005)


def test_a_distance_equal_to_the_threshold_is_inside() -> None:
    assert CompleteLinkage(distance_threshold=1.0).fit_predict([[0.0], [1.0], [5.0]]).tolist() == [0, 0, 1]


def test_samples_far_from_the_origin_are_told_apart() -> None:
    X = [[1.7e9], [1.7e9 + 1], [1.7e9 + 60]]
    assert CompleteLinkage(distance_threshold=0.5).fit(X).n_clusters_ == 3
    assert CompleteLinkage(distance_threshold=1.5).fit(X).n_clusters_ == 2


def test_processes_that_were_started_together_do_not_share_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each may fit samples of its own, or one of them alone."""
    X = smooth(0, 90, 2)
    alone = [CompleteLinkage(0.3).fit(X).labels_, CompleteLinkage(merged_fraction=0.5).fit(X).labels_]
    for name in ("broadcast_scalar", "all_reduce_sum", "all_gather", "any_rank", "rank"):
        monkeypatch.setattr(distributed, name, None)
    monkeypatch.setattr(distributed, "world", lambda: 2)
    together = [CompleteLinkage(0.3).fit(X).labels_, CompleteLinkage(merged_fraction=0.5).fit(X).labels_]
    np.testing.assert_array_equal(together, alone)


def test_the_number_of_threads_changes_nothing_here_or_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (sample, sketch):
        monkeypatch.setattr(module, "STRIP", 16)
    monkeypatch.setattr(radius_graph.RadiusSearch.__init__, "__kwdefaults__", BLOCKS_OF_32)
    X, before = smooth(5, 300, 6), (threads.count(), torch.get_num_threads())
    found = [CompleteLinkage(merged_fraction=0.3, n_jobs=jobs).fit(X) for jobs in (None, 1, 3, -1)]
    assert (threads.count(), torch.get_num_threads()) == before
    for other in found[1:]:
        np.testing.assert_array_equal(other.labels_, found[0].labels_)
        np.testing.assert_array_equal(other.distances_, found[0].distances_)


def test_it_works_in_a_pipeline_and_on_a_data_frame() -> None:
    X = pd.DataFrame(smooth(6, 60, 3), columns=["a", "b", "c"])
    labels = make_pipeline(StandardScaler(), CompleteLinkage(merged_fraction=0.5)).fit_predict(X)
    assert labels.shape == (60,)
    assert CompleteLinkage(merged_fraction=0.5).fit(X).feature_names_in_.tolist() == ["a", "b", "c"]


def test_a_memory_map_is_not_copied(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    np.save(tmp_path / "X.npy", smooth(7, 80, 4))
    X = np.load(tmp_path / "X.npy", mmap_mode="r")
    seen = []

    def watched(points: Any, *rest: Any) -> Any:
        seen.append(points)
        return cut(points, *rest)

    monkeypatch.setattr(estimator, "cut", watched)
    CompleteLinkage(distance_threshold=0.5).fit(X)
    assert np.shares_memory(seen[0], X)


@pytest.mark.parametrize("wrong", [{}, {"distance_threshold": 1.0, "merged_fraction": 0.5}])
def test_one_of_two_ways_to_cut_is_asked_for(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="give either distance_threshold or merged_fraction"):
        CompleteLinkage(**wrong).fit(smooth(0, 5, 2))  # type: ignore[arg-type]  # a dict has one type of values


def test_wrong_parameters_are_named() -> None:
    with pytest.raises(InvalidParameterError, match="'merged_fraction' parameter of CompleteLinkage"):
        CompleteLinkage(merged_fraction=2.0).fit(smooth(0, 5, 2))
    with pytest.raises(NeighboursError, match="memory_gib"):
        CompleteLinkage(merged_fraction=0.9, memory_gib=1e-6).fit(smooth(0, 400, 2))
    assert clone(CompleteLinkage(merged_fraction=0.2, n_jobs=2)).get_params()["n_jobs"] == 2


def test_its_examples() -> None:
    assert doctest.testmod(estimator).failed == 0
