"""The two parts of a pool, and how many classes they can give."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exemplarcnn.classes.capacity import most_grouped, single_classes, split_pool


@settings(max_examples=50, deadline=None)
@given(size=st.integers(0, 60), share=st.floats(0, 1), seed=st.integers(0, 100))
def test_two_parts_share_the_pool(size: int, share: float, seed: int) -> None:
    first, second = split_pool(size, share, seed)
    assert len(first) == round(share * size)
    assert sorted([*first, *second]) == list(range(size))
    assert (np.diff(first) > 0).all()
    assert (np.diff(second) > 0).all()


def test_the_parts_are_drawn_by_the_seed() -> None:
    first, again, other = (split_pool(100, 0.5, seed)[0].tolist() for seed in (0, 0, 1))
    assert first == again != other
    assert first != list(range(50))


@pytest.mark.parametrize("neighbours", [0, 1, 2, 3])
@pytest.mark.parametrize(("clustered", "held_out"), [(0, 9), (1, 0), (7, 4), (8, 8), (9, 2)])
def test_the_bound_is_the_best_of_all_clusterings(clustered: int, held_out: int, neighbours: int) -> None:
    """Of pairs and single images: larger clusters only make fewer classes."""
    possible = [
        pairs + single_classes(clustered - 2 * pairs, held_out, neighbours) for pairs in range(clustered // 2 + 1)
    ]
    assert most_grouped(clustered, held_out, neighbours) == max(possible)
