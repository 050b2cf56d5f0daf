"""The recipe for one image: the pipeline's patches."""

from typing import Any

import numpy as np
import pytest

from exemplarcnn.config.base import ConfigError
from exemplarcnn.data import colour_axes
from exemplarcnn.data.pools import ImageFolder
from exemplarcnn.patches.errors import SurrogateError
from exemplarcnn.patches.patch_recipe import PatchRecipe
from exemplarcnn.patches.sampler import PatchSampler
from exemplarcnn.rng import Purpose
from tests.small_set import params, pool

__all__ = ["pool"]  # a fixture


def test_patches_are_the_pipelines(pool: ImageFolder) -> None:
    recipe = PatchRecipe(params(), 16, seed=3)
    for image in (6, 4, 1, 6):
        expected = PatchSampler(pool, params(), 16, 3).patches(image, 5, Purpose.TRAIN_PATCH)
        assert np.array_equal(recipe(pool[image], n=5, image_id=image), expected)
    assert not np.array_equal(recipe(pool[1], n=5, image_id=6), recipe(pool[1], n=5, image_id=1))


def test_without_a_number_each_image_has_random_numbers_of_its_own(pool: ImageFolder) -> None:
    recipe, asked = PatchRecipe(params(), 16), []

    class Sampler(PatchSampler):
        def patches(self, image: int, number: int, purpose: Purpose) -> Any:
            asked.append(image)
            return super().patches(image, number, purpose)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("exemplarcnn.patches.patch_recipe.PatchSampler", Sampler)
        first, _, again = (recipe(pool[image], n=2) for image in (0, 1, 0))
    assert np.array_equal(first, again)
    assert asked[0] == asked[2] != asked[1]
    with pytest.raises(SurrogateError, match="image_id -1, expected a whole number from 0"):
        recipe(pool[0], image_id=-1)


def test_a_profile_has_its_parameters(pool: ImageFolder) -> None:
    recipe = PatchRecipe.from_profile("paper")
    assert recipe.params.anchors_per_image == 1
    assert recipe.params.scale == (0.7, 1.4)
    assert recipe(pool[0], n=40).shape == (40, 32, 32, 3)
    with pytest.raises(ConfigError, match="no profile 'nobody'"):
        PatchRecipe.from_profile("nobody")


def test_some_parameters_of_a_profile_can_be_others() -> None:
    changed = PatchRecipe.from_profile("paper", rotate=0, hsv={"shift": [0, 0]}).params
    paper = PatchRecipe.from_profile("paper").params
    hsv = paper.hsv.model_copy(update={"shift": (0, 0)})
    assert changed == paper.model_copy(update={"rotate": 0, "hsv": hsv})
    with pytest.raises(ConfigError, match=r"rotation: Extra inputs"):
        PatchRecipe.from_profile("paper", rotation=0)
    with pytest.raises(ConfigError, match=r"hsv\.power\.0: Input should be greater than 0"):
        PatchRecipe.from_profile("paper", hsv={"power": [0, 1]})


def test_anchors_are_those_of_the_patches(pool: ImageFolder) -> None:
    recipe = PatchRecipe(params(anchors_per_image=3), 16, seed=3)
    expected = PatchSampler(pool, recipe.params, 16, 3).anchors(6)
    assert np.array_equal(recipe.anchors(pool[6], image_id=6), expected)
    assert not np.array_equal(recipe.anchors(pool[6]), expected)
    with pytest.raises(SurrogateError, match="image_id -1"):
        recipe.anchors(pool[6], image_id=-1)


def test_a_recipe_that_needs_axes_says_so(pool: ImageFolder) -> None:
    other = params().model_copy(update={"recipe": "dosovitskiy"})
    with pytest.raises(SurrogateError, match="needs the axes"):
        PatchRecipe(other, 16)
    axes = colour_axes.measure(pool)
    expected = PatchSampler(pool, other, 16, 0, axes).patches(2, 3, Purpose.TRAIN_PATCH)
    assert np.array_equal(PatchRecipe(other, 16, axes=axes)(pool[2], 3, image_id=2), expected)


@pytest.mark.parametrize(
    ("image", "said"),
    [
        (np.zeros((40, 40), np.uint8), r"shape \(40, 40\) and type uint8, expected \(height, width, 3\)"),
        (np.zeros((40, 40, 3)), "type float64"),
        (np.zeros((0, 40, 3), np.uint8), r"shape \(0, 40, 3\)"),
    ],
)
def test_what_is_no_image_is_refused(image: Any, said: str) -> None:
    with pytest.raises(SurrogateError, match=said):
        PatchRecipe(params(), 16)(image)
