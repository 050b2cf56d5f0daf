"""Where differences and their intervals lie on the page's scale."""

from typing import Any

import pytest

from exemplarcnn.reporting.differences import numbers
from exemplarcnn.reporting.forest import MARKS, lay_out

TITLES = {"a": "One", "b": "Two"}


def entry(low: float, difference: float, high: float) -> dict[str, Any]:
    return {"variant": "a", "against": "b", "difference": difference, "low": low, "high": high, "folds": [1.0, 3.0]}


def test_places_are_in_proportion_to_the_values() -> None:
    plot = lay_out([entry(-1.5, 1.0, 3.5), entry(2.0, 3.0, 4.0)], TITLES)
    assert [text for _, text in plot.marks] == ["-2", "0", "+2", "+4"]
    assert [place for place, _ in plot.marks] == pytest.approx([0, 33.33, 66.67, 100])
    assert plot.zero == pytest.approx(33.33)
    first, second = plot.lines
    assert (first.low, first.point, first.high) == pytest.approx((8.33, 50.0, 91.67))
    assert (first.title, first.against, first.difference, first.interval) == ("One", "Two", "+1.00", "-1.50 to +3.50")
    assert first.folds == "± 1.00, above zero in 2 of 2"
    assert (first.sure, second.sure) == (False, True)


@pytest.mark.parametrize(
    "values", [(-0.01, 0.0, 0.02), (0.0, 0.0, 0.0), (30.1, 32.7, 35.3), (-99.0, -98.0, -97.0), (-100.0, 0.0, 100.0)]
)
def test_zero_and_all_intervals_are_on_a_scale_of_few_marks(values: tuple[float, float, float]) -> None:
    plot = lay_out([entry(*values)], TITLES)
    (line,) = plot.lines
    assert 0 <= line.low <= line.point <= line.high <= 100
    assert 2 <= len(plot.marks) <= MARKS
    assert (plot.zero, "0") in plot.marks


def test_nothing_to_compare() -> None:
    assert lay_out([], TITLES).lines == []


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ((0.004, 0.5, 1.0), ("+0.500", "+0.004 to +1.000")),
        ((-1.0, -0.5, -0.0002), ("-0.5000", "-1.0000 to -0.0002")),
        ((-0.004, 0.5, 1.0), ("+0.50", "+0.00 to +1.00")),
        ((0.0, 0.5, 1.0), ("+0.50", "+0.00 to +1.00")),
    ],
)
def test_numbers_say_on_which_side_of_zero_an_interval_is(
    values: tuple[float, float, float], expected: tuple[str, str]
) -> None:
    assert numbers(entry(*values)) == expected
