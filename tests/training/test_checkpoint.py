"""Checkpoints: kills, interruptions, full disks, and files that are something else."""

import json
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from exemplarcnn.config.sections import Train
from exemplarcnn.training.checkpoint import Checkpoint, CheckpointError, Progress
from exemplarcnn.training.learning_curve import Epoch
from tests.conftest import ROOT
from tests.small_training import (
    Interruption,
    built,
    same,
    stop_after,
    surrogate_set,
    train_params,
    trainer,
    weights,
)

__all__ = ["surrogate_set"]  # a fixture

NOBODY = 65534  # a user without rights
ROW = Epoch(1, 11, 0.1, 2.0, 0.25, 2.5, 0.2)
TENSORS = {"network.a": torch.arange(6.0).reshape(2, 3), "momentum.a": torch.ones(2, 3)}
PROGRESS = Progress([ROW], 7, [[0.1 + 0.2, 3.0]])
CONFIGURATION = {"train": {"epochs": 20, "groups": {"conv1": {"lr": 0.1}}}, "seed": 0, "code": "0" * 64}


# What is written is what is read


def test_a_checkpoint_holds_what_it_was_given(tmp_path: Path) -> None:
    path = tmp_path / "work" / "checkpoint.safetensors"
    Checkpoint(path, CONFIGURATION).save(TENSORS, PROGRESS)
    tensors, progress = Checkpoint(path, CONFIGURATION).load()
    assert same(dict(sorted(tensors.items())), dict(sorted(TENSORS.items())))
    assert progress == PROGRESS
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_progress_in_words() -> None:
    assert str(Progress([ROW], 0)) == "epoch 1"
    assert str(PROGRESS) == "epoch 1 and 7 steps of the next"


# Something else


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda c: c["train"].update(epochs=40), ["train.epochs (checkpoint 20, now 40)"]),
        (lambda c: c["train"]["groups"]["conv1"].update(lr=0.01), ["train.groups.conv1.lr (checkpoint 0.1, now 0.01)"]),
        (lambda c: c.update(seed=1, code="1" * 64), ["seed (checkpoint 0, now 1)", "code"]),
        (lambda c: c.update(device="cuda"), ['device (checkpoint null, now "cuda")']),
        (lambda c: c.pop("seed"), ["seed (checkpoint 0, now null)"]),
    ],
)
def test_another_configuration_is_refused_with_the_keys_that_differ(
    tmp_path: Path, change: Any, named: list[str]
) -> None:
    path = tmp_path / "c"
    Checkpoint(path, CONFIGURATION).save(TENSORS, PROGRESS)
    written = path.read_bytes()
    other = json.loads(json.dumps(CONFIGURATION))
    change(other)
    with pytest.raises(CheckpointError) as refusal:
        Checkpoint(path, other).load()
    text = str(refusal.value)
    assert f"with another configuration: {', '.join(named)}. Restore that configuration" in text
    assert f"remove {path} to start over" in text
    assert path.read_bytes() == written


def test_a_trainer_refuses_a_foreign_checkpoint_and_leaves_it_alone(surrogate_set: Path, tmp_path: Path) -> None:
    trainer(surrogate_set, tmp_path / "c", train_params(epochs=1), configuration={"of": "other"}).run()
    written = (tmp_path / "c").read_bytes()
    run = trainer(surrogate_set, tmp_path / "c", network=built(seed=8))
    with pytest.raises(CheckpointError, match=r'of \(checkpoint "other", now "mine"\)'):
        run.run()
    assert same(weights(run.network), weights(built(seed=8)))
    assert (tmp_path / "c").read_bytes() == written


@pytest.mark.parametrize("kept", [0, 3, 50, 0.5, 0.999])
def test_a_checkpoint_that_is_cut_off(tmp_path: Path, kept: float) -> None:
    path = tmp_path / "c"
    Checkpoint(path, CONFIGURATION).save(TENSORS, PROGRESS)
    content = path.read_bytes()
    path.write_bytes(content[: kept if isinstance(kept, int) else int(kept * len(content))])
    with pytest.raises(CheckpointError, match=r"c: it is not a complete checkpoint \(.*\); remove .* to start over"):
        Checkpoint(path, CONFIGURATION).load()


def test_other_files(tmp_path: Path) -> None:
    path = tmp_path / "c"
    for about in (None, {"progress": "[]"}, {"progress": "{}", "configuration": "{}"}, {"progress": "{", "x": "y"}):
        save_file({"weight": torch.ones(3)}, path, about)
        with pytest.raises(CheckpointError, match="is not a complete checkpoint"):
            Checkpoint(path, {}).load()
    path.write_text("weights: none\n" * 100)
    with pytest.raises(CheckpointError, match="is not a complete checkpoint"):
        Checkpoint(path, {}).load()


def test_a_checkpoint_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "c").mkdir()
    with pytest.raises(CheckpointError, match=r"cannot read the checkpoint .*c: .*; fix this and rerun"):
        Checkpoint(tmp_path / "c", {}).load()


# No room, no right

FULL = """
import resource, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import torch
from tests import small_training as t
torch.set_num_threads(1)
folder, room = Path(sys.argv[2]), int(sys.argv[3])
# The system refuses to let files grow beyond this, as a quota does.
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))
t.trainer(folder / "set", folder / "work" / "c").run()
"""


@pytest.mark.slow
def test_a_file_that_may_not_grow_keeps_the_last_checkpoint(surrogate_set: Path, tmp_path: Path) -> None:
    path = tmp_path / "work" / "c"
    with pytest.raises(Interruption):
        trainer(surrogate_set, path).run(stop_after(2))
    written = path.read_bytes()
    root = str(ROOT)
    done = subprocess.run(
        [sys.executable, "-c", FULL, root, str(tmp_path), str(len(written) // 2)],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert "CheckpointError" in done.stderr
    assert "cannot write the checkpoint" in done.stderr
    assert "the last good checkpoint is kept" in done.stderr
    assert path.read_bytes() == written
    assert [file.name for file in path.parent.iterdir()] == ["c"]

    whole = trainer(surrogate_set, tmp_path / "whole")
    expected = whole.run()
    resumed = trainer(surrogate_set, path, network=built(seed=8))
    assert resumed.run() == expected
    assert same(weights(resumed.network), weights(whole.network))


@pytest.fixture
def small_disk(tmp_path: Path) -> Any:
    place = tmp_path / "disk"
    place.mkdir()
    size = f"size={len_of_checkpoint() * 3 // 2}"
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", size, "tmpfs", str(place)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("a file system of its own needs the right to mount")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def len_of_checkpoint() -> int:
    # Weights and momentum in float32.
    return 2 * 4 * sum(tensor.numel() for tensor in built().parameters())


def test_a_full_disk_keeps_the_last_checkpoint(surrogate_set: Path, tmp_path: Path, small_disk: Path) -> None:
    # There is room for one checkpoint, but not for a second beside it.
    path = small_disk / "c"
    rows: list[Epoch] = []
    with pytest.raises(
        CheckpointError, match=r"cannot write the checkpoint .*/c: .*; the last good checkpoint is kept"
    ):
        trainer(surrogate_set, path).run(rows.append)
    assert len(rows) == 1
    assert [file.name for file in small_disk.iterdir()] == ["c"]

    whole = trainer(surrogate_set, tmp_path / "whole")
    expected = whole.run()
    (tmp_path / "c").write_bytes(path.read_bytes())
    resumed = trainer(surrogate_set, tmp_path / "c", network=built(seed=8))
    assert resumed.run() == expected
    assert same(weights(resumed.network), weights(whole.network))


def test_a_folder_where_nothing_can_be_written(surrogate_set: Path, tmp_path: Path) -> None:
    # A file in the folder's place refuses even root.
    (tmp_path / "work").write_text("")
    with pytest.raises(CheckpointError, match=r"cannot write the checkpoint .*work/c: "):
        trainer(surrogate_set, tmp_path / "work" / "c").run()


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """Let nobody write into a folder in the block; root, who may write anywhere, is another user there."""
    folder.chmod(0o555)
    root = os.geteuid() == 0
    if root:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)
        folder.chmod(0o700)


def test_a_read_only_folder_keeps_the_last_checkpoint(surrogate_set: Path) -> None:
    with TemporaryDirectory() as name:  # pytest's own folders are open to one user alone
        above = Path(name)
        above.chmod(0o755)
        folder = above / "work"
        with pytest.raises(Interruption):
            trainer(surrogate_set, folder / "c").run(stop_after(2))
        written = (folder / "c").read_bytes()
        (folder / "c").chmod(0o644)
        resumed = trainer(surrogate_set, folder / "c")
        refused = r"cannot write the checkpoint .*: .*Permission denied.*; the last good"
        with read_only(folder), pytest.raises(CheckpointError, match=refused):
            resumed.run()
        assert (folder / "c").read_bytes() == written


def test_what_a_killed_writer_left_does_no_harm(surrogate_set: Path, tmp_path: Path) -> None:
    path = tmp_path / "work" / "checkpoint.safetensors"
    whole = trainer(surrogate_set, tmp_path / "whole")
    whole.run()
    with pytest.raises(Interruption):
        trainer(surrogate_set, path).run(stop_after(2))
    leftover = path.parent / ".checkpoint.safetensors.partial.safetensors"
    leftover.write_bytes((tmp_path / "whole").read_bytes()[:500])
    resumed = trainer(surrogate_set, path)
    resumed.run()
    assert same(weights(resumed.network), weights(whole.network))
    assert [file.name for file in path.parent.iterdir()] == ["checkpoint.safetensors"]


# Kills and interruptions

EPOCHS = 60


def long_params() -> Train:
    return train_params(epochs=EPOCHS)


def train_in_child(folder: Path, minutes: float) -> None:
    torch.set_num_threads(1)
    run = trainer(folder / "set", folder / "c", long_params(), built(dropout=0.5), minutes=minutes)
    try:
        run.run()
    except KeyboardInterrupt:
        sys.exit("interrupted")


def progress_of(path: Path) -> Progress:
    return Checkpoint(path, {"of": "mine"}).load()[1]


def whole_training(surrogate_set: Path, tmp_path: Path) -> tuple[list[Epoch], dict[str, Tensor]]:
    run = trainer(surrogate_set, tmp_path / "whole", long_params(), built(dropout=0.5))
    return run.run(), weights(run.network)


def start(tmp_path: Path, minutes: float) -> Any:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.training.test_checkpoint"])
    process = context.Process(target=train_in_child, args=(tmp_path, minutes))
    process.start()
    return process


@pytest.mark.slow
def test_killed_ten_times_at_random_moments(surrogate_set: Path, tmp_path: Path) -> None:
    expected, tensors = whole_training(surrogate_set, tmp_path)
    draw = random.Random(0)
    path, reached, kills = tmp_path / "c", [0.0], 0
    while kills < 10:
        process = start(tmp_path, minutes=0)  # a checkpoint after each step
        before = path.stat().st_mtime_ns if path.exists() else 0
        deadline = time.monotonic() + 60
        while process.is_alive() and (not path.exists() or path.stat().st_mtime_ns == before):
            assert time.monotonic() < deadline
            time.sleep(0.001)
        time.sleep(draw.uniform(0, 0.06))
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL, "finished before it was killed"
        progress = progress_of(path)
        reached.append(len(progress.history) + progress.step / 100)
        kills += 1
    assert reached == sorted(reached)
    assert reached[-1] < EPOCHS
    # Other initial weights: everything has to come from the checkpoint.
    last = trainer(surrogate_set, path, long_params(), built(seed=8, dropout=0.5))
    assert last.run() == expected
    assert same(weights(last.network), tensors)
    assert same(load_file(path), load_file(tmp_path / "whole"))


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_saves_first(surrogate_set: Path, tmp_path: Path, number: signal.Signals) -> None:
    expected, tensors = whole_training(surrogate_set, tmp_path)
    path = tmp_path / "c"
    process = start(tmp_path, minutes=1000)  # none within an epoch
    while not path.exists():
        assert process.is_alive()
        time.sleep(0.001)
    os.kill(process.pid, number)
    process.join(60)
    assert process.exitcode == 1
    assert 0 < len(progress_of(path).history) < EPOCHS
    last = trainer(surrogate_set, path, long_params(), built(seed=8, dropout=0.5))
    assert last.run() == expected
    assert same(weights(last.network), tensors)
