"""Every transform of places against a slow reference in float64."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from exemplarcnn.patches.recipes import geometry
from tests.recipe_references import crop, crop_reference, draw_many, drawing, noise, resize_reference, rotate_reference

# Scale, translate, crop


@pytest.mark.parametrize(
    ("size", "target"), [((13, 17), (9, 13)), ((13, 17), (18, 25)), ((20, 12), (20, 12)), ((5, 4), (16, 9))]
)
def test_resize_is_bilinear_with_mirrored_borders(size: tuple[int, int], target: tuple[int, int]) -> None:
    image = noise(*size, 3)
    crop = geometry.AnchoredCrop(8, (1, 1), "uniform", 0)
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
    low, high = geometry.scale_bounds(scale, patch, height, width)
    assert low == max(scale[0], patch / min(height, width))
    assert low <= high
    assert high == scale[1] or high == low > scale[1]
    factor = low + place[2] * (high - low)
    size = geometry.scaled_size(np.array([factor]), patch, height, width)[0]
    anchor = (int(place[0] * height), int(place[1] * width))
    corner = geometry.corner(np.array([anchor]), np.array([shift]), size[None], (height, width), patch)[0]
    for axis, source in enumerate((height, width)):
        assert size[axis] >= patch
        assert abs(size[axis] - max(patch, factor * source)) <= 0.5 + 1e-9
        assert 0 <= corner[axis] <= size[axis] - patch
        wished = (anchor[axis] + 0.5) * size[axis] / source + shift[axis] - patch / 2
        assert abs(corner[axis] - min(max(wished, 0), size[axis] - patch)) <= 0.5 + 1e-9


def test_lower_end_of_the_scale_is_raised_until_a_patch_fits() -> None:
    assert geometry.scale_bounds((0.7, 1.4), 96, 96, 96) == (1, 1.4)
    assert geometry.scale_bounds((0.7, 1.4), 32, 96, 96) == (0.7, 1.4)
    assert geometry.scale_bounds((0.7, 1.4), 32, 40, 90) == (0.8, 1.4)
    assert geometry.scale_bounds((0.7, 1.4), 32, 16, 90) == (2, 2)
    # The sides from which on images have one scale alone, as docs/method.md, section 2.2, gives them.
    for patch, side in ((96, 68), (32, 22)):
        assert geometry.scale_bounds((0.7, 1.4), patch, side, 500) == (patch / side, patch / side)
        assert geometry.scale_bounds((0.7, 1.4), patch, side + 1, 500) == (patch / (side + 1), 1.4)


def sizes_and_corners(
    crop: geometry.AnchoredCrop, shape: tuple[int, int], anchor: tuple[int, int], number: int = 2000
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    drawing(crop)
    drawn = [crop.get_params_dependent_on_data({"shape": (*shape, 3)}, {"anchor": anchor}) for _ in range(number)]
    return np.array([d["size"] for d in drawn]), np.array([d["corner"] for d in drawn])


def test_scale_factors_fill_their_range() -> None:
    sizes, _ = sizes_and_corners(geometry.AnchoredCrop(32, (0.7, 1.4), "normal", 0.2), (10000, 5000), (0, 0))
    factors = sizes[:, 0] / 10000
    assert np.abs(sizes[:, 1] / 5000 - factors).max() <= 2e-4  # the same factor for both sides
    assert stats.kstest(factors, stats.uniform(0.7, 0.7).cdf).pvalue > 1e-3


def test_scale_factors_fill_their_raised_range() -> None:
    sizes, _ = sizes_and_corners(geometry.AnchoredCrop(96, (0.7, 1.4), "normal", 0.2), (96, 96), (48, 48))
    assert np.unique(sizes).tolist() == list(range(96, 135))


@pytest.mark.parametrize("scale", [1.0, 2.0])
def test_normal_translation_is_in_patch_sizes_whatever_the_scale(scale: float) -> None:
    crop = geometry.AnchoredCrop(100, (scale, scale), "normal", 0.2)
    _, corners = sizes_and_corners(crop, (2000, 2000), (1000, 900))
    moved = corners - (np.array([1000.5, 900.5]) * scale - 50)
    for axis in range(2):
        assert (
            stats.kstest(
                moved[:, axis] + np.random.default_rng(0).uniform(-0.5, 0.5, 2000), stats.norm(0, 20).cdf
            ).pvalue
            > 1e-3
        )
    assert abs(np.corrcoef(moved[:, 0], moved[:, 1])[0, 1]) < 0.1
    assert np.abs(moved).max() > 50  # not cut off


def test_uniform_translation_fills_its_range() -> None:
    crop = geometry.AnchoredCrop(100, (1, 1), "uniform", 0.25)
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
    crop = drawing(geometry.AnchoredCrop(9, (1, 1), "normal", 0))
    patch = crop(image=image, anchor=(12, 70))["image"]
    assert np.argwhere(patch[..., 0]).tolist() == [[4, 4]]


@pytest.mark.parametrize("anchor", [(0, 0), (59, 89), (0, 89)])
def test_an_anchor_at_the_border_is_moved_inwards(anchor: tuple[int, int]) -> None:
    image = noise(60, 90, 3)
    patch = drawing(geometry.AnchoredCrop(8, (1, 1), "uniform", 0))(image=image, anchor=anchor)["image"]
    rows = slice(0, 8) if anchor[0] == 0 else slice(52, 60)
    columns = slice(0, 8) if anchor[1] == 0 else slice(82, 90)
    assert np.array_equal(patch, image[rows, columns])


# Flip and rotation

# OpenCV 5 computes the coordinates in float32, whose numbers near 96 are 2**-17 apart: at most 2e-5 of a difference
# between neighbours of 1. (Releases before 5 rounded coordinates to 1/32 pixel and would need 1/32 here.)
ROTATION = 1e-4


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("shape", [(32, 32), (33, 33), (96, 96)])
@pytest.mark.parametrize("angle", [-20.0, -7.3, 0.0, 3.1, 20.0, 90.0])
def test_rotation_against_scipy(mirrored: bool, shape: tuple[int, int], angle: float) -> None:
    patch = noise(*shape, 3)
    found = geometry.FlipRotate(0.5, 20).apply(patch, mirrored=mirrored, angle=angle)
    assert found.dtype == np.float32
    assert found == pytest.approx(rotate_reference(patch, mirrored, angle), abs=ROTATION)


def test_positive_angles_turn_counter_clockwise() -> None:
    patch = np.zeros((9, 9, 3), np.float32)
    patch[4, 8] = 1  # right of the centre
    turned = geometry.FlipRotate(0, 90).apply(patch, mirrored=False, angle=90)
    assert np.argwhere(turned[..., 0] > 0.99).tolist() == [[0, 4]]  # above it


def test_mirroring_comes_before_turning() -> None:
    patch = np.zeros((9, 9, 3), np.float32)
    patch[4, 8] = 1
    turned = geometry.FlipRotate(1, 90).apply(patch, mirrored=True, angle=90)
    assert np.argwhere(turned[..., 0] > 0.99).tolist() == [[8, 4]]


def test_no_turn_is_the_patch_or_its_mirror_image() -> None:
    patch = noise(32, 32, 3)
    still = geometry.FlipRotate(0, 0)
    assert still.apply(patch, mirrored=False, angle=0) == pytest.approx(patch, abs=1e-6)
    assert still.apply(patch, mirrored=True, angle=0) == pytest.approx(patch[:, ::-1], abs=1e-6)


@pytest.mark.parametrize(("flip", "low", "high"), [(0, 0, 0), (0.2, 350, 450), (0.5, 930, 1070), (1, 2000, 2000)])
def test_coin_and_angle(flip: float, low: int, high: int) -> None:
    transform = drawing(geometry.FlipRotate(flip, 20))
    drawn = [transform.get_params_dependent_on_data({}, {}) for _ in range(2000)]
    heads = np.array([d["mirrored"] for d in drawn])
    angles = np.array([d["angle"] for d in drawn])
    assert low <= heads.sum() <= high
    assert stats.kstest(angles, stats.uniform(-20, 40).cdf).pvalue > 1e-3
    if 0 < flip < 1:
        assert stats.ks_2samp(angles[heads], angles[~heads]).pvalue > 1e-3


# Scale, move, turn, cut in one


@pytest.mark.parametrize("side", [12, 9])
@pytest.mark.parametrize(("factor", "angle"), [(1.0, 0.0), (0.75, 0.0), (1.0, 13.0), (1.4, -20.0), (0.72, 90.0)])
def test_cut_against_scipy(side: int, factor: float, angle: float) -> None:
    image = noise(40, 30, 3)
    found = crop(patch=side).apply(image, centre=np.array([17.3, 14.8]), factor=factor, angle=angle)
    assert found.dtype == np.float32
    assert found == pytest.approx(crop_reference(image, (17.3, 14.8), factor, angle, side), abs=1e-4)


def test_without_turn_and_scale_it_is_a_piece_of_the_image() -> None:
    image = noise(40, 30, 3)
    found = crop(patch=12).apply(image, centre=np.array([16.0, 15.0]), factor=1.0, angle=0.0)
    assert np.array_equal(found, image[10:22, 9:21])


def test_positive_angles_of_a_crop_turn_counter_clockwise() -> None:
    image = np.zeros((21, 21, 3), np.float32)
    image[10, 14] = 1  # right of the centre
    found = crop(patch=9).apply(image, centre=np.array([10.5, 10.5]), factor=1.0, angle=90.0)
    assert np.argwhere(found[..., 0] > 0.99).tolist() == [[0, 4]]  # above it


def test_scale_movement_and_angle_fill_their_ranges_where_there_is_room() -> None:
    columns = draw_many(crop(), 3000, (400, 400), (200, 200))
    scale = np.log2(columns["factor"])
    moved = (columns["centre"] - 200.5) * columns["factor"][:, None] / 12
    for values, reach in ((scale, 0.5), (moved[:, 0], 0.25), (moved[:, 1], 0.25), (columns["angle"], 20.0)):
        assert stats.kstest(values, stats.uniform(-reach, 2 * reach).cdf).pvalue > 1e-3
    together = np.column_stack([scale, moved, columns["angle"]])
    assert np.abs(np.corrcoef(together.T) - np.eye(4)).max() < 0.1


@settings(deadline=None, max_examples=200)
@given(
    height=st.integers(1, 80),
    width=st.integers(1, 80),
    place=st.tuples(st.floats(0, 1, exclude_max=True), st.floats(0, 1, exclude_max=True)),
    limit=st.floats(0, 180),
    tries=st.integers(1, 30),
)
@example(height=12, width=12, place=(0.5, 0.5), limit=20.0, tries=20)
@example(height=96, width=96, place=(0.0, 0.99), limit=20.0, tries=20)
def test_a_patch_lies_inside_the_image(
    height: int, width: int, place: tuple[float, float], limit: float, tries: int
) -> None:
    anchor = (int(place[0] * height), int(place[1] * width))
    columns = draw_many(crop(limit=limit, tries=tries), 20, (height, width), anchor)
    turned = np.deg2rad(columns["angle"])
    for x, y in ((-6, -6), (-6, 6), (6, -6), (6, 6)):
        row = columns["centre"][:, 0] + (np.sin(turned) * x + np.cos(turned) * y) / columns["factor"]
        column = columns["centre"][:, 1] + (np.cos(turned) * x - np.sin(turned) * y) / columns["factor"]
        assert (row >= -1e-9).all()
        assert (row <= height + 1e-9).all()
        assert (column >= -1e-9).all()
        assert (column <= width + 1e-9).all()


def test_the_first_try_that_stays_inside_is_taken() -> None:
    step = crop(tries=3)
    stays, leaves = [0.5, 0.5, 0.5, 0.75], [0.0, 0.0, 0.5, 0.5]
    numbers = np.array([leaves + stays + [0.4] * 4, stays + leaves + leaves])
    columns = step.to_parameters(numbers, (40, 40), np.array([[9, 20], [9, 20]]))
    assert columns["angle"] == pytest.approx(np.array([10.0, 10.0]))
    assert columns["factor"] == pytest.approx(np.ones(2))
    assert columns["centre"] == pytest.approx(np.array([[9.5, 20.5]] * 2))


def test_where_no_try_stays_inside_the_first_is_moved_there() -> None:
    # At a corner of the image no movement is large enough. Scale and angle still fill their ranges.
    columns = draw_many(crop(), 2000, (96, 96), (0, 95))
    for values, reach in ((np.log2(columns["factor"]), 0.5), (columns["angle"], 20.0)):
        assert stats.kstest(values, stats.uniform(-reach, 2 * reach).cdf).pvalue > 1e-3
    turned = np.deg2rad(np.abs(columns["angle"]))
    touching = 6 / columns["factor"] * (np.cos(turned) + np.sin(turned))
    assert columns["centre"] == pytest.approx(np.column_stack([touching, 96 - touching]))


def test_a_patch_too_large_for_the_image_is_magnified_until_it_fits() -> None:
    columns = draw_many(crop(), 200, (8, 30), (4, 15))
    turned = np.deg2rad(np.abs(columns["angle"]))
    assert columns["factor"] == pytest.approx(12 / 8 * (np.cos(turned) + np.sin(turned)))
    assert columns["centre"][:, 0] == pytest.approx(np.full(200, 4.0))
    assert stats.kstest(columns["angle"], stats.uniform(-20, 40).cdf).pvalue > 1e-3


def test_about_the_centre_of_a_large_image_the_first_try_stays_inside() -> None:
    numbers = np.random.default_rng(0).random((2000, 4 * 20))
    anchors = np.tile([48, 48], (2000, 1))
    once = crop(patch=32, tries=1).to_parameters(numbers[:, :4], (96, 96), anchors)
    often = crop(patch=32, tries=20).to_parameters(numbers, (96, 96), anchors)
    assert all(np.array_equal(once[name], often[name]) for name in once)
