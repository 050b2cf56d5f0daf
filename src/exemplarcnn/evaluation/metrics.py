"""What predictions are worth, and which are wrong (docs/method.md, section 4.1)."""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

MISTAKES = 40  # that are written down: a page of pictures


def correct(predictions: NDArray[np.uint8], labels: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which predictions are right: (folds, test images)."""
    return np.asarray(predictions == labels[None, :])


def class_accuracies(right: NDArray[np.bool_], labels: NDArray[np.int64], names: list[str]) -> dict[str, float]:
    """Accuracy in percent of each class that has test images, from what `correct` gives."""
    return {
        name: float(100 * right[:, labels == label].mean())
        for label, name in enumerate(names)
        if (labels == label).any()
    }


def summarise_one(
    predictions: NDArray[np.uint8], test_labels: NDArray[np.int64], class_names: list[str]
) -> dict[str, Any]:
    """Gather the figures of a classifier that is tested once and chose nothing, as `protocols.summarise` does.

    Parameters
    ----------
    predictions
        (test images,).
    test_labels, class_names
        Of the test images.
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
    """Share of each true class (row) predicted as each class (column), over all folds.

    Rows sum to one, or to zero for a class without test images.
    """
    counts = np.zeros((classes, classes))
    for fold in predictions:
        np.add.at(counts, (labels, fold), 1)
    shares: NDArray[np.float64] = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    return shares


def confusion_table(matrix: NDArray[np.float64], names: list[str]) -> pd.DataFrame:
    """Return a confusion matrix with one row a cell: ``actual``, ``predicted``, ``percent`` of the actual class."""
    cells = [
        (actual, predicted, round(100 * matrix[row, column], 2))
        for row, actual in enumerate(names)
        for column, predicted in enumerate(names)
    ]
    return pd.DataFrame(cells, columns=["actual", "predicted", "percent"])


def confident_mistakes(
    scores: NDArray[np.float32], labels: NDArray[np.int64], names: list[str], most: int = MISTAKES
) -> pd.DataFrame:
    """Find the test images that the classifiers of all folds together get wrong by the widest margin.

    Parameters
    ----------
    scores
        Decision values, (folds, test images, classes).
    labels
        (test images,).
    names
        Of the classes.
    most
        How many at most.

    Returns
    -------
    pandas.DataFrame
        ``image_id`` of the test image, ``actual`` and ``predicted`` class, and ``margin``: by how much the mean score
        of the one is below that of the other. The widest first.
    """
    mean = scores.mean(axis=0, dtype=np.float64)
    found = mean.argmax(axis=1)
    margins = mean.max(axis=1) - mean[np.arange(len(mean)), labels]
    order = np.argsort(-margins, kind="stable")[:most]
    rows = [(int(i), names[labels[i]], names[found[i]], float(margins[i])) for i in order if margins[i] > 0]
    return pd.DataFrame(rows, columns=["image_id", "actual", "predicted", "margin"])
