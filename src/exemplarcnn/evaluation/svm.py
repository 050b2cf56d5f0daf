"""Exact linear support vector machines in the span of their training images (docs/method.md, section 4.1).

A linear SVM depends on its n training images only through their inner products, the Gram matrix (the representer
theorem), so it can be trained on n coordinates instead of d features. The Gram matrix is computed once; after that
nothing depends on d. The objective is that of `sklearn.svm.LinearSVC`, including the penalised intercept: the
classifier is the same, not an approximation.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import product
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solve

from exemplarcnn.errors import PipelineError
from exemplarcnn.progress import tqdm

# Rows and features that are multiplied at a time.
ROWS, FEATURES = 512, 1024
NEWTON_STEPS, CG_STEPS = 200, 200
# The residual, relative to the gradient, at which conjugate gradients stop. Both are measured in the preconditioner's
# norm, which also counts directions that hardly curve the objective.
FORCING = 1e-3


class SvmError(PipelineError):
    """A classifier cannot be trained."""


def gram(first: NDArray[Any], second: NDArray[Any], workers: int, what: str | None = None) -> NDArray[np.float64]:
    """Compute the inner products of every row of one array with every row of another.

    Parameters
    ----------
    first, second
        (n, d) and (m, d) float, usually memory maps, read block by block. Passing the same object twice halves the
        work.
    workers
        Threads that multiply blocks. If the numerical library is limited to one thread (`threadpool_limits(1)`), the
        result does not depend on their number.
    what
        Label of the progress bar; None for no bar.

    Returns
    -------
    ndarray
        (n, m) float64: sums in float32 visibly change decision values where features are long and C is large.
    """
    result = np.empty((len(first), len(second)))
    alike = first is second
    blocks = [
        (slice(i, i + ROWS), slice(j, j + ROWS))
        for i, j in product(range(0, len(first), ROWS), range(0, len(second), ROWS))
        if not alike or i <= j
    ]

    def multiply(block: tuple[slice, slice]) -> None:
        rows, columns = block
        total = np.zeros((len(first[rows]), len(second[columns])))
        for start in range(0, first.shape[1], FEATURES):
            part = slice(start, start + FEATURES)
            total += first[rows, part].astype(np.float64) @ second[columns, part].astype(np.float64).T
        result[rows, columns] = total
        if alike and rows != columns:
            result[columns, rows] = total.T

    with ThreadPoolExecutor(workers) as pool:
        bar = {"total": len(blocks), "desc": what, "unit": "block", "leave": False, "disable": what is None}
        for _ in tqdm(pool.map(multiply, blocks), **bar):
            pass
    return result


@dataclass(frozen=True)
class Span:
    """The space spanned by images together with the constant feature of the intercept.

    Attributes
    ----------
    coordinates
        (n, m) float64, m at most n. Their inner products are those of the features, plus one.
    to_dual
        (n, m) float64. Turns weights on coordinates into dual coefficients.
    """

    coordinates: NDArray[np.float64]
    to_dual: NDArray[np.float64]

    def dual(self, weights: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return dual coefficients, which are classifiers as weighted sums of the images.

        Parameters
        ----------
        weights
            (m, classifiers), as `fit` returns them.

        Returns
        -------
        ndarray
            (n, classifiers) float64. Multiplied from the left by the features' transpose, they give weights on
            features; by the Gram matrix (plus one) of other images with these, decision values. Their column sums are
            intercepts.
        """
        coefficients: NDArray[np.float64] = self.to_dual @ weights
        return coefficients


def span(products: NDArray[np.float64]) -> Span:
    """Compute coordinates from a Gram matrix.

    Parameters
    ----------
    products
        Inner products of the images' features, (n, n) float64; overwritten, since these matrices are what takes memory.
    """
    products += 1
    values, vectors = np.linalg.eigh(products)
    # Eigenvalues, which ascend, are rounding errors below this, not directions.
    first = int(np.searchsorted(values, len(values) * np.finfo(np.float64).eps * values[-1], side="right"))
    lengths, vectors = np.sqrt(values[first:][::-1]), vectors[:, first:][:, ::-1]
    return Span(np.multiply(vectors, lengths, order="C"), np.divide(vectors, lengths, order="C"))


class LinearSVM:
    """One-vs-rest linear SVMs with an intercept, for one value of C or several at once.

    They are those of scikit-learn's `LinearSVC`, but are trained in the span of their images and predict from inner
    products with these.

    Parameters
    ----------
    C
        The penalty of errors. With several values, each has its own classifiers.
    tol
        Precision of the weights, see :func:`fit`.

    Attributes
    ----------
    dual_coef_
        (n, classes), or (n, values, classes) if C has several values: classifiers as weighted sums of the n images. The
        features' transpose times these gives weights on features.
    intercept_
        (classes,) or (values, classes).

    Examples
    --------
    >>> svm = LinearSVM(C=1.0).fit(span(train @ train.T), labels, classes=10)  # doctest: +SKIP
    >>> svm.decision_function(test @ train.T).argmax(axis=1)  # doctest: +SKIP
    """

    def __init__(self, C: float | tuple[float, ...], tol: float = 1e-4):
        self.C, self.tol = C, tol

    def fit(
        self, space: Span, labels: NDArray[np.int64], classes: int, rows: NDArray[np.int64] | slice = slice(None)
    ) -> Self:
        """Train on images.

        Parameters
        ----------
        space
            The span of the images.
        labels
            Labels of the training images, from 0.
        classes
            Number of classes; some may have no image.
        rows
            The training images among those of the span; all by default.

        Raises
        ------
        SvmError
            See :func:`fit`.
        """
        values = np.atleast_1d(self.C)
        signs = np.where(labels[:, None] == np.arange(classes), 1.0, -1.0)
        self._coordinates, self._shape = space.coordinates, (*np.shape(self.C), classes)
        self._weights = fit(self._coordinates[rows], np.tile(signs, len(values)), np.repeat(values, classes), self.tol)
        self._dual = space.dual(self._weights)
        self.dual_coef_ = self._by_value(self._dual)
        self.intercept_: NDArray[np.float64] = self._dual.sum(axis=0).reshape(self._shape)
        return self

    def decision_function(self, products: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return decision values of images.

        Parameters
        ----------
        products
            Their inner products with all images of the span, (images, n).

        Returns
        -------
        ndarray
            (images, classes); (images, values, classes) if C has several values.
        """
        return self._by_value(products @ self._dual) + self.intercept_

    def decision_in_span(self, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return decision values of the given images of the span, as `decision_function` does."""
        return self._by_value(self._coordinates[rows] @ self._weights)

    def _by_value(self, columns: NDArray[np.float64]) -> NDArray[np.float64]:
        result: NDArray[np.float64] = columns.reshape(len(columns), *self._shape)
        return result


def fit(
    coordinates: NDArray[np.float64], signs: NDArray[np.float64], C: NDArray[np.float64], tol: float
) -> NDArray[np.float64]:
    """Train many classifiers at once.

    Each minimises |w|² / 2 + C Σ max(0, 1 - y w·x)² by Newton's method with a line search. Steps are found by conjugate
    gradients, preconditioned by the diagonal of the Hessian, for all classifiers in one matrix product. If these take
    too long, as with long features and large C, the step is solved for directly.

    Parameters
    ----------
    coordinates
        (n, m) float64.
    signs
        Targets, (n, classifiers): +1 for images of the class, -1 for others.
    C
        Penalty of each classifier, (classifiers,).
    tol
        Norm of the gradient at which training stops. The objective curves at least like |w|² / 2 everywhere, so weights
        are then within ``tol`` of the optimum, and a decision value within ``tol`` times the length of the image.

    Returns
    -------
    ndarray
        Weights, (m, classifiers) float64.

    Raises
    ------
    SvmError
        If this takes more than 200 Newton steps.
    """
    weights = np.zeros((coordinates.shape[1], signs.shape[1]))
    squares = coordinates**2
    state = _State(coordinates, signs, C, weights, np.zeros(signs.shape))
    left = np.arange(signs.shape[1])
    for _ in range(NEWTON_STEPS + 1):
        gradient = state.gradient()
        on = ~(np.linalg.norm(gradient, axis=0) <= tol)  # so that NaN does not count as done
        weights[:, left[~on]] = state.weights[:, ~on]
        if not on.any():
            return weights
        left, state = left[on], state.only(on)
        gradient = gradient[:, on]
        state = _line_search(state, _newton_step(state, squares, gradient), gradient)
    raise SvmError(
        f"{len(left)} of {signs.shape[1]} linear SVMs did not reach tol={tol} in {NEWTON_STEPS} Newton steps, "
        f"the first with C={state.C[0]}; raise tol, or leave out the largest values of C (in params.yaml: "
        "evaluate.tol, evaluate.C)"
    )


@dataclass(frozen=True)
class _State:
    """Classifiers in training: one column for each, except for the coordinates, which they share."""

    coordinates: NDArray[np.float64]
    signs: NDArray[np.float64]
    C: NDArray[np.float64]
    weights: NDArray[np.float64]
    outputs: NDArray[np.float64]

    def only(self, columns: NDArray[np.bool_]) -> "_State":
        return _State(
            self.coordinates,
            self.signs[:, columns],
            self.C[columns],
            self.weights[:, columns],
            self.outputs[:, columns],
        )

    def slack(self) -> NDArray[np.float64]:
        return np.maximum(1 - self.signs * self.outputs, 0)

    def objective(self) -> NDArray[np.float64]:
        value: NDArray[np.float64] = (self.weights**2).sum(axis=0) / 2 + self.C * (self.slack() ** 2).sum(axis=0)
        return value

    def gradient(self) -> NDArray[np.float64]:
        return self.weights - 2 * self.C * (self.coordinates.T @ (self.signs * self.slack()))


def _newton_step(state: _State, squares: NDArray[np.float64], gradient: NDArray[np.float64]) -> NDArray[np.float64]:
    """Solve Hessian times step = -gradient."""
    inside = (state.slack() > 0).astype(np.float64)
    preconditioner = 1 / (1 + 2 * state.C * (squares.T @ inside))
    step = np.zeros_like(gradient)
    left = np.arange(gradient.shape[1])
    residual = -gradient
    direction = preconditioner * residual
    norms = (residual * direction).sum(axis=0)
    enough = FORCING**2 * norms
    for _ in range(CG_STEPS):
        outputs = inside[:, left] * (state.coordinates @ direction)
        curved = direction + 2 * state.C[left] * (state.coordinates.T @ outputs)
        length = norms / (direction * curved).sum(axis=0)
        step[:, left] += length * direction
        residual -= length * curved
        scaled = preconditioner[:, left] * residual
        before, norms = norms, (residual * scaled).sum(axis=0)
        on = norms > enough[left]
        if not on.any():
            return step
        direction = scaled[:, on] + (norms / before)[on] * direction[:, on]
        left, residual, norms = left[on], residual[:, on], norms[on]
    for column in left:
        vectors = state.coordinates[inside[:, column] > 0]
        hessian = np.eye(len(step)) + 2 * state.C[column] * (vectors.T @ vectors)
        step[:, column] = solve(hessian, -gradient[:, column], assume_a="pos")
    return step


def _line_search(state: _State, step: NDArray[np.float64], gradient: NDArray[np.float64]) -> _State:
    """Go along the step, halving it until the objective falls enough (Armijo's rule)."""
    moved = state.coordinates @ step
    slope = (gradient * step).sum(axis=0)
    before = state.objective()
    share = np.ones(len(slope))
    while True:
        after = _State(
            state.coordinates, state.signs, state.C, state.weights + share * step, state.outputs + share * moved
        )
        # The last term allows for rounding close to the optimum.
        short = after.objective() > before + 1e-4 * share * slope + 1e-12 * before
        if not short.any():
            return after
        share[short] /= 2
