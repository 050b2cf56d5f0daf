"""Patches of single images."""

import numpy as np
from numpy.typing import NDArray

from exemplarcnn.data.pools import ImageFolder
from exemplarcnn.patches.recipes import arazo
from exemplarcnn.patches.recipes.transform import bind
from exemplarcnn.patches.sampler import PatchSampler
from exemplarcnn.rng import Purpose
from tests.small_set import params, pool

__all__ = ["pool"]  # a fixture


def test_a_patch_does_not_depend_on_what_was_drawn_before(pool: ImageFolder) -> None:
    fresh = PatchSampler(pool, params(), 16, 0).patches(6, 5, Purpose.TRAIN_PATCH)
    used = PatchSampler(pool, params(), 16, 0)
    used.anchors(1)
    used.patches(0, 3, Purpose.VALID_PATCH)
    used.patches(6, 2, Purpose.TRAIN_PATCH)
    used.anchors(6)
    assert np.array_equal(used.patches(6, 5, Purpose.TRAIN_PATCH), fresh)
    assert np.array_equal(used.patches(6, 2, Purpose.TRAIN_PATCH), fresh[:2])


def test_patches_follow_the_seed_the_image_and_the_purpose(pool: ImageFolder) -> None:
    def patches(seed: int, image: int, purpose: Purpose) -> NDArray[np.uint8]:
        return PatchSampler(pool, params(), 16, seed).patches(image, 4, purpose)

    base = patches(0, 6, Purpose.TRAIN_PATCH)
    others = [
        patches(1, 6, Purpose.TRAIN_PATCH),
        patches(0, 0, Purpose.TRAIN_PATCH),
        patches(0, 6, Purpose.VALID_PATCH),
    ]
    for one in (*base, *others[0], *others[1], *others[2]):
        same = sum(np.array_equal(one, two) for two in (*base, *others[0], *others[1], *others[2]))
        assert same == 1


def test_image_is_given_to_the_recipe_in_0_to_1_and_rounded_once(pool: ImageFolder) -> None:
    sampler = PatchSampler(pool, params(), 16, 3)
    found = sampler.patches(6, 2, Purpose.TRAIN_PATCH)
    anchor = tuple(int(value) for value in sampler.anchors(6)[0])
    alone = arazo.build(params(), 16)
    bits = np.random.Philox(key=3 | (int(Purpose.TRAIN_PATCH) << 64), counter=(6 << 192) | (1 << 128))
    bind(alone, np.random.Generator(bits))
    patch = alone(image=np.asarray(pool[6], np.float32) / np.float32(255), anchor=anchor)["image"]
    # A value halfway between two grey levels may go either way.
    assert np.abs(found[1] - np.clip(patch, 0, 1) * 255).max() < 0.51


def test_one_anchor_is_kept_for_all_patches_and_several_are_dealt_in_turn(pool: ImageFolder) -> None:
    # Nothing but the cut is left of the recipe, so that a patch shows where its anchor is.
    still = {
        "scale": [1, 1],
        "translate": {"distribution": "uniform", "amount": 0},
        "pca_factor": [1, 1],
        "flip": 0,
        "rotate": 0,
        "hsv": {"power": [1, 1], "factor": [1, 1], "shift": [0, 0]},
        "hue": [0, 0],
        "range_policy": "clip",
    }
    for count in (1, 3):
        sampler = PatchSampler(pool, params(anchors_per_image=count, **still), 8, 0)
        anchors = sampler.anchors(7)
        assert anchors.shape == (count, 2)
        assert len(np.unique(anchors, axis=0)) == count
        found = sampler.patches(7, 7, Purpose.TRAIN_PATCH).astype(int)
        for index, patch in enumerate(found):
            row, column = anchors[index % count]
            # Half a pixel from the centre of an even patch: either neighbour will do.
            near = [
                pool[7].astype(int)[top : top + 8, left : left + 8]
                for top in {min(max(row - up, 0), 88) for up in (3, 4)}
                for left in {min(max(column - back, 0), 88) for back in (3, 4)}
            ]
            assert min(np.abs(patch - cut).max() for cut in near) <= 1


def test_more_anchors_keep_the_first(pool: ImageFolder) -> None:
    one = PatchSampler(pool, params(anchors_per_image=1), 16, 0).anchors(7)
    four = PatchSampler(pool, params(anchors_per_image=4), 16, 0).anchors(7)
    assert np.array_equal(four[:1], one)
    assert not np.array_equal(PatchSampler(pool, params(), 16, 1).anchors(7), one)
