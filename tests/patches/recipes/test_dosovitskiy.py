"""The recipe `dosovitskiy`: every transform against a slow reference in float64, written from docs/method.md, 2.2."""

import json
import math
from pathlib import Path
from typing import Any

import albumentations as A
import numpy as np
import pytest
from exemplarcnn.data.pools import ImageFolder
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image as Picture
from scipy import ndimage, stats

from exemplarcnn import paths
from exemplarcnn.config import Config, compose
from exemplarcnn.data import colour_axes
from exemplarcnn.data.audit import AuditError
from exemplarcnn.data.colour_axes import Axes
from exemplarcnn.patches.allocation import SurrogateError
from exemplarcnn.patches.recipes import arazo
from exemplarcnn.patches.recipes.dosovitskiy import PoolPCAContrast, RotatedCrop, SeparateHSVContrast, build
from exemplarcnn.patches.surrogate_set import build_recipe
from exemplarcnn.stages import colours as stage
from tests.conftest import CONF
from tests.defaults import surrogate as params
from tests.patches.recipes.test_arazo import COLOURS, Image, hsv_reference, hue_reference, noise, photo, run

AXES = Axes(
    (0.4, 0.5, 0.45),
    ((0.6, 0.0, 0.8), (0.0, 1.0, 0.0), (0.8, 0.0, -0.6)),
    (0.09, 0.02, 0.01),
)
CROP = {"patch": 12, "scale": (-0.5, 0.5), "amount": 0.25, "limit": 20.0, "tries": 20}


def crop(**changed: Any) -> RotatedCrop:
    return RotatedCrop(**(CROP | changed))


def draw_many(step: Any, number: int, shape: tuple[int, int] = (96, 96), anchor: Any = (48, 48)) -> arazo.Columns:
    generator = np.random.default_rng(0)
    numbers = np.array([step.numbers(generator) for _ in range(number)])
    columns: arazo.Columns = step.columns(numbers, shape, np.tile(anchor, (number, 1)))
    return columns


# Scale, move, turn, cut


def crop_reference(image: NDArray[Any], centre: Any, factor: float, angle: float, side: int) -> NDArray[np.float64]:
    """Look up where each pixel of the patch comes from."""
    result = np.empty((side, side, 3))
    cosine, sine = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    for i in range(side):
        for j in range(side):
            down, across = i - (side - 1) / 2, j - (side - 1) / 2
            row = centre[0] - 0.5 + (sine * across + cosine * down) / factor
            column = centre[1] - 0.5 + (cosine * across - sine * down) / factor
            for channel in range(3):
                # "nearest" repeats the outermost pixel.
                result[i, j, channel] = ndimage.map_coordinates(
                    image[..., channel].astype(float), [[row], [column]], order=1, mode="nearest"
                )[0]
    return result


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


def test_positive_angles_turn_counter_clockwise() -> None:
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
    columns = step.columns(numbers, (40, 40), np.array([[9, 20], [9, 20]]))
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


# Colours


def test_axes_are_those_of_all_pixels(tmp_path: Path) -> None:
    pictures = [np.rint(255 * photo(20 + n, 30, n)).astype(np.uint8) for n in range(4)]
    for number, picture in enumerate(pictures):
        Picture.fromarray(picture).save(tmp_path / f"{number}.png")
    found = colour_axes.measure(ImageFolder(tmp_path))
    pixels = np.concatenate([picture.reshape(-1, 3) for picture in pictures]) / 255
    values, vectors = np.linalg.eigh(np.cov(pixels, rowvar=False, bias=True))
    assert found.mean == pytest.approx(tuple(pixels.mean(axis=0)))
    assert found.variances == pytest.approx(tuple(values[::-1]))
    for axis, expected in zip(np.array(found.axes), vectors.T[::-1], strict=True):
        assert abs(axis @ expected) == pytest.approx(1)
        assert axis[np.abs(axis).argmax()] > 0
    colour_axes.write(tmp_path / "axes.json", found)
    assert colour_axes.read(tmp_path / "axes.json") == found
    for number, picture in enumerate(pictures[::-1]):
        Picture.fromarray(picture).save(tmp_path / f"{number}.png")
    assert colour_axes.measure(ImageFolder(tmp_path)) == found


def test_colours_are_measured_for_the_recipe_that_wants_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    values = compose(CONF, "tiny")
    stage.run("unlabeled", Config.model_validate(values))  # there is no image here, nor an audit
    assert paths.colours("unlabeled").read_text() == "null\n"
    assert colour_axes.read(paths.colours("unlabeled")) is None
    values["surrogate"]["recipe"] = "dosovitskiy"
    with pytest.raises(AuditError, match="dvc repro audit"):
        stage.run("unlabeled", Config.model_validate(values))


def pca_reference(patch: NDArray[Any], factors: Any) -> NDArray[np.float64]:
    result = np.tile(np.array(AXES.mean), (*patch.shape[:2], 1))
    for place in np.ndindex(patch.shape[:2]):
        for factor, axis in zip(factors, np.array(AXES.axes), strict=True):
            result[place] += factor * np.dot(patch[place].astype(float) - AXES.mean, axis) * axis
    return np.clip(result, 0, 1)


def test_contrast_along_the_axes_of_the_pool() -> None:
    patch, factors = noise(12, 11, 3), np.array([2.5, 0.4, 1.3])
    found = PoolPCAContrast(AXES.mean, AXES.axes, (1, 1, 0.5)).apply(patch, factors=factors)
    assert found.dtype == np.float32
    assert found == pytest.approx(pca_reference(patch, factors), abs=1e-5)


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


# The whole recipe


def test_recipe_holds_the_parameters() -> None:
    own = {"scale": [-1, 0], "power": [-1, 1], "factor": [-0.1, 0.2], "pca_deviation": [1, 2, 3], "translate": 0.1}
    changed = params(recipe="dosovitskiy", rotate=7, hue=[-0.2, 0.3], dosovitskiy=own | {"tries": 5})
    cut, pca, hsv, hue = build_recipe(changed, 24, AXES).transforms
    assert (cut.patch, cut.scale, cut.amount, cut.limit, cut.tries) == (24, (-1, 0), 0.1, 7, 5)
    assert (pca.mean, pca.axes, pca.deviation) == (AXES.mean, AXES.axes, (1, 2, 3))
    assert (hsv.power, hsv.factor) == ((-1, 1), (-0.1, 0.2))
    assert hue.hue == (-0.2, 0.3)
    assert all(transform.p == 1 for transform in (cut, pca, hsv, hue))


def test_axes_are_asked_for() -> None:
    with pytest.raises(SurrogateError, match="needs the axes of the pool's colours"):
        build_recipe(params(recipe="dosovitskiy"), 24)


@pytest.mark.parametrize("seed", range(4))
def test_whole_recipe_against_the_references(seed: int) -> None:
    compose = build(params(rotate=20), 12, AXES)
    image = photo(50, 60, seed)
    found = run(compose, image, (20, 30), seed)

    arazo.bind(compose, np.random.default_rng(seed))
    about, anchor = {"shape": image.shape}, {"anchor": (20, 30)}
    drawn = [step.get_params_dependent_on_data(about, anchor) for step in compose.transforms]
    patch = crop_reference(image, drawn[0]["centre"], drawn[0]["factor"], drawn[0]["angle"], 12)
    patch = pca_reference(patch, drawn[1]["factors"])
    separate = compose.transforms[2].apply(patch.astype(np.float32), **drawn[2])  # against its own reference above
    expected = hue_reference(separate, float(drawn[3]["turn"]))
    assert found == pytest.approx(expected, abs=2e-2)
    assert np.abs(found - expected).mean() < 1e-3


@settings(deadline=None, max_examples=40)
@given(patch=st.integers(1, 40), height=st.integers(1, 60), width=st.integers(1, 60), seed=st.integers(0, 2**32))
@example(patch=32, height=96, width=96, seed=0)
def test_patches_of_a_stack_are_those_of_single_calls_bit_for_bit(
    patch: int, height: int, width: int, seed: int
) -> None:
    compose = build(params(), patch, AXES)
    image = photo(height, width, seed % 100)
    places = np.random.default_rng(seed).integers(0, (height, width), (7, 2))
    expected = [
        arazo.to_uint8(run(compose, image, (row, column), seed + index))
        for index, (row, column) in enumerate(places.tolist())
    ]
    generators = [np.random.default_rng(seed + index) for index in range(7)]
    draws = arazo.draw(compose, generators, image.shape, places)
    assert np.array_equal(arazo.paint(compose, image[None], draws), expected)


@pytest.mark.parametrize("colour", COLOURS.values(), ids=COLOURS.keys())
def test_patches_of_a_flat_image_have_one_colour(colour: tuple[int, int, int]) -> None:
    compose = build(params(), 16, AXES)
    image: Image = np.empty((40, 37, 3), np.float32)
    image[:] = np.array(colour, np.float32) / np.float32(255)
    for seed in range(30):
        patch = run(compose, image, (5, 30), seed)
        assert np.isfinite(patch).all()
        assert np.ptp(patch, axis=(0, 1)).max() < 1e-4


def test_dictionary_of_the_recipe_gives_the_recipe_back() -> None:
    compose = build(params(), 24, AXES)
    text = json.dumps(A.to_dict(compose))
    again = A.from_dict(json.loads(text))
    assert json.dumps(A.to_dict(again)) == text
    for seed in range(5):
        assert np.array_equal(run(again, photo(60, 50), (20, 30), seed), run(compose, photo(60, 50), (20, 30), seed))


def test_about_the_centre_of_a_large_image_the_first_try_stays_inside() -> None:
    numbers = np.random.default_rng(0).random((2000, 4 * 20))
    anchors = np.tile([48, 48], (2000, 1))
    once = crop(patch=32, tries=1).columns(numbers[:, :4], (96, 96), anchors)
    often = crop(patch=32, tries=20).columns(numbers, (96, 96), anchors)
    assert all(np.array_equal(once[name], often[name]) for name in once)
