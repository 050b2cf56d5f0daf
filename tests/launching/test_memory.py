"""How much memory a stage takes."""

import mmap
import subprocess
import sys
from pathlib import Path

import numpy as np
import psutil
import pytest

from exemplarcnn.launching import memory
from exemplarcnn.launching.memory import Peak, anonymous

MIB = 2**20


def test_the_peak_counts_what_has_been_freed_and_what_others_take(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "SECONDS", 0.01)
    before = anonymous(psutil.Process())
    with Peak() as peak:
        # Not from malloc, which may give memory that an earlier test has freed and this process has kept.
        held = mmap.mmap(-1, 200 * MIB, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        np.frombuffer(held, np.uint8)[:] = 1
        code = f"held = b'x' * {100 * MIB}; print('there', flush=True); input()"
        words = [sys.executable, "-c", code]
        with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
            assert other.stdout is not None
            assert other.stdout.readline() == "there\n"
            monkeypatch.setattr(peak, "bytes", 0)
            while peak.bytes == 0:
                pass
            other.communicate("\n")
        held.close()
    # Other processes that the tests have started count, too.
    assert peak.bytes - before >= 300 * MIB
    assert anonymous(psutil.Process()) - before < 100 * MIB


def test_mapped_files_do_not_count(tmp_path: Path) -> None:
    if not sys.platform.startswith("linux"):
        pytest.skip("only Linux tells mapped files from other memory")
    mapped = np.memmap(tmp_path / "file", np.uint8, "w+", shape=200 * MIB)
    before = anonymous(psutil.Process())
    mapped[:] = 1
    assert anonymous(psutil.Process()) - before < 20 * MIB


def test_a_process_that_has_ended_takes_nothing() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as running:
        process = psutil.Process(running.pid)
        assert anonymous(process) > 0
        running.communicate(b"\n")
    assert anonymous(process) == 0


def test_memory_that_cannot_be_looked_at_stops_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object, **__: object) -> list[psutil.Process]:
        raise psutil.AccessDenied

    monkeypatch.setattr(psutil.Process, "children", refused)
    with Peak() as peak:
        pass
    assert peak.bytes == 0
