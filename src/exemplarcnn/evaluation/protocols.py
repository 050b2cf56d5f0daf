"""The protocols that turn features into accuracies (docs/method.md, sections 1 and 4.1).

A protocol says on which labels a classifier is trained: on each of the ten folds, or on all training images. It is
tested on the whole test set. What the classifier leaves open, C of the linear SVM or k of the nearest neighbours, is
chosen by stratified cross-validation among the training labels, which never sees a test label. What the best choice on
the test set would have given is computed too, and called leaky.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedKFold
from sklearn.neighbors import KNeighborsClassifier
from threadpoolctl import threadpool_limits

from exemplarcnn import rng
from exemplarcnn.config import Evaluate, Protocol
from exemplarcnn.data.folds import EvaluationError, Rows, check
from exemplarcnn.evaluation import svm
from exemplarcnn.progress import tqdm

ROWS_AT_ONCE = 1024
ROUNDS_AT_ONCE = 500
MISTAKES = 40  # that are written down: a page of pictures


@dataclass(frozen=True)
class Data:
    """What every protocol is given.

    Attributes
    ----------
    train, labels
        Features (train images, d) and labels (train images,).
    test
        Features (test images, d).
    classes
        How many there are; labels count from 0.
    gram, test_gram
        Inner products of the training images with each other, and of test images (rows) with them.
    squares
        Squared lengths of the test images, (test images,).
    """

    train: NDArray[np.float32]
    labels: NDArray[np.int64]
    test: NDArray[np.float32]
    classes: int
    gram: NDArray[np.float64]
    test_gram: NDArray[np.float64]
    squares: NDArray[np.float64]


@dataclass(frozen=True)
class Linear:
    """A one-vs-rest linear classifier.

    Attributes
    ----------
    weights, intercept
        On the features: (classes, d) and (classes,), float32.
    scores
        Decision values of the test images, (test images, classes) float32.
    """

    weights: NDArray[np.float32]
    intercept: NDArray[np.float32]
    scores: NDArray[np.float32]


@dataclass(frozen=True)
class Result:
    """What training on one set of labels gave.

    Attributes
    ----------
    choice
        The chosen value of the grid: C, or k.
    inner_accuracies
        Cross-validated accuracy in 0–1 of each value, in the grid's order.
    predictions
        (test images,) uint8, labels from 0, with the chosen value.
    by_value
        (values, test images) uint8: the same with every value.
    linear
        The chosen classifier, if it is a linear one.
    """

    choice: float
    inner_accuracies: list[float]
    predictions: NDArray[np.uint8]
    by_value: NDArray[np.uint8]
    linear: Linear | None


def evaluate(
    train: NDArray[np.float32],
    train_labels: NDArray[np.int64],
    folds: list[Rows],
    test: NDArray[np.float32],
    classes: int,
    params: Evaluate,
    seed: int,
    workers: int,
) -> dict[str, list[Result]]:
    """Run all protocols.

    Parameters
    ----------
    train, train_labels
        Features (train images, d) and labels of all training images; memory maps are read in blocks.
    folds
        Indices into them.
    test
        Features of the test images.
    classes
        How many there are.
    params, seed
        The protocols and the experiment's seed.
    workers
        Threads. The result does not depend on it.

    Returns
    -------
    dict
        For each protocol one result a fold, or a single one if it trains on all labels.

    Raises
    ------
    EvaluationError
        If counts do not match, a feature is not finite, or a fold has no image of some class.
    """
    _check(train, train_labels, folds, test, classes, params)
    # One thread each, so that neither the number of workers nor that of cores can change a bit.
    with threadpool_limits(1):
        gram = svm.gram(train, train, workers, "Gram matrix of training images")
        test_gram = svm.gram(test, train, workers, "Gram matrix of test images")
        data = Data(train, train_labels, test, classes, gram, test_gram, _squares(test))
        return {each.name: _run(each, data, folds, params, seed, workers) for each in params.protocols}


def grid(protocol: Protocol, params: Evaluate) -> tuple[float, ...]:
    """Return the values among which a protocol chooses."""
    return params.C if protocol.classifier == "svm" else params.k


def choose(values: tuple[float, ...], right: NDArray[np.int64]) -> int:
    """Return the place of the value that got most images right; of equally good ones that of the smallest.

    Counts, since rounding would tell equal mean accuracies apart.
    """
    return min(np.flatnonzero(right == right.max()).tolist(), key=lambda place: values[place])


def _squares(features: NDArray[np.float32]) -> NDArray[np.float64]:
    """Squared lengths of rows."""
    total = np.zeros(len(features))
    for start in range(0, features.shape[1], svm.FEATURES):
        total += np.square(features[:, start : start + svm.FEATURES], dtype=np.float64).sum(axis=1)
    return total


def _run(protocol: Protocol, data: Data, folds: list[Rows], params: Evaluate, seed: int, workers: int) -> list[Result]:
    sets = folds if protocol.labels == "folds" else [np.arange(len(data.train))]
    values = grid(protocol, params)
    kind = _Linear if protocol.classifier == "svm" else _Nearest
    with ThreadPoolExecutor(workers) as pool:
        trainers: list[_Linear | _Nearest] = list(pool.map(lambda rows: kind(data, rows, params), sets))
        splits = [
            (index, inside, out)
            for index, rows in enumerate(sets)
            for inside, out in StratifiedKFold(
                params.inner_folds, shuffle=True, random_state=_split_seed(protocol, seed, index)
            ).split(rows, data.labels[rows])
        ]

        def try_out(split: tuple[int, Rows, Rows]) -> NDArray[np.int64]:
            index, inside, out = split
            return trainers[index].count_right(inside, out)

        bar = tqdm(pool.map(try_out, splits), total=len(splits), desc=f"{protocol.name}: choice", unit="split")
        right = np.stack(list(bar)).reshape(len(sets), params.inner_folds, len(values)).sum(axis=1)

        def train(index: int) -> Result:
            inner = [float(share) for share in right[index] / len(sets[index])]
            return trainers[index].result(choose(values, right[index]), inner)

        return list(tqdm(pool.map(train, range(len(sets))), total=len(sets), desc=protocol.name, unit="set"))


def _split_seed(protocol: Protocol, seed: int, index: int) -> int:
    # All labels have inner folds of their own; classifiers on the same labels share them.
    major = index if protocol.labels == "folds" else 2**32
    return int(rng.generator(seed, rng.Purpose.INNER_FOLDS, major).integers(2**32))


class _Linear:
    """Linear SVMs on some training images, for all values of C at once."""

    def __init__(self, data: Data, rows: Rows, params: Evaluate):
        self.data, self.rows, self.params = data, rows, params
        self.labels = data.labels[rows]
        self.span = svm.span(data.gram[np.ix_(rows, rows)])

    def _fit(self, inside: Rows) -> NDArray[np.float64]:
        """Return weights on coordinates, (m, values × classes)."""
        signs = np.where(self.labels[inside, None] == np.arange(self.data.classes), 1.0, -1.0)
        C = np.repeat(self.params.C, self.data.classes)
        return svm.fit(self.span.coordinates[inside], np.tile(signs, len(self.params.C)), C, self.params.tol)

    def _best(self, scores: NDArray[np.float64]) -> NDArray[np.int64]:
        """Return the best class of each image by each value, (values, images)."""
        best: NDArray[np.int64] = scores.reshape(len(scores), len(self.params.C), -1).argmax(axis=2).T
        return best

    def count_right(self, inside: Rows, out: Rows) -> NDArray[np.int64]:
        """Train on some of the images; return how many others each value gets right."""
        best = self._best(self.span.coordinates[out] @ self._fit(inside))
        right: NDArray[np.int64] = np.count_nonzero(best == self.labels[out], axis=1)
        return right

    def result(self, place: int, inner: list[float]) -> Result:
        """Train on all the images, and choose the value at a place of the grid."""
        dual = self.span.dual(self._fit(np.arange(len(self.rows))))
        scores = self.data.test_gram[:, self.rows] @ dual + dual.sum(axis=0)
        by_value = self._best(scores).astype(np.uint8)
        mine = slice(place * self.data.classes, (place + 1) * self.data.classes)
        dual = dual[:, mine]
        linear = Linear(self._weights(dual), dual.sum(axis=0).astype(np.float32), scores[:, mine].astype(np.float32))
        return Result(self.params.C[place], inner, by_value[place], by_value, linear)

    def _weights(self, dual: NDArray[np.float64]) -> NDArray[np.float32]:
        weights = np.empty((self.data.classes, self.data.train.shape[1]), np.float32)
        for start in range(0, weights.shape[1], svm.FEATURES):
            block = slice(start, start + svm.FEATURES)
            weights[:, block] = dual.T @ self.data.train[self.rows, block]
        return weights


class _Nearest:
    """Nearest neighbours among some training images, by Euclidean distance of features."""

    def __init__(self, data: Data, rows: Rows, params: Evaluate):
        self.data, self.rows, self.params = data, rows, params
        self.labels = data.labels[rows]
        self.squares = np.diag(data.gram)[rows]
        self.distances = self._distances(data.gram[np.ix_(rows, rows)], self.squares)

    def _distances(self, gram: NDArray[np.float64], squares: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.sqrt(np.maximum(squares[:, None] + self.squares - 2 * gram, 0))

    def _predictions(self, distances: NDArray[np.float64], inside: Rows) -> NDArray[np.int64]:
        """Predict for rows of distances to the images inside, (values, images)."""
        among = self.distances[np.ix_(inside, inside)]
        found = []
        for k in self.params.k:
            neighbours = KNeighborsClassifier(k, metric="precomputed").fit(among, self.labels[inside])
            found.append(neighbours.predict(distances))
        return np.stack(found)

    def count_right(self, inside: Rows, out: Rows) -> NDArray[np.int64]:
        """Return how many images each value gets right, with others as neighbours."""
        found = self._predictions(self.distances[np.ix_(out, inside)], inside)
        right: NDArray[np.int64] = np.count_nonzero(found == self.labels[out], axis=1)
        return right

    def result(self, place: int, inner: list[float]) -> Result:
        """Predict the test images, and choose the value at a place of the grid."""
        distances = self._distances(self.data.test_gram[:, self.rows], self.data.squares)
        by_value = self._predictions(distances, np.arange(len(self.rows))).astype(np.uint8)
        return Result(self.params.k[place], inner, by_value[place], by_value, None)


def _check(
    train: NDArray[np.float32],
    labels: NDArray[np.int64],
    folds: list[Rows],
    test: NDArray[np.float32],
    classes: int,
    params: Evaluate,
) -> None:
    if len(train) != len(labels):
        raise EvaluationError(f"{len(train)} training images have features, but {len(labels)} have labels")
    if train.shape[1] != test.shape[1]:
        raise EvaluationError(f"training images have {train.shape[1]} features, test images {test.shape[1]}")
    check(labels, folds, classes, params)
    for name, array in (("training", train), ("test", test)):
        for start in range(0, len(array), ROWS_AT_ONCE):
            good = np.isfinite(array[start : start + ROWS_AT_ONCE]).all(axis=1)
            if not good.all():
                raise EvaluationError(f"{name} image {start + int(np.argmin(good))} has features that are not finite")


def summarise(
    results: list[Result], values: tuple[float, ...], test_labels: NDArray[np.int64], class_names: list[str]
) -> dict[str, Any]:
    """Gather the figures of a protocol.

    Parameters
    ----------
    results
        One a fold.
    values
        The grid that they chose from.
    test_labels, class_names
        Of the test images.

    Returns
    -------
    dict
        Accuracies in percent: ``accuracy_mean``, ``accuracy_std`` (population standard deviation over the
        folds), ``fold_accuracies``, ``class_accuracies`` (means over the folds); ``chosen``, a value a fold; and
        ``leaky``: mean, deviation and value for the one value that is best on the test set.
    """
    right = correct(np.stack([result.predictions for result in results]), test_labels)
    folds = 100 * right.mean(axis=1)
    right_by_value = np.stack([np.count_nonzero(result.by_value == test_labels, axis=1) for result in results])
    best = choose(values, right_by_value.sum(axis=0))
    leaky = 100 * right_by_value[:, best] / len(test_labels)
    return {
        "accuracy_mean": float(folds.mean()),
        "accuracy_std": float(folds.std()),
        "fold_accuracies": [float(x) for x in folds],
        "chosen": [result.choice for result in results],
        "leaky": {
            "accuracy_mean": float(leaky.mean()),
            "accuracy_std": float(leaky.std()),
            "value": values[best],
        },
        "class_accuracies": _by_class(right, test_labels, class_names),
    }


def summarise_one(
    predictions: NDArray[np.uint8], test_labels: NDArray[np.int64], class_names: list[str]
) -> dict[str, Any]:
    """Gather the figures of a classifier that chose nothing and is tested once: those of `summarise` that it has.

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
        "class_accuracies": _by_class(right, test_labels, class_names),
        "others": {},
    }


def _by_class(right: NDArray[np.bool_], labels: NDArray[np.int64], names: list[str]) -> dict[str, float]:
    return {
        name: float(100 * right[:, labels == label].mean())
        for label, name in enumerate(names)
        if (labels == label).any()
    }


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


def confusion_table(matrix: NDArray[np.float64], names: list[str]) -> pd.DataFrame:
    """Return a confusion matrix with one row a cell: ``actual``, ``predicted``, ``percent`` of the actual class."""
    cells = [
        (actual, predicted, round(100 * matrix[row, column], 2))
        for row, actual in enumerate(names)
        for column, predicted in enumerate(names)
    ]
    return pd.DataFrame(cells, columns=["actual", "predicted", "percent"])


def gain(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> NDArray[np.float64]:
    """By how many percentage points one variant is right more often than another, for each test image.

    Parameters
    ----------
    first, second
        Which test images are classified right, (folds, test images), of the same images.
    """
    difference: NDArray[np.float64] = 100 * (first.mean(axis=0) - second.mean(axis=0))
    return difference


def bootstrap(
    gains: NDArray[np.float64], seed: int, rounds: int = 10_000, level: float = 0.95
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Take percentile bootstrap intervals of means over test images.

    Parameters
    ----------
    gains
        (pairs, test images). All pairs see the same draws of images.
    seed, rounds, level
        Of the bootstrap.

    Returns
    -------
    low, high
        Ends of each pair's interval, (pairs,).
    """
    generator = rng.generator(seed, rng.Purpose.BOOTSTRAP)
    images = gains.shape[1]
    means = np.empty((rounds, len(gains)))
    for start in range(0, rounds, ROUNDS_AT_ONCE):
        some = range(start, min(start + ROUNDS_AT_ONCE, rounds))
        # How often each round has each image.
        counts = np.stack([np.bincount(generator.integers(images, size=images), minlength=images) for _ in some])
        means[start : some.stop] = counts @ gains.T / images
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return low, high
