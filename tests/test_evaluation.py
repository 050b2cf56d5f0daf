"""The protocol: equivalence of the shortcut, choice of C, independence of the test set, summaries."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.model_selection import StratifiedKFold
from sklearn.svm import LinearSVC

from exemplarcnn import evaluation, rng
from exemplarcnn.config import Evaluate
from exemplarcnn.evaluation import (
    EvaluationError,
    FoldResult,
    bootstrap_difference,
    choose_regularisation,
    confusion,
    correct,
    evaluate,
    evaluate_fold,
    span,
    summarise,
)


def params(**changes: Any) -> Evaluate:
    values: dict[str, Any] = {"C": (0.01, 1.0, 100.0), "inner_folds": 3, "tol": 1e-8, "max_iter": 100_000}
    return Evaluate(**(values | changes))


def toy(count: int, width: int = 20, classes: int = 4, seed: int = 0, noise: float = 1.0) -> tuple[Any, Any]:
    """Overlapping classes around means that are the same for every seed."""
    means = np.random.default_rng(99).normal(size=(classes, width))
    labels = np.arange(count) % classes
    features = means[labels] + noise * np.random.default_rng(seed).normal(size=(count, width))
    return features.astype(np.float32), labels.astype(np.int64)


FOLDS = [np.arange(fold * 10, fold * 10 + 40) for fold in range(3)]


# The shortcut


@settings(max_examples=30, deadline=None)
@given(n=st.integers(1, 30), d=st.integers(1, 30), seed=st.integers(0, 1000))
def test_span_gives_the_features_back(n: int, d: int, seed: int) -> None:
    features = np.random.default_rng(seed).normal(size=(n, d)).astype(np.float32)
    coordinates, basis = span(features)
    assert coordinates.shape == (n, min(n, d))
    assert basis.shape == (d, min(n, d))
    np.testing.assert_allclose(coordinates @ basis.T, features, atol=1e-12 * d)
    np.testing.assert_allclose(basis.T @ basis, np.eye(min(n, d)), atol=1e-12)
    np.testing.assert_allclose(
        coordinates @ coordinates.T, features.astype(float) @ features.T.astype(float), atol=1e-10
    )


def test_span_of_images_that_repeat() -> None:
    features = np.repeat(np.random.default_rng(0).normal(size=(3, 9)).astype(np.float32), 4, axis=0)
    coordinates, basis = span(features)
    np.testing.assert_allclose(coordinates @ basis.T, features, atol=1e-12)


@pytest.mark.parametrize("width", [15, 40, 120])
@pytest.mark.parametrize("C", [0.01, 1.0, 100.0])
def test_the_classifier_on_coordinates_is_the_one_on_features(width: int, C: float) -> None:
    train, labels = toy(40, width)
    test, _ = toy(50, width, seed=1)
    plain = LinearSVC(C=C, dual=False, tol=1e-10, max_iter=100_000).fit(train.astype(float), labels)
    coordinates, basis = span(train)
    svm = evaluation.fit(coordinates, labels, C, params(tol=1e-10))
    np.testing.assert_allclose(
        test @ (svm.coef_ @ basis.T).T + svm.intercept_, plain.decision_function(test), rtol=1e-5, atol=1e-6
    )


def test_a_fold_holds_the_classifier_on_raw_features_and_its_predictions() -> None:
    train, labels = toy(80, 6, noise=2.0)
    labels[labels == 2] = 1  # one class twice as large, so that intercepts matter
    labels[labels == 3] = 2
    test, _ = toy(2_500, 6, seed=1, noise=2.0)  # several blocks, the last one short
    result = evaluate_fold(train, labels, test, params(C=(1e-6, 0.01, 1e-5)), seed=3)
    assert result.C == 0.01, "a choice that is first, last or smallest would not show"
    plain = LinearSVC(C=result.C, dual=False, tol=1e-10, max_iter=100_000).fit(train.astype(float), labels)
    np.testing.assert_allclose(result.weights, plain.coef_, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(result.intercept, plain.intercept_, rtol=1e-4, atol=1e-6)
    assert result.weights.dtype == result.intercept.dtype == np.float32
    assert result.predictions.dtype == np.uint8
    scores = plain.decision_function(test)
    top = np.sort(scores, axis=1)
    clear = top[:, -1] - top[:, -2] > 1e-4
    assert clear.mean() > 0.99
    np.testing.assert_array_equal(result.predictions[clear], plain.predict(test)[clear])
    assert (result.predictions != (test @ result.weights.T).argmax(axis=1)).any()
    # What is kept is enough to predict alike.
    np.testing.assert_array_equal(result.predictions, (test @ result.weights.T + result.intercept).argmax(axis=1))


def test_labels_need_not_start_at_zero() -> None:
    train, labels = toy(40, 60, noise=0.2)
    test, truth = toy(80, 60, seed=1, noise=0.2)
    result = evaluate_fold(train, labels + 3, test, params(), seed=3)
    np.testing.assert_array_equal(result.predictions, truth + 3)


# The choice of C


def test_inner_accuracies_against_plain_cross_validation_on_raw_features() -> None:
    train, labels = toy(60, 30, noise=2.0)
    coordinates, _ = span(train)
    C, accuracies = choose_regularisation(coordinates, labels, params(), seed=7)
    splits = list(StratifiedKFold(3, shuffle=True, random_state=7).split(train, labels))
    expected = []
    for value in (0.01, 1.0, 100.0):
        shares = []
        for inside, held in splits:
            svm = LinearSVC(C=value, dual=False, tol=1e-10, max_iter=100_000).fit(train[inside], labels[inside])
            shares.append(sum(svm.predict(train[held]) == labels[held]) / len(held))
        expected.append(sum(shares) / 3)
    assert accuracies == pytest.approx(expected)
    assert len(set(accuracies)) > 1, "or the choice would not show"
    assert params().C[int(np.argmax(expected))] == C


def test_of_equally_good_values_the_smallest_is_taken() -> None:
    train, labels = toy(40, 60, noise=0.01)
    coordinates, _ = span(train)
    C, accuracies = choose_regularisation(coordinates, labels, params(C=(10.0, 1.0, 100.0)), seed=0)
    assert accuracies == [1.0, 1.0, 1.0]
    assert C == 1.0


def test_the_best_value_wins_wherever_it_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    class Fake:
        def __init__(self, share: float):
            self.share = share

        def predict(self, points: np.ndarray) -> np.ndarray:
            wrong = np.zeros(len(points), np.int64)
            wrong[round(self.share * len(points)) :] = -1
            return wrong

    shares = {5.0: 0.5, 1.0: 0.75, 3.0: 0.75, 4.0: 0.25}
    monkeypatch.setattr(evaluation, "fit", lambda points, labels, C, params: Fake(shares[C]))
    grid = params(C=tuple(shares), inner_folds=2)
    C, accuracies = choose_regularisation(np.zeros((8, 1)), np.zeros(8, np.int64), grid, seed=0)
    assert (C, accuracies) == (1.0, [0.5, 0.75, 0.75, 0.25])


def test_c_is_chosen_before_anything_of_the_test_set_is_seen() -> None:
    train, labels = toy(80, 30, noise=2.0)
    test, truth = toy(60, 30, seed=1, noise=2.0)
    first = evaluate(train, labels, FOLDS, test, params(), seed=0, workers=1)
    other = evaluate(train, labels, FOLDS, test[::-1] * 7, params(), seed=0, workers=1)
    for one, two in zip(first, other, strict=True):
        assert (one.C, one.inner_accuracies) == (two.C, two.inner_accuracies)
        np.testing.assert_array_equal(one.weights, two.weights)
    # Test labels enter the summary alone: other labels, the same C.
    names = list("abcd")
    shuffled = np.random.default_rng(0).permutation(truth)
    one, two = summarise(first, truth, names), summarise(first, shuffled, names)
    assert one["C"] == two["C"] == [result.C for result in first]
    assert one["fold_accuracies"] != two["fold_accuracies"]


def test_training_labels_outside_a_fold_do_not_matter() -> None:
    train, labels = toy(80, 30, noise=2.0)
    test, _ = toy(60, 30, seed=1, noise=2.0)
    first = evaluate(train, labels, FOLDS[:1], test, params(), seed=0, workers=1)[0]
    labels[40:], train[40:] = 0, 1
    second = evaluate(train, labels, FOLDS[:1], test, params(), seed=0, workers=1)[0]
    np.testing.assert_array_equal(first.weights, second.weights)
    np.testing.assert_array_equal(first.predictions, second.predictions)


def test_inner_folds_depend_on_the_seed() -> None:
    train, labels = toy(80, 30, noise=3.0)
    runs = [evaluate(train, labels, FOLDS, train[:1], params(C=(0.01, 0.1)), seed, 1) for seed in (0, 0, 1)]
    inner = [[result.inner_accuracies for result in run] for run in runs]
    assert inner[0] == inner[1] != inner[2]


# All folds


def test_two_workers_give_what_one_gives() -> None:
    train, labels = toy(80, 100, noise=2.0)
    test, _ = toy(60, 100, seed=1, noise=2.0)
    alone, together = (evaluate(train, labels, FOLDS, test, params(C=(0.01, 1.0)), 0, workers) for workers in (1, 2))
    assert len(alone) == len(together) == 3
    for one, two, fold in zip(alone, together, FOLDS, strict=True):
        assert (one.C, one.inner_accuracies) == (two.C, two.inner_accuracies)
        for name in ("weights", "intercept", "predictions"):
            np.testing.assert_array_equal(getattr(one, name), getattr(two, name))
        plain = LinearSVC(C=one.C, dual=False, tol=1e-8, max_iter=100_000).fit(train[fold], labels[fold])
        np.testing.assert_allclose(one.weights, plain.coef_, rtol=1e-3, atol=1e-5)


def test_counts_must_match() -> None:
    train, labels = toy(80)
    with pytest.raises(EvaluationError, match="80 training images have features, but 79 have labels"):
        evaluate(train, labels[:-1], FOLDS, train, params(), 0, 1)
    with pytest.raises(EvaluationError, match="training images have 20 features, test images 19"):
        evaluate(train, labels, FOLDS, train[:, 1:], params(), 0, 1)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(("place", "index"), [("training", 0), ("training", 79), ("test", 1_500)])
def test_features_that_are_not_finite_are_named(value: float, place: str, index: int) -> None:
    train, labels = toy(80)
    test, _ = toy(1_600, seed=1)
    {"training": train, "test": test}[place][index, 3] = value
    with pytest.raises(EvaluationError, match=f"{place} image {index} has features that are not finite"):
        evaluate(train, labels, FOLDS, test, params(), 0, 1)


@pytest.mark.parametrize("left", [0, 2])
def test_a_fold_with_too_few_of_a_class_is_named(left: int) -> None:
    train, labels = toy(80)
    members = np.flatnonzero(labels == 2)
    short = np.setdiff1d(np.arange(80), members[left:])
    with pytest.raises(EvaluationError, match=f"fold 1 has {left} image.s. of class 2; .*inner_folds=3"):
        evaluate(train, labels, [FOLDS[0], short], train, params(), 0, 1)


def test_a_fold_with_just_enough_of_a_class_is_fine() -> None:
    train, labels = toy(80)
    members = np.flatnonzero(labels == 3)
    fold = np.setdiff1d(np.arange(80), members[3:])
    assert len(evaluate(train, labels, [fold], train, params(C=(1.0,)), 0, 1)) == 1


# Summaries


def fake(predictions: list[int], C: float) -> FoldResult:
    nothing = np.zeros((1, 1), np.float32)
    return FoldResult(C, [0.5], nothing, nothing[0], np.array(predictions, np.uint8))


def test_summary_by_hand() -> None:
    labels = np.array([0, 0, 1, 1, 2])
    results = [fake([0, 0, 1, 1, 2], 1.0), fake([0, 1, 1, 2, 2], 10.0), fake([1, 1, 1, 2, 0], 0.1)]
    summary = summarise(results, labels, ["cat", "dog", "owl"])
    assert summary["fold_accuracies"] == pytest.approx([100, 60, 20])
    assert summary["accuracy_mean"] == pytest.approx(60)
    assert summary["accuracy_std"] == pytest.approx((((100 - 60) ** 2 + 0 + (20 - 60) ** 2) / 3) ** 0.5)
    assert summary["C"] == [1.0, 10.0, 0.1]
    assert summary["class_accuracies"] == pytest.approx({"cat": 50, "dog": 200 / 3, "owl": 200 / 3})


def test_correct_by_hand() -> None:
    found = correct(np.array([[0, 1, 2], [2, 1, 0]], np.uint8), np.array([0, 1, 1]))
    np.testing.assert_array_equal(found, [[True, True, False], [False, True, False]])


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 1000), classes=st.integers(1, 5), folds=st.integers(1, 4))
def test_confusion_against_a_slow_reference(seed: int, classes: int, folds: int) -> None:
    generator = np.random.default_rng(seed)
    labels = np.concatenate([np.arange(classes), generator.integers(0, classes, 20)])
    predictions = generator.integers(0, classes, (folds, len(labels))).astype(np.uint8)
    found = confusion(predictions, labels, classes)
    for row in range(classes):
        for column in range(classes):
            hits = sum(int(p == column) for fold in predictions for p, y in zip(fold, labels, strict=True) if y == row)
            assert found[row, column] == pytest.approx(hits / (folds * sum(labels == row)))
    np.testing.assert_allclose(found.sum(axis=1), 1)


def test_bootstrap_against_a_slow_reference() -> None:
    generator = np.random.default_rng(0)
    first, second = generator.random((3, 50)) < 0.8, generator.random((3, 50)) < 0.6
    found = bootstrap_difference(first, second, seed=4, rounds=200, level=0.9)
    stream = rng.generator(4, rng.Purpose.BOOTSTRAP)
    means = []
    for _ in range(200):
        rows = stream.integers(50, size=50)
        means.append(100 * (first[:, rows].mean() - second[:, rows].mean()))
    means.sort()
    assert found[0] == pytest.approx(100 * (first.mean() - second.mean()))
    assert found[1] == pytest.approx(np.percentile(means, 5))
    assert found[2] == pytest.approx(np.percentile(means, 95))


def test_bootstrap_has_about_the_spread_of_theory() -> None:
    generator = np.random.default_rng(1)
    first, second = generator.random((1, 400)) < 0.8, generator.random((1, 400)) < 0.6
    difference, low, high = bootstrap_difference(first, second, seed=0, rounds=2_000)
    error = 100 * (first[0].astype(float) - second[0]).std() / 400**0.5
    assert low == pytest.approx(difference - 1.96 * error, abs=0.4 * error)
    assert high == pytest.approx(difference + 1.96 * error, abs=0.4 * error)


def test_bootstrap_of_equal_variants_is_zero() -> None:
    right = np.random.default_rng(0).random((3, 50)) < 0.5
    assert bootstrap_difference(right, right, seed=0, rounds=50) == (0.0, 0.0, 0.0)


def test_bootstrap_turns_its_sign_with_the_order() -> None:
    generator = np.random.default_rng(2)
    first, second = generator.random((2, 30)) < 0.7, generator.random((2, 30)) < 0.5
    there, back = bootstrap_difference(first, second, 0, 100), bootstrap_difference(second, first, 0, 100)
    assert there == pytest.approx((-back[0], -back[2], -back[1]))


def test_two_classes_alone_are_told_apart() -> None:
    train, labels = toy(40, 20, classes=2, noise=0.1)
    test, truth = toy(30, 20, classes=2, seed=1, noise=0.1)
    result = evaluate_fold(train, labels, test, params(), seed=0)
    np.testing.assert_array_equal(result.predictions, truth)
