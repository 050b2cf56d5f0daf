"""The recipe `dosovitskiy` as a whole against references in float64."""

import json

import albumentations as A
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from exemplarcnn.patches.recipes.dosovitskiy import build
from exemplarcnn.patches.recipes.transform import apply, bind, draw_parameters, to_uint8
from tests.defaults import surrogate as params
from tests.recipe_references import AXES, COLOURS, Image, crop_reference, hue_reference, photo, pool_pca_reference, run

# The whole recipe


def test_recipe_holds_the_parameters() -> None:
    own = {"scale": [-1, 0], "power": [-1, 1], "factor": [-0.1, 0.2], "pca_deviation": [1, 2, 3], "translate": 0.1}
    changed = params(recipe="dosovitskiy", rotate=7, hue=[-0.2, 0.3], dosovitskiy=own | {"tries": 5})
    cut, pca, hsv, hue = build(changed, 24, AXES).transforms
    assert (cut.patch, cut.scale, cut.amount, cut.limit, cut.tries) == (24, (-1, 0), 0.1, 7, 5)
    assert (pca.mean, pca.axes, pca.deviation) == (AXES.mean, AXES.axes, (1, 2, 3))
    assert (hsv.power, hsv.factor) == ((-1, 1), (-0.1, 0.2))
    assert hue.hue == (-0.2, 0.3)
    assert all(transform.p == 1 for transform in (cut, pca, hsv, hue))


@pytest.mark.parametrize("seed", range(4))
def test_whole_recipe_against_the_references(seed: int) -> None:
    compose = build(params(rotate=20), 12, AXES)
    image = photo(50, 60, seed)
    found = run(compose, image, (20, 30), seed)

    bind(compose, np.random.default_rng(seed))
    about, anchor = {"shape": image.shape}, {"anchor": (20, 30)}
    drawn = [step.get_params_dependent_on_data(about, anchor) for step in compose.transforms]
    patch = crop_reference(image, drawn[0]["centre"], drawn[0]["factor"], drawn[0]["angle"], 12)
    patch = pool_pca_reference(patch, drawn[1]["factors"])
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
        to_uint8(run(compose, image, (row, column), seed + index))
        for index, (row, column) in enumerate(places.tolist())
    ]
    generators = [np.random.default_rng(seed + index) for index in range(7)]
    draws = draw_parameters(compose, generators, image.shape, places)
    assert np.array_equal(apply(compose, image[None], draws), expected)


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
