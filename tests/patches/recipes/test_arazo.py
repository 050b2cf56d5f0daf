"""The recipe `arazo` as a whole against references in float64, and many patches at a time against single ones."""

import inspect
import json
import random
from typing import Any

import albumentations as A
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from exemplarcnn.patches.recipes import arazo, colours, geometry
from exemplarcnn.patches.recipes.transform import apply, bind, draw_parameters, to_uint8
from tests.defaults import surrogate as params
from tests.recipe_references import (
    COLOURS,
    DRAWN,
    POLICIES,
    Exact,
    Image,
    hsv_reference,
    hue_reference,
    noise,
    pca_reference,
    photo,
    range_reference,
    resize_reference,
    rotate_reference,
    run,
)

# Flat patches


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("colour", COLOURS.values(), ids=COLOURS.keys())
@pytest.mark.parametrize("drawn", DRAWN)
def test_every_step_on_one_colour(policy: Any, colour: tuple[int, int, int], drawn: tuple[float, float, float]) -> None:
    flat = np.empty((12, 12, 3), np.float32)
    flat[:] = np.array(colour, np.float32) / np.float32(255)
    factors = np.array([0.5, 2.0, 1.3])
    steps = [
        (colours.PCAContrast((0.5, 2), policy).apply(flat, factors=factors), pca_reference(flat, factors, policy)),
        (geometry.FlipRotate(1, 20).apply(flat, mirrored=True, angle=13.0), flat),
        (
            colours.HSVContrast((0.25, 4), (0.7, 1.4), (-0.1, 0.1), policy).apply(flat, drawn=drawn),
            hsv_reference(flat, drawn, policy),
        ),
        (colours.HueShift((-0.1, 0.1)).apply(flat, turn=0.07), hue_reference(flat, 0.07)),
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
    contrasted = colours.PCAContrast((0.5, 2), "rescale").apply(grey, factors=np.array([1.2, 0.7, 1.9]))
    drawn = (1.0, 1.0, 0.1)
    found = colours.HSVContrast((0.25, 4), (0.7, 1.4), (-0.1, 0.1), "rescale").apply(contrasted, drawn=drawn)
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
    bind(compose, np.random.default_rng(seed))
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
    image = photo(24, 30, seed) * np.array([0.9, 0.5, 0.3], np.float32) + np.array([0.1, 0.05, 0], np.float32)
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
        names = [f"exemplarcnn.patches.recipes.{module}.{kind.__name__}" for module in ("colours", "geometry")]
        assert entry.pop("__class_fullname__") in names
        arguments = set(inspect.signature(kind.__init__).parameters) - {"self"}
        assert set(entry) == arguments
        for name in arguments:
            value = getattr(transform, name)
            assert entry[name] == (list(value) if isinstance(value, tuple) else value)
        # albumentations warns of, and drops, an argument that its schema does not know.
        assert set(kind.InitSchema.model_fields) - {"strict"} == arguments


def test_transforms_refuse_arguments_of_the_wrong_kind() -> None:
    with pytest.raises(ValueError, match="distribution"):
        geometry.AnchoredCrop(32, (0.7, 1.4), "other", 0.2)  # type: ignore[arg-type]  # what is refused
    with pytest.raises(ValueError, match="range_policy"):
        colours.PCAContrast((0.5, 2), "stretch")  # type: ignore[arg-type]  # what is refused


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
        expected.append(to_uint8(run(compose, image, (row, column), seed + index)))
    after = compose.transforms[0].random_generator.random()

    generators = [np.random.default_rng(seed + index) for index in range(7)]
    draws = draw_parameters(compose, generators, image.shape, places)
    before, text = image.copy(), repr(draws)
    found = apply(compose, image[None], draws)
    assert found.dtype == np.uint8
    assert np.array_equal(found, expected)
    assert generators[-1].random() == after
    assert np.array_equal(apply(compose, np.repeat(image[None], 7, axis=0), draws), expected)
    assert np.array_equal(image, before)
    assert repr(draws) == text
