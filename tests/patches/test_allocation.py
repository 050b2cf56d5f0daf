"""The sharing out of patches."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exemplarcnn.patches.allocation import portions
from exemplarcnn.patches.errors import SurrogateError
from tests.small_set import table, trained


def test_portions_with_patches_per_image_lie_one_after_the_other() -> None:
    plan = portions(table(), trained(patches_per_image=3), 2)
    assert [portion.image for portion in plan] == [6, 2, 5, 0, 4, 1, 3, 7]
    assert [portion.train for portion in plan] == [(3 * i, 3 * i + 3) for i in range(8)]
    assert [portion.valid for portion in plan] == [(2 * i, 2 * i + 2) for i in range(8)]


def test_portions_with_patches_per_class_are_dealt_in_turn() -> None:
    plan = portions(table(), trained(patches_per_image=None, patches_per_class=7), 1)
    assert [last - first for first, last in (portion.train for portion in plan)] == [4, 3, 7, 3, 2, 2, 7, 7]
    assert [portion.train[0] for portion in plan[1:]] == [portion.train[1] for portion in plan[:-1]]
    assert plan[0].train[0] == 0


@settings(deadline=None)
@given(sizes=st.lists(st.integers(1, 6), min_size=1, max_size=8), budget=st.integers(1, 30))
def test_every_class_gets_its_budget_and_its_images_the_same_up_to_one(sizes: list[int], budget: int) -> None:
    ids = np.repeat(np.arange(len(sizes)), sizes)
    frame = pd.DataFrame({"class_id": ids, "image_id": np.arange(len(ids))[::-1], "origin": "x"})
    plan = portions(frame, trained(patches_per_image=None, patches_per_class=budget), 1)
    numbers = np.array([portion.train[1] - portion.train[0] for portion in plan])
    for class_id in range(len(sizes)):
        share = numbers[ids == class_id]
        assert share.sum() == budget
        assert share.max() - share.min() <= 1
        assert (np.diff(share) <= 0).all()  # the first images get the rest
    assert plan[-1].train[1] == numbers.sum()


@settings(deadline=None)
@given(sizes=st.lists(st.integers(1, 6), min_size=1, max_size=8), budget=st.integers(1, 60))
def test_a_budget_for_all_is_dealt_to_the_classes_and_then_to_their_images(sizes: list[int], budget: int) -> None:
    budget += len(sizes) - 1
    ids = np.repeat(np.arange(len(sizes)), sizes)
    frame = pd.DataFrame({"class_id": ids, "image_id": np.arange(len(ids)), "origin": "x"})
    plan = portions(frame, trained(patches_per_image=None, total_patches=budget), 1)
    numbers = np.array([portion.train[1] - portion.train[0] for portion in plan])
    assert numbers.sum() == budget == plan[-1].train[1]
    of_class = np.bincount(ids, weights=numbers)
    assert of_class.max() - of_class.min() <= 1
    for class_id in range(len(sizes)):
        assert np.ptp(numbers[ids == class_id]) <= 1


def test_fewer_patches_than_classes() -> None:
    classes = int(table()["class_id"].max()) + 1
    with pytest.raises(
        SurrogateError, match=f"cannot deal {classes - 1} patches to {classes} classes: each needs at least one"
    ):
        portions(table(), trained(patches_per_image=None, total_patches=classes - 1), 1)
