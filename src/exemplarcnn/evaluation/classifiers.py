"""The classifiers that test features, each for all values of its grid at once (docs/method.md, section 4.1).

They use only inner products of features, which are computed once for all protocols and folds.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.neighbors import KNeighborsClassifier

from exemplarcnn.config.sections import Evaluate
from exemplarcnn.data.folds import Rows
from exemplarcnn.evaluation import svm


@dataclass(frozen=True)
class FeatureSet:
    """Features of training and test images, and the labels of the training images.

    Attributes
    ----------
    train, labels
        Features, (train images, d) float32, usually a memory map and read in blocks; labels, (train images,) int64,
        from 0.
    folds
        For each fold the indices of its training images.
    test
        Features, (test images, d) float32.
    classes
        Number of classes.
    """

    train: NDArray[np.float32]
    labels: NDArray[np.int64]
    folds: list[Rows]
    test: NDArray[np.float32]
    classes: int


@dataclass(frozen=True)
class Products:
    """Inner products of a set's features, float64.

    Attributes
    ----------
    train
        Of the training images with each other, (train images, train images).
    test
        Of the test images with the training images, (test images, train images).
    squares
        Squared lengths of the test images' features, (test images,).
    """

    train: NDArray[np.float64]
    test: NDArray[np.float64]
    squares: NDArray[np.float64]

    @classmethod
    def of(cls, features: FeatureSet, workers: int) -> "Products":
        """Compute them on ``workers`` threads."""
        train = svm.gram(features.train, features.train, workers, "Gram matrix of training images")
        test = svm.gram(features.test, features.train, workers, "Gram matrix of test images")
        squares = np.zeros(len(features.test))
        for start in range(0, features.test.shape[1], svm.FEATURES):
            squares += np.square(features.test[:, start : start + svm.FEATURES], dtype=np.float64).sum(axis=1)
        return cls(train, test, squares)


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
    """The result of training on one set of labels.

    Attributes
    ----------
    choice
        The chosen value of the grid: C, or k.
    inner_accuracies
        Cross-validated accuracy in 0–1 of each value, in the grid's order.
    predictions
        (test images,) uint8, labels from 0, with the chosen value.
    by_value
        (values, test images) uint8: predictions with every value.
    linear
        The chosen classifier, if it is linear.
    """

    choice: float
    inner_accuracies: list[float]
    predictions: NDArray[np.uint8]
    by_value: NDArray[np.uint8]
    linear: Linear | None


class LinearSVMs:
    """Linear SVMs on some training images, for all values of C.

    Parameters
    ----------
    features, products
        Features of all images, and their inner products.
    rows
        Indices of the training images to use.
    params
        The values of C, and the precision.
    """

    def __init__(self, features: FeatureSet, products: Products, rows: Rows, params: Evaluate):
        self.features, self.rows, self.params = features, rows, params
        self.labels = features.labels[rows]
        self.space = svm.span(products.train[np.ix_(rows, rows)])
        self.test_products = products.test

    @staticmethod
    def grid(params: Evaluate) -> tuple[float, ...]:
        """Return the values of C to choose from."""
        return params.C

    def _fit(self, inside: Rows) -> svm.LinearSVM:
        trained = svm.LinearSVM(self.params.C, self.params.tol)
        return trained.fit(self.space, self.labels[inside], self.features.classes, inside)

    def count_right(self, inside: Rows, out: Rows) -> NDArray[np.int64]:
        """Train on the images ``inside``; return how many of the images ``out`` each value gets right, (values,)."""
        best = _best(self._fit(inside).decision_in_span(out))
        right: NDArray[np.int64] = np.count_nonzero(best == self.labels[out], axis=1)
        return right

    def result(self, place: int, inner: list[float]) -> Result:
        """Train on all images and test; return the result of the value at a place of the grid."""
        trained = self._fit(np.arange(len(self.rows)))
        scores = trained.decision_function(self.test_products[:, self.rows])
        by_value = _best(scores).astype(np.uint8)
        weights = self._weights(trained.dual_coef_[:, place])
        intercept = trained.intercept_[place].astype(np.float32)
        linear = Linear(weights, intercept, scores[:, place].astype(np.float32))
        return Result(self.params.C[place], inner, by_value[place], by_value, linear)

    def _weights(self, dual: NDArray[np.float64]) -> NDArray[np.float32]:
        weights = np.empty((self.features.classes, self.features.train.shape[1]), np.float32)
        for start in range(0, weights.shape[1], svm.FEATURES):
            block = slice(start, start + svm.FEATURES)
            weights[:, block] = dual.T @ self.features.train[self.rows, block]
        return weights


def _best(scores: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return each value's best class of each image, (values, images)."""
    best: NDArray[np.int64] = scores.argmax(axis=2).T
    return best


class NearestNeighbours:
    """Nearest neighbours among some training images, by Euclidean distance of features, for all values of k.

    Parameters are those of `LinearSVMs`.
    """

    def __init__(self, features: FeatureSet, products: Products, rows: Rows, params: Evaluate):
        self.rows, self.params, self.products = rows, params, products
        self.labels = features.labels[rows]
        self.squares = np.diag(products.train)[rows]
        self.distances = self._distances(products.train[np.ix_(rows, rows)], self.squares)

    @staticmethod
    def grid(params: Evaluate) -> tuple[float, ...]:
        """Return the values of k to choose from."""
        return params.k

    def _distances(self, products: NDArray[np.float64], squares: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.sqrt(np.maximum(squares[:, None] + self.squares - 2 * products, 0))

    def _predictions(self, distances: NDArray[np.float64], inside: Rows) -> NDArray[np.int64]:
        """Predict from distances to the images inside, (images, inside); return (values, images)."""
        among = self.distances[np.ix_(inside, inside)]
        found = []
        for k in self.params.k:
            classifier = KNeighborsClassifier(k, metric="precomputed").fit(among, self.labels[inside])
            found.append(classifier.predict(distances))
        return np.stack(found)

    def count_right(self, inside: Rows, out: Rows) -> NDArray[np.int64]:
        """Return how many of the images ``out`` each value gets right, with neighbours ``inside``, (values,)."""
        found = self._predictions(self.distances[np.ix_(out, inside)], inside)
        right: NDArray[np.int64] = np.count_nonzero(found == self.labels[out], axis=1)
        return right

    def result(self, place: int, inner: list[float]) -> Result:
        """Predict the test images; return the result of the value at a place of the grid."""
        distances = self._distances(self.products.test[:, self.rows], self.products.squares)
        by_value = self._predictions(distances, np.arange(len(self.rows))).astype(np.uint8)
        return Result(self.params.k[place], inner, by_value[place], by_value, None)


Classifier = LinearSVMs | NearestNeighbours
# Keys are the classifiers' names in `evaluate.protocols`.
CLASSIFIERS: dict[str, type[Classifier]] = {"svm": LinearSVMs, "knn": NearestNeighbours}
