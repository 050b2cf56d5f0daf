"""The protocols: equivalence to plain classifiers on raw features, choices, independence of the test set, summaries."""

from typing import Any

import numpy as np
import pytest
from sklearn.model_selection import StratifiedKFold
from sklearn.neighbors import KNeighborsClassifier
from sklearn.svm import LinearSVC
from threadpoolctl import threadpool_info, threadpool_limits

from exemplarcnn import rng
from exemplarcnn.config.sections import Evaluate
from exemplarcnn.data.folds import EvaluationError
from exemplarcnn.evaluation import svm
from exemplarcnn.evaluation.classifiers import FeatureSet, Result
from exemplarcnn.evaluation.metrics import choose
from exemplarcnn.evaluation.protocols import evaluate, grid, summarise
from tests.evaluation.toy_features import toy

FOLDS_SVM = {"name": "folds", "labels": "folds", "classifier": "svm"}
FULL = {"name": "full", "labels": "all", "classifier": "svm"}
KNN = {"name": "knn", "labels": "folds", "classifier": "knn"}


def params(*others: dict[str, str], **changes: Any) -> Evaluate:
    values: dict[str, Any] = {"C": (0.001, 0.1, 10.0), "k": (1, 5, 20), "inner_folds": 3, "tol": 1e-7}
    return Evaluate(protocols=[FOLDS_SVM, *others], **(values | changes))


CLASSES = 4
FOLDS = [np.arange(fold * 10, fold * 10 + 40) for fold in range(3)]


def same(one: Result, two: Result) -> bool:
    arrays = [(getattr(one, name), getattr(two, name)) for name in ("predictions", "by_value")]
    if one.linear and two.linear:
        arrays += [(getattr(one.linear, name), getattr(two.linear, name)) for name in ("weights", "scores")]
    return (
        (one.choice, one.inner_accuracies) == (two.choice, two.inner_accuracies)
        and (one.linear is None) == (two.linear is None)
        and all(np.array_equal(*pair) for pair in arrays)
    )


def splits_of(fold: int, seed: int, rows: np.ndarray, labels: np.ndarray, inner: int = 3) -> Any:
    """The inner folds that a fold is given."""
    state = int(rng.generator(seed, rng.Purpose.INNER_FOLDS, fold).integers(2**32))
    return StratifiedKFold(inner, shuffle=True, random_state=state).split(rows, labels[rows])


def liblinear(features: np.ndarray, labels: np.ndarray, C: float) -> LinearSVC:
    return LinearSVC(C=C, dual=False, tol=1e-12, max_iter=100_000).fit(features.astype(np.float64), labels)


# Linear SVMs


@pytest.mark.parametrize("width", [6, pytest.param(100, marks=pytest.mark.slow)])
def test_every_fold_is_what_liblinear_makes_of_raw_features(width: int) -> None:
    train, labels = toy(80, width, noise=3.0)
    labels[labels == 2] = 1  # one class twice as large, so that intercepts matter
    labels[labels == 3] = 2
    test, _ = toy(1_100, width, seed=1, noise=3.0)
    test += 1
    results = evaluate(FeatureSet(train, labels, FOLDS, test, 3), params(), seed=5, workers=1)["folds"]
    assert len(results) == 3
    for index, (fold, result) in enumerate(zip(FOLDS, results, strict=True)):
        inner = []
        for C in (0.001, 0.1, 10.0):
            right = []
            for inside, out in splits_of(index, 5, fold, labels):
                plain = liblinear(train[fold[inside]], labels[fold[inside]], C)
                right.append((plain.predict(train[fold[out]].astype(float)) == labels[fold[out]]).sum())
            inner.append(sum(right) / len(fold))
        assert result.inner_accuracies == pytest.approx(inner)
        assert result.choice == (0.001, 0.1, 10.0)[int(np.argmax(inner))]
        assert len(set(inner)) > 1, "or the choice would not show"
        assert result.linear is not None
        for place, C in enumerate((0.001, 0.1, 10.0)):
            plain = liblinear(train[fold], labels[fold], C)
            scores = plain.decision_function(test.astype(float))
            top = np.sort(scores, axis=1)
            clear = top[:, -1] - top[:, -2] > 1e-5
            assert clear.mean() > 0.99
            np.testing.assert_array_equal(result.by_value[place][clear], scores.argmax(axis=1)[clear])
            if result.choice == C:
                np.testing.assert_array_equal(result.predictions, result.by_value[place])
                np.testing.assert_allclose(result.linear.weights, plain.coef_, rtol=1e-4, atol=1e-6)
                np.testing.assert_allclose(result.linear.intercept, plain.intercept_, rtol=1e-4, atol=1e-6)
                np.testing.assert_allclose(result.linear.scores, scores, rtol=1e-4, atol=1e-5)
        # What is kept is enough to predict alike.
        kept = test @ result.linear.weights.T + result.linear.intercept
        np.testing.assert_allclose(kept, result.linear.scores, rtol=1e-4, atol=1e-4)
        assert result.predictions.dtype == result.by_value.dtype == np.uint8
        assert result.linear.weights.dtype == result.linear.intercept.dtype == np.float32
    assert (results[0].predictions != results[1].predictions).any()


def test_all_labels_at_once() -> None:
    train, labels = toy(80, 30, noise=3.0)
    test, _ = toy(200, 30, seed=1, noise=3.0)
    found = evaluate(FeatureSet(train, labels, FOLDS, test, CLASSES), params(FULL), seed=5, workers=2)
    assert list(found) == ["folds", "full"]
    (result,) = found["full"]
    plain = liblinear(train, labels, result.choice)
    assert result.linear is not None
    np.testing.assert_allclose(result.linear.scores, plain.decision_function(test), rtol=1e-4, atol=1e-5)
    alone = evaluate(FeatureSet(train, labels, [np.arange(80)], test, CLASSES), params(), seed=5, workers=1)["folds"][0]
    assert alone.inner_accuracies != result.inner_accuracies, "inner folds of their own"


def test_two_classes_alone_are_told_apart() -> None:
    train, labels = toy(40, 20, classes=2, noise=0.1)
    test, truth = toy(30, 20, classes=2, seed=1, noise=0.1)
    (result,) = evaluate(FeatureSet(train, labels, FOLDS[:1], test, 2), params(), seed=0, workers=1)["folds"]
    np.testing.assert_array_equal(result.predictions, truth)
    assert result.linear is not None
    assert result.linear.weights.shape == (2, 20)


# Nearest neighbours


def test_neighbours_are_those_of_raw_features() -> None:
    train, labels = toy(80, 15, noise=2.0)
    test, _ = toy(150, 15, seed=1, noise=2.0)
    found = evaluate(FeatureSet(train, labels, FOLDS, test, CLASSES), params(KNN), seed=2, workers=1)["knn"]
    for index, (fold, result) in enumerate(zip(FOLDS, found, strict=True)):
        inner = []
        for place, k in enumerate((1, 5, 20)):
            plain = KNeighborsClassifier(k).fit(train[fold], labels[fold])
            np.testing.assert_array_equal(result.by_value[place], plain.predict(test))
            right = []
            for inside, out in splits_of(index, 2, fold, labels):
                plain.fit(train[fold[inside]], labels[fold[inside]])
                right.append((plain.predict(train[fold[out]]) == labels[fold[out]]).sum())
            inner.append(sum(right) / len(fold))
        assert result.inner_accuracies == pytest.approx(inner)
        assert result.choice == (1, 5, 20)[int(np.argmax(inner))]
        np.testing.assert_array_equal(result.predictions, result.by_value[(1, 5, 20).index(result.choice)])
        assert result.linear is None


def test_more_neighbours_than_images_are_refused() -> None:
    train, labels = toy(80)
    with pytest.raises(
        EvaluationError, match=r"evaluate.k has 27, but cross-validation trains on only 26 images of fold 0"
    ):
        evaluate(FeatureSet(train, labels, FOLDS, train, CLASSES), params(KNN, k=(1, 27)), 0, 1)
    assert evaluate(FeatureSet(train, labels, FOLDS, train, CLASSES), params(KNN, k=(26,)), 0, 1)
    assert evaluate(FeatureSet(train, labels, FOLDS, train, CLASSES), params(k=(27,)), 0, 1), (
        "nobody asked for neighbours"
    )


# The choice


@pytest.mark.parametrize(("right", "place"), [([5, 7, 6], 1), ([7, 7, 6], 1), ([1, 1, 2], 2), ([3, 3, 3], 1)])
def test_the_best_value_wins_and_of_equally_good_ones_the_smallest(right: list[int], place: int) -> None:
    assert choose((5.0, 1.0, 3.0), np.array(right)) == place


def test_equally_good_values_are_told_by_counts() -> None:
    """Means of the same shares in another order differ in their last bit."""
    assert np.mean([0.1, 0.2, 0.3]) != np.mean([0.3, 0.2, 0.1])
    train, labels = toy(120, 4, noise=6.0)
    grid_of = tuple(float(x) for x in np.geomspace(1e-4, 1, 30))
    folds = [np.arange(90), np.arange(30, 120)]
    for result in evaluate(FeatureSet(train, labels, folds, train[:1], CLASSES), params(C=grid_of), 3, 1)["folds"]:
        counts = np.rint(90 * np.array(result.inner_accuracies)).astype(int)
        assert result.choice == grid_of[int(np.flatnonzero(counts == counts.max())[0])]
        np.testing.assert_array_equal(result.inner_accuracies, counts / 90)


def test_each_classifier_has_its_grid() -> None:
    given = params(KNN)
    assert [grid(protocol, given) for protocol in given.protocols] == [(0.001, 0.1, 10.0), (1, 5, 20)]


def test_c_is_chosen_before_anything_of_the_test_set_is_seen() -> None:
    train, labels = toy(80, 30, noise=2.0)
    test, truth = toy(60, 30, seed=1, noise=2.0)
    every = params(FULL, KNN)
    first = evaluate(FeatureSet(train, labels, FOLDS, test, CLASSES), every, seed=0, workers=1)
    other = evaluate(FeatureSet(train, labels, FOLDS, test[::-1] * 7, CLASSES), every, seed=0, workers=1)
    for name in first:
        for one, two in zip(first[name], other[name], strict=True):
            assert (one.choice, one.inner_accuracies) == (two.choice, two.inner_accuracies)
            if one.linear is not None:
                assert two.linear is not None
                assert (one.linear.weights == two.linear.weights).all()
    # Test labels enter the summary alone: other labels, the same C, though the leaky one may change.
    shuffled = np.random.default_rng(0).permutation(truth)
    for name, results in first.items():
        values = every.k if name == "knn" else every.C
        true, false = (summarise(results, values, given, list("abcd")) for given in (truth, shuffled))
        assert true["chosen"] == false["chosen"] == [result.choice for result in results]
        assert true["fold_accuracies"] != false["fold_accuracies"]


def test_training_labels_outside_a_fold_do_not_matter() -> None:
    train, labels = toy(80, 30, noise=2.0)
    test, _ = toy(60, 30, seed=1, noise=2.0)
    first = evaluate(FeatureSet(train, labels, FOLDS[:1], test, CLASSES), params(), seed=0, workers=1)["folds"][0]
    labels[40:], train[40:] = 0, 1
    assert same(
        first, evaluate(FeatureSet(train, labels, FOLDS[:1], test, CLASSES), params(), seed=0, workers=1)["folds"][0]
    )


def test_inner_folds_depend_on_the_seed() -> None:
    train, labels = toy(80, 30, noise=3.0)
    runs = [
        evaluate(FeatureSet(train, labels, FOLDS, train[:1], CLASSES), params(), seed, 1)["folds"] for seed in (0, 0, 1)
    ]
    inner = [[result.inner_accuracies for result in run] for run in runs]
    assert inner[0] == inner[1] != inner[2]


@pytest.mark.slow
def test_neither_workers_nor_threads_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(svm, "ROWS", 64)
    train, labels = toy(400, 3_000, noise=6.0)
    test, _ = toy(1_100, 3_000, seed=1, noise=6.0)
    folds = [np.arange(300), np.arange(100, 400)]
    found = []
    for workers, threads in ((1, 1), (3, 1), (1, 2)):
        with threadpool_limits(threads):
            found.append(evaluate(FeatureSet(train, labels, folds, test, CLASSES), params(FULL, KNN), 0, workers))
    for other in found[1:]:
        for name, results in found[0].items():
            assert all(same(one, two) for one, two in zip(results, other[name], strict=True))


def test_everything_is_trained_on_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Or the last bits would depend on the machine: `evaluate` does not list `machine.threads` in dvc.yaml."""
    seen: list[int] = []
    fit = svm.fit

    def watched(*words: Any) -> Any:
        seen.extend(each["num_threads"] for each in threadpool_info() if each["user_api"] == "blas")
        return fit(*words)

    monkeypatch.setattr(svm, "fit", watched)
    train, labels = toy(80)
    evaluate(FeatureSet(train, labels, FOLDS, train, CLASSES), params(), 0, 2)
    assert set(seen) == {1}


# What is refused


def test_counts_must_match() -> None:
    train, labels = toy(80)
    with pytest.raises(EvaluationError, match="80 training images have features, but 79 have labels"):
        evaluate(FeatureSet(train, labels[:-1], FOLDS, train, CLASSES), params(), 0, 1)
    with pytest.raises(EvaluationError, match="training images have 20 features, test images 19"):
        evaluate(FeatureSet(train, labels, FOLDS, train[:, 1:], CLASSES), params(), 0, 1)


def test_more_training_images_than_can_be_held_are_refused() -> None:
    train = np.zeros((10_001, 1), np.float32)
    with pytest.raises(EvaluationError, match=r"found 10001 training images, expected 10000 at most: .*; label fewer"):
        evaluate(FeatureSet(train, np.zeros(10_001, np.int64), FOLDS, train, CLASSES), params(), 0, 1)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(("place", "index"), [("training", 0), ("training", 79), ("test", 1_500)])
def test_features_that_are_not_finite_are_named(value: float, place: str, index: int) -> None:
    train, labels = toy(80)
    test, _ = toy(1_600, seed=1)
    {"training": train, "test": test}[place][index, 3] = value
    with pytest.raises(EvaluationError, match=f"{place} image {index} has features that are not finite"):
        evaluate(FeatureSet(train, labels, FOLDS, test, CLASSES), params(), 0, 1)


@pytest.mark.parametrize("left", [0, 2])
def test_a_fold_with_too_few_of_a_class_is_named(left: int) -> None:
    train, labels = toy(80)
    members = np.flatnonzero(labels == 2)
    short = np.setdiff1d(np.arange(80), members[left:])
    with pytest.raises(EvaluationError, match=f"fold 1 has {left} image.s. of class 2; .*inner_folds=3"):
        evaluate(FeatureSet(train, labels, [FOLDS[0], short], train, CLASSES), params(), 0, 1)


def test_a_class_without_any_image_is_named() -> None:
    train, labels = toy(80)
    with pytest.raises(EvaluationError, match=r"fold 0 has 0 image.s. of class 4; "):
        evaluate(FeatureSet(train, labels, FOLDS, train, 5), params(), 0, 1)


def test_a_fold_with_just_enough_of_a_class_is_fine() -> None:
    train, labels = toy(80)
    members = np.flatnonzero(labels == 3)
    fold = np.setdiff1d(np.arange(80), members[3:])
    assert len(evaluate(FeatureSet(train, labels, [fold], train, CLASSES), params(C=(1.0,)), 0, 1)) == 1


# Summaries


def fake(predictions: list[int], choice: float, other: list[int]) -> Result:
    by_value = np.array([predictions, other], np.uint8)
    return Result(choice, [0.5, 0.5], by_value[0], by_value, None)


def test_summary_by_hand() -> None:
    labels = np.array([0, 0, 1, 1, 2])
    results = [
        fake([0, 0, 1, 1, 2], 1.0, [0, 0, 1, 1, 0]),
        fake([0, 1, 1, 2, 2], 10.0, [0, 0, 1, 0, 2]),
        fake([1, 1, 1, 2, 0], 0.1, [0, 0, 0, 1, 2]),
    ]
    summary = summarise(results, (3.0, 7.0), labels, ["cat", "dog", "owl"])
    assert summary["fold_accuracies"] == pytest.approx([100, 60, 20])
    assert summary["accuracy_mean"] == pytest.approx(60)
    assert summary["accuracy_std"] == pytest.approx((((100 - 60) ** 2 + 0 + (20 - 60) ** 2) / 3) ** 0.5)
    assert summary["chosen"] == [1.0, 10.0, 0.1]
    assert summary["leaky"] == {"accuracy_mean": pytest.approx(80), "accuracy_std": pytest.approx(0), "value": 7.0}
    assert summary["class_accuracies"] == pytest.approx({"cat": 50, "dog": 200 / 3, "owl": 200 / 3})
