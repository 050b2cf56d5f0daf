"""Batches of a surrogate set."""

from pathlib import Path

import numpy as np
import pytest
import torch

from exemplarcnn.training.batches import Batches
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
