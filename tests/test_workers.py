"""Work shared out among processes: order, errors, and that what all need travels once."""

import os
import time
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

from exemplarcnn.workers import AHEAD, in_order


class Costly:
    """Leaves a file for each time that it arrives in a process."""

    def __init__(self, folder: Path):
        self.folder = folder

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        (self.folder / f"{os.getpid()} {time.monotonic_ns()}").touch()


def square(shared: Costly, number: int) -> tuple[int, int]:
    time.sleep(0.05 if number == 0 else 0)  # the first ends last
    return number**2, os.getpid()


def refuse(shared: None, number: int) -> int:
    if number == 3:
        raise ValueError("three")
    return number


def test_results_come_in_order_and_what_is_shared_travels_once(tmp_path: Path) -> None:
    found = list(in_order(square, Costly(tmp_path), range(40), 2))
    assert [value for value, _ in found] == [number**2 for number in range(40)]
    processes = {process for _, process in found}
    assert os.getpid() not in processes
    arrived = [file.name.split()[0] for file in tmp_path.iterdir()]
    assert len(arrived) == len(set(arrived)) <= 2
    assert {str(process) for process in processes} <= set(arrived)
    assert {process for _, process in in_order(square, Costly(tmp_path), range(3), 1)} == {os.getpid()}


def test_tasks_are_taken_as_they_are_needed() -> None:
    taken = []

    def tasks() -> Iterator[int]:
        for number in range(100):
            taken.append(number)
            yield number if number != 3 else 4

    found = in_order(refuse, None, tasks(), 2)
    for number in range(3):
        assert next(found) == number
        assert len(taken) == 2 * AHEAD + number + 1, "what is done before its turn does not pile up"
    assert isinstance(found, Generator)
    found.close()


@pytest.mark.parametrize("workers", [1, 2])
def test_an_error_is_raised_in_its_turn(workers: int) -> None:
    found = in_order(refuse, None, range(9), workers)
    assert [next(found) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ValueError, match="three"):
        next(found)
