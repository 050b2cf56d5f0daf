"""Ctrl-C while a network trains; tests/training/test_checkpoint.py has it in a process of its own."""

import signal
from pathlib import Path
from typing import Any

import pytest

from exemplarcnn.training.checkpoint import Checkpoint
from exemplarcnn.training.learning_curve import Epoch
from tests.small_training import built, same, surrogate_set, train_params, trainer, weights

__all__ = ["surrogate_set"]  # a fixture


def test_a_second_ctrl_c_is_obeyed_at_once(
    surrogate_set: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = trainer(surrogate_set, tmp_path / "c")
    now = iter([0.0, 10.0, 11.5, 12.5])
    reached: list[float] = []

    def step(*batch: Any) -> None:
        monkeypatch.setattr("exemplarcnn.training.signals.time.monotonic", lambda: next(now))
        for number in range(4):
            reached.append(number)
            # To this thread, which then acts on it at once; `os.kill` leaves it to the system which thread is told.
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(run, "step", step)
    with pytest.raises(KeyboardInterrupt):
        run.run()
    monkeypatch.undo()
    # The first is at 0, and the one at 10 is no longer the same one.
    assert reached == [0, 1]
    assert not (tmp_path / "c").exists()


@pytest.mark.parametrize("at", [0, 1, 2, 3])
def test_stopped_between_two_steps_of_an_epoch(
    surrogate_set: Path, tmp_path: Path, at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After each number of steps of the second epoch, the whole epoch before its validation included."""
    handler = signal.getsignal(signal.SIGINT)  # whoever starts tests in the background has it ignored
    params = train_params()
    whole = trainer(surrogate_set, tmp_path / "whole", params, built(dropout=0.5))
    expected = whole.run()
    run = trainer(surrogate_set, tmp_path / "c", params, built(dropout=0.5))
    steps: list[int] = []
    inner = run.step

    def step(*batch: Any) -> None:
        inner(*batch)
        steps.append(1)
        if len(steps) == 3 + at:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(run, "step", step)
    with pytest.raises(KeyboardInterrupt):
        run.run()
    assert signal.getsignal(signal.SIGINT) is handler
    done = Checkpoint(tmp_path / "c", {"of": "mine"}).load()[1]
    assert (len(done.history), done.step) == ((0, 3) if at == 0 else (1, at))
    resumed = trainer(surrogate_set, tmp_path / "c", params, built(seed=8, dropout=0.5))
    rows: list[Epoch] = []
    assert resumed.run(rows.append) == expected
    assert rows == expected
    assert same(weights(resumed.network), weights(whole.network))
