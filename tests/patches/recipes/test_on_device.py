"""The batch against one patch at a time: each step, the whole recipe, and every way to put patches together."""

from typing import Any

import albumentations as A
import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from exemplarcnn.patches.recipes import arazo, on_device, registry
from exemplarcnn.patches.recipes.colours import HSVContrast, SeparateHSVContrast
from exemplarcnn.patches.recipes.registry import RECIPES
from exemplarcnn.patches.recipes.transform import Parameters, apply, draw_parameters
from tests.defaults import surrogate as params
from tests.recipe_references import AXES, COLOURS, POLICIES, photo

Pixels = NDArray[np.uint8]


def picture(height: int, width: int, seed: int = 0) -> Pixels:
    return np.rint(photo(height, width, seed) * 255).astype(np.uint8)


def drawn(compose: A.Compose, shape: tuple[int, ...], anchor: tuple[int, int], number: int) -> list[Parameters]:
    generators = (np.random.default_rng(index) for index in range(number))
    return draw_parameters(compose, generators, shape, np.tile(anchor, (number, 1)))


def part(draws: list[Parameters], start: int, stop: int) -> list[Parameters]:
    return [{key: column[start:stop] for key, column in columns.items()} for columns in draws]


def by_recipe(compose: A.Compose, image: Pixels, draws: list[Parameters]) -> Pixels:
    return apply(compose, image[None].astype(np.float32) / np.float32(255), draws)


def batch(compose: A.Compose, image: Pixels, draws: list[Parameters]) -> Pixels:
    found: Pixels = on_device.apply(compose, torch.from_numpy(image)[None], draws).numpy()
    return found


# The whole recipe


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize(
    ("size", "side"), [((96, 96), 32), ((96, 96), 96), ((40, 57), 16), ((9, 7), 8), ((60, 31), 33)]
)
def test_batch_is_what_the_recipe_makes_of_the_same_draws(size: tuple[int, int], side: int, policy: str) -> None:
    compose = arazo.build(params(range_policy=policy), side)
    differing, values = 0, 0
    for seed in range(4):
        image, anchor = picture(*size, seed), (size[0] // 2 + seed, size[1] // 3)
        draws = drawn(compose, size, anchor, 60)
        expected = by_recipe(compose, image, draws).astype(int)
        found = batch(compose, image, draws).astype(int)
        assert found.shape == (60, side, side, 3)
        apart = np.abs(found - expected)
        # float32 sums in another order: a value halfway between two grey levels can go either way. One close to black
        # is moved further by powers below 1, whose slope has no bound there.
        assert apart.max() <= 3
        differing += int((apart > 0).sum())
        values += apart.size
        assert apart.mean() < 1e-3
    assert differing / values < 1e-3


def test_batch_of_the_other_recipe() -> None:
    compose = registry.build(params(recipe="dosovitskiy"), 32, AXES)
    for seed in range(4):
        image = picture(96, 96, seed)
        draws = drawn(compose, (96, 96), (40, 50 + seed), 60)
        apart = np.abs(batch(compose, image, draws).astype(int) - by_recipe(compose, image, draws).astype(int))
        assert apart.max() <= 3
        assert apart.mean() < 1e-3


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("colour", COLOURS.values(), ids=COLOURS)
def test_images_of_one_colour(colour: tuple[int, int, int], policy: str) -> None:
    image = np.empty((40, 50, 3), np.uint8)
    image[:] = colour
    compose = arazo.build(params(range_policy=policy), 16)
    draws = drawn(compose, (40, 50), (3, 4), 40)
    expected = by_recipe(compose, image, draws).astype(int)
    found = batch(compose, image, draws).astype(int)
    assert np.abs(found - expected).max() <= 1
    assert np.ptp(found, axis=(1, 2)).max() <= 1


@pytest.mark.parametrize("policy", POLICIES)
def test_grey_and_almost_grey_images(policy: str) -> None:
    grey = np.repeat(picture(50, 50)[..., :1], 3, axis=2)
    almost = grey.copy()
    almost[::7, ::5, 1] ^= 1
    compose = arazo.build(params(range_policy=policy), 32)
    for image in (grey, almost):
        draws = drawn(compose, (50, 50), (20, 20), 60)
        expected = by_recipe(compose, image, draws).astype(int)
        found = batch(compose, image, draws).astype(int)
        apart = np.abs(found - expected)
        assert apart.mean() < 0.01
        # What is almost grey has a hue at one side of a threshold, and none at the other.
        assert (apart > 3).mean() < 1e-3


# Each step, before anything is rounded


@settings(deadline=None, max_examples=30)
@given(
    seed=st.integers(0, 10**6),
    side=st.integers(8, 40),
    policy=st.sampled_from(POLICIES),
    name=st.sampled_from(sorted(RECIPES)),
)
@example(seed=0, side=32, policy="rescale", name="arazo")
@example(seed=0, side=32, policy="rescale", name="dosovitskiy")
def test_each_step_is_its_transform(seed: int, side: int, policy: str, name: str) -> None:
    draw = np.random.default_rng(seed)
    height, width = (int(x) for x in draw.integers(1, 120, 2))
    image = photo(height, width, seed)
    compose = registry.build(params(recipe=name, range_policy=policy, rotate=180.0), side, AXES)
    draws = drawn(compose, (height, width), (int(draw.integers(height)), int(draw.integers(width))), 5)
    planes = torch.from_numpy(image).permute(2, 0, 1)[None]
    stack = image[None]
    for transform, columns in zip(compose.transforms, draws, strict=True):
        found = on_device.TRANSFORMS[type(transform)](planes, transform, columns)
        expected = transform.apply_batch(stack, columns)
        apart = np.abs(found.permute(0, 2, 3, 1).numpy() - expected)
        # A power of 1/4 makes 1e-7 near black to 0.02.
        steep = isinstance(transform, HSVContrast | SeparateHSVContrast)
        assert apart.max() < (0.03 if steep else 1e-3)
        assert apart.mean() < 1e-5
        # From here on with what the transform makes of it, so that differences do not add up.
        stack = expected
        planes = torch.from_numpy(expected).permute(0, 3, 1, 2).contiguous()


def test_each_step_has_its_transform() -> None:
    recipes = (registry.build(params(recipe=name), 32, AXES) for name in RECIPES)
    assert {type(one) for compose in recipes for one in compose.transforms} == set(on_device.TRANSFORMS)


# Patches put together


def floats(compose: A.Compose, image: Pixels, draws: list[Parameters]) -> list[NDArray[np.float32]]:
    """Patches after each step, unrounded."""
    planes, result = torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255, []
    for transform, columns in zip(compose.transforms, draws, strict=True):
        planes = on_device.TRANSFORMS[type(transform)](planes, transform, columns)
        result.append(planes.numpy().copy())
    return result


@pytest.mark.parametrize("side", [9, 16, 31, 32, 33, 35])
def test_patches_are_the_same_alone_together_and_among_those_of_other_images(side: int) -> None:
    images = [picture(96, 96, seed) for seed in range(3)]
    compose = arazo.build(params(), side)
    draws = drawn(compose, (96, 96), (30, 60), 40)
    for image in images:
        together = floats(compose, image, draws)
        for start, stop in ((0, 1), (1, 2), (2, 5), (5, 17), (17, 40)):
            parts = floats(compose, image, part(draws, start, stop))
            assert all(np.array_equal(some, one[start:stop]) for some, one in zip(parts, together, strict=True))
    whole = [batch(compose, image, draws) for image in images]
    which = np.random.default_rng(0).integers(0, 3, 40).tolist()
    mixed = on_device.apply(compose, torch.from_numpy(np.stack(images)[which]), draws).numpy()
    for index, (image, patch) in enumerate(zip(which, mixed, strict=True)):
        assert np.array_equal(patch, whole[image][index])


def test_image_and_draws_are_not_changed() -> None:
    image = picture(50, 40)
    compose = arazo.build(params(), 16)
    draws: Any = drawn(compose, (50, 40), (3, 4), 3)
    before, text = image.copy(), repr(draws)
    batch(compose, image, draws)
    assert np.array_equal(image, before)
    assert repr(draws) == text
