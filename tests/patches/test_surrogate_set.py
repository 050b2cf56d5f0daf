"""Whole surrogate sets."""

import contextlib
import errno
import functools
import json
import os
import runpy
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import albumentations as A
import numpy as np
import pandas as pd
import psutil
import pytest
from filelock import FileLock
from numpy.typing import NDArray

from exemplarcnn.data.pools import ImageFolder
from exemplarcnn.data.stl10 import write_images
from exemplarcnn.files import digest, write_rows
from exemplarcnn.locks import LockedError
from exemplarcnn.patches import partial_set, surrogate_set
from exemplarcnn.patches.errors import SurrogateError
from exemplarcnn.patches.partial_set import PartialSet, TaskResult
from exemplarcnn.patches.recipes.transform import bind
from exemplarcnn.patches.sampler import PatchSampler
from exemplarcnn.patches.surrogate_set import DrawingJob, SetDefinition, write_set
from exemplarcnn.rng import Purpose
from tests.conftest import CONF
from tests.small_set import SIZES, TABLE, params, pool, table, trained

__all__ = ["pool"]  # a fixture


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def written(folder: Path, pool: ImageFolder, **options: Any) -> dict[str, Any]:
    job = {name: options.pop(name) for name in ("workers", "identity") if name in options}
    values: dict[str, Any] = {"table": table(), "params": params(), "trained": trained(), "seed": 0} | options
    work = folder.with_name(f"{folder.name}-work")
    return write_set(SetDefinition(pool, **values), DrawingJob(folder, work, **job))


@pytest.fixture(scope="module")
def made(pool: ImageFolder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sets") / "one"
    written(folder, pool)
    return folder


def test_a_set_says_the_side_of_the_data_sets_images_where_it_is_not_stl10s(pool: ImageFolder, tmp_path: Path) -> None:
    assert "side" not in written(tmp_path / "stl10", pool, side=96)
    assert written(tmp_path / "mine", pool, side=128)["side"] == 128
    assert json.loads((tmp_path / "mine/set.json").read_text())["side"] == 128


# Whole sets


@pytest.mark.slow
def test_set_does_not_depend_on_the_number_of_workers(
    pool: ImageFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(partial_set, "IMAGES_A_TASK", 2)
    for workers in (1, 2, 3):
        written(tmp_path / str(workers), pool, workers=workers)
    one, two, three = (contents(tmp_path / str(workers)) for workers in (1, 2, 3))
    arrays = ["train.npy", "train_y.npy", "valid.npy", "valid_y.npy"]
    assert sorted(one) == ["anchors.csv", "portions.csv", "recipe.json", "set.json", *arrays]
    assert one == two == three


def test_set_does_not_depend_on_how_images_are_put_into_tasks(
    pool: ImageFolder, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(partial_set, "IMAGES_A_TASK", 3)
    written(tmp_path / "again", pool)
    assert contents(tmp_path / "again") == contents(made)


def test_set_is_ordered_by_class_image_and_patch(pool: ImageFolder, made: Path) -> None:
    train, valid = (np.load(made / f"{name}.npy") for name in ("train", "valid"))
    train_y, valid_y = (np.load(made / f"{name}_y.npy") for name in ("train", "valid"))
    assert train.dtype == valid.dtype == np.uint8
    assert train_y.dtype == valid_y.dtype == np.int32
    assert train.shape == (24, 16, 16, 3)
    assert valid.shape == (16, 16, 16, 3)
    assert train_y.tolist() == [class_id for class_id, _, _ in TABLE for _ in range(3)]
    assert valid_y.tolist() == [class_id for class_id, _, _ in TABLE for _ in range(2)]
    sampler = PatchSampler(pool, params(), 16, 0)
    # Backwards, one by one.
    for place, (_, image, _) in reversed(list(enumerate(TABLE))):
        assert np.array_equal(train[3 * place : 3 * place + 3], sampler.patches(image, 3, Purpose.TRAIN_PATCH))
        assert np.array_equal(valid[2 * place : 2 * place + 2], sampler.patches(image, 2, Purpose.VALID_PATCH))


def test_validation_patches_are_none_of_the_training_patches(made: Path) -> None:
    train, valid = (np.load(made / f"{name}.npy") for name in ("train", "valid"))
    labels, valid_labels = np.load(made / "train_y.npy"), np.load(made / "valid_y.npy")
    for patch, label in zip(valid, valid_labels, strict=True):
        if len(np.unique(patch.reshape(-1, 3), axis=0)) > 1:  # those of flat images may well be alike
            assert not any(np.array_equal(patch, other) for other in train[labels == label])


def test_flat_images_give_flat_patches(made: Path) -> None:
    for patch in np.load(made / "train.npy")[[6, 7, 8, 12, 13, 14]]:  # the flat image, the single pixel
        assert np.ptp(patch.astype(int), axis=(0, 1)).max() <= 1


def test_files_beside_the_patches(pool: ImageFolder, made: Path) -> None:
    anchors = pd.read_csv(made / "anchors.csv")
    assert list(anchors.columns) == ["image_id", "anchor", "row", "column"]
    assert anchors["image_id"].tolist() == [image for _, image, _ in TABLE]
    sampler = PatchSampler(pool, params(), 16, 0)
    for image, anchor, row, column in anchors.itertuples(index=False):
        assert sampler.anchors(image)[anchor].tolist() == [row, column]
        assert 0 <= row < SIZES[image][0]
        assert 0 <= column < SIZES[image][1]

    saved = json.loads((made / "recipe.json").read_text())
    image, patches = np.asarray(pool[7], np.float32) / np.float32(255), []
    for compose in (A.from_dict(saved), sampler.recipe):
        bind(compose, np.random.default_rng(4))
        patches.append(compose(image=image, anchor=(3, 90))["image"])
    assert np.array_equal(*patches)

    train = np.load(made / "train.npy").astype(float) / 255
    summary = json.loads((made / "set.json").read_text())
    assert summary.pop("mean") == pytest.approx(train.mean(axis=(0, 1, 2)))
    assert summary.pop("std") == pytest.approx(train.std(axis=(0, 1, 2)))
    names = ("train", "train_y", "valid", "valid_y")
    assert summary == {
        "mode": "materialised",
        "classes": 5,
        "images": 8,
        "patch": 16,
        "train_patches": 24,
        "valid_patches": 16,
        "sha256": digest(*(made / f"{name}.npy" for name in names)),
    }


def test_set_with_a_budget_for_each_class_and_several_anchors(pool: ImageFolder, tmp_path: Path) -> None:
    budget = trained(patches_per_image=None, patches_per_class=2)
    summary = written(tmp_path / "set", pool, trained=budget, params=params(anchors_per_image=2))
    assert summary["train_patches"] == 10
    assert summary["valid_patches"] == 16  # the third image of class 2 has no training patch, but these
    labels = np.load(tmp_path / "set" / "train_y.npy")
    assert labels.tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
    sampler = PatchSampler(pool, params(anchors_per_image=2), 16, 0)
    train = np.load(tmp_path / "set" / "train.npy")
    expected = [
        sampler.patches(image, n, Purpose.TRAIN_PATCH)
        for image, n in [(6, 1), (2, 1), (5, 2), (0, 1), (4, 1), (1, 0), (3, 2), (7, 2)]
    ]
    assert np.array_equal(train, np.concatenate(expected))
    anchors = pd.read_csv(tmp_path / "set" / "anchors.csv")
    assert anchors["anchor"].tolist() == [0, 1] * 8
    assert anchors["image_id"].tolist() == [image for _, image, _ in TABLE for _ in range(2)]


def test_a_task_without_training_patches(pool: ImageFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    budget = trained(patches_per_image=None, patches_per_class=2)
    written(tmp_path / "one", pool, trained=budget)
    monkeypatch.setattr(partial_set, "IMAGES_A_TASK", 1)  # the sixth image has none
    written(tmp_path / "other", pool, trained=budget)
    assert contents(tmp_path / "one") == contents(tmp_path / "other")


def test_another_seed_draws_another_set(pool: ImageFolder, made: Path, tmp_path: Path) -> None:
    summary = written(tmp_path / "set", pool, seed=1)
    assert summary["sha256"] != json.loads((made / "set.json").read_text())["sha256"]


# Interrupted


class Killed(BaseException):
    """Stands for a process that ends here."""


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_what_is_drawn_is_not_drawn_again(
    workers: int, pool: ImageFolder, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(partial_set, "IMAGES_A_TASK", 2)
    finish, finished, again = PartialSet.finish, list[int](), list[int]()

    def die(self: PartialSet, result: TaskResult) -> None:
        if len(finished) == 2:
            raise Killed
        finished.append(result.task.number)
        finish(self, result)

    def go_on(self: PartialSet, result: TaskResult) -> None:
        again.append(result.task.number)
        finish(self, result)

    monkeypatch.setattr(PartialSet, "finish", die)
    with pytest.raises(Killed):
        written(tmp_path / "set", pool, workers=workers)
    assert not (tmp_path / "set").exists()
    monkeypatch.setattr(PartialSet, "finish", go_on)
    written(tmp_path / "set", pool, workers=workers)
    assert finished == [0, 1]
    assert again == [2, 3]
    assert not (tmp_path / "set-work").exists()
    assert contents(tmp_path / "set") == contents(made)


def test_set_of_another_identity_is_begun_anew(
    pool: ImageFolder, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(surrogate_set, "_write_tables", Dying(None, 1, after=False))
        with pytest.raises(Killed):
            written(tmp_path / "set", pool, seed=7, identity="seed 7")
    assert np.load(tmp_path / "set-work" / "done.npy").all()
    written(tmp_path / "set", pool, identity="seed 0")
    assert contents(tmp_path / "set") == contents(made)


POINTS = [
    (np.lib.format, "open_memmap"),
    (os, "posix_fallocate"),
    (partial_set, "write_array"),
    (surrogate_set, "write_rows"),
    (PartialSet, "finish"),
    (surrogate_set, "write_array"),
    (surrogate_set, "write_json"),
    (shutil, "move"),
    (shutil, "rmtree"),
    (Path, "unlink"),
    (Path, "write_text"),
    (Path, "replace"),
]


class Dying:
    """A function during one call of which the process ends."""

    def __init__(self, function: Any, call: int, after: bool):
        self.function, self.call, self.after = function, call, after
        self.calls = 0

    def __call__(self, *words: Any, **options: Any) -> Any:
        self.calls += 1
        if self.calls == self.call and not self.after:
            raise Killed
        result = self.function(*words, **options)
        if self.calls == self.call:
            raise Killed
        return result

    def __get__(self, instance: Any, owner: type) -> Any:
        return functools.partial(self, instance)


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize(("owner", "name"), POINTS, ids=[f"{name}" for _, name in POINTS])
def test_killed_at_each_call_that_changes_the_disk(
    owner: Any, name: str, after: bool, pool: ImageFolder, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """During the first call, the next time during the second, and so on until the set is whole."""
    monkeypatch.setattr(partial_set, "IMAGES_A_TASK", 4)
    for call in range(1, 100):
        dying = Dying(getattr(owner, name), call, after)
        with monkeypatch.context() as patch, contextlib.suppress(Killed):
            patch.setattr(owner, name, dying)
            written(tmp_path / "set", pool)
            break
    assert 1 <= dying.calls < call
    assert contents(tmp_path / "set") == contents(made)
    assert not (tmp_path / "set-work").exists()


def test_a_set_whose_removal_was_cut_off_is_not_taken_for_whole(
    pool: ImageFolder, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A parameter is changed and taken back, and the process ends while it removes the set's larger file."""
    with monkeypatch.context() as patch, contextlib.suppress(Killed):
        patch.setattr(PartialSet, "finish", Dying(PartialSet.finish, 1, False))
        written(tmp_path / "set", pool)
    unfinished = tmp_path / "set-work"
    identity = (unfinished / "identity").read_text()
    (unfinished / "identity").write_text("another")

    def killed(folder: Path, **_: Any) -> None:
        (folder / "set" / "train.npy").unlink()
        raise Killed

    with monkeypatch.context() as patch, contextlib.suppress(Killed):
        patch.setattr(shutil, "rmtree", killed)
        written(tmp_path / "set", pool)
    assert not (unfinished / "identity").exists(), f"else {identity} would go on with what is left"
    written(tmp_path / "set", pool)
    assert contents(tmp_path / "set") == contents(made)


SCRIPT = """
import sys
from pathlib import Path
import numpy as np, pandas as pd
from exemplarcnn.config import profiles
from exemplarcnn.config.params import parse
from exemplarcnn.data.stl10 import ImageFile
from exemplarcnn.patches import partial_set
from exemplarcnn.patches.surrogate_set import DrawingJob, SetDefinition, write_set
if __name__ == "__main__":
    partial_set.IMAGES_A_TASK = 4
    here = Path(sys.argv[1])
    values = parse(profiles.compose(Path(sys.argv[2]), "sample"), "test")
    budget = values.variants.train["baseline"].model_copy(update={"patches_per_image": 10})
    table = pd.DataFrame({"class_id": np.arange(60), "image_id": np.arange(60), "origin": "seed"})
    pool = ImageFile(here.parent / "pool.bin")
    definition = SetDefinition(pool, table, values.surrogate, budget, seed=0)
    write_set(definition, DrawingJob(here / "set", here / "work", workers=int(sys.argv[3])))
"""


@pytest.mark.slow
def test_killed_process_is_continued_and_its_workers_end_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "draw.py").write_text(SCRIPT)
    write_images(tmp_path / "pool.bin", np.random.default_rng(0).integers(0, 256, (60, 96, 96, 3), dtype=np.uint8))

    def arguments(name: str, workers: int) -> list[str]:
        (tmp_path / name).mkdir(exist_ok=True)
        return [str(tmp_path / "draw.py"), str(tmp_path / name), str(CONF), str(workers)]

    def start(name: str) -> psutil.Popen:
        return psutil.Popen([sys.executable, *arguments(name, workers=2)], stderr=subprocess.DEVNULL)

    def drawn() -> int:
        with contextlib.suppress(OSError, ValueError, EOFError):
            return int(np.load(tmp_path / "killed" / "work" / "done.npy").sum())
        return 0

    process = start("killed")
    workers: list[psutil.Process] = []
    while process.poll() is None and not drawn():
        with contextlib.suppress(psutil.Error):
            workers = process.children(recursive=True) or workers
        time.sleep(0.002)
    process.kill()
    assert process.wait(60) == -signal.SIGKILL
    assert not psutil.wait_procs(workers, timeout=60)[1]
    assert start("killed").wait(300) == 0
    # What is set while the script runs here is set back.
    monkeypatch.setattr(partial_set, "IMAGES_A_TASK", 4)
    monkeypatch.setattr(sys, "argv", arguments("whole", workers=1))
    runpy.run_path(sys.argv[0], run_name="__main__")
    assert contents(tmp_path / "killed" / "set") == contents(tmp_path / "whole" / "set")


# What a person can act on


def test_no_room_is_said_before_anything_is_drawn(
    pool: ImageFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=1000))
    with pytest.raises(SurrogateError, match=r"its patches take 0\.0 GB, and .* has 0\.0 GB free; free some space"):
        written(tmp_path / "set", pool)
    assert not list(tmp_path.rglob("train.npy"))


def test_a_disk_that_fills_up_keeps_what_is_drawn(
    pool: ImageFolder, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(partial_set, "IMAGES_A_TASK", 4)

    def full(path: Path, first: int, rows: NDArray[np.uint8]) -> None:
        if path.name == "train.npy" and first:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write_rows(path, first, rows)

    with monkeypatch.context() as patch:
        patch.setattr(surrogate_set, "write_rows", full)
        with pytest.raises(SurrogateError, match=r"set-work: No space left on device; fix this and rerun"):
            written(tmp_path / "set", pool)
    assert np.load(tmp_path / "set-work" / "done.npy").tolist() == [True, False]
    written(tmp_path / "set", pool)
    assert contents(tmp_path / "set") == contents(made)


def test_a_worker_that_the_system_ends(pool: ImageFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def end(*words: Any) -> Any:
        raise BrokenProcessPool

    monkeypatch.setattr(surrogate_set, "in_order", end)
    with pytest.raises(SurrogateError, match=r"lower machine\.workers and rerun: finished work is kept"):
        written(tmp_path / "set", pool)


def test_one_process_at_a_time(pool: ImageFolder, tmp_path: Path) -> None:
    with (
        FileLock(tmp_path / "set-work.lock"),
        pytest.raises(LockedError, match="another process is drawing the set set-work"),
    ):
        written(tmp_path / "set", pool)
    written(tmp_path / "set", pool)
