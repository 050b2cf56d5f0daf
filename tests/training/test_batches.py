"""Batches of a surrogate set."""

from collections.abc import Generator
from pathlib import Path

import numpy as np
import pytest
import torch

from exemplarcnn.training.batches import Batches, ahead
from tests.small_training import PATCHES, surrogate_set

__all__ = ["surrogate_set"]  # a fixture


@pytest.mark.parametrize("held", [False, True])
def test_batches_are_the_rows_of_the_set(surrogate_set: Path, held: bool) -> None:
    batches = Batches(surrogate_set, "train", torch.device("cpu"))
    if held:
        batches.hold()
    assert len(batches) == PATCHES
    groups = [np.array([3, 1, 2]), np.array([], np.int64), np.arange(PATCHES), np.array([43])]
    found = list(batches.each(groups))
    assert len(found) == 4
    for rows, (patches, labels) in zip(groups, found, strict=True):
        assert (patches.dtype, labels.dtype) == (torch.uint8, torch.int64)
        np.testing.assert_array_equal(patches, np.load(surrogate_set / "train.npy")[rows])
        np.testing.assert_array_equal(labels, np.load(surrogate_set / "train_y.npy")[rows])


def test_what_is_made_ahead_comes_in_order_and_fails_where_it_is_used() -> None:
    made: list[int] = []

    def make(number: int) -> int:
        if number == 7:
            raise ValueError("seven")
        made.append(number)
        return number * number

    results = ahead(make, range(20))
    assert [next(results) for _ in range(7)] == [n * n for n in range(7)]
    with pytest.raises(ValueError, match="seven"):
        next(results)
    assert list(ahead(make, [])) == []
    made.clear()
    results = ahead(make, iter([1, 2, 3, 4, 5, 6]))
    next(results)
    assert isinstance(results, Generator)
    results.close()
    assert len(made) < 5, "no further ahead than two"
