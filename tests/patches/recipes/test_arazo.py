"""Every transform against a slow reference in float64, written from the words of docs/method.md, section 2."""

import colorsys
import inspect
import json
import math
import random
from typing import Any

import albumentations as A
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage, stats

from exemplarcnn.patches.recipes import arazo
from tests.defaults import surrogate as params

Image = NDArray[np.float32]
Exact = NDArray[np.float64]

POLICIES = ["rescale", "clip"]
COLOURS = {
    "black": (0, 0, 0),
    "white": (255, 255, 255),
    "grey": (100, 100, 100),
    "dark": (1, 1, 1),
    "red": (255, 0, 0),
    "brown": (130, 90, 60),
    "almost grey": (100, 101, 100),
}


def noise(*shape: int, seed: int = 0) -> Image:
    return np.random.default_rng(seed).random(shape, dtype=np.float32)


def photo(height: int, width: int, seed: int = 0) -> Image:
    """Correlated colours and smooth shapes, as 8-bit values in 0–1."""
    draw = np.random.default_rng(seed)
    layers = ndimage.gaussian_filter(draw.random((height, width, 3)), (3, 3, 0))
    mixed = layers @ np.array([[1, 0.8, 0.6], [0.1, -0.3, 0.2], [-0.1, 0.1, 0.3]])
    mixed = (mixed - mixed.min()) / (np.ptp(mixed) or 1)
    return (np.rint(mixed * 255) / 255).astype(np.float32)


def drawing(transform: A.BasicTransform, seed: int = 0) -> A.BasicTransform:
    transform.set_random_state(np.random.default_rng(seed), random.Random(0))
    return transform


def run(compose: A.Compose, image: Image, anchor: tuple[int, int], seed: int) -> Image:
    arazo.bind(compose, np.random.default_rng(seed))
    result: Image = compose(image=image, anchor=anchor)["image"]
    return result


def into_range(patch: Image, policy: Any) -> Image:
    return arazo.into_range(patch[None], policy)[0]


# References


def mirror(index: int, size: int) -> int:
    """Index into an image that is followed, beyond its border, by its mirror image: c b a | a b c | c b a."""
    index %= 2 * size
    return index if index < size else 2 * size - 1 - index


def resize_reference(image: NDArray[Any], height: int, width: int) -> Exact:
    result = np.zeros((height, width, 3))
    for i in range(height):
        y = (i + 0.5) * image.shape[0] / height - 0.5
        for j in range(width):
            x = (j + 0.5) * image.shape[1] / width - 0.5
            top, left = math.floor(y), math.floor(x)
            for row, by_row in ((top, top + 1 - y), (top + 1, y - top)):
                for column, by_column in ((left, left + 1 - x), (left + 1, x - left)):
                    pixel = image[mirror(row, image.shape[0]), mirror(column, image.shape[1])]
                    result[i, j] += by_row * by_column * pixel.astype(float)
    return result


def range_reference(patch: Exact, policy: str) -> Exact:
    if policy == "clip":
        return np.minimum(np.maximum(patch, 0), 1)
    low, high = patch.min(), patch.max()
    # Nothing to stretch in a patch of one value, up to float32's rounding.
    return np.minimum(np.maximum(patch, 0), 1) if high - low < 1e-5 else (patch - low) / (high - low)


def pca_reference(patch: NDArray[Any], factors: NDArray[np.float64], policy: str) -> Exact:
    pixels = patch.reshape(-1, 3).astype(float)
    mean = pixels.mean(axis=0)
    values, vectors = np.linalg.eigh(np.cov(pixels, rowvar=False))
    result = np.tile(mean, (len(pixels), 1))
    for factor, axis in zip(factors, np.argsort(values)[::-1], strict=True):
        direction = vectors[:, axis]
        for index, pixel in enumerate(pixels):
            result[index] += factor * np.dot(pixel - mean, direction) * direction
    return range_reference(result.reshape(patch.shape), policy)


def rotate_reference(patch: NDArray[Any], mirrored: bool, angle: float) -> Exact:
    patch = patch.astype(float)
    if mirrored:
        patch = np.stack([patch[:, -1 - column] for column in range(patch.shape[1])], axis=1)
    cosine, sine = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    # Counter-clockwise as seen: rows grow downwards. The matrix goes from the new pixel back to the old one.
    back = np.array([[cosine, sine], [-sine, cosine]])
    centre = (np.array(patch.shape[:2]) - 1) / 2
    offset = centre - back @ centre
    # scipy's "mirror" is d c b | a b c d | c b a, OpenCV's BORDER_REFLECT_101.
    channels = [ndimage.affine_transform(patch[..., c], back, offset, order=1, mode="mirror") for c in range(3)]
    return np.stack(channels, axis=2)


def hsv_reference(patch: NDArray[Any], drawn: tuple[float, float, float], policy: str) -> Exact:
    power, factor, shift = drawn
    result = np.empty(patch.shape)
    for place in np.ndindex(patch.shape[:2]):
        h, s, v = colorsys.rgb_to_hsv(*patch[place].astype(float))
        s, v = factor * s**power + shift, factor * v**power + shift
        v = min(max(v, 0.0), 1.0) if policy == "clip" else v
        result[place] = colorsys.hsv_to_rgb(h, min(max(s, 0.0), 1.0), v)
    return range_reference(result, policy)


def hue_reference(patch: NDArray[Any], turn: float) -> Exact:
    result = np.empty(patch.shape)
    for place in np.ndindex(patch.shape[:2]):
        h, s, v = colorsys.rgb_to_hsv(*patch[place].astype(float))
        result[place] = colorsys.hsv_to_rgb((h + turn) % 1.0, s, v)
    return result


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


def test_to_uint8_rounds_to_the_nearest_and_cuts_off() -> None:
    levels = np.arange(256, dtype=np.uint8)
    assert np.array_equal(arazo.to_uint8(levels.astype(np.float32) / np.float32(255)), levels)
    assert np.array_equal(arazo.to_uint8((levels.astype(np.float32)[1:] - np.float32(0.49)) / 255), levels[1:])
    assert np.array_equal(arazo.to_uint8((levels.astype(np.float32)[:-1] + np.float32(0.49)) / 255), levels[:-1])
    result = arazo.to_uint8(np.array([-1, -1e-6, 1.000001, 7], np.float32))
    assert result.dtype == np.uint8
    assert result.tolist() == [0, 0, 255, 255]


# Scale, translate, crop


@pytest.mark.parametrize(
    ("size", "target"), [((13, 17), (9, 13)), ((13, 17), (18, 25)), ((20, 12), (20, 12)), ((5, 4), (16, 9))]
)
def test_resize_is_bilinear_with_mirrored_borders(size: tuple[int, int], target: tuple[int, int]) -> None:
    image = noise(*size, 3)
    crop = arazo.AnchoredCrop(8, (1, 1), "uniform", 0)
    expected = resize_reference(image, *target)
    # A patch of 8 at each of two corners covers what matters: both borders and the inside.
    for corner in ((0, 0), (target[0] - 8, target[1] - 8)):
        found = crop.apply(image, size=target, corner=corner)
        part = expected[corner[0] : corner[0] + 8, corner[1] : corner[1] + 8]
        assert found.dtype == np.float32
        assert found == pytest.approx(part, abs=1e-5)


@settings(deadline=None, max_examples=300)
@given(
    patch=st.integers(1, 40),
    height=st.integers(1, 60),
    width=st.integers(1, 60),
    scale=st.tuples(st.floats(0.2, 3), st.floats(0.2, 3)).map(lambda pair: (min(pair), max(pair))),
    place=st.tuples(st.floats(0, 1, exclude_max=True), st.floats(0, 1, exclude_max=True), st.floats(0, 1)),
    shift=st.tuples(st.floats(-200, 200), st.floats(-200, 200)),
)
def test_patch_always_fits_and_sits_where_asked_when_it_can(
    patch: int,
    height: int,
    width: int,
    scale: tuple[float, float],
    place: tuple[float, float, float],
    shift: tuple[float, float],
) -> None:
    low, high = arazo.scale_bounds(scale, patch, height, width)
    assert low == max(scale[0], patch / min(height, width))
    assert low <= high
    assert high == scale[1] or high == low > scale[1]
    factor = low + place[2] * (high - low)
    size = arazo.scaled_size(np.array([factor]), patch, height, width)[0]
    anchor = (int(place[0] * height), int(place[1] * width))
    corner = arazo.corner(np.array([anchor]), np.array([shift]), size[None], (height, width), patch)[0]
    for axis, source in enumerate((height, width)):
        assert size[axis] >= patch
        assert abs(size[axis] - max(patch, factor * source)) <= 0.5 + 1e-9
        assert 0 <= corner[axis] <= size[axis] - patch
        wished = (anchor[axis] + 0.5) * size[axis] / source + shift[axis] - patch / 2
        assert abs(corner[axis] - min(max(wished, 0), size[axis] - patch)) <= 0.5 + 1e-9


def test_lower_end_of_the_scale_is_raised_until_a_patch_fits() -> None:
    assert arazo.scale_bounds((0.7, 1.4), 96, 96, 96) == (1, 1.4)
    assert arazo.scale_bounds((0.7, 1.4), 32, 96, 96) == (0.7, 1.4)
    assert arazo.scale_bounds((0.7, 1.4), 32, 40, 90) == (0.8, 1.4)
    assert arazo.scale_bounds((0.7, 1.4), 32, 16, 90) == (2, 2)
    # The sides from which on images have one scale alone, as docs/method.md, section 2.2, gives them.
    for patch, side in ((96, 68), (32, 22)):
        assert arazo.scale_bounds((0.7, 1.4), patch, side, 500) == (patch / side, patch / side)
        assert arazo.scale_bounds((0.7, 1.4), patch, side + 1, 500) == (patch / (side + 1), 1.4)


def sizes_and_corners(
    crop: arazo.AnchoredCrop, shape: tuple[int, int], anchor: tuple[int, int], number: int = 2000
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    drawing(crop)
    drawn = [crop.get_params_dependent_on_data({"shape": (*shape, 3)}, {"anchor": anchor}) for _ in range(number)]
    return np.array([d["size"] for d in drawn]), np.array([d["corner"] for d in drawn])


def test_scale_factors_fill_their_range() -> None:
    sizes, _ = sizes_and_corners(arazo.AnchoredCrop(32, (0.7, 1.4), "normal", 0.2), (10000, 5000), (0, 0))
    factors = sizes[:, 0] / 10000
    assert np.abs(sizes[:, 1] / 5000 - factors).max() <= 2e-4  # the same factor for both sides
    assert stats.kstest(factors, stats.uniform(0.7, 0.7).cdf).pvalue > 1e-3


def test_scale_factors_fill_their_raised_range() -> None:
    sizes, _ = sizes_and_corners(arazo.AnchoredCrop(96, (0.7, 1.4), "normal", 0.2), (96, 96), (48, 48))
    assert np.unique(sizes).tolist() == list(range(96, 135))


@pytest.mark.parametrize("scale", [1.0, 2.0])
def test_normal_translation_is_in_patch_sizes_whatever_the_scale(scale: float) -> None:
    crop = arazo.AnchoredCrop(100, (scale, scale), "normal", 0.2)
    _, corners = sizes_and_corners(crop, (2000, 2000), (1000, 900))
    moved = corners - (np.array([1000.5, 900.5]) * scale - 50)
    for axis in range(2):
        assert (
            stats.kstest(
                moved[:, axis] + np.random.default_rng(0).uniform(-0.5, 0.5, 2000), stats.norm(0, 20).cdf
            ).pvalue
            > 1e-3
        )
    assert abs(np.corrcoef(moved.T)[0, 1]) < 0.1
    assert np.abs(moved).max() > 50  # not cut off


def test_uniform_translation_fills_its_range() -> None:
    crop = arazo.AnchoredCrop(100, (1, 1), "uniform", 0.25)
    _, corners = sizes_and_corners(crop, (2000, 2000), (1000, 900))
    moved = corners - (np.array([1000.5, 900.5]) - 50)
    assert np.abs(moved).max() <= 25.5
    for axis in range(2):
        assert (
            stats.kstest(
                moved[:, axis] + np.random.default_rng(0).uniform(-0.5, 0.5, 2000), stats.uniform(-25.25, 50.5).cdf
            ).pvalue
            > 1e-3
        )
    assert abs(np.corrcoef(moved.T)[0, 1]) < 0.1


def test_rows_are_rows_and_columns_are_columns() -> None:
    image = np.zeros((60, 90, 3), np.float32)
    image[12, 70] = 1
    crop = drawing(arazo.AnchoredCrop(9, (1, 1), "normal", 0))
    patch = crop(image=image, anchor=(12, 70))["image"]
    assert np.argwhere(patch[..., 0]).tolist() == [[4, 4]]


@pytest.mark.parametrize("anchor", [(0, 0), (59, 89), (0, 89)])
def test_an_anchor_at_the_border_is_moved_inwards(anchor: tuple[int, int]) -> None:
    image = noise(60, 90, 3)
    patch = drawing(arazo.AnchoredCrop(8, (1, 1), "uniform", 0))(image=image, anchor=anchor)["image"]
    rows = slice(0, 8) if anchor[0] == 0 else slice(52, 60)
    columns = slice(0, 8) if anchor[1] == 0 else slice(82, 90)
    assert np.array_equal(patch, image[rows, columns])


# Contrast 1: PCA


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("seed", range(4))
def test_pca_contrast_against_covariance_and_loops(policy: Any, seed: int) -> None:
    patch = photo(16, 16, seed) if seed % 2 else noise(16, 16, 3, seed=seed) * np.float32([1, 0.7, 0.4])
    factors = np.random.default_rng(seed).uniform(0.5, 2, 3)
    found = arazo.PCAContrast((0.5, 2), policy).apply(patch, factors=factors)
    assert found.dtype == np.float32
    assert found == pytest.approx(pca_reference(patch, factors, policy), abs=2e-5)


def test_first_factor_belongs_to_the_axis_of_largest_variance() -> None:
    draw = np.random.default_rng(0)
    patch = (0.5 + draw.normal(size=(32, 32, 3)) * [0.01, 0.04, 0.02]).astype(np.float32)
    found = arazo.PCAContrast((0.5, 2), "clip").apply(patch, factors=np.array([2.0, 1.5, 0.5]))
    widened = found.std(axis=(0, 1)) / patch.std(axis=(0, 1))
    assert widened == pytest.approx(np.array([0.5, 2, 1.5]), rel=0.01)


def test_factors_of_one_change_nothing() -> None:
    patch = photo(16, 16)
    assert arazo.PCAContrast((1, 1), "clip").apply(patch, factors=np.ones(3)) == pytest.approx(patch, abs=1e-6)


def test_pca_contrast_of_colours_on_a_line() -> None:
    # Two of the three variances are zero, so that their axes are arbitrary and their factors must not matter.
    patch = np.linspace(0.2, 0.6, 64, dtype=np.float32).reshape(8, 8, 1) * np.float32([1, 0.5, 0.25])
    contrast = arazo.PCAContrast((0.5, 2), "clip")
    found = contrast.apply(patch, factors=np.array([1.5, 0.5, 2.0]))
    assert found == pytest.approx(pca_reference(patch, np.array([1.5, 1, 1]), "clip"), abs=1e-5)


# Flip and rotation

# OpenCV 5 computes the coordinates in float32, whose numbers near 96 are 2**-17 apart: at most 2e-5 of a difference
# between neighbours of 1. (Releases before 5 rounded coordinates to 1/32 pixel and would need 1/32 here.)
ROTATION = 1e-4


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("shape", [(32, 32), (33, 33), (96, 96)])
@pytest.mark.parametrize("angle", [-20.0, -7.3, 0.0, 3.1, 20.0, 90.0])
def test_rotation_against_scipy(mirrored: bool, shape: tuple[int, int], angle: float) -> None:
    patch = noise(*shape, 3)
    found = arazo.FlipRotate(0.5, 20).apply(patch, mirrored=mirrored, angle=angle)
    assert found.dtype == np.float32
    assert found == pytest.approx(rotate_reference(patch, mirrored, angle), abs=ROTATION)


def test_positive_angles_turn_counter_clockwise() -> None:
    patch = np.zeros((9, 9, 3), np.float32)
    patch[4, 8] = 1  # right of the centre
    turned = arazo.FlipRotate(0, 90).apply(patch, mirrored=False, angle=90)
    assert np.argwhere(turned[..., 0] > 0.99).tolist() == [[0, 4]]  # above it


def test_mirroring_comes_before_turning() -> None:
    patch = np.zeros((9, 9, 3), np.float32)
    patch[4, 8] = 1
    turned = arazo.FlipRotate(1, 90).apply(patch, mirrored=True, angle=90)
    assert np.argwhere(turned[..., 0] > 0.99).tolist() == [[8, 4]]


def test_no_turn_is_the_patch_or_its_mirror_image() -> None:
    patch = noise(32, 32, 3)
    still = arazo.FlipRotate(0, 0)
    assert still.apply(patch, mirrored=False, angle=0) == pytest.approx(patch, abs=1e-6)
    assert still.apply(patch, mirrored=True, angle=0) == pytest.approx(patch[:, ::-1], abs=1e-6)


@pytest.mark.parametrize(("flip", "low", "high"), [(0, 0, 0), (0.2, 350, 450), (0.5, 930, 1070), (1, 2000, 2000)])
def test_coin_and_angle(flip: float, low: int, high: int) -> None:
    transform = drawing(arazo.FlipRotate(flip, 20))
    drawn = [transform.get_params_dependent_on_data({}, {}) for _ in range(2000)]
    heads = np.array([d["mirrored"] for d in drawn])
    angles = np.array([d["angle"] for d in drawn])
    assert low <= heads.sum() <= high
    assert stats.kstest(angles, stats.uniform(-20, 40).cdf).pvalue > 1e-3
    if 0 < flip < 1:
        assert stats.ks_2samp(angles[heads], angles[~heads]).pvalue > 1e-3


# Contrast 2 and colour, in HSV

DRAWN = [(0.25, 1.4, 0.1), (4.0, 0.7, -0.1), (1.0, 1.0, 0.0), (0.6, 1.3, -0.07), (2.3, 0.8, 0.05)]


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("drawn", DRAWN)
@pytest.mark.parametrize("kind", ["noise", "photo"])
def test_hsv_contrast_against_colorsys(policy: Any, drawn: tuple[float, float, float], kind: str) -> None:
    # Away from grey, where the hue is a matter of rounding.
    patch = noise(16, 16, 3, seed=2) if kind == "noise" else photo(16, 16, 2) * np.float32([0.9, 0.6, 0.3]) + 0.05
    found = arazo.HSVContrast((0.25, 4), (0.7, 1.4), (-0.1, 0.1), policy).apply(patch, drawn=drawn)
    assert found.dtype == np.float32
    assert found == pytest.approx(hsv_reference(patch, drawn, policy), abs=5e-5)


def test_saturation_is_clipped_under_both_policies_and_value_under_clip_alone() -> None:
    # s = 0.5, v = 0.8 and s = 1, v = 0.9; with factor 1.4 the second is beyond 1 in both.
    patch = np.array([[[0.8, 0.4, 0.4], [0.9, 0.0, 0.0]]], np.float32)
    drawn = (1.0, 1.4, 0.0)
    clip = arazo.HSVContrast((1, 1), (1, 2), (0, 0), "clip").apply(patch, drawn=drawn)
    assert clip == pytest.approx(np.array([[[1, 0.3, 0.3], [1, 0, 0]]]), abs=1e-5)
    rescale = arazo.HSVContrast((1, 1), (1, 2), (0, 0), "rescale").apply(patch, drawn=drawn)
    unscaled = np.array([[[1.12, 0.336, 0.336], [1.26, 0, 0]]])
    assert rescale == pytest.approx(unscaled / 1.26, abs=1e-5)


@pytest.mark.parametrize("turn", [-0.1, -0.03, 0.0, 0.06, 0.1, 0.5, -1.0])
def test_hue_shift_against_colorsys(turn: float) -> None:
    patch = noise(16, 16, 3, seed=3) * np.float32(0.8) + np.float32(0.1)
    found = arazo.HueShift((-0.1, 0.1)).apply(patch, turn=turn)
    assert found.dtype == np.float32
    assert found == pytest.approx(hue_reference(patch, turn), abs=2e-5)


@pytest.mark.parametrize("turn", [-0.1, -1e-9, 1e-9, 0.1])
def test_hue_is_cyclic_at_red(turn: float) -> None:
    reds = np.array([[[1, 0, 0], [1, 0, 1e-7], [1, 1e-7, 0], [1, 0, 0.05], [1, 0.05, 0]]], np.float32)
    found = arazo.HueShift((-0.1, 0.1)).apply(reds, turn=turn)
    assert found == pytest.approx(hue_reference(reds, turn), abs=1e-5)


@pytest.mark.parametrize(
    ("transform", "name", "ranges"),
    [
        (arazo.PCAContrast((0.5, 2), "rescale"), "factors", [(0.5, 2)] * 3),
        (
            arazo.HSVContrast((0.25, 4), (0.7, 1.4), (-0.1, 0.1), "rescale"),
            "drawn",
            [(0.25, 4), (0.7, 1.4), (-0.1, 0.1)],
        ),
        (arazo.HueShift((-0.1, 0.1)), "turn", [(-0.1, 0.1)]),
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


# Flat patches


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("colour", COLOURS.values(), ids=COLOURS.keys())
@pytest.mark.parametrize("drawn", DRAWN)
def test_every_step_on_one_colour(policy: Any, colour: tuple[int, int, int], drawn: tuple[float, float, float]) -> None:
    flat = np.empty((12, 12, 3), np.float32)
    flat[:] = np.array(colour, np.float32) / np.float32(255)
    factors = np.array([0.5, 2.0, 1.3])
    steps = [
        (arazo.PCAContrast((0.5, 2), policy).apply(flat, factors=factors), pca_reference(flat, factors, policy)),
        (arazo.FlipRotate(1, 20).apply(flat, mirrored=True, angle=13.0), flat),
        (
            arazo.HSVContrast((0.25, 4), (0.7, 1.4), (-0.1, 0.1), policy).apply(flat, drawn=drawn),
            hsv_reference(flat, drawn, policy),
        ),
        (arazo.HueShift((-0.1, 0.1)).apply(flat, turn=0.07), hue_reference(flat, 0.07)),
    ]
    for found, expected in steps:
        assert found == pytest.approx(expected, abs=5e-5)
    if len(set(colour)) == 1:  # nothing to divide by: as it was
        assert steps[0][0] == pytest.approx(flat, abs=1e-6)
        assert steps[3][0] == pytest.approx(flat, abs=1e-6)


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("colour", COLOURS.values(), ids=COLOURS.keys())
def test_patches_of_a_flat_image_have_one_colour(policy: str, colour: tuple[int, int, int]) -> None:
    compose = arazo.build(params(range_policy=policy), 16)
    image = np.empty((40, 37, 3), np.float32)
    image[:] = np.array(colour, np.float32) / np.float32(255)
    for seed in range(60):
        patch = run(compose, image, (5, 30), seed)
        assert np.isfinite(patch).all()
        assert np.ptp(patch, axis=(0, 1)).max() < 1e-4


def test_hsv_contrast_gives_all_pixels_of_a_grey_patch_the_same_tint() -> None:
    grey = np.repeat(photo(32, 32)[..., :1], 3, axis=2)
    contrasted = arazo.PCAContrast((0.5, 2), "rescale").apply(grey, factors=np.array([1.2, 0.7, 1.9]))
    drawn = (1.0, 1.0, 0.1)
    found = arazo.HSVContrast((0.25, 4), (0.7, 1.4), (-0.1, 0.1), "rescale").apply(contrasted, drawn=drawn)
    expected = hsv_reference(np.repeat(contrasted[..., :1], 3, axis=2), drawn, "rescale")
    assert found == pytest.approx(expected, abs=1e-3)


# The whole recipe


def test_recipe_holds_the_parameters() -> None:
    changed = params(
        scale=[0.8, 1.1],
        translate={"distribution": "uniform", "amount": 0.3},
        pca_factor=[0.6, 1.9],
        flip=0.3,
        rotate=11,
        hsv={"power": [0.5, 3], "factor": [0.8, 1.2], "shift": [-0.05, 0.02]},
        hue=[-0.2, 0.03],
        range_policy="clip",
    )
    crop, pca, turn, hsv, hue = arazo.build(changed, 24).transforms
    assert (crop.patch, crop.scale, crop.distribution, crop.amount) == (24, (0.8, 1.1), "uniform", 0.3)
    assert (pca.factor, pca.range_policy) == ((0.6, 1.9), "clip")
    assert (turn.flip, turn.limit) == (0.3, 11)
    assert (hsv.power, hsv.factor, hsv.shift, hsv.range_policy) == ((0.5, 3), (0.8, 1.2), (-0.05, 0.02), "clip")
    assert hue.hue == (-0.2, 0.03)
    assert all(transform.p == 1 for transform in (crop, pca, turn, hsv, hue))


def slow_patch(compose: A.Compose, image: Image, anchor: tuple[int, int], seed: int, rounded: bool) -> Exact:
    """Draw as the recipe does, but compute with the references; ``rounded``: to 8 bits after every step."""
    crop, pca, turn, hsv, hue = compose.transforms
    arazo.bind(compose, np.random.default_rng(seed))
    policy = pca.range_policy

    def kept(patch: Exact) -> Exact:
        return np.rint(np.clip(patch, 0, 1) * 255) / 255 if rounded else patch

    place = crop.get_params_dependent_on_data({"shape": image.shape}, {"anchor": anchor})
    top, left = place["corner"]
    scaled = resize_reference(image, *place["size"])
    patch = kept(scaled[top : top + crop.patch, left : left + crop.patch])
    patch = kept(pca_reference(patch, pca.get_params_dependent_on_data({}, {})["factors"], policy))
    patch = kept(rotate_reference(patch, **turn.get_params_dependent_on_data({}, {})))
    patch = kept(hsv_reference(patch, hsv.get_params_dependent_on_data({}, {})["drawn"], policy))
    turned = hue_reference(patch, hue.get_params_dependent_on_data({}, {})["turn"])
    # The recipe leaves this out, since it changes nothing.
    return kept(range_reference(turned, policy))


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("seed", range(3))
def test_whole_recipe_against_the_references_without_rounding_in_between(policy: str, seed: int) -> None:
    compose = arazo.build(params(range_policy=policy), 12)
    # Colours well away from grey, where the hue of the reference and of float32 differ by rounding alone.
    image = photo(24, 30, seed) * np.float32([0.9, 0.5, 0.3]) + np.float32([0.1, 0.05, 0])
    exact = slow_patch(compose, image, (11, 17), seed, rounded=False)
    found = run(compose, image, (11, 17), seed)
    assert found.dtype == np.float32
    assert np.abs(found - exact).max() < 1e-3
    stepwise = slow_patch(compose, image, (11, 17), seed, rounded=True)
    assert np.abs(stepwise - exact).max() > 3e-3  # what rounding after every step would have cost


def test_same_stream_same_patch_and_other_stream_other_patch() -> None:
    compose = arazo.build(params(), 32)
    image = photo(96, 96)
    first = run(compose, image, (40, 50), 1)
    other = run(compose, image, (40, 50), 2)
    assert np.array_equal(run(compose, image, (40, 50), 1), first)
    assert not np.array_equal(first, other)


def test_second_generator_of_albumentations_decides_nothing() -> None:
    compose = arazo.build(params(), 32)
    image = photo(96, 96)
    patches = []
    for second in range(8):
        compose.set_random_state(np.random.default_rng(1), random.Random(second))
        patches.append(compose(image=image, anchor=(40, 50))["image"])
    assert all(np.array_equal(patch, patches[0]) for patch in patches)


def test_image_is_not_changed() -> None:
    image = photo(96, 96)
    before = image.copy()
    run(arazo.build(params(), 96), image, (40, 50), 0)
    run(arazo.build(params(scale=[1, 1]), 32), image, (40, 50), 0)
    assert np.array_equal(image, before)


@settings(deadline=None, max_examples=60)
@given(
    patch=st.integers(8, 40),
    height=st.integers(1, 50),
    width=st.integers(1, 50),
    policy=st.sampled_from(POLICIES),
    distribution=st.sampled_from(["normal", "uniform"]),
    seed=st.integers(0, 2**32),
)
@example(patch=32, height=32, width=32, policy="rescale", distribution="normal", seed=0)
@example(patch=40, height=1, width=1, policy="rescale", distribution="uniform", seed=0)
@example(patch=32, height=31, width=200, policy="clip", distribution="normal", seed=0)
def test_any_image_gives_a_whole_finite_patch_in_range(
    patch: int, height: int, width: int, policy: str, distribution: str, seed: int
) -> None:
    compose = arazo.build(params(range_policy=policy, translate={"distribution": distribution, "amount": 0.5}), patch)
    result = run(compose, noise(height, width, 3, seed=seed % 100), (height - 1, 0), seed)
    assert result.shape == (patch, patch, 3)
    assert result.dtype == np.float32
    assert np.isfinite(result).all()
    assert result.min() >= -1e-6
    assert result.max() <= 1 + 1e-6


VARIANTS = [
    {},
    {"range_policy": "clip", "flip": 0.1, "rotate": 5.0, "hue": [-0.3, 0.2], "scale": [0.9, 1.3]},
    {"translate": {"distribution": "uniform", "amount": 0.4}, "pca_factor": [0.1, 3.0]},
    {"hsv": {"power": [0.5, 0.6], "factor": [1.1, 1.2], "shift": [0.0, 0.01]}},
]


@pytest.mark.parametrize("changed", VARIANTS)
def test_dictionary_of_the_recipe_gives_the_recipe_back(changed: dict[str, Any]) -> None:
    compose = arazo.build(params(**changed), 24)
    text = json.dumps(A.to_dict(compose))
    again = A.from_dict(json.loads(text))
    assert json.dumps(A.to_dict(again)) == text
    for seed in range(5):
        assert np.array_equal(run(again, photo(60, 50), (20, 30), seed), run(compose, photo(60, 50), (20, 30), seed))


@pytest.mark.parametrize("changed", VARIANTS)
def test_dictionary_of_the_recipe_loses_no_argument(changed: dict[str, Any]) -> None:
    compose = arazo.build(params(**changed), 24)
    written = json.loads(json.dumps(A.to_dict(compose)))["transform"]["transforms"]
    assert len(written) == len(compose.transforms)
    for transform, entry in zip(compose.transforms, written, strict=True):
        kind = type(transform)
        assert entry.pop("__class_fullname__") == f"exemplarcnn.patches.recipes.arazo.{kind.__name__}"
        arguments = set(inspect.signature(kind.__init__).parameters) - {"self"}
        assert set(entry) == arguments
        for name in arguments:
            value = getattr(transform, name)
            assert entry[name] == (list(value) if isinstance(value, tuple) else value)
        # albumentations warns of, and drops, an argument that its schema does not know.
        assert set(kind.InitSchema.model_fields) - {"strict"} == arguments


def test_transforms_refuse_arguments_of_the_wrong_kind() -> None:
    with pytest.raises(ValueError, match="distribution"):
        arazo.AnchoredCrop(32, (0.7, 1.4), "other", 0.2)
    with pytest.raises(ValueError, match="range_policy"):
        arazo.PCAContrast((0.5, 2), "stretch")


# Many patches at a time


@settings(deadline=None, max_examples=60)
@given(
    patch=st.integers(1, 40),
    height=st.integers(1, 60),
    width=st.integers(1, 60),
    policy=st.sampled_from(POLICIES),
    distribution=st.sampled_from(["normal", "uniform"]),
    seed=st.integers(0, 2**32),
)
@example(patch=32, height=96, width=96, policy="rescale", distribution="normal", seed=0)
@example(patch=33, height=97, width=95, policy="clip", distribution="normal", seed=1)
def test_patches_of_a_stack_are_those_of_single_calls_bit_for_bit(
    patch: int, height: int, width: int, policy: str, distribution: str, seed: int
) -> None:
    compose = arazo.build(params(range_policy=policy, translate={"distribution": distribution, "amount": 0.2}), patch)
    image = photo(height, width, seed % 100)
    places = np.random.default_rng(seed).integers(0, (height, width), (7, 2))
    expected = []
    for index, (row, column) in enumerate(places.tolist()):
        expected.append(arazo.to_uint8(run(compose, image, (row, column), seed + index)))
    after = compose.transforms[0].random_generator.random()

    generators = [np.random.default_rng(seed + index) for index in range(7)]
    draws = arazo.draw(compose, generators, image.shape, places)
    before, text = image.copy(), repr(draws)
    found = arazo.paint(compose, image[None], draws)
    assert found.dtype == np.uint8
    assert np.array_equal(found, expected)
    assert generators[-1].random() == after
    assert np.array_equal(arazo.paint(compose, np.repeat(image[None], 7, axis=0), draws), expected)
    assert np.array_equal(image, before)
    assert repr(draws) == text
