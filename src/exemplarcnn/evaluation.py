"""The protocol that turns features into an accuracy (docs/method.md, sections 1 and 4).

For each of the ten folds a one-vs-rest linear SVM (squared hinge, L2, liblinear) is trained on the fold's images
and tested on the whole test set. Its C is chosen by stratified cross-validation inside the fold, which never sees
a test label.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from joblib import Parallel, delayed
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedKFold
from sklearn.svm import LinearSVC
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from exemplarcnn import rng
from exemplarcnn.config import Evaluate
from exemplarcnn.errors import PipelineError

SCORED_AT_ONCE = 1024


class EvaluationError(PipelineError):
    """Features and labels that cannot be evaluated."""


@dataclass(frozen=True)
class FoldResult:
    """What one fold gave.

    Attributes
    ----------
    C
        The chosen regularisation constant.
    inner_accuracies
        Cross-validated accuracy in 0–1 of each C of the grid, in the grid's order.
    weights, intercept
        The classifier on the raw features: (classes, features) and (classes,), float32.
    predictions
        (test images,) uint8, labels from 0.
    """

    C: float
    inner_accuracies: list[float]
    weights: NDArray[np.float32]
    intercept: NDArray[np.float32]
    predictions: NDArray[np.uint8]


def span(features: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Express images by their coordinates in the space that they span.

    A linear SVM sees nothing of its training images but their inner products, so training on n coordinates
    instead of d features gives the same classifier, d / n times faster.

    Parameters
    ----------
    features
        (n, d).

    Returns
    -------
    coordinates, basis
        (n, m) and (d, m) with m = min(n, d): ``coordinates @ basis.T`` is ``features``, the basis orthonormal.
    """
    basis, triangle = np.linalg.qr(features.T.astype(np.float64))
    return np.ascontiguousarray(triangle.T), basis


def fit(coordinates: NDArray[np.float64], labels: NDArray[np.int64], C: float, params: Evaluate) -> LinearSVC:
    """Train the one-vs-rest linear SVM."""
    svm = LinearSVC(C=C, dual=False, tol=params.tol, max_iter=params.max_iter)
    return svm.fit(coordinates, labels)


def choose_regularisation(
    coordinates: NDArray[np.float64], labels: NDArray[np.int64], params: Evaluate, seed: int
) -> tuple[float, list[float]]:
    """Choose C by stratified cross-validation; of equally good values the smallest.

    Returns
    -------
    C, accuracies
        The choice, and every value's mean accuracy over the inner folds.
    """
    splits = list(StratifiedKFold(params.inner_folds, shuffle=True, random_state=seed).split(coordinates, labels))
    accuracies = []
    for C in params.C:
        scores = [
            float((fit(coordinates[train], labels[train], C, params).predict(coordinates[held]) == labels[held]).mean())
            for train, held in splits
        ]
        accuracies.append(float(np.mean(scores)))
    best = max(accuracies)
    return min(C for C, accuracy in zip(params.C, accuracies, strict=True) if accuracy == best), accuracies


def evaluate_fold(
    train: NDArray[np.float32],
    labels: NDArray[np.int64],
    test: NDArray[np.float32],
    params: Evaluate,
    seed: int,
) -> FoldResult:
    """Choose C, train and predict for one fold.

    Parameters
    ----------
    train, labels
        The fold's features (n, d) and labels (n,).
    test
        (test images, d), read in blocks: a memory map need not fit into memory.
    params, seed
        The protocol, and the seed of the inner folds.
    """
    # One thread each, so that neither the number of processes nor that of cores can change a bit.
    with threadpool_limits(1):
        coordinates, basis = span(train)
        C, inner = choose_regularisation(coordinates, labels, params, seed)
        svm = fit(coordinates, labels, C, params)
        rows = np.column_stack([svm.coef_, svm.intercept_])
        if len(rows) == 1:  # of two classes liblinear keeps the second one's row alone
            rows = np.concatenate([-rows, rows])
        weights, intercept = (rows[:, :-1] @ basis.T).astype(np.float32), rows[:, -1].astype(np.float32)
        predictions = np.empty(len(test), np.uint8)
        for start in range(0, len(test), SCORED_AT_ONCE):
            scores = np.asarray(test[start : start + SCORED_AT_ONCE]) @ weights.T + intercept
            predictions[start : start + len(scores)] = svm.classes_[scores.argmax(axis=1)]
    return FoldResult(C, inner, weights, intercept, predictions)


def _fold_job(
    train: NDArray[np.float32],
    labels: NDArray[np.int64],
    fold: NDArray[np.int64],
    test: NDArray[np.float32],
    params: Evaluate,
    seed: int,
) -> FoldResult:
    return evaluate_fold(np.asarray(train[fold]), labels[fold], test, params, seed)


def evaluate(
    train: NDArray[np.float32],
    train_labels: NDArray[np.int64],
    folds: list[NDArray[np.int64]],
    test: NDArray[np.float32],
    params: Evaluate,
    seed: int,
    workers: int,
) -> list[FoldResult]:
    """Run the ten folds, several at a time.

    Parameters
    ----------
    train, train_labels
        Features (train images, d) and labels of all training images.
    folds
        Indices into them.
    test
        Features of the test images.
    params, seed
        The protocol and the experiment's seed.
    workers
        Processes. The result does not depend on it.

    Raises
    ------
    EvaluationError
        If counts do not match, a feature is not finite, or a fold has no image of some class.
    """
    _check(train, train_labels, folds, test, params)
    jobs = (
        delayed(_fold_job)(
            train,
            train_labels,
            fold,
            test,
            params,
            int(rng.generator(seed, rng.Purpose.INNER_FOLDS, index).integers(2**32)),
        )
        for index, fold in enumerate(folds)
    )
    results = Parallel(n_jobs=workers, return_as="generator")(jobs)
    return list(tqdm(results, total=len(folds), desc="folds", unit="fold"))


def _check(
    train: NDArray[np.float32],
    labels: NDArray[np.int64],
    folds: list[NDArray[np.int64]],
    test: NDArray[np.float32],
    params: Evaluate,
) -> None:
    if len(train) != len(labels):
        raise EvaluationError(f"{len(train)} training images have features, but {len(labels)} have labels")
    if train.shape[1] != test.shape[1]:
        raise EvaluationError(f"training images have {train.shape[1]} features, test images {test.shape[1]}")
    for name, array in (("training", train), ("test", test)):
        for start in range(0, len(array), SCORED_AT_ONCE):
            good = np.isfinite(array[start : start + SCORED_AT_ONCE]).all(axis=1)
            if not good.all():
                raise EvaluationError(f"{name} image {start + int(np.argmin(good))} has features that are not finite")
    for index, fold in enumerate(folds):
        counts = np.bincount(labels[fold], minlength=int(labels.max()) + 1)
        if counts.min() < params.inner_folds:
            raise EvaluationError(
                f"fold {index} has {counts.min()} image(s) of class {counts.argmin()}; "
                f"cross-validation with evaluate.inner_folds={params.inner_folds} needs as many of each"
            )


def summarise(results: list[FoldResult], test_labels: NDArray[np.int64], class_names: list[str]) -> dict[str, Any]:
    """Gather the figures of ``eval.json``.

    Returns
    -------
    dict
        Accuracies in percent: ``accuracy_mean``, ``accuracy_std`` (population standard deviation over the
        folds), ``fold_accuracies``, ``class_accuracies`` (means over the folds); ``C`` a fold.
    """
    right = correct(np.stack([result.predictions for result in results]), test_labels)
    folds = 100 * right.mean(axis=1)
    return {
        "accuracy_mean": float(folds.mean()),
        "accuracy_std": float(folds.std()),
        "fold_accuracies": [float(x) for x in folds],
        "C": [result.C for result in results],
        "class_accuracies": {
            name: float(100 * right[:, test_labels == label].mean())
            for label, name in enumerate(class_names)
            if (test_labels == label).any()
        },
    }


def correct(predictions: NDArray[np.uint8], labels: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which predictions are right: (folds, test images)."""
    return np.asarray(predictions == labels[None, :])


def confusion(predictions: NDArray[np.uint8], labels: NDArray[np.int64], classes: int) -> NDArray[np.float64]:
    """Share of each true class (row) predicted as each class (column), over all folds.

    Rows sum to one, or to zero for a class without test images.
    """
    counts = np.zeros((classes, classes))
    for fold in predictions:
        np.add.at(counts, (labels, fold), 1)
    shares: NDArray[np.float64] = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    return shares


def bootstrap_difference(
    first: NDArray[np.bool_], second: NDArray[np.bool_], seed: int, rounds: int = 10_000, level: float = 0.95
) -> tuple[float, float, float]:
    """How far two variants differ, with a percentile bootstrap interval over test images.

    Parameters
    ----------
    first, second
        Which test images are classified right, (folds, test images), of the same images.
    seed, rounds, level
        Of the bootstrap.

    Returns
    -------
    difference, low, high
        Mean accuracy of ``first`` minus that of ``second`` in percentage points, and its interval.
    """
    gain = 100 * (first.mean(axis=0) - second.mean(axis=0))
    generator = rng.generator(seed, rng.Purpose.BOOTSTRAP)
    means = [gain[generator.integers(len(gain), size=len(gain))].mean() for _ in range(rounds)]
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(gain.mean()), float(low), float(high)
