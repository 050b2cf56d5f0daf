"""Surrogate sets: many transformed patches of every image of a class table, with the class as label.

A set is a folder. In mode ``online`` it has no ``train.npy``: its patches are drawn while a network trains
(``online.py``), and ``portions.csv`` says which image each row comes from.

=================  ==================================================================================
``train.npy``      (patches, side, side, 3) uint8, ordered by class, image, patch
``train_y.npy``    (patches,) int32, the surrogate class
``valid.npy``      the same for validation: other patches of the same images
``valid_y.npy``    their classes
``anchors.csv``    image_id, anchor, row, column
``portions.csv``   image_id, start, stop: its training rows
``recipe.json``    the albumentations recipe
``set.json``       counts, side of a patch, per-channel mean and std of the training patches in 0–1, digest;
                   ``side``, that of the data set's images, if it is not STL-10's
=================  ==================================================================================
"""

from collections.abc import Iterator
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import albumentations as A
import cv2
import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from exemplarcnn import rng
from exemplarcnn.classes.tables import count
from exemplarcnn.config.base import Mode
from exemplarcnn.config.sections import Surrogate
from exemplarcnn.config.variants import TrainEntry
from exemplarcnn.data.colour_axes import Axes
from exemplarcnn.data.stl10 import SIDE, side_entry
from exemplarcnn.data.types import Pool
from exemplarcnn.errors import reason
from exemplarcnn.files import digest, write_array, write_json, write_rows, write_table
from exemplarcnn.locks import exclusive_lock
from exemplarcnn.patches.allocation import Portion, portions
from exemplarcnn.patches.errors import SurrogateError
from exemplarcnn.patches.partial_set import PartialSet, Task, TaskResult
from exemplarcnn.patches.sampler import PatchSampler
from exemplarcnn.patches.statistics import channel_histogram, channel_statistics
from exemplarcnn.progress import tqdm
from exemplarcnn.workers import in_order


@dataclass(frozen=True)
class SetDefinition:
    """What to draw. The bytes of a set depend on this and on code and packages, and on nothing else.

    Parameters
    ----------
    pool, table
        The images and the class table over them.
    params, trained, seed
        The recipe, the number of patches and their side, the experiment's seed.
    mode
        ``online`` keeps only validation patches; training patches are drawn once, for their statistics.
    axes
        Principal axes of the pool's colours, for a recipe that needs them.
    side
        Side in pixels of the data set's images, whose features the network will compute; images of the pool ``other``
        can have any.
    """

    pool: Pool
    table: pd.DataFrame
    params: Surrogate
    trained: TrainEntry
    seed: int
    mode: Mode = "materialised"
    axes: Axes | None = None
    side: int = SIDE

    def portions(self) -> list[Portion]:
        """Return how many patches are drawn of each image, and the rows that they take."""
        return portions(self.table, self.trained, self.params.valid_patches_per_image)

    def sampler(self) -> PatchSampler:
        """Return the sampler that draws the patches."""
        return PatchSampler(self.pool, self.params, self.trained.patch, self.seed, self.axes)


@dataclass(frozen=True)
class DrawingJob:
    """How to draw a set.

    Parameters
    ----------
    folder
        Folder of the set; replaced if it exists.
    work
        Folder of the unfinished set, removed at the end. If an interrupted job with the same identity left one, it is
        continued.
    workers
        Number of worker processes. The bytes do not depend on it.
    identity
        A hash of the definition and the code.
    """

    folder: Path
    work: Path
    workers: int = 1
    identity: str = ""


def write_set(definition: SetDefinition, job: DrawingJob) -> dict[str, Any]:
    """Draw a surrogate set (docs/method.md, section 2).

    Returns
    -------
    dict
        The content of ``set.json``.

    Raises
    ------
    SurrogateError
        If there are fewer patches than classes, the set cannot be written, or a worker process is killed.
    LockedError
        If another process is drawing this set.
    """
    plan, work = definition.portions(), job.work
    try:
        with exclusive_lock(work, f"drawing the set {work.name}"):
            sampler = definition.sampler()
            partial = _draw_all(definition, job, plan, sampler)
            _write_tables(partial, definition, plan)
            write_json(partial.made / "recipe.json", A.to_dict(sampler.recipe))
            summary = _summary(partial, definition, plan)
            write_json(partial.made / "set.json", summary)
            partial.move_to(job.folder)
    except BrokenProcessPool:
        raise SurrogateError(
            "a worker was killed, probably for lack of memory; lower machine.workers and rerun: finished work is kept"
        ) from None
    except OSError as error:
        raise SurrogateError(
            f"{error.filename or work.absolute()}: {reason(error)}; fix this and rerun: finished work is kept"
        ) from error
    return summary


def _draw_all(definition: SetDefinition, job: DrawingJob, plan: list[Portion], sampler: PatchSampler) -> PartialSet:
    """Draw the patches that are not drawn yet."""
    kept = ("train", "valid") if definition.mode == "materialised" else ("valid",)
    anchors = definition.params.anchors_per_image
    partial = PartialSet(job.work, plan, kept, definition.trained.patch, anchors, job.identity)
    left = [task for task in partial.tasks if not partial.done[task.number]]
    begun = len(plan) - sum(len(task.portions) for task in left)
    with tqdm(total=len(plan), initial=begun, desc="drawing patches", unit="image") as bar:
        for result in in_order(_draw, sampler, left, job.workers if len(left) > 1 else 1):
            partial.finish(result)
            bar.update(len(result.task.portions))
    return partial


def _draw(sampler: PatchSampler, task: Task) -> TaskResult:
    """Draw the patches of some images, and write them to each of the two files in one piece."""
    # One thread each, so that neither the number of processes nor that of cores can change a bit.
    with _one_thread():
        parts = []
        for portion in task.portions:
            image, (start, stop), (first, last) = portion.image, portion.train, portion.valid
            train = sampler.patches(image, stop - start, rng.Purpose.TRAIN_PATCH)
            valid = sampler.patches(image, last - first, rng.Purpose.VALID_PATCH)
            parts.append((train, valid, sampler.anchors(image)[None]))
    train, valid, anchors = (np.concatenate(column) for column in zip(*parts, strict=True))
    for name, patches in (("train", train), ("valid", valid)):
        if name in task.kept:
            write_rows(task.folder / f"{name}.npy", getattr(task.portions[0], name)[0], patches)
    return TaskResult(task, anchors, channel_histogram(train))


@contextmanager
def _one_thread() -> Iterator[None]:
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        with threadpool_limits(1):
            yield
    finally:
        cv2.setNumThreads(before)


def _write_tables(partial: PartialSet, definition: SetDefinition, plan: list[Portion]) -> None:
    """Write labels, anchors and the rows of each image."""
    for name in ("train", "valid"):
        spans = [getattr(portion, name) for portion in plan]
        labels = np.repeat(definition.table["class_id"].to_numpy(np.int32), [last - first for first, last in spans])
        write_array(partial.made / f"{name}_y.npy", labels)
    per_image = definition.params.anchors_per_image
    images = np.repeat([portion.image for portion in plan], per_image)
    numbers = np.tile(np.arange(per_image), len(plan))
    columns = np.column_stack([images, numbers, partial.anchors.reshape(-1, 2)])
    write_table(partial.made / "anchors.csv", pd.DataFrame(columns, columns=["image_id", "anchor", "row", "column"]))
    spans = [[portion.image, *portion.train] for portion in plan]
    write_table(partial.made / "portions.csv", pd.DataFrame(spans, columns=["image_id", "start", "stop"]))


def _summary(partial: PartialSet, definition: SetDefinition, plan: list[Portion]) -> dict[str, Any]:
    """Return the content of ``set.json``."""
    mean, std = channel_statistics(partial.histogram.sum(axis=0))
    return {
        "mode": definition.mode,
        "classes": count(definition.table),
        "images": len(definition.table),
        "patch": definition.trained.patch,
        **side_entry(definition.side),
        "train_patches": plan[-1].train[1],
        "valid_patches": plan[-1].valid[1],
        "mean": mean,
        "std": std,
        "sha256": digest(*sorted(partial.made.glob("*.npy"))),
    }
