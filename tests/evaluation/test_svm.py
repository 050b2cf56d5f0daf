"""Linear SVMs in the span: the same as liblinear's on the features, whatever the shape, C or number of workers."""

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from sklearn.svm import LinearSVC

from exemplarcnn.evaluation import svm
from exemplarcnn.evaluation.svm import LinearSVM, SvmError, fit, gram, span
from tests.evaluation.toy_features import toy


def signs_of(labels: np.ndarray) -> np.ndarray:
    return np.where(labels[:, None] == np.unique(labels), 1.0, -1.0)


# Inner products


@settings(max_examples=30, deadline=None)
@given(n=st.integers(1, 12), m=st.integers(1, 12), d=st.integers(1, 12), seed=st.integers(0, 1000))
def test_gram_are_those_of_the_features(n: int, m: int, d: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    first, second = (generator.normal(size=(k, d)).astype(np.float32) for k in (n, m))
    plain = first.astype(np.float64) @ second.astype(np.float64).T
    np.testing.assert_allclose(gram(first, second, 1), plain, atol=1e-13)
    alike = gram(first, first, 1)
    np.testing.assert_allclose(alike, first.astype(np.float64) @ first.astype(np.float64).T, atol=1e-13)
    np.testing.assert_allclose(alike, alike.T, atol=1e-13)


@pytest.mark.parametrize("workers", [1, 3])
def test_blocks_and_workers_do_not_matter(monkeypatch: pytest.MonkeyPatch, workers: int) -> None:
    first, _ = toy(40, 50, classes=3)
    second, _ = toy(23, 50, classes=3, seed=1)
    monkeypatch.setattr(svm, "ROWS", 7)
    monkeypatch.setattr(svm, "FEATURES", 9)
    np.testing.assert_allclose(gram(first, second, workers), first @ second.T.astype(np.float64), atol=1e-4)
    one, many = gram(first, first, 1), gram(first, first, workers)
    np.testing.assert_array_equal(one, many)
    np.testing.assert_allclose(one, first @ first.T.astype(np.float64), atol=1e-4)


def test_wide_features_add_up_in_double_precision() -> None:
    generator = np.random.default_rng(0)
    wide = generator.normal(size=(3, 200_000)).astype(np.float32) + 3
    plain = wide.astype(np.float64) @ wide.astype(np.float64).T
    np.testing.assert_allclose(gram(wide, wide, 1), plain, rtol=1e-14)


# The span


@settings(max_examples=40, deadline=None)
@given(n=st.integers(1, 20), d=st.integers(1, 30), seed=st.integers(0, 1000))
def test_coordinates_have_the_gram_of_the_features(n: int, d: int, seed: int) -> None:
    features = np.random.default_rng(seed).normal(size=(n, d))
    found = span(features @ features.T)
    assert found.coordinates.shape[1] <= min(n, d + 1)
    np.testing.assert_allclose(found.coordinates @ found.coordinates.T, features @ features.T + 1, atol=1e-8)
    # Dual coefficients have the weights' decision values.
    weights = np.random.default_rng(1).normal(size=(found.coordinates.shape[1], 2))
    dual = found.dual(weights)
    decisions = features @ (features.T @ dual) + dual.sum(axis=0)
    np.testing.assert_allclose(decisions, found.coordinates @ weights, atol=1e-6)


def test_images_that_repeat_span_no_more() -> None:
    features = np.repeat(np.random.default_rng(0).normal(size=(3, 9)), 4, axis=0)
    assert span(features @ features.T).coordinates.shape == (12, 3)
    nothing = span(np.zeros((4, 4)))
    np.testing.assert_allclose(nothing.coordinates @ nothing.coordinates.T, np.ones((4, 4)))


# Training


@pytest.mark.parametrize(
    ("width", "offset"), [(2, 0.0), (15, 0.0), (120, 0.0), (120, 30.0)], ids=["flat", "narrow", "wide", "far off"]
)
@pytest.mark.parametrize("C", [0.01, 1.0, 100.0])
def test_the_classifier_is_liblinears_on_the_features(width: int, offset: float, C: float) -> None:
    train, labels = toy(60, width, classes=3, noise=2.0)
    test, _ = toy(50, width, classes=3, seed=1, noise=2.0)
    train, test = train + np.float32(offset), test + np.float32(offset)
    # Where classes can be told apart liblinear's primal solver gives up early; its dual one does not.
    plain = LinearSVC(C=C, dual=width > 60, tol=1e-10, max_iter=1_000_000, random_state=0)
    plain.fit(train.astype(float), labels)
    space = span(gram(train, train, 1))
    dual = space.dual(fit(space.coordinates, signs_of(labels), np.full(3, C), 1e-8))
    decisions = gram(test, train, 1) @ dual + dual.sum(axis=0)
    np.testing.assert_allclose(decisions, plain.decision_function(test), rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(dual.T @ train, plain.coef_, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(dual.sum(axis=0), plain.intercept_, rtol=1e-6, atol=1e-6)


@settings(max_examples=40, deadline=None)
@given(
    n=st.integers(1, 15),
    d=st.integers(1, 8),
    C=st.floats(1e-3, 1e3),
    scale=st.floats(1e-3, 1e2),
    seed=st.integers(0, 1000),
    directly=st.booleans(),
)
def test_it_is_the_minimum(n: int, d: int, C: float, scale: float, seed: int, directly: bool) -> None:
    generator = np.random.default_rng(seed)
    coordinates = scale * generator.normal(size=(n, d))
    signs = generator.choice([-1.0, 1.0], (n, 1))
    tol = 1e-6

    def objective(weights: np.ndarray) -> float:
        slack = np.maximum(1 - signs[:, 0] * (coordinates @ weights), 0)
        return float(weights @ weights / 2 + C * (slack @ slack))

    with pytest.MonkeyPatch.context() as patch:
        if directly:
            patch.setattr(svm, "CG_STEPS", 1)
        found = fit(coordinates, signs, np.array([C]), tol)[:, 0]
    slack = np.maximum(1 - signs[:, 0] * (coordinates @ found), 0)
    assert np.linalg.norm(found - 2 * C * coordinates.T @ (signs[:, 0] * slack)) <= tol * 1.001
    other = minimize(objective, np.zeros(d), method="BFGS", options={"gtol": 1e-8}).x
    assert objective(found) <= objective(other) + 1e-9 * max(1.0, objective(other))


@pytest.mark.parametrize("steps", [200, 1], ids=["conjugate gradients", "directly"])
def test_classifiers_do_not_meddle_with_each_other(monkeypatch: pytest.MonkeyPatch, steps: int) -> None:
    monkeypatch.setattr(svm, "CG_STEPS", steps)
    coordinates = np.random.default_rng(0).normal(size=(30, 10))
    signs = np.random.default_rng(1).choice([-1.0, 1.0], (30, 6))
    C = np.array([0.01, 100.0, 1.0, 0.1, 1000.0, 0.001])
    together = fit(coordinates, signs, C, 1e-7)
    for column in range(6):
        alone = fit(coordinates, signs[:, [column]], C[[column]], 1e-7)
        np.testing.assert_allclose(together[:, [column]], alone, atol=2e-7)


def test_weights_are_within_tol_of_the_best() -> None:
    coordinates = np.random.default_rng(0).normal(size=(200, 50))
    signs = np.random.default_rng(1).choice([-1.0, 1.0], (200, 4))
    C = np.array([0.1, 1.0, 10.0, 100.0])
    best = fit(coordinates, signs, C, 1e-9)
    for tol in (1e-2, 1e-4):
        assert np.linalg.norm(fit(coordinates, signs, C, tol) - best, axis=0).max() <= tol


@pytest.mark.slow
def test_long_features_and_large_c_are_no_trouble() -> None:
    generator = np.random.default_rng(0)
    features = 400 * np.abs(generator.normal(size=(150, 300))) * generator.lognormal(sigma=1.5, size=300) / 300**0.5
    labels = np.arange(150) % 5
    space = span(features @ features.T)
    C = np.repeat([1.0, 30.0], 5)
    signs = np.tile(signs_of(labels), 2)
    found = fit(space.coordinates, signs, C, 1e-4)
    slack = np.maximum(1 - signs * (space.coordinates @ found), 0)
    gradient = found - 2 * C * (space.coordinates.T @ (signs * slack))
    assert np.linalg.norm(gradient, axis=0).max() <= 1e-4


def test_too_few_steps_are_an_error_that_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    coordinates = np.random.default_rng(0).normal(size=(100, 50))
    signs = np.random.default_rng(1).choice([-1.0, 1.0], (100, 3))
    C = np.array([1e-9, 7.0, 7.0])
    steps = 1
    while True:
        monkeypatch.setattr(svm, "NEWTON_STEPS", steps)
        try:
            fit(coordinates, signs, C, 1e-9)
        except SvmError as error:
            said = str(error)
            assert f"tol=1e-09 in {steps} Newton steps, the first with C=7" in said
            assert re.match(r"[12] of 3 linear SVMs", said)
            steps += 1
        else:
            break
    assert steps > 2


def test_what_is_not_a_number_is_never_done() -> None:
    coordinates = np.full((4, 2), np.nan)
    with pytest.raises(SvmError, match="1 of 1 linear SVMs"):
        fit(coordinates, np.array([[1.0], [-1.0], [1.0], [-1.0]]), np.array([1.0]), 1e-4)


# The estimator


def test_the_estimator_is_sklearns_on_the_features() -> None:
    """For one C and for several, on all images of the span and on some."""
    train, labels = toy(60, 15, classes=3, noise=2.0)
    test, _ = toy(50, 15, classes=3, seed=1, noise=2.0)
    space, products = span(gram(train, train, 1)), gram(test, train, 1)
    values = (0.01, 1.0, 30.0)
    several = LinearSVM(values, tol=1e-8).fit(space, labels, 3)
    some = np.arange(40)
    fewer = LinearSVM(values, tol=1e-8).fit(space, labels[some], 3, some)
    assert several.decision_function(products).shape == (50, 3, 3)
    for place, C in enumerate(values):
        plain = LinearSVC(C=C, dual=False, tol=1e-10, max_iter=1_000_000).fit(train.astype(float), labels)
        one = LinearSVM(C, tol=1e-8).fit(space, labels, 3)
        for decisions in (one.decision_function(products), several.decision_function(products)[:, place]):
            np.testing.assert_allclose(decisions, plain.decision_function(test), rtol=1e-6, atol=1e-6)
        np.testing.assert_allclose(one.dual_coef_.T @ train, plain.coef_, rtol=1e-6, atol=1e-6)
        np.testing.assert_allclose(one.intercept_, plain.intercept_, rtol=1e-6, atol=1e-6)
        np.testing.assert_allclose(several.dual_coef_[:, place], one.dual_coef_, atol=1e-6)
        plain.fit(train[:40].astype(float), labels[:40])
        expected = plain.decision_function(train)
        out = np.array([41, 59])
        np.testing.assert_allclose(fewer.decision_in_span(out)[:, place], expected[out], rtol=1e-6, atol=1e-6)
        found = fewer.decision_function(gram(train, train, 1))[:, place]
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)


def test_a_class_without_an_image_is_far_from_all() -> None:
    train, labels = toy(12, 4, classes=3)
    trained = LinearSVM(1.0).fit(span(gram(train, train, 1)), labels, 4)
    assert (trained.decision_function(gram(train, train, 1))[:, 3] < 0).all()
