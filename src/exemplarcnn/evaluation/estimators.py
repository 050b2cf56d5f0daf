"""The exact linear SVM in the span of its samples, as estimators of scikit-learn's (docs/method.md, section 4.1)."""

from collections.abc import Iterator
from itertools import product
from numbers import Integral, Real
from typing import Any, ClassVar, Self

import numpy as np
from joblib import effective_n_jobs
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, _fit_context
from sklearn.linear_model._base import LinearClassifierMixin
from sklearn.model_selection import check_cv
from sklearn.utils._param_validation import Interval
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data
from threadpoolctl import threadpool_limits

from exemplarcnn.evaluation import svm
from exemplarcnn.evaluation.metrics import choose


class SpanLinearSVC(LinearClassifierMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """Linear support vector classification, trained in the span of the samples.

    The same classifier as `sklearn.svm.LinearSVC` with its defaults (squared hinge loss, L2 penalty that includes the
    intercept, one-vs-rest), to a precision of ``tol``. It is found by Newton's method on n_samples coordinates instead
    of n_features, which is faster where features are many more than samples (docs/results.md has figures). It holds
    several matrices of n_samples × n_samples.

    Parameters
    ----------
    C : float, default=1.0
        Penalty of errors.
    tol : float, default=1e-4
        Weights on coordinates in the span are within ``tol`` of the optimum, in their Euclidean norm.
    n_jobs : int, default=None
        Number of threads for the inner products of samples; None means 1, and -1 all processors. It changes no result.
    verbose : bool, default=False
        Whether to show a progress bar while inner products are computed.

    Attributes
    ----------
    coef_ : ndarray of shape (1, n_features) if n_classes == 2 else (n_classes, n_features)
        Weights of the features.
    intercept_ : ndarray of shape (1,) if n_classes == 2 else (n_classes,)
        Constants in the decision function.
    classes_ : ndarray of shape (n_classes,)
        The labels.
    n_features_in_ : int
        Number of features seen during `fit`.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of features seen during `fit`, if ``X`` has names that are all strings.

    See Also
    --------
    SpanLinearSVCCV : The same, with C chosen by cross-validation.

    References
    ----------
    S. S. Keerthi, D. DeCoste (2005). A modified finite Newton method for fast solution of large scale linear SVMs.
    Journal of Machine Learning Research 6.

    Examples
    --------
    >>> import numpy as np
    >>> from exemplarcnn.evaluation import SpanLinearSVC
    >>> X = np.array([[0.0, 0.0, 1.0], [1.0, 0.0, 0.0], [5.0, 5.0, 0.0], [6.0, 5.0, 1.0]])
    >>> SpanLinearSVC(C=1.0).fit(X, ["near", "near", "far", "far"]).predict([[1.0, 1.0, 0.0]])
    array(['near'], dtype='<U4')
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "C": [Interval(Real, 0, None, closed="neither")],
        "tol": [Interval(Real, 0, None, closed="neither")],
        "n_jobs": [Integral, None],
        "verbose": ["boolean"],
    }

    def __init__(self, C: float = 1.0, *, tol: float = 1e-4, n_jobs: int | None = None, verbose: bool = False):
        self.C = C
        self.tol = tol
        self.n_jobs = n_jobs
        self.verbose = verbose

    @_fit_context(prefer_skip_nested_validation=True)  # type: ignore[untyped-decorator]  # as above
    def fit(self, X: ArrayLike, y: ArrayLike) -> Self:
        """Train on samples.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Samples, for instance a memory map, which is read block by block.
        y : array-like of shape (n_samples,)
            Their labels.

        Returns
        -------
        self : object
            This estimator.

        Raises
        ------
        SvmError
            If the training does not reach ``tol``.
        ValueError
            If the samples differ too little beside their length, so that rounding hides what tells them apart.
        """
        X, labels = self._validated(X, y)
        with threadpool_limits(1):
            self._train(X, labels, self._space(X), self.C)
        return self

    def decision_function(self, X: ArrayLike) -> NDArray[np.float64]:
        """Compute decision values.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Samples, for instance a memory map, which is read block by block.

        Returns
        -------
        scores : ndarray of shape (n_samples,) if n_classes == 2 else (n_samples, n_classes)
            Of two classes, positive values speak for the second.
        """
        check_is_fitted(self)
        samples: NDArray[Any] = validate_data(self, X, dtype=[np.float64, np.float32], reset=False)
        scores = np.tile(self.intercept_, (len(samples), 1))
        for rows, part in _blocks(samples):
            scores[rows] += samples[rows, part].astype(np.float64) @ self.coef_[:, part].T
        return scores[:, 0] if scores.shape[1] == 1 else scores

    def _validated(self, X: ArrayLike, y: ArrayLike) -> tuple[NDArray[Any], NDArray[np.int64]]:
        samples: NDArray[Any]
        samples, y = validate_data(self, X, y, dtype=[np.float64, np.float32])
        check_classification_targets(y)
        self.classes_, labels = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(f"needs samples of at least 2 classes, and found only one class: {self.classes_[0]}")
        return samples, labels.astype(np.int64)

    def _space(self, X: NDArray[Any]) -> svm.Span:
        """Return the span of samples.

        Raises
        ------
        ValueError
            If what tells samples apart is lost in rounding, beside what they have in common.
        """
        products = svm.gram(X, X, effective_n_jobs(self.n_jobs), "inner products" if self.verbose else None)
        lengths = np.diagonal(products)
        apart, lost = lengths.mean() - products.mean(), len(X) * np.finfo(np.float64).eps * lengths.max()
        if apart <= lost and not all((X[i : i + svm.ROWS] == X[0]).all() for i in range(0, len(X), svm.ROWS)):
            raise ValueError(
                "the samples differ too little beside their length to be told apart in float64; centre or scale the "
                "features, for instance with StandardScaler"
            )
        return svm.span(products)

    def _train(self, X: NDArray[Any], labels: NDArray[np.int64], space: svm.Span, C: float) -> None:
        """Set the weights that a value of C gives."""
        # Of two classes, the second has the positive decision values.
        signs, classes = (1 - labels, 1) if len(self.classes_) == 2 else (labels, len(self.classes_))
        trained = svm.LinearSVM(C, self.tol).fit(space, signs, classes)
        self.coef_ = np.zeros((classes, X.shape[1]))
        for rows, part in _blocks(X):
            self.coef_[:, part] += trained.dual_coef_[rows].T @ X[rows, part].astype(np.float64)
        self.intercept_ = trained.intercept_


def _blocks(X: NDArray[Any]) -> Iterator[tuple[slice, slice]]:
    """Yield rows and columns of blocks of samples: a copy of all in float64 may take their memory twice."""
    for start, first in product(range(0, len(X), svm.ROWS), range(0, X.shape[1], svm.FEATURES)):
        yield slice(start, start + svm.ROWS), slice(first, first + svm.FEATURES)


class SpanLinearSVCCV(SpanLinearSVC):
    """Linear support vector classification in the span of the samples, with C chosen by cross-validation.

    All values of C and all folds share one decomposition of the samples.

    Parameters
    ----------
    Cs : array-like of float, default=(0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
        The values to choose from. The one that gets most samples right is taken; of equally good ones, the smallest.
    cv : int, cross-validation generator or iterable, default=5
        Folds; an integer means stratified ones, without shuffling.
    tol, n_jobs, verbose
        As for `SpanLinearSVC`.

    Attributes
    ----------
    C_ : float
        The value that was chosen.
    scores_ : ndarray of shape (n_values,)
        Cross-validated accuracy of each value, 0 to 1, over all held-out samples.
    coef_, intercept_, classes_, n_features_in_, feature_names_in_
        As for `SpanLinearSVC`.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from exemplarcnn.evaluation import SpanLinearSVCCV
    >>> X, y = load_digits(n_class=3, return_X_y=True)
    >>> SpanLinearSVCCV(Cs=(1e-6, 1e-3)).fit(X, y).C_
    0.001
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "Cs": ["array-like"],
        "cv": ["cv_object"],
        "tol": [Interval(Real, 0, None, closed="neither")],
        "n_jobs": [Integral, None],
        "verbose": ["boolean"],
    }

    def __init__(
        self,
        Cs: ArrayLike = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0),
        *,
        cv: Any = 5,
        tol: float = 1e-4,
        n_jobs: int | None = None,
        verbose: bool = False,
    ):
        self.Cs = Cs
        self.cv = cv
        self.tol = tol
        self.n_jobs = n_jobs
        self.verbose = verbose

    @_fit_context(prefer_skip_nested_validation=True)  # type: ignore[untyped-decorator]  # as above
    def fit(self, X: ArrayLike, y: ArrayLike) -> Self:
        """Choose C and train on samples.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Samples, for instance a memory map, which is read block by block.
        y : array-like of shape (n_samples,)
            Their labels.

        Returns
        -------
        self : object
            This estimator.

        Raises
        ------
        SvmError
            If the training does not reach ``tol``.
        ValueError
            If ``Cs`` or ``cv`` is empty, a value of C is not positive, or the samples differ too little beside their
            length.
        """
        X, labels = self._validated(X, y)
        values = tuple(float(value) for value in np.asarray(self.Cs, np.float64).ravel())
        if not values or not all(0 < value < np.inf for value in values):
            raise ValueError(f"Cs must be positive numbers, at least one, and are {values}")
        given = check_cv(self.cv, labels, classifier=True).split(X, labels)
        folds = [[np.arange(len(X))[rows] for rows in fold] for fold in given]  # which may be masks
        if not folds:
            raise ValueError("cv has no folds; give at least one")
        with threadpool_limits(1):
            space = self._space(X)
            right = np.zeros(len(values), np.int64)
            for inside, out in folds:
                trained = svm.LinearSVM(values, self.tol).fit(space, labels[inside], len(self.classes_), inside)
                right += np.count_nonzero(labels[out] == trained.decision_in_span(out).argmax(axis=2).T, axis=1)
            best = choose(values, right)
            self.C_, self.scores_ = values[best], right / sum(len(out) for _, out in folds)
            self._train(X, labels, space, self.C_)
        return self
