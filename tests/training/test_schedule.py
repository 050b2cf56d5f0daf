"""How long trainings are, and their learning rates."""

import numpy as np
import pytest

from exemplarcnn.config.sections import Schedule
from exemplarcnn.training.schedule import Length, rate_factor
from tests.small_training import PAPER, train_params


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
    assert rate_factor(109, 110, Schedule(epochs=110, drops=(), cosine=False, warmup=0.0)) == 1.0


@pytest.mark.parametrize("budget", [{"epochs": 4}, {"epochs": 1, "steps": 12}])
def test_half_a_cosine_after_a_rise(budget: dict[str, int]) -> None:
    length = Length(44, train_params(**budget, schedule=Schedule(epochs=4, drops=(), cosine=True, warmup=0.25)))
    assert length.steps == 12
    cosine = (1 + np.cos(np.pi * np.arange(12) / 12)) / 2
    rise = np.minimum(1, np.arange(1, 13) / 3)
    assert [length.rate_factor(step) for step in range(12)] == pytest.approx(cosine * rise)


def test_a_rise_before_drops() -> None:
    schedule = Schedule(epochs=4, drops=((2, 0.5), (3, 0.1)), cosine=False, warmup=0.5)
    length = Length(44, train_params(epochs=4, schedule=schedule))
    found = [length.rate_factor(step) for step in range(12)]
    assert found == pytest.approx([1 / 6, 2 / 6, 3 / 6, 4 / 6, 5 / 6, 1, 0.5, 0.5, 0.5, 0.05, 0.05, 0.05])


def test_a_cosine_and_drops_are_refused() -> None:
    with pytest.raises(ValueError, match=r"with cosine: true, set drops: \[\]"):
        Schedule(epochs=4, drops=((2, 0.5),), cosine=True, warmup=0.0)


@pytest.mark.parametrize(
    ("images", "batch", "epochs", "steps", "expected"),
    [
        (44, 16, 4, None, [44, 44, 44, 44]),
        (48, 16, 2, None, [48, 48]),
        (44, 16, 4, 1, [16]),
        (44, 16, 4, 2, [32]),
        (44, 16, 4, 3, [44]),
        (44, 16, 4, 4, [44, 16]),
        (44, 16, 1, 8, [44, 44, 32]),
        (44, 16, 1, 9, [44, 44, 44]),
        (10, 16, 3, 5, [10] * 5),
    ],
)
def test_a_budget_in_steps_ends_within_an_epoch(
    images: int, batch: int, epochs: int, steps: int | None, expected: list[int]
) -> None:
    length = Length(images, train_params(batch_size=batch, epochs=epochs, steps=steps, shards=1))
    assert [length.images_of(epoch) for epoch in range(length.epochs)] == expected
    shown = [min(batch, count - start) for count in expected for start in range(0, count, batch)]
    assert length.steps == len(shown)
    assert [length.images_until(step) for step in range(length.steps + 1)] == [
        sum(shown[:step]) for step in range(length.steps + 1)
    ]


def test_rates_drop_between_epochs_or_between_steps() -> None:
    of_epochs = Length(44, train_params(epochs=4))
    assert [of_epochs.rate_factor(step) for step in range(12)] == [1.0] * 6 + [0.5] * 3 + [0.05] * 3
    of_steps = Length(44, train_params(epochs=4, steps=10))
    # 2 and 3 of 4 epochs are 5 and 7.5 of 10 steps.
    assert [of_steps.rate_factor(step) for step in range(10)] == [1.0] * 5 + [0.5] * 3 + [0.05] * 2
