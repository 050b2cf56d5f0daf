"""Learning rates of each epoch."""

import pytest

from exemplarcnn.config.sections import Schedule
from exemplarcnn.training.schedule import rate_factor
from tests.small_training import PAPER


def test_schedule_of_the_paper() -> None:
    table = [1.0] * 75 + [0.4] * 10 + [0.1] * 7 + [0.04] * 8 + [0.01] * 10
    assert len(table) == 110
    assert [rate_factor(epoch, 110, PAPER) for epoch in range(110)] == pytest.approx(table, rel=1e-12)


def test_schedule_scales_with_the_number_of_epochs() -> None:
    # 75, 85, 92 and 100 of 110 are 9.5, 10.8, 11.7 and 12.7 of 14.
    table = [1.0] * 10 + [0.4, 0.1, 0.04, 0.01]
    assert [rate_factor(epoch, 14, PAPER) for epoch in range(14)] == pytest.approx(table, rel=1e-12)


def test_schedule_of_ten_epochs_drops_at_seven() -> None:
    # 6.8, 7.7, 8.4 and 9.1 of 10: the second and third drop fall together.
    table = [1.0] * 7 + [0.4, 0.04, 0.01]
    assert [rate_factor(epoch, 10, PAPER) for epoch in range(10)] == pytest.approx(table, rel=1e-12)


def test_no_drops_no_change() -> None:
    assert rate_factor(109, 110, Schedule(epochs=110, drops=())) == 1.0
