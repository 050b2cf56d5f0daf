"""Exact linear support vector machines in the span of their training images (docs/method.md, section 4.1).

All that a linear SVM sees of its n training images are their inner products, so it can be trained on n coordinates
instead of d features. The inner products are taken once; from there on nothing depends on d. The objective is that of
`sklearn.svm.LinearSVC`, intercept penalised and all: the classifier is the same, not an approximation.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from exemplarcnn.errors import PipelineError

# Rows, and features, that are multiplied at a time.
ROWS, FEATURES = 512, 1024
# Directions with less than this share of the largest eigenvalue are rounding errors of the inner products.
NOTHING = 1e-10
NEWTON_STEPS, CG_STEPS = 100, 500
# The residual, relative to the gradient, at which conjugate gradients stop.
FORCING = 0.03


class SvmError(PipelineError):
    """A classifier that could not be trained."""


def inner_products(
    first: NDArray[np.float32], second: NDArray[np.float32], workers: int, what: str = "inner products"
) -> NDArray[np.float64]:
    """Multiply every row of one array with every row of another.

    Parameters
    ----------
    first, second
        (n, d) and (m, d), memory maps as a rule: read block by block. The same object twice costs half.
    workers
        Threads, each of which should have one of the numerical library: the result does not depend on their number.
    what
        For the progress bar.

    Returns
    -------
    ndarray
        (n, m). In float64: float32 would do for most values of C, but not show which.
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
        for _ in tqdm(pool.map(multiply, blocks), total=len(blocks), desc=what, unit="block", leave=False):
            pass
    return result


@dataclass(frozen=True)
class Span:
    """The space that images span together with the constant feature of the intercept.

    Attributes
    ----------
    coordinates
        (n, m) float64, m at most n: their inner products are those of the features, plus one.
    back
        (n, m) float64: what turns weights on coordinates into a combination of the images.
    """

    coordinates: NDArray[np.float64]
    back: NDArray[np.float64]

    def combination(self, weights: NDArray[np.float64]) -> NDArray[np.float64]:
        """Express classifiers as sums of the images.

        Parameters
        ----------
        weights
            (m, classifiers), as `fit` returns them.

        Returns
        -------
        ndarray
            (n, classifiers): times the features transposed it gives weights on features, its column sums are the
            intercepts, and inner products (plus one) with the images times it are decision values.
        """
        combined: NDArray[np.float64] = self.back @ weights
        return combined


def span(products: NDArray[np.float64]) -> Span:
    """Find coordinates from inner products.

    Parameters
    ----------
    products
        (n, n), of the images' features.
    """
    values, vectors = np.linalg.eigh(products + 1)
    keep = values > NOTHING * values[-1]
    lengths = np.sqrt(values[keep][::-1])
    vectors = vectors[:, keep][:, ::-1]
    return Span(np.ascontiguousarray(vectors * lengths), np.ascontiguousarray(vectors / lengths))


def fit(
    coordinates: NDArray[np.float64], signs: NDArray[np.float64], C: NDArray[np.float64], tol: float
) -> NDArray[np.float64]:
    """Train many classifiers at once.

    Each minimises |w|² / 2 + C Σ max(0, 1 - y w·x)², by Newton's method with a line search; the steps are found by
    conjugate gradients, scaled by the diagonal of the Hessian, for all classifiers in one product of matrices.

    Parameters
    ----------
    coordinates
        (n, m).
    signs
        (n, classifiers): +1 for an image of the class, -1 for another.
    C
        (classifiers,).
    tol
        Norm of the gradient to be reached. The objective curves at least like |w|² / 2 everywhere, so weights are
        then within ``tol`` of the best ones, and a decision value within ``tol`` times the length of the image.

    Returns
    -------
    ndarray
        (m, classifiers).

    Raises
    ------
    SvmError
        If that takes more than 100 Newton steps.
    """
    weights = np.zeros((coordinates.shape[1], signs.shape[1]))
    squares = coordinates**2
    state = _State(coordinates, signs, C, weights, np.zeros(signs.shape))
    left = np.arange(signs.shape[1])
    for _ in range(NEWTON_STEPS):
        gradient = state.gradient()
        norms = np.linalg.norm(gradient, axis=0)
        on = norms > tol
        weights[:, left[~on]] = state.weights[:, ~on]
        if not on.any():
            return weights
        left, state = left[on], state.only(on)
        step = _newton_step(state, squares, gradient[:, on], np.maximum(FORCING * norms[on], tol / 3))
        state = _line_search(state, step, gradient[:, on])
    raise SvmError(
        f"{len(left)} of {len(on)} linear SVMs did not reach evaluate.tol={tol} in {NEWTON_STEPS} Newton steps, the "
        f"first with C={state.C[0]}: raise evaluate.tol, or leave the largest values of evaluate.C out"
    )


@dataclass(frozen=True)
class _State:
    """Classifiers on their way; a column each, but for the coordinates, which they share."""

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


def _newton_step(
    state: _State, squares: NDArray[np.float64], gradient: NDArray[np.float64], target: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Solve Hessian times step = -gradient, until residuals are below the target."""
    inside = (state.slack() > 0).astype(np.float64)
    scale = 1 / (1 + 2 * state.C * (squares.T @ inside))
    step = np.zeros_like(gradient)
    left = np.arange(gradient.shape[1])
    residual = -gradient
    direction = scale * residual
    power = (residual * direction).sum(axis=0)
    for _ in range(CG_STEPS):
        there = inside[:, left] * (state.coordinates @ direction)
        curved = direction + 2 * state.C[left] * (state.coordinates.T @ there)
        length = power / (direction * curved).sum(axis=0)
        step[:, left] += length * direction
        residual -= length * curved
        on = np.linalg.norm(residual, axis=0) > target[left]
        if not on.any():
            break
        left, residual, direction, power = left[on], residual[:, on], direction[:, on], power[on]
        scaled = scale[:, left] * residual
        before, power = power, (residual * scaled).sum(axis=0)
        direction = scaled + power / before * direction
    return step


def _line_search(state: _State, step: NDArray[np.float64], gradient: NDArray[np.float64]) -> _State:
    """Go along the step, by half as far until the objective falls enough (Armijo's rule)."""
    moved = state.coordinates @ step
    slope = (gradient * step).sum(axis=0)
    before = state.objective()
    share = np.ones(len(slope))
    while True:
        after = _State(
            state.coordinates, state.signs, state.C, state.weights + share * step, state.outputs + share * moved
        )
        # The last term forgives rounding where there is next to nothing left to gain.
        short = after.objective() > before + 1e-4 * share * slope + 1e-12 * before
        if not short.any():
            return after
        share[short] /= 2
