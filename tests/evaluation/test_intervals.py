"""The bootstrap: against a slow reference, theory, and the same draws for all pairs."""

import numpy as np
import pytest

from exemplarcnn import rng
from exemplarcnn.evaluation import bootstrap, gain


def bootstrap_difference(
    first: np.ndarray, second: np.ndarray, seed: int, rounds: int, level: float = 0.95
) -> tuple[float, float, float]:
    gains = gain(first, second)[None]
    low, high = bootstrap(gains, seed, rounds, level)
    return float(gains.mean()), float(low[0]), float(high[0])


def test_several_pairs_see_the_same_draws() -> None:
    gains = np.random.default_rng(3).normal(size=(4, 60))
    together = bootstrap(gains, seed=1, rounds=1_234)
    for row, (low, high) in zip(gains, zip(*together, strict=True), strict=True):
        alone = bootstrap(row[None], seed=1, rounds=1_234)
        assert (low, high) == pytest.approx((alone[0][0], alone[1][0]))


def test_bootstrap_against_a_slow_reference() -> None:
    generator = np.random.default_rng(0)
    first, second = generator.random((3, 50)) < 0.8, generator.random((3, 50)) < 0.6
    found = bootstrap_difference(first, second, seed=4, rounds=200, level=0.9)
    stream = rng.generator(4, rng.Purpose.BOOTSTRAP)
    means = []
    for _ in range(200):
        rows = stream.integers(50, size=50)
        means.append(100 * (first[:, rows].mean() - second[:, rows].mean()))
    means.sort()
    assert found[0] == pytest.approx(100 * (first.mean() - second.mean()))
    assert found[1] == pytest.approx(np.percentile(means, 5))
    assert found[2] == pytest.approx(np.percentile(means, 95))


def test_bootstrap_has_about_the_spread_of_theory() -> None:
    generator = np.random.default_rng(1)
    first, second = generator.random((1, 400)) < 0.8, generator.random((1, 400)) < 0.6
    difference, low, high = bootstrap_difference(first, second, seed=0, rounds=2_000)
    error = 100 * (first[0].astype(float) - second[0]).std() / 400**0.5
    assert low == pytest.approx(difference - 1.96 * error, abs=0.4 * error)
    assert high == pytest.approx(difference + 1.96 * error, abs=0.4 * error)


def test_bootstrap_of_equal_variants_is_zero() -> None:
    right = np.random.default_rng(0).random((3, 50)) < 0.5
    assert bootstrap_difference(right, right, seed=0, rounds=50) == (0.0, 0.0, 0.0)


def test_bootstrap_turns_its_sign_with_the_order() -> None:
    generator = np.random.default_rng(2)
    first, second = generator.random((2, 30)) < 0.7, generator.random((2, 30)) < 0.5
    there, back = bootstrap_difference(first, second, 0, 100), bootstrap_difference(second, first, 0, 100)
    assert there == pytest.approx((-back[0], -back[2], -back[1]))


def test_arrays_of_other_shapes_are_refused() -> None:
    right = np.ones((3, 50), bool)
    for other in (right[0], right[:, :49]):
        with pytest.raises(ValueError, match="of the same images"):
            gain(right, other)
    for gains in (np.zeros(50), np.zeros((2, 0))):
        with pytest.raises(ValueError, match="expected gains of"):
            bootstrap(gains, seed=0)
