"""Accuracies, confusion matrices and mistakes of predictions (docs/method.md, section 4.1)."""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

MISTAKES = 40  # a page of pictures


def correct(predictions: NDArray[np.uint8], labels: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return which predictions are right, (folds, test images) bool."""
    return np.asarray(predictions == labels[None, :])


def choose(values: tuple[float, ...], right: NDArray[np.int64]) -> int:
    """Return the place of the value that gets most images right; among equally good values, of the smallest.

    ``right`` holds counts, (values,): rounding would make equal mean accuracies differ.
    """
    return min(np.flatnonzero(right == right.max()).tolist(), key=lambda place: values[place])


def class_accuracies(right: NDArray[np.bool_], labels: NDArray[np.int64], names: list[str]) -> dict[str, float]:
    """Return the accuracy in percent of each class that has test images; ``right`` comes from `correct`."""
    return {
        name: float(100 * right[:, labels == label].mean())
        for label, name in enumerate(names)
        if (labels == label).any()
    }


def summarise_one(
    predictions: NDArray[np.uint8], test_labels: NDArray[np.int64], class_names: list[str]
) -> dict[str, Any]:
    """Summarise a classifier that is tested once and has chosen nothing, as `protocols.summarise` does.

    Parameters
    ----------
    predictions
        (test images,) uint8, labels from 0.
    test_labels, class_names
        The test images' labels, (test images,) int64, and the names of the classes.
    """
    right = correct(predictions[None], test_labels)
    accuracy = 100 * float(right.mean())
    return {
        "accuracy_mean": accuracy,
        "accuracy_std": 0.0,
        "fold_accuracies": [accuracy],
        "chosen": [],
        "leaky": None,
        "class_accuracies": class_accuracies(right, test_labels, class_names),
        "others": {},
    }


def confusion_matrix(predictions: NDArray[np.uint8], labels: NDArray[np.int64], classes: int) -> NDArray[np.float64]:
    """Return the share of each true class (row) predicted as each class (column), over all folds.

    Parameters
    ----------
    predictions
        (folds, test images) uint8.
    labels
        (test images,) int64, from 0.
    classes
        Number of classes.

    Returns
    -------
    ndarray
        (classes, classes) float64. Rows sum to one, or to zero for a class without test images.
    """
    counts = np.zeros((classes, classes))
    for fold in predictions:
        np.add.at(counts, (labels, fold), 1)
    shares: NDArray[np.float64] = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    return shares


def confusion_table(matrix: NDArray[np.float64], names: list[str]) -> pd.DataFrame:
    """Return a confusion matrix as a table with a row for each cell.

    Returns
    -------
    pandas.DataFrame
        ``actual`` and ``predicted`` class, ``percent`` of the actual class.
    """
    cells = [
        (actual, predicted, round(100 * matrix[row, column], 2))
        for row, actual in enumerate(names)
        for column, predicted in enumerate(names)
    ]
    return pd.DataFrame(cells, columns=["actual", "predicted", "percent"])


def confident_mistakes(
    scores: NDArray[np.float32], labels: NDArray[np.int64], names: list[str], most: int = MISTAKES
) -> pd.DataFrame:
    """Find the test images whose scores, averaged over the folds, are wrong by the widest margin.

    Parameters
    ----------
    scores
        Decision values, (folds, test images, classes).
    labels
        (test images,), from 0.
    names
        Names of the classes.
    most
        How many images to return at most.

    Returns
    -------
    pandas.DataFrame
        ``image_id`` of the test image, ``actual`` and ``predicted`` class, and ``margin``: by how much the mean score
        of the predicted class exceeds that of the actual one. The widest margin comes first.
    """
    mean = scores.mean(axis=0, dtype=np.float64)
    found = mean.argmax(axis=1)
    margins = mean.max(axis=1) - mean[np.arange(len(mean)), labels]
    order = np.argsort(-margins, kind="stable")[:most]
    rows = [(int(i), names[labels[i]], names[found[i]], float(margins[i])) for i in order if margins[i] > 0]
    return pd.DataFrame(rows, columns=["image_id", "actual", "predicted", "margin"])
