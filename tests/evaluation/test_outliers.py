"""Images of none of the classes: against sklearn's SVM and slow sums, and pairs against all pairs."""

import itertools
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from scipy.spatial.distance import pdist, squareform
from sklearn.svm import LinearSVC

from exemplarcnn.data import folds
from exemplarcnn.data.stl10 import ImageFile, write_images
from exemplarcnn.data.types import Pool
from exemplarcnn.evaluation.outliers import (
    Hyperplanes,
    WithMirrored,
    agreement,
    closest_pairs,
    count_outliers,
    detection_metrics,
    mean_decisions,
    mirrored,
    scored,
)
from exemplarcnn.evaluation.svm import SvmError
from exemplarcnn.networks.chunks import map_chunks

CHUNK, COUNT = 16, 42


@pytest.fixture
def pool(tmp_path: Path) -> Pool:
    """Three classes, each with a tint of its own and more of it at the left."""
    generator = np.random.default_rng(0)
    pixels = generator.integers(0, 120, (COUNT, 96, 96, 3))
    for number in range(COUNT):
        pixels[number, :, :48, number % 3] += 60
        pixels[number, :, :, number % 3] += 30
    write_images(tmp_path / "pool", pixels.astype(np.uint8))
    return ImageFile(tmp_path / "pool")


def extract(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Means of eight columns of blocks and, so that places in a chunk matter if they do, nothing else."""
    assert len(images) == CHUNK
    blocks = images.reshape(len(images), 96, 8, 12, 3).mean(axis=(1, 3)).reshape(len(images), -1)
    return np.asarray(blocks / 255, np.float32)


def described(pool: Pool) -> NDArray[np.float32]:
    """Features of the images, then of their mirror images."""
    both = WithMirrored(pool)
    return np.concatenate([found for _, found in map_chunks(both.batch, extract, len(both), CHUNK)])


def scores_of(pool: Pool, hyperplanes: Hyperplanes) -> pd.DataFrame:
    decide = mean_decisions(hyperplanes, extract)
    return scored(np.concatenate([found for _, found in map_chunks(pool.batch, decide, len(pool), CHUNK)]))


def test_mirror_images_come_after_the_images(pool: Pool) -> None:
    both = WithMirrored(pool)
    assert len(both) == 2 * COUNT
    images = both.batch(np.array([3, COUNT + 3, COUNT - 1, COUNT]))
    assert np.array_equal(images, [pool[3], pool[3][:, ::-1], pool[COUNT - 1], pool[0][:, ::-1]])
    assert images.flags.c_contiguous
    assert np.array_equal(mirrored(pool.batch([3]))[0, :, 0], pool[3][:, -1])


def test_mirror_images_are_left_out_where_an_svm_cannot_take_them(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folds, "MAX_TRAINING_IMAGES", 2 * COUNT - 1)
    both = WithMirrored(pool)
    assert len(both) == COUNT
    assert np.array_equal(both.batch(np.array([0, COUNT - 1])), pool.batch([0, COUNT - 1]))


def test_scores_are_those_of_sklearns_svm_on_images_and_mirror_images(pool: Pool) -> None:
    labels = np.tile(np.arange(COUNT) % 3, 2)
    features = described(pool)
    hyperplanes = Hyperplanes.learn(features, labels, C=0.7)
    peer = LinearSVC(C=0.7, tol=1e-10, max_iter=100_000).fit(features, labels)
    both = (peer.decision_function(features[:COUNT]) + peer.decision_function(features[COUNT:])) / 2
    found = scores_of(pool, hyperplanes)
    np.testing.assert_allclose(found["score"], -both.max(axis=1), atol=1e-3)
    assert found["nearest"].tolist() == both.argmax(axis=1).tolist() == labels[:COUNT].tolist()
    assert found["image_id"].tolist() == list(range(COUNT))


def test_two_classes_have_a_hyperplane_each(pool: Pool) -> None:
    labels, features = np.tile(np.arange(COUNT) % 2, 2), described(pool)
    decisions = Hyperplanes.learn(features, labels, C=0.7).decision_function(features)
    peer = LinearSVC(C=0.7, tol=1e-10, max_iter=100_000).fit(features, labels).decision_function(features)
    np.testing.assert_allclose(decisions, np.stack([-peer, peer], axis=1), atol=1e-3)


def test_a_class_without_images_is_nobodys(pool: Pool) -> None:
    labels, features = np.tile(np.arange(COUNT) % 2, 2), described(pool)
    expected = Hyperplanes.learn(features, labels, C=0.7).decision_function(features)
    decisions = Hyperplanes.learn(features, 2 * labels, C=0.7).decision_function(features)
    assert decisions[:, [0, 2]].tolist() == expected.tolist()
    assert set(decisions[:, 1]) == {-np.inf}


def test_one_class_is_refused(pool: Pool) -> None:
    features = described(pool)
    with pytest.raises(SvmError, match=r"cannot tell the classes of the labelled images apart: .* only one class"):
        Hyperplanes.learn(features, np.zeros(len(features), np.int64), C=1.0)


def test_what_is_like_no_class_scores_highest(pool: Pool, tmp_path: Path) -> None:
    hyperplanes = Hyperplanes.learn(described(pool), np.tile(np.arange(COUNT) % 3, 2), C=1.0)
    pixels = pool.batch(range(20))
    strange = np.random.default_rng(1).integers(0, 120, (4, 96, 96, 3)).astype(np.uint8)
    write_images(tmp_path / "mixed", np.concatenate([pixels, strange]))
    found = scores_of(ImageFile(tmp_path / "mixed"), hyperplanes)
    assert set(found.nlargest(4, "score")["image_id"]) == {20, 21, 22, 23}


@pytest.mark.parametrize("count", [1, 7, 100, 10_000])
def test_closest_pairs_are_those_of_all_pairs(count: int) -> None:
    points = np.random.default_rng(2).normal(size=(60, 5)).astype(np.float32)
    points[41] = points[3]
    found = closest_pairs(points, count, memory=1.0)
    all_pairs = squareform(pdist(points.astype(np.float64)))
    first, second = np.triu_indices(60, 1)
    order = np.lexsort((second, first, all_pairs[first, second]))[:count]
    assert found["first"].tolist() == first[order].tolist()
    assert found["second"].tolist() == second[order].tolist()
    np.testing.assert_allclose(found["distance"], all_pairs[first, second][order], atol=1e-6)
    assert found.iloc[0].tolist() == [3, 41, 0]


def test_agreement_with_the_pixels() -> None:
    pairs = pd.DataFrame({"first": [1, 2, 5], "second": [4, 3, 6], "distance": 0.1})
    groups = pd.Series({1: 0, 4: 0, 5: 1, 6: 1, 7: 2, 8: 2})
    assert agreement(pairs, groups) == {"closest_pairs": 3, "known_among_them": 2, "known": 3}


def test_detection_metrics_on_known_outliers(tmp_path: Path) -> None:
    truth = tmp_path / "truth.csv"
    scores = pd.DataFrame({"score": [0.1, 0.9, 0.4, 0.3]})
    assert detection_metrics(scores, 0.35, truth) is None
    pd.DataFrame({"index": range(4), "class": "a"}).to_csv(truth, index=False)
    assert detection_metrics(scores, 0.35, truth) is None
    kinds = ["ordinary", "out_of_distribution", "ordinary", "out_of_distribution"]
    pd.DataFrame({"index": range(4), "kind": kinds}).to_csv(truth, index=False)
    found = {"images": 2, "auroc": 0.75}
    assert detection_metrics(scores, 0.35, truth) == found | {"precision": 0.5, "recall": 0.5}
    assert detection_metrics(scores, 0.4, truth) == found | {"precision": 1.0, "recall": 0.5}
    assert detection_metrics(scores, 0.9, truth) == found | {"precision": None, "recall": 0.0}
    for kind in ("ordinary", "out_of_distribution"):
        pd.DataFrame({"index": range(4), "kind": kind}).to_csv(truth, index=False)
        assert detection_metrics(scores, 0.35, truth) is None


# How many are too far


def test_images_above_what_a_share_of_the_known_ones_exceed_are_counted() -> None:
    known = np.random.default_rng(0).permutation(np.arange(1.0, 101))
    found = count_outliers(np.array([95.0, 95.5, 300.0, -7.0]), known, 0.05)
    assert (found["threshold"], found["inside"], found["inside_above"]) == (95, 100, 5)
    assert (found["images"], found["share"]) == (2, 0.5)
    assert count_outliers(np.zeros(1), known, 0.29)["inside_above"] == 29, "0.29 × 100 is 28.999999999999996"
    assert count_outliers(np.zeros(1), known, 0.059)["inside_above"] == 5, "never more than the share"


def test_equal_scores_are_not_above() -> None:
    found = count_outliers(np.array([2.0, 3.0]), np.array([1.0, 2, 2, 2]), 0.5)
    assert (found["threshold"], found["inside_above"], found["images"]) == (2, 0, 1)


@pytest.mark.parametrize(("inside", "most"), [(4, 1), (3, 0), (5, 3)])
def test_what_is_expected_is_what_all_orders_give(inside: int, most: int) -> None:
    """Of images that are all alike each order of their scores is equally likely."""
    new = 3
    counts = []
    for places in itertools.combinations(range(inside + new), inside):
        others = [float(place) for place in range(inside + new) if place not in places]
        counts.append(count_outliers(np.array(others), np.array(places, float), most / inside)["images"])
    expected = count_outliers(np.zeros(new), np.arange(float(inside)), most / inside)["expected"]
    assert expected["mean"] == pytest.approx(np.mean(counts))
    shares = np.cumsum(np.bincount(counts, minlength=new + 1)) / len(counts)
    assert (expected["low"], expected["high"]) == tuple(np.argmax(shares >= share) for share in (0.025, 0.975))


def test_a_few_test_images_bear_no_certainty() -> None:
    found = count_outliers(np.arange(50.0), np.arange(3.0), 0.05)
    assert (found["threshold"], found["inside_above"], found["images"]) == (2, 0, 47)
    assert found["expected"] == {"mean": 12.5, "low": 0, "high": 36}
