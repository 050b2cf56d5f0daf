"""Threads that compute side by side: results in order, errors where they are used, nothing held that nobody wants."""

import threading
from collections.abc import Generator

import pytest

from exemplarcnn import threads
from exemplarcnn.threads import Team, ahead


@pytest.mark.parametrize("count", [1, 3])
def test_what_is_made_ahead_comes_in_order_and_fails_where_it_is_used(count: int) -> None:
    made: list[int] = []

    def make(number: int) -> int:
        if number == 7:
            raise ValueError("seven")
        made.append(number)
        return number * number

    results = ahead(make, range(20), count)
    assert [next(results) for _ in range(7)] == [n * n for n in range(7)]
    with pytest.raises(ValueError, match="seven"):
        next(results)
    assert list(ahead(make, [], count)) == []
    made.clear()
    results = ahead(make, iter(range(8, 28)), count)
    next(results)
    assert isinstance(results, Generator)
    results.close()
    assert len(made) <= 1 + count + threads.AHEAD, "no further ahead than two and those under way"


def test_a_team_works_side_by_side_and_answers_in_order() -> None:
    meeting = threading.Barrier(3, timeout=20)  # passes only if three are at it at once

    def work(number: int) -> int:
        meeting.wait()
        return number * number

    assert Team(3).map(work, range(6)) == [n * n for n in range(6)]
    assert Team(1).map(lambda number: threading.current_thread(), range(2)) == [threading.current_thread()] * 2


def test_a_team_raises_what_its_work_raises() -> None:
    def work(number: int) -> float:
        return 1 / number

    for size in (1, 2):
        with pytest.raises(ZeroDivisionError):
            Team(size).map(work, [1, 0, 2])
