"""Training by several processes: as one does it, after a scheduler stopped them, and without their launcher."""

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from exemplarcnn.config.sections import Schedule, Train
from exemplarcnn.data.types import Pool
from exemplarcnn.training.checkpoint import Checkpoint
from tests import labelled_images
from tests.conftest import ROOT
from tests.labelled_images import pools
from tests.small_training import built, same, train_params, trainer, weights, write_set

__all__ = ["pools"]  # a fixture

TOGETHER = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import torch
from exemplarcnn import distributed, threads
from exemplarcnn.training import trainer as training
from tests import labelled_images, small_training as t
from tests.training.test_several_processes import fifty_steps
torch.set_num_threads(1)
threads.use(2)
folder, (epochs, shards, stop) = Path(sys.argv[2]), map(int, sys.argv[3:6])
training.STEPS_BETWEEN_LOOKS = 1
with distributed.processes():
    if (folder / "unlabeled").exists():
        params = labelled_images.params(shards=shards)
        run = labelled_images.trainer(labelled_images.open_pools(folder), folder / "together", params)
    else:
        params = fifty_steps(shards).model_copy(update={"epochs": epochs})
        run = t.trainer(folder / "set", folder / "together", params, t.built(dropout=0.5))
    (folder / f"process-{distributed.rank()}").write_text(str(os.getpid()))
    steps, inner = [], run.step
    def step(*batch):
        inner(*batch)
        steps.append(1)
        if len(steps) == stop:  # as a scheduler does it, with the launcher passing it on once more
            signal.raise_signal(signal.SIGTERM)
            signal.raise_signal(signal.SIGTERM)
    run.step = step
    history = run.run()
    if distributed.rank() == 0:
        torch.save((t.weights(run.network), [vars(row) for row in history]), folder / "together.pt")
"""


def fifty_steps(shards: int = 2) -> Train:
    # 49 patches in batches of 16: of the last batch, of one patch, all processes but one have nothing.
    return train_params(epochs=13, shards=shards, schedule=Schedule(epochs=13, drops=((8, 0.5),)))


def start_together(folder: Path, processes: int, shards: int = 2, stop: int = 0, epochs: int = 13) -> Any:
    (folder / "together.py").write_text(TOGETHER)
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    words = [ROOT, folder, epochs, shards, stop]
    command = [*launch, str(folder / "together.py"), *map(str, words)]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)


def together(folder: Path, processes: int, shards: int = 2, stop: int = 0) -> int:
    process = start_together(folder, processes, shards, stop)
    _, said = process.communicate(timeout=240)
    assert stop or not process.returncode, said
    return int(process.returncode)


@pytest.mark.slow
@pytest.mark.parametrize(("processes", "shards"), [(2, 4), (3, 3)])
def test_several_processes_train_to_the_bits_of_one(tmp_path: Path, processes: int, shards: int) -> None:
    folder = write_set(tmp_path / "set", count=49, valid=11)
    one = trainer(folder, tmp_path / "one", fifty_steps(shards), built(dropout=0.5))
    expected = one.run()
    together(tmp_path, processes, shards)
    found, history = torch.load(tmp_path / "together.pt")
    assert same(found, weights(one.network))
    assert history == [vars(row) for row in expected]


@pytest.mark.slow
def test_two_processes_train_a_network_with_batch_statistics_to_the_bits_of_one(
    pools: dict[str, Pool], tmp_path: Path
) -> None:
    one = labelled_images.trainer(pools, tmp_path / "one", labelled_images.params(shards=4))
    expected = one.run()
    together(tmp_path, 2, 4)
    found, history = torch.load(tmp_path / "together.pt")
    assert same(found, weights(one.network))
    assert history == [vars(row) for row in expected]


@pytest.mark.slow
def test_one_process_goes_on_with_what_two_began(tmp_path: Path) -> None:
    folder = write_set(tmp_path / "set", count=49, valid=11)
    whole = trainer(folder, tmp_path / "whole", fifty_steps(2), built(dropout=0.5))
    expected = whole.run()
    assert together(tmp_path, 2, 2, stop=18) != 0
    resumed = trainer(folder, tmp_path / "together", fifty_steps(2), built(seed=8, dropout=0.5))
    assert resumed.run() == expected
    assert same(weights(resumed.network), weights(whole.network))


@pytest.mark.slow
def test_several_processes_go_on_after_a_scheduler_stopped_them(tmp_path: Path) -> None:
    write_set(tmp_path / "set", count=49, valid=11)
    together(tmp_path, 2)
    expected, rows = torch.load(tmp_path / "together.pt")
    (tmp_path / "together").unlink()
    assert together(tmp_path, 2, stop=18) != 0
    _, progress = Checkpoint(tmp_path / "together", {"of": "mine"}).load()
    assert (len(progress.history), progress.step) == (4, 2)
    together(tmp_path, 2)
    found, history = torch.load(tmp_path / "together.pt")
    assert same(found, expected)
    assert history == rows


@pytest.mark.slow
def test_processes_whose_launcher_was_killed_save_and_end(tmp_path: Path) -> None:
    write_set(tmp_path / "set", count=49, valid=11)
    launcher = start_together(tmp_path, 2, epochs=10**6)
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
