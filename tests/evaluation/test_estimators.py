"""Linear SVMs as scikit-learn's users know them."""

import doctest
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, StratifiedKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC
from sklearn.utils._param_validation import InvalidParameterError
from sklearn.utils.estimator_checks import parametrize_with_checks

from exemplarcnn.evaluation import SpanLinearSVC, SpanLinearSVCCV, estimators, svm


# scikit-learn has no types.
@parametrize_with_checks([SpanLinearSVC(), SpanLinearSVCCV(Cs=(0.1, 1.0), cv=2)])  # type: ignore[untyped-decorator]
def test_it_is_an_estimator(estimator: Any, check: Any) -> None:
    check(estimator)


def samples(classes: int, seed: int = 0, n: int = 120, d: int = 300) -> tuple[np.ndarray, np.ndarray]:
    """Wide samples, each class around a point of its own."""
    generator = np.random.default_rng(seed)
    y = np.arange(n) % classes
    X = generator.normal(size=(n, d)) + 0.7 * generator.normal(size=(classes, d))[y]
    return X.astype(np.float32) / 10, np.array(["cat", "dog", "ewe"])[y]


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("C", [0.05, 1.0, 20.0])
def test_it_is_the_classifier_of_linear_svc(classes: int, C: float) -> None:
    X, y = samples(classes)
    found = SpanLinearSVC(C=C, tol=1e-8).fit(X, y)
    peer = LinearSVC(C=C, tol=1e-10, max_iter=1_000_000, dual=True).fit(X.astype(np.float64), y)
    assert found.coef_.shape == peer.coef_.shape
    np.testing.assert_allclose(found.coef_, peer.coef_, atol=2e-5)
    np.testing.assert_allclose(found.intercept_, peer.intercept_, atol=2e-5)
    others, _ = samples(classes, seed=1)
    np.testing.assert_allclose(found.decision_function(others), peer.decision_function(others), atol=1e-4)
    assert found.predict(others).tolist() == peer.predict(others).tolist()
    assert found.classes_.tolist() == peer.classes_.tolist()


def test_c_is_chosen_as_a_grid_search_does() -> None:
    X, y = samples(3, n=90, d=40)
    Cs, folds = (0.001, 0.01, 0.1, 1.0, 10.0), StratifiedKFold(5, shuffle=True, random_state=1)
    found = SpanLinearSVCCV(Cs=Cs, cv=folds).fit(X, y)
    peer = GridSearchCV(SpanLinearSVC(), {"C": Cs}, cv=folds).fit(X, y)
    # The folds have the same number of samples, so that the mean of their accuracies is that of all samples.
    np.testing.assert_allclose(found.scores_, peer.cv_results_["mean_test_score"], atol=1e-12)
    assert peer.best_params_["C"] == found.C_
    np.testing.assert_allclose(found.coef_, peer.best_estimator_.coef_, atol=1e-4)


def test_of_equally_good_values_the_smallest_is_chosen() -> None:
    X = np.concatenate([np.zeros((10, 2)), np.full((10, 2), 9.0)])
    found = SpanLinearSVCCV(Cs=(10.0, 0.5, 1.0)).fit(X, [0] * 10 + [1] * 10)
    assert found.scores_.tolist() == [1.0, 1.0, 1.0]
    assert found.C_ == 0.5


def test_threads_blocks_and_the_type_of_the_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    X, y = samples(3)
    whole = SpanLinearSVC().fit(X, y)
    monkeypatch.setattr(svm, "ROWS", 16)
    monkeypatch.setattr(svm, "FEATURES", 32)
    np.testing.assert_allclose(SpanLinearSVC().fit(X, y).coef_, whole.coef_, atol=1e-9)
    alone = SpanLinearSVC().fit(X, y)
    np.testing.assert_array_equal(SpanLinearSVC(n_jobs=3).fit(X, y).coef_, alone.coef_)
    np.testing.assert_allclose(SpanLinearSVC().fit(X.astype(np.float64), y).coef_, alone.coef_, atol=1e-9)
    expected = X.astype(np.float64) @ alone.coef_.T + alone.intercept_
    np.testing.assert_allclose(alone.decision_function(X), expected, atol=1e-12)


def test_it_works_where_estimators_do() -> None:
    X, y = samples(3)
    frame = pd.DataFrame(X, columns=[f"feature {number}" for number in range(X.shape[1])])
    fitted = make_pipeline(StandardScaler(), SpanLinearSVCCV()).fit(frame, y)
    assert fitted.score(frame, y) == 1.0
    assert cross_val_score(SpanLinearSVC(), X, y, cv=3).mean() > 0.5
    changed: dict[str, Any] = {"Cs": (1.0,), "cv": 3, "tol": 1e-3, "n_jobs": 2, "verbose": True}
    assert clone(SpanLinearSVCCV(**changed)).get_params() == changed


def test_folds_may_be_masks() -> None:
    X, y = samples(3, n=60, d=20)
    folds = list(StratifiedKFold(3).split(X, y))
    masks = [tuple(np.isin(np.arange(60), rows) for rows in fold) for fold in folds]
    found, expected = (SpanLinearSVCCV(cv=each).fit(X, y) for each in (masks, folds))
    assert found.scores_.tolist() == expected.scores_.tolist()


@pytest.mark.parametrize("offset", [1e8, 3e7])
def test_what_rounding_hides_is_refused(offset: float) -> None:
    X = np.column_stack([np.full(40, offset), np.arange(40) % 2.0])
    with pytest.raises(ValueError, match="centre or scale the features"):
        SpanLinearSVC().fit(X, np.arange(40) % 2)
    X[:, 0] -= offset
    assert SpanLinearSVC(C=100.0).fit(X, np.arange(40) % 2).score(X, np.arange(40) % 2) == 1.0


def test_samples_that_are_all_alike() -> None:
    assert SpanLinearSVC().fit(np.full((6, 2), 7.0), [0, 0, 0, 0, 1, 1]).predict([[7.0, 7.0]]) == [0]


def test_wrong_parameters_are_named() -> None:
    X, y = samples(2)
    with pytest.raises(InvalidParameterError, match="'C' parameter of SpanLinearSVC"):
        SpanLinearSVC(C=-1.0).fit(X, y)
    with pytest.raises(ValueError, match="Cs must be positive numbers"):
        SpanLinearSVCCV(Cs=(0.0, 1.0)).fit(X, y)
    with pytest.raises(ValueError, match="Cs must be positive numbers"):
        SpanLinearSVCCV(Cs=(np.nan, 1.0)).fit(X, y)
    with pytest.raises(ValueError, match="cv has no folds"):
        SpanLinearSVCCV(cv=[]).fit(X, y)
    with pytest.raises(ValueError, match="only one class: cat"):
        SpanLinearSVC().fit(X, np.repeat("cat", len(X)))


def test_its_examples() -> None:
    assert doctest.testmod(estimators).failed == 0
