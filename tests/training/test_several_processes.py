"""Training by several processes: as one does it, after a scheduler stopped them, and without their launcher."""

import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from exemplarcnn import distributed, threads
from exemplarcnn.config.sections import Pairs, Schedule
from exemplarcnn.data.types import Pool
from exemplarcnn.training import objectives
from exemplarcnn.training import trainer as training
from exemplarcnn.training.checkpoint import Checkpoint
from exemplarcnn.training.trainer import Trainer
from tests import labelled_images
from tests.conftest import ROOT
from tests.labelled_images import pools
from tests.small_training import CLASSES, built, same, train_params, trainer, weights, write_set

__all__ = ["pools"]  # a fixture

LAUNCHED = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from tests.training.test_several_processes import train_together
train_together(Path(sys.argv[2]), *map(int, sys.argv[3:]))
"""


def fifty_steps(
    folder: Path, path: Path, shards: int = 2, kind: str = "plain", epochs: int = 13, seed: int = 0
) -> Trainer:
    """A training on 49 patches in batches of 16: of the last, of one patch, all processes but one have nothing."""
    schedule, pairs = (
        Schedule(epochs=13, drops=((8, 0.5),), cosine=False, warmup=0.0),
        Pairs(outputs=CLASSES, temperature=0.5),
    )
    params = train_params(epochs=epochs, shards=shards, schedule=schedule, pairs=pairs)
    network = built(seed, dropout=0.5, batch_norm=kind == "batch_norm")
    objective = objectives.of("simclr", CLASSES, params) if kind == "simclr" else None
    return trainer(folder, path, params, network, objective=objective)


def train_together(folder: Path, epochs: int, shards: int, stop: int, kind: str = "plain") -> None:
    """Train in this process, one of several; after ``stop`` steps, be stopped as a scheduler does it."""
    torch.set_num_threads(1)
    threads.use(2)
    training.STEPS_BETWEEN_LOOKS = 1
    with distributed.processes():
        run: Trainer
        if (folder / "unlabeled").exists():
            params = labelled_images.params(shards=shards)
            run = labelled_images.trainer(labelled_images.open_pools(folder), folder / "together", params)
        else:
            run = fifty_steps(folder / "set", folder / "together", shards, kind, epochs)
        (folder / f"process-{distributed.rank()}").write_text(str(os.getpid()))
        steps, inner = [], run.step

        def step(*batch: Any) -> None:
            inner(*batch)
            steps.append(1)
            if len(steps) == stop:  # the launcher passes on once more what each process gets
                signal.raise_signal(signal.SIGTERM)
                signal.raise_signal(signal.SIGTERM)

        run.step = step  # type: ignore[method-assign, assignment]  # to count them
        history = run.run()
        if distributed.rank() == 0:
            torch.save((weights(run.network), [vars(row) for row in history]), folder / "together.pt")


def launched(folder: Path, epochs: int = 13, stop: int = 0) -> Any:
    """Start two processes by ``torchrun``, as the stage does."""
    (folder / "together.py").write_text(LAUNCHED)
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    words = [folder / "together.py", ROOT, folder, epochs, 2, stop]
    return subprocess.Popen([*launch, *map(str, words)], stderr=subprocess.PIPE, text=True)


def one_of_several(place: int, folder: Path, processes: int, shards: int, stop: int, kind: str, port: int) -> None:
    """Train in a process that finds the others as ``torchrun`` would have told it."""
    found = {"RANK": place, "LOCAL_RANK": place, "WORLD_SIZE": processes, "LOCAL_WORLD_SIZE": processes}
    os.environ |= {name: str(value) for name, value in found.items()}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "TORCHELASTIC_RUN_ID": "test"}
    distributed.PARENT = os.getppid()
    train_together(folder, 13, shards, stop, kind)


def together(folder: Path, processes: int, shards: int = 2, stop: int = 0, kind: str = "plain") -> list[int | None]:
    """Train in several processes that need not import anything; return how each ended."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    arguments = (folder, processes, shards, stop, kind, port)
    started = [context.Process(target=one_of_several, args=(place, *arguments)) for place in range(processes)]
    for process in started:
        process.start()
    for process in started:
        process.join(240)
    hung = [process for process in started if process.is_alive()]
    for process in hung:
        process.kill()
    assert not hung
    return [process.exitcode for process in started]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("processes", "shards", "kind"),
    [(2, 4, "plain"), (3, 3, "plain"), (2, 4, "simclr"), (3, 3, "simclr"), (2, 4, "batch_norm")],
)
def test_several_processes_train_to_the_bits_of_one(tmp_path: Path, processes: int, shards: int, kind: str) -> None:
    folder = write_set(tmp_path / "set", count=49, valid=11)
    one = fifty_steps(folder, tmp_path / "one", shards, kind)
    expected = one.run()
    assert together(tmp_path, processes, shards, kind=kind) == [0] * processes
    found, history = torch.load(tmp_path / "together.pt")
    assert same(found, weights(one.network))
    assert history == [vars(row) for row in expected]


@pytest.mark.slow
def test_two_processes_train_a_network_with_batch_statistics_to_the_bits_of_one(
    pools: dict[str, Pool], tmp_path: Path
) -> None:
    one = labelled_images.trainer(pools, tmp_path / "one", labelled_images.params(shards=4))
    expected = one.run()
    assert together(tmp_path, 2, 4) == [0, 0]
    found, history = torch.load(tmp_path / "together.pt")
    assert same(found, weights(one.network))
    assert history == [vars(row) for row in expected]


@pytest.mark.slow
def test_one_process_goes_on_with_what_two_began(tmp_path: Path) -> None:
    folder = write_set(tmp_path / "set", count=49, valid=11)
    whole = fifty_steps(folder, tmp_path / "whole")
    expected = whole.run()
    assert together(tmp_path, 2, stop=18) == [1, 1]
    _, progress = Checkpoint(tmp_path / "together", {"of": "mine"}).load()
    assert (len(progress.history), progress.step) == (4, 2)
    resumed = fifty_steps(folder, tmp_path / "together", seed=8)
    assert resumed.run() == expected
    assert same(weights(resumed.network), weights(whole.network))


@pytest.mark.slow
def test_several_processes_go_on_after_a_scheduler_stopped_them(tmp_path: Path) -> None:
    write_set(tmp_path / "set", count=49, valid=11)
    assert together(tmp_path, 2) == [0, 0]
    expected, rows = torch.load(tmp_path / "together.pt")
    (tmp_path / "together").unlink()
    process = launched(tmp_path, stop=18)
    _, said = process.communicate(timeout=240)
    assert process.returncode != 0, said
    _, progress = Checkpoint(tmp_path / "together", {"of": "mine"}).load()
    assert (len(progress.history), progress.step) == (4, 2)
    assert together(tmp_path, 2) == [0, 0]
    found, history = torch.load(tmp_path / "together.pt")
    assert same(found, expected)
    assert history == rows


@pytest.mark.slow
def test_processes_whose_launcher_was_killed_save_and_end(tmp_path: Path) -> None:
    write_set(tmp_path / "set", count=49, valid=11)
    launcher = launched(tmp_path, epochs=10**6)
    path, deadline = tmp_path / "together", time.monotonic() + 120
    while not path.exists():
        assert launcher.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    workers = [psutil.Process(int((tmp_path / f"process-{rank}").read_text())) for rank in range(2)]
    launcher.kill()
    launcher.wait()
    _, alive = psutil.wait_procs(workers, timeout=60)
    for worker in alive:
        worker.kill()
    assert not alive
    # Saved when they noticed it, wherever that was in an epoch: they had no other reason to.
    _, progress = Checkpoint(path, {"of": "mine"}).load()
    assert progress.step > 0
