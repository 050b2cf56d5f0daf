"""Class tables made of others, as controls."""

import numpy as np
import pandas as pd
from hypothesis import given, settings
from hypothesis import strategies as st

from exemplarcnn.classes import tables
from exemplarcnn.classes.regrouping import RULES


@settings(max_examples=50, deadline=None)
@given(sizes=st.lists(st.integers(1, 6), min_size=1, max_size=10), seed=st.integers(0, 50))
def test_random_groups_have_the_same_images_and_sizes(sizes: list[int], seed: int) -> None:
    count = sum(sizes)
    images = np.random.default_rng(seed).permutation(3 * count)[:count]
    table = pd.DataFrame({"class_id": np.arange(len(sizes)).repeat(sizes), "image_id": images, "origin": "cluster"})
    random = RULES["random"](table, seed)
    tables.check(random, 3 * count)
    assert tables.sizes(random).tolist() == sizes
    assert set(random["image_id"]) == set(images)
    assert random.equals(RULES["random"](table, seed))
    alone = RULES["ungrouped"](table, seed)
    tables.check(alone, 3 * count)
    assert alone["image_id"].tolist() == images.tolist()
    assert set(tables.sizes(alone)) == {1}


def test_random_groups_are_others() -> None:
    table = pd.DataFrame({"class_id": np.arange(50).repeat(2), "image_id": np.arange(100), "origin": "cluster"})
    one, other = (RULES["random"](table, seed)["image_id"].tolist() for seed in (0, 1))
    assert one != other
    pairs = np.array(one).reshape(-1, 2)
    assert (pairs[:, 0] // 2 == pairs[:, 1] // 2).mean() < 0.1
