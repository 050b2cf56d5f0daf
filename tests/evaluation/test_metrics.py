"""Figures of predictions, by hand and against slow references."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exemplarcnn.evaluation.metrics import confident_mistakes, confusion_matrix, correct, summarise_one


def test_mistakes_are_those_of_the_widest_margin() -> None:
    labels = np.array([0, 1, 2, 1])
    scores = np.zeros((2, 4, 3), np.float32)
    scores[:, 0] = [[1, 0, 0], [5, 1, 0]]  # right
    scores[:, 1] = [[3, 0, 0], [1, 2, 0]]  # one fold right, together wrong by 1
    scores[:, 2] = [[0, 4, -1], [0, 4, 1]]  # wrong by 4
    scores[:, 3] = [[0, 0, 2], [0, 0, 2]]  # wrong by 2
    names = ["cat", "dog", "owl"]
    found = confident_mistakes(scores, labels, names)
    assert list(found) == ["image_id", "actual", "predicted", "margin"]
    assert found.to_numpy().tolist() == [[2, "owl", "dog", 4.0], [3, "dog", "owl", 2.0], [1, "dog", "cat", 1.0]]
    assert confident_mistakes(scores, labels, names, 2).equals(found[:2])
    assert list(confident_mistakes(scores[:, :1], labels[:1], names)) == list(found), "no mistakes are a table, too"


def test_correct_by_hand() -> None:
    found = correct(np.array([[0, 1, 2], [2, 1, 0]], np.uint8), np.array([0, 1, 1]))
    np.testing.assert_array_equal(found, [[True, True, False], [False, True, False]])


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 1000), classes=st.integers(1, 5), folds=st.integers(1, 4))
def test_confusion_matrix_against_a_slow_reference(seed: int, classes: int, folds: int) -> None:
    generator = np.random.default_rng(seed)
    labels = np.concatenate([np.arange(classes), generator.integers(0, classes, 20)])
    predictions = generator.integers(0, classes, (folds, len(labels))).astype(np.uint8)
    found = confusion_matrix(predictions, labels, classes)
    for row in range(classes):
        for column in range(classes):
            hits = sum(int(p == column) for fold in predictions for p, y in zip(fold, labels, strict=True) if y == row)
            assert found[row, column] == pytest.approx(hits / (folds * sum(labels == row)))
    np.testing.assert_allclose(found.sum(axis=1), 1)


def test_figures_of_a_classifier_that_is_tested_once() -> None:
    labels = np.array([0, 0, 1, 1, 1])
    found = summarise_one(np.array([0, 1, 1, 1, 1], np.uint8), labels, ["cat", "dog", "none"])
    assert found["accuracy_mean"] == pytest.approx(80)
    assert found["fold_accuracies"] == [found["accuracy_mean"]]
    assert (found["accuracy_std"], found["chosen"], found["leaky"], found["others"]) == (0, [], None, {})
    assert found["class_accuracies"] == {"cat": 50.0, "dog": 100.0}
