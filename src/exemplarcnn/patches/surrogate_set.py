"""Surrogate sets: many transformed patches of every image of a class table, with the class as label.

A set is a folder. In mode ``online`` it has no ``train.npy``: its patches are drawn while a network trains
(``online.py``), and ``portions.csv`` says which row is of which image.

=================  ==================================================================================
``train.npy``      (patches, side, side, 3) uint8, ordered by class, image, patch
``train_y.npy``    (patches,) int32, the surrogate class
``valid.npy``      patches drawn apart from the training patches, of the same images
``valid_y.npy``    their classes
``anchors.csv``    image_id, anchor, row, column
``portions.csv``   image_id, start, stop: its training rows
``recipe.json``    the albumentations recipe
``set.json``       counts, side of a patch, per-channel mean and std of the training patches in 0–1, digest;
                   ``side``, that of the data set's images, where it is not STL-10's
=================  ==================================================================================
"""

from collections.abc import Iterator
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import albumentations as A
import cv2
import numpy as np
import pandas as pd
from filelock import FileLock, Timeout
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from exemplarcnn import rng
from exemplarcnn.classes.tables import count
from exemplarcnn.config import Mode, Surrogate, Trained
from exemplarcnn.data.colour_axes import Axes
from exemplarcnn.data.stl10 import SIDE, side_entry
from exemplarcnn.data.types import Pixels, Pool
from exemplarcnn.errors import reason
from exemplarcnn.files import digest, write_array, write_json, write_rows, write_table
from exemplarcnn.patches.allocation import Portion, SurrogateError, portions
from exemplarcnn.patches.anchors import draw_anchors
from exemplarcnn.patches.partial_set import Drawn, Task, Unfinished
from exemplarcnn.patches.recipes import arazo, dosovitskiy
from exemplarcnn.progress import tqdm
from exemplarcnn.workers import in_order


class Painter:
    """Draws the anchors and patches of single images.

    Parameters
    ----------
    pool
        The images.
    params, patch, seed
        The recipe's parameters, the side of a patch, the experiment's seed.
    axes
        Of the pool's colours, for the recipe `dosovitskiy`.
    """

    def __init__(self, pool: Pool, params: Surrogate, patch: int, seed: int, axes: Axes | None = None):
        self.pool, self.params, self.patch = pool, params, patch
        self._anchors = rng.Stream(seed, rng.Purpose.ANCHOR)
        self._seen: tuple[int, Pixels, NDArray[np.int64]] | None = None
        self._streams = {p: rng.Stream(seed, p) for p in (rng.Purpose.TRAIN_PATCH, rng.Purpose.VALID_PATCH)}
        self.recipe = build_recipe(params, patch, axes)

    def anchors(self, image: int) -> NDArray[np.int64]:
        """Return the image's anchors, (anchors_per_image, 2) int64, row and column."""
        return self._look_at(image)[1]

    def patches(self, image: int, number: int, purpose: rng.Purpose) -> NDArray[np.uint8]:
        """Return the first ``number`` patches of an image, (number, patch, patch, 3) uint8."""
        pixels, anchors = self._look_at(image)
        source = pixels[None].astype(np.float32) / np.float32(255)
        stream = self._streams[purpose]
        result = np.empty((number, self.patch, self.patch, 3), np.uint8)
        for start in range(0, number, arazo.PATCHES_AT_A_TIME):
            numbers = np.arange(start, min(start + arazo.PATCHES_AT_A_TIME, number))
            streams = (stream.at(image, index) for index in numbers.tolist())
            draws = arazo.draw(self.recipe, streams, pixels.shape, anchors[numbers % len(anchors)])
            result[start : start + len(numbers)] = arazo.paint(self.recipe, source, draws)
        return result

    def _look_at(self, image: int) -> tuple[Pixels, NDArray[np.int64]]:
        """Return an image's pixels and its anchors; the last image looked at is kept."""
        if self._seen is None or self._seen[0] != image:
            pixels = self.pool[image]
            anchors = draw_anchors(pixels, self.params.anchors_per_image, self._anchors.at(image))
            self._seen = image, pixels, anchors
        return self._seen[1:]


def build_recipe(params: Surrogate, patch: int, axes: Axes | None = None) -> A.Compose:
    """Build the recipe that the parameters name; `dosovitskiy` needs the axes of the pool's colours."""
    if params.recipe == "arazo":
        return arazo.build(params, patch)
    if axes is None:
        raise SurrogateError("the recipe dosovitskiy needs the axes of the pool's colours")
    return dosovitskiy.build(params, patch, axes)


def _draw(painter: Painter, task: Task) -> Drawn:
    """Draw the patches of some images and write them, to each of the two files in one piece."""
    # One thread each: neither the number of processes nor that of cores may change a bit.
    with _one_thread():
        parts = []
        for portion in task.portions:
            image, (start, stop), (first, last) = portion.image, portion.train, portion.valid
            train = painter.patches(image, stop - start, rng.Purpose.TRAIN_PATCH)
            valid = painter.patches(image, last - first, rng.Purpose.VALID_PATCH)
            parts.append((train, valid, painter.anchors(image)[None]))
    train, valid, anchors = (np.concatenate(column) for column in zip(*parts, strict=True))
    for name, patches in (("train", train), ("valid", valid)):
        if name in task.kept:
            write_rows(task.folder / f"{name}.npy", getattr(task.portions[0], name)[0], patches)
    return Drawn(task, anchors, channel_histogram(train))


@contextmanager
def _one_thread() -> Iterator[None]:
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        with threadpool_limits(1):
            yield
    finally:
        cv2.setNumThreads(before)


def channel_histogram(patches: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Count the values of each channel, (3, 256) int64, in patches (n, side, side, 3)."""
    total = np.zeros((3, 256), np.int64)
    # OpenCV counts in float32, which is exact to 2**24.
    step = max(1, 2**23 // (patches.shape[1] * patches.shape[2]))
    for start in range(0, len(patches), step):
        block = patches[start : start + step].reshape(1, -1, 3)
        for channel in range(3):
            total[channel] += cv2.calcHist([block], [channel], None, [256], [0, 256]).ravel().astype(np.int64)
    return total


def channel_statistics(histogram: NDArray[np.int64]) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of each channel in 0–1, from how often each value occurs, (3, 256) int64.

    Sums are integers, so that no order of patches can change them.
    """
    values, total = np.arange(256), int(histogram[0].sum())
    first, second = histogram @ values, histogram @ (values**2)
    mean = [int(s) / total / 255 for s in first]
    std = [((total * int(q) - int(s) ** 2) ** 0.5) / total / 255 for s, q in zip(first, second, strict=True)]
    return mean, std


def write_set(
    folder: Path,
    work: Path,
    pool: Pool,
    table: pd.DataFrame,
    params: Surrogate,
    trained: Trained,
    seed: int,
    workers: int,
    identity: str = "",
    mode: Mode = "materialised",
    axes: Axes | None = None,
    side: int = SIDE,
) -> dict[str, Any]:
    """Draw a surrogate set (docs/method.md, section 2).

    Parameters
    ----------
    folder
        The set; replaced if it exists.
    work
        Folder for the unfinished set, gone at the end. One that an interrupted call with the same identity left is
        continued in.
    pool, table
        The images and the class table over them.
    params, trained, seed
        The recipe, the budget and patch side, the experiment's seed.
    workers
        Processes. The bytes do not depend on it.
    identity
        What all of the above amounts to, and the code with it.
    mode
        ``online`` keeps the validation patches alone; the training patches are drawn once for their statistics.
    axes
        Of the pool's colours, for the recipe `dosovitskiy`.
    side
        Of the data set's images, which the network is going to describe; those of the pool `other` have any.

    Returns
    -------
    dict
        What ``set.json`` holds.

    Raises
    ------
    SurrogateError
        If there are fewer patches than classes, no room for them or no right to write, if a worker process is ended
        by the system, or another process draws this set.
    """
    plan = portions(table, trained, params.valid_patches_per_image)
    try:
        work.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(work.with_name(f"{work.name}.lock"), timeout=0):
            kept = ("train", "valid") if mode == "materialised" else ("valid",)
            unfinished = Unfinished(work, plan, kept, trained.patch, params.anchors_per_image, identity)
            painter = Painter(pool, params, trained.patch, seed, axes)
            left = [task for task in unfinished.tasks if not unfinished.done[task.number]]
            begun = len(plan) - sum(len(task.portions) for task in left)
            with tqdm(total=len(plan), initial=begun, desc="drawing patches", unit="image") as bar:
                for drawn in in_order(_draw, painter, left, workers if len(left) > 1 else 1):
                    unfinished.finish(drawn)
                    bar.update(len(drawn.task.portions))
            summary = _complete(unfinished, plan, table, trained, params, painter, mode, side)
            unfinished.hand_over(folder)
    except Timeout:
        raise SurrogateError(f"another process is drawing the set of {work.absolute()}; wait for it") from None
    except BrokenProcessPool:
        raise SurrogateError(
            "a worker was killed, probably for lack of memory: lower machine.workers; "
            "rerun to continue: what is drawn is kept"
        ) from None
    except OSError as error:
        raise SurrogateError(
            f"{error.filename or work.absolute()}: {reason(error)}; fix this and rerun: what is drawn is kept"
        ) from error
    return summary


def _complete(
    unfinished: Unfinished,
    plan: list[Portion],
    table: pd.DataFrame,
    trained: Trained,
    params: Surrogate,
    painter: Painter,
    mode: Mode,
    side: int,
) -> dict[str, Any]:
    """Write all that a set has beside the patches; return its summary."""
    made = unfinished.made
    for name in ("train", "valid"):
        spans = [getattr(portion, name) for portion in plan]
        labels = np.repeat(table["class_id"].to_numpy(np.int32), [last - first for first, last in spans])
        write_array(made / f"{name}_y.npy", labels)
    images = np.repeat([portion.image for portion in plan], params.anchors_per_image)
    numbers = np.tile(np.arange(params.anchors_per_image), len(plan))
    columns = np.column_stack([images, numbers, unfinished.anchors.reshape(-1, 2)])
    write_table(made / "anchors.csv", pd.DataFrame(columns, columns=["image_id", "anchor", "row", "column"]))
    spans = [[portion.image, *portion.train] for portion in plan]
    write_table(made / "portions.csv", pd.DataFrame(spans, columns=["image_id", "start", "stop"]))
    mean, std = channel_statistics(unfinished.histogram.sum(axis=0))
    summary = {
        "mode": mode,
        "classes": count(table),
        "images": len(table),
        "patch": trained.patch,
        **side_entry(side),
        "train_patches": plan[-1].train[1],
        "valid_patches": plan[-1].valid[1],
        "mean": mean,
        "std": std,
        "sha256": digest(*sorted(made.glob("*.npy"))),
    }
    write_json(made / "recipe.json", A.to_dict(painter.recipe))
    write_json(made / "set.json", summary)
    return summary
