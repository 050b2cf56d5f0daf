"""Every transform of colours against a slow reference in float64."""

from typing import Any

import albumentations as A
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from exemplarcnn.patches.recipes import colours
from exemplarcnn.patches.recipes.colours import PoolPCAContrast, SeparateHSVContrast
from tests.recipe_references import (
    AXES,
    DRAWN,
    POLICIES,
    Image,
    draw_many,
    drawing,
    hsv_reference,
    hue_reference,
    noise,
    pca_reference,
    photo,
    pool_pca_reference,
    range_reference,
)


def into_range(patch: Image, policy: Any) -> Image:
    (found,) = colours.into_range(patch[None], policy)
    return np.asarray(found)


# Range and rounding


def test_rescale_takes_one_minimum_and_maximum_over_all_channels() -> None:
    patch = np.array([[[0.2, 0.4, 0.5], [0.3, 0.6, 0.4]]], np.float32)
    expected = [[[0, 0.5, 0.75], [0.25, 1, 0.5]]]
    assert into_range(patch, "rescale") == pytest.approx(np.array(expected), abs=1e-6)


def test_rescale_also_widens_and_narrows() -> None:
    patch = np.array([[[-0.5, 0.5, 1.5]]], np.float32)
    assert into_range(patch, "rescale").ravel().tolist() == [0, 0.5, 1]
    assert into_range(patch, "clip").ravel().tolist() == [0, 0.5, 1]
    narrow = np.array([[[0.5, 0.5, 0.501]]], np.float32)
    assert into_range(narrow, "rescale") == pytest.approx(np.array([[[0, 0, 1.0]]]), abs=1e-6)
    assert np.array_equal(into_range(narrow, "clip"), narrow)


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize(("value", "expected"), [(0, 0), (0.3, 0.3), (1, 1), (-0.2, 0), (1.7, 1)])
def test_a_patch_of_one_value_cannot_be_rescaled(policy: Any, value: float, expected: float) -> None:
    even = np.full((4, 4, 3), value, np.float32)
    assert into_range(even, policy) == pytest.approx(np.full((4, 4, 3), expected))
    rounding = even + np.float32(1e-7) * noise(4, 4, 3)
    assert into_range(rounding, policy) == pytest.approx(np.full((4, 4, 3), expected), abs=1e-6)


@settings(deadline=None)
@given(low=st.floats(-3, 3), spread=st.floats(0, 5), policy=st.sampled_from(POLICIES), seed=st.integers(0, 99))
def test_into_range_agrees_with_the_words_and_stays_float32(low: float, spread: float, policy: Any, seed: int) -> None:
    patch = (low + spread * noise(5, 4, 3, seed=seed)).astype(np.float32)
    before = patch.copy()
    result = into_range(patch, policy)
    assert result.dtype == np.float32
    assert np.array_equal(patch, before)
    # float32 numbers around `low` are 2**-23 of it apart, which the stretch magnifies.
    spacing = float(np.spacing(np.abs(patch).max()))
    span = float(np.ptp(patch))
    if not 0.9e-5 < span < 1.1e-5:
        tolerance = 1e-6 + 4 * spacing / max(span, 1e-5)
        assert result == pytest.approx(range_reference(patch.astype(float), policy), abs=tolerance)


# Contrast 1: PCA


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("seed", range(4))
def test_pca_contrast_against_covariance_and_loops(policy: Any, seed: int) -> None:
    patch = photo(16, 16, seed) if seed % 2 else noise(16, 16, 3, seed=seed) * np.array([1, 0.7, 0.4], np.float32)
    factors = np.random.default_rng(seed).uniform(0.5, 2, 3)
    found = colours.PCAContrast((0.5, 2), policy).apply(patch, factors=factors)
    assert found.dtype == np.float32
    assert found == pytest.approx(pca_reference(patch, factors, policy), abs=2e-5)


def test_first_factor_belongs_to_the_axis_of_largest_variance() -> None:
    draw = np.random.default_rng(0)
    patch = (0.5 + draw.normal(size=(32, 32, 3)) * [0.01, 0.04, 0.02]).astype(np.float32)
    found = colours.PCAContrast((0.5, 2), "clip").apply(patch, factors=np.array([2.0, 1.5, 0.5]))
    widened = found.std(axis=(0, 1)) / patch.std(axis=(0, 1))
    assert widened == pytest.approx(np.array([0.5, 2, 1.5]), rel=0.01)


def test_factors_of_one_change_nothing() -> None:
    patch = photo(16, 16)
    assert colours.PCAContrast((1, 1), "clip").apply(patch, factors=np.ones(3)) == pytest.approx(patch, abs=1e-6)


def test_pca_contrast_of_colours_on_a_line() -> None:
    # Two of the three variances are zero, so that their axes are arbitrary and their factors must not matter.
    patch = np.linspace(0.2, 0.6, 64, dtype=np.float32).reshape(8, 8, 1) * np.array([1, 0.5, 0.25], np.float32)
    contrast = colours.PCAContrast((0.5, 2), "clip")
    found = contrast.apply(patch, factors=np.array([1.5, 0.5, 2.0]))
    assert found == pytest.approx(pca_reference(patch, np.array([1.5, 1, 1]), "clip"), abs=1e-5)


# Contrast 2 and colour, in HSV


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("drawn", DRAWN)
@pytest.mark.parametrize("kind", ["noise", "photo"])
def test_hsv_contrast_against_colorsys(policy: Any, drawn: tuple[float, float, float], kind: str) -> None:
    # Away from grey, where the hue is a matter of rounding.
    brown = np.array([0.9, 0.6, 0.3], np.float32)
    patch = noise(16, 16, 3, seed=2) if kind == "noise" else photo(16, 16, 2) * brown + np.float32(0.05)
    found = colours.HSVContrast((0.25, 4), (0.7, 1.4), (-0.1, 0.1), policy).apply(patch, drawn=drawn)
    assert found.dtype == np.float32
    assert found == pytest.approx(hsv_reference(patch, drawn, policy), abs=5e-5)


def test_saturation_is_clipped_under_both_policies_and_value_under_clip_alone() -> None:
    # s = 0.5, v = 0.8 and s = 1, v = 0.9; with factor 1.4 the second is beyond 1 in both.
    patch = np.array([[[0.8, 0.4, 0.4], [0.9, 0.0, 0.0]]], np.float32)
    drawn = (1.0, 1.4, 0.0)
    clip = colours.HSVContrast((1, 1), (1, 2), (0, 0), "clip").apply(patch, drawn=drawn)
    assert clip == pytest.approx(np.array([[[1, 0.3, 0.3], [1, 0, 0]]]), abs=1e-5)
    rescale = colours.HSVContrast((1, 1), (1, 2), (0, 0), "rescale").apply(patch, drawn=drawn)
    unscaled = np.array([[[1.12, 0.336, 0.336], [1.26, 0, 0]]])
    assert rescale == pytest.approx(unscaled / 1.26, abs=1e-5)


@pytest.mark.parametrize("turn", [-0.1, -0.03, 0.0, 0.06, 0.1, 0.5, -1.0])
def test_hue_shift_against_colorsys(turn: float) -> None:
    patch = noise(16, 16, 3, seed=3) * np.float32(0.8) + np.float32(0.1)
    found = colours.HueShift((-0.1, 0.1)).apply(patch, turn=turn)
    assert found.dtype == np.float32
    assert found == pytest.approx(hue_reference(patch, turn), abs=2e-5)


@pytest.mark.parametrize("turn", [-0.1, -1e-9, 1e-9, 0.1])
def test_hue_is_cyclic_at_red(turn: float) -> None:
    reds = np.array([[[1, 0, 0], [1, 0, 1e-7], [1, 1e-7, 0], [1, 0, 0.05], [1, 0.05, 0]]], np.float32)
    found = colours.HueShift((-0.1, 0.1)).apply(reds, turn=turn)
    assert found == pytest.approx(hue_reference(reds, turn), abs=1e-5)


@pytest.mark.parametrize(
    ("transform", "name", "ranges"),
    [
        (colours.PCAContrast((0.5, 2), "rescale"), "factors", [(0.5, 2)] * 3),
        (
            colours.HSVContrast((0.25, 4), (0.7, 1.4), (-0.1, 0.1), "rescale"),
            "drawn",
            [(0.25, 4), (0.7, 1.4), (-0.1, 0.1)],
        ),
        (colours.HueShift((-0.1, 0.1)), "turn", [(-0.1, 0.1)]),
    ],
)
def test_drawn_numbers_fill_their_ranges_and_are_independent(
    transform: A.BasicTransform, name: str, ranges: list[tuple[float, float]]
) -> None:
    drawing(transform)
    drawn = np.array([np.atleast_1d(transform.get_params_dependent_on_data({}, {})[name]) for _ in range(2000)])
    assert drawn.shape == (2000, len(ranges))
    for column, (low, high) in zip(drawn.T, ranges, strict=True):
        assert low <= column.min()
        assert column.max() <= high
        assert stats.kstest(column, stats.uniform(low, high - low).cdf).pvalue > 1e-3
    if len(ranges) > 1:
        assert np.abs(np.corrcoef(drawn.T) - np.eye(len(ranges))).max() < 0.1


# By the pool's axes, and saturation apart from value


def test_contrast_along_the_axes_of_the_pool() -> None:
    patch, factors = noise(12, 11, 3), np.array([2.5, 0.4, 1.3])
    found = PoolPCAContrast(AXES.mean, AXES.axes, (1, 1, 0.5)).apply(patch, factors=factors)
    assert found.dtype == np.float32
    assert found == pytest.approx(pool_pca_reference(patch, factors), abs=1e-5)


def test_factors_are_powers_of_two_of_normal_draws() -> None:
    factors = draw_many(PoolPCAContrast(AXES.mean, AXES.axes, (1, 1, 0.5)), 3000)["factors"]
    for column, deviation in zip(np.log2(factors).T, (1, 1, 0.5), strict=True):
        assert stats.kstest(column, stats.norm(0, deviation).cdf).pvalue > 1e-3
    assert np.abs(np.corrcoef(np.log2(factors).T) - np.eye(3)).max() < 0.1


@pytest.mark.parametrize(("powers", "factors"), [((0.25, 4.0), (1.4, 0.7)), ((2.0, 0.5), (0.8, 1.2)), ((1, 1), (1, 1))])
def test_saturation_and_value_each_by_their_own_numbers(powers: Any, factors: Any) -> None:
    patch = noise(12, 12, 3, seed=2)
    step = SeparateHSVContrast((-2, 2), (-0.5, 0.5))
    found = step.apply(patch, powers=np.array(powers), factors=np.array(factors))
    # The reference changes both alike: saturation from the one call, value from the other.
    alike = [hsv_reference(patch, (powers[k], factors[k], 0.0), "clip").reshape(-1, 3) for k in range(2)]
    value = alike[1].max(axis=1)
    with np.errstate(invalid="ignore"):
        share = np.where(alike[0].max(axis=1, keepdims=True) > 0, alike[0] / alike[0].max(axis=1, keepdims=True), 0)
    assert found.reshape(-1, 3) == pytest.approx(share * value[:, None], abs=1e-3)


def test_powers_and_factors_fill_their_ranges_and_are_independent() -> None:
    columns = draw_many(SeparateHSVContrast((-2, 2), (-0.5, 0.5)), 3000)
    together = np.log2(np.column_stack([columns["powers"], columns["factors"]]))
    for values, reach in zip(together.T, (2, 2, 0.5, 0.5), strict=True):
        assert stats.kstest(values, stats.uniform(-reach, 2 * reach).cdf).pvalue > 1e-3
    assert np.abs(np.corrcoef(together.T) - np.eye(4)).max() < 0.1
