"""The running loss."""

import numpy as np
import pytest

from exemplarcnn.training.running_loss import WEIGHT, RunningLoss


def test_first_the_mean_then_one_that_forgets() -> None:
    losses = np.random.default_rng(0).random(60)
    running, found = RunningLoss(), []
    for count, total in enumerate(np.cumsum(10 * losses), 1):
        assert running.update(10 * count, total)
        found.append(running.value)
    assert found[:20] == pytest.approx(np.cumsum(losses[:20]) / np.arange(1, 21))
    value = found[19]
    for loss, other in zip(losses[20:], found[20:], strict=True):
        value = (1 - WEIGHT) * value + WEIGHT * loss
        assert other == pytest.approx(value)


def test_an_epoch_begins_with_sums_of_its_own_and_the_same_loss() -> None:
    running = RunningLoss()
    running.update(4, 8.0)
    running.start_epoch()
    assert running.value == 2.0
    running.update(2, 2.0)
    assert (running.value, running.updates) == (1.5, 2)
    running.start_epoch(6, 60.0)  # as after a stop
    running.update(8, 66.0)
    assert running.value == pytest.approx(2.0)


def test_nothing_new_changes_nothing() -> None:
    running = RunningLoss()
    assert not running.update(0, 0.0)
    running.update(4, 8.0)
    assert not running.update(4, 8.0)
    assert (running.value, running.updates) == (2.0, 1)
