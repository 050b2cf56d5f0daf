"""Threads that compute side by side: results in order, errors where they are used, nothing held that nobody wants."""

import platform
import resource
import subprocess
import sys
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


# Pages that the system gives to two threads, each of which takes and frees 100 MB five times.
PAGES = """
import sys
if sys.argv[1] == "stages":
    import exemplarcnn.stages
import resource, threading

def work():
    for _ in range(5):
        bytearray(100 * 2**20)

def pages():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

print(min(pages() for _ in range(4)))
"""


@pytest.mark.slow
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="what other C libraries do is left to them")
def test_memory_that_a_stage_frees_is_not_given_back() -> None:
    def pages(of: str) -> int:
        return int(subprocess.run([sys.executable, "-c", PAGES, of], check=True, capture_output=True).stdout)

    once = 2 * 100 * 2**20 // resource.getpagesize()
    if pages("nothing") < 4 * once:
        pytest.skip("this system gives memory in huge pages")
    assert pages("stages") < once
