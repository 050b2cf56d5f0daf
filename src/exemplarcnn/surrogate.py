"""Surrogate sets: many transformed patches of every image of a class table, with the class as label.

A set is a folder:

=================  ==================================================================================
``train.npy``      (patches, side, side, 3) uint8, ordered by class, image, patch
``train_y.npy``    (patches,) int32, the surrogate class
``valid.npy``      patches drawn apart from the training patches, of the same images
``valid_y.npy``    their classes
``anchors.csv``    image_id, anchor, row, column
``recipe.json``    the albumentations recipe
``set.json``       counts, side, per-channel mean and std of the training patches in 0–1, digest
=================  ==================================================================================
"""

import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import albumentations as A
import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from exemplarcnn import recipe, rng
from exemplarcnn.classes import count, sizes
from exemplarcnn.config import Surrogate, Trained
from exemplarcnn.errors import PipelineError
from exemplarcnn.files import digest, read_array, write_array, write_json, write_table
from exemplarcnn.images import Pool

IMAGES_A_TASK = 32


@dataclass(frozen=True)
class Portion:
    """What is drawn of one image, and where it goes.

    Attributes
    ----------
    image
        Index into the pool.
    train, valid
        First and last + 1 row of its patches in the two arrays.
    """

    image: int
    train: tuple[int, int]
    valid: tuple[int, int]


class SurrogateError(PipelineError):
    """A surrogate set cannot be made as asked."""


def edge_strength(image: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Sobel magnitude of the grey image (docs/method.md, section 2.1).

    Parameters
    ----------
    image
        (height, width, 3) uint8.

    Returns
    -------
    ndarray
        (height, width) float64; outside the image its mirror image continues.
    """
    grey = cv2.cvtColor(image.astype(np.float32) / np.float32(255), cv2.COLOR_RGB2GRAY).astype(np.float64)
    across = cv2.Sobel(grey, cv2.CV_64F, 1, 0, borderType=cv2.BORDER_REFLECT)
    down = cv2.Sobel(grey, cv2.CV_64F, 0, 1, borderType=cv2.BORDER_REFLECT)
    strength = np.hypot(across, down)
    # OpenCV may round the grey of equal pixels differently (at the end of a row, without its vector instructions).
    strength[strength < recipe.FLAT] = 0
    return strength


def draw_anchors(image: NDArray[np.uint8], number: int, generator: np.random.Generator) -> NDArray[np.int64]:
    """Draw pixels with probability proportional to edge strength; evenly where an image has no edges.

    Returns
    -------
    ndarray
        (number, 2) int64, row and column.
    """
    total = np.cumsum(edge_strength(image).ravel())
    if total[-1] <= 0:
        total = np.arange(1.0, total.size + 1)
    picks = np.searchsorted(total, generator.random(number) * total[-1], side="right")
    return np.stack(np.unravel_index(np.minimum(picks, total.size - 1), image.shape[:2]), axis=1).astype(np.int64)


def portions(table: pd.DataFrame, trained: Trained, valid_per_image: int) -> list[Portion]:
    """Share out the rows of the two arrays among the images of a class table.

    With ``patches_per_class`` a class's patches are dealt to its images in turn, so that their numbers differ
    by one at most; with ``patches`` first all patches to the classes in the same way.
    """
    result: list[Portion] = []
    row = 0
    class_sizes = sizes(table)
    if trained.patches is not None and trained.patches < len(class_sizes):
        raise SurrogateError(f"{trained.patches} patches for {len(class_sizes)} classes: at least one each is needed")
    place_in_class = table.groupby("class_id").cumcount()
    rows = zip(table["class_id"], table["image_id"], place_in_class, strict=True)
    for position, (class_id, image, place) in enumerate(rows):
        if trained.patches_per_image is not None:
            number = trained.patches_per_image
        else:
            of_class = trained.patches_per_class or _dealt(trained.patches or 0, len(class_sizes), class_id)
            number = _dealt(of_class, int(class_sizes[class_id]), place)
        valid = (position * valid_per_image, (position + 1) * valid_per_image)
        result.append(Portion(int(image), (row, row + number), valid))
        row += number
    return result


def _dealt(number: int, takers: int, place: int) -> int:
    """How many of a number of things the taker at a place gets if they are dealt in turn."""
    share, rest = divmod(number, takers)
    return share + (place < rest)


class Painter:
    """Draws the anchors and patches of single images.

    Parameters
    ----------
    pool
        The images.
    params, patch, seed
        The recipe's parameters, the side of a patch, the experiment's seed.
    """

    def __init__(self, pool: Pool, params: Surrogate, patch: int, seed: int):
        self.pool, self.params, self.patch = pool, params, patch
        self._anchors = rng.Stream(seed, rng.Purpose.ANCHOR)
        self._seen: tuple[int, recipe.Image, NDArray[np.int64]] | None = None
        self._streams = {p: rng.Stream(seed, p) for p in (rng.Purpose.TRAIN_PATCH, rng.Purpose.VALID_PATCH)}
        self.recipe = recipe.build(params, patch)

    def anchors(self, image: int) -> NDArray[np.int64]:
        """Return the image's anchors, (anchors_per_image, 2) int64, row and column."""
        return self._look_at(image)[1]

    def patches(self, image: int, number: int, purpose: rng.Purpose) -> NDArray[np.uint8]:
        """Return the first ``number`` patches of an image, (number, patch, patch, 3) uint8."""
        pixels, points = self._look_at(image)
        anchors = [(int(row), int(column)) for row, column in points]
        stream = self._streams[purpose]
        recipe.bind(self.recipe, stream.generator)
        result = np.empty((number, self.patch, self.patch, 3), np.uint8)
        for index in range(number):
            stream.at(image, index)
            result[index] = recipe.to_uint8(self.recipe(image=pixels, anchor=anchors[index % len(anchors)])["image"])
        return result

    def _look_at(self, image: int) -> tuple[recipe.Image, NDArray[np.int64]]:
        """Return an image's pixels, float32 in 0–1, and its anchors; the last image looked at is kept."""
        if self._seen is None or self._seen[0] != image:
            pixels = self.pool[image]
            anchors = draw_anchors(pixels, self.params.anchors_per_image, self._anchors.at(image))
            self._seen = image, pixels.astype(np.float32) / np.float32(255), anchors
        return self._seen[1:]


Task = tuple[list[Portion], Path]
Painted = tuple[int, list[list[int]]]


def _paint(painter: Painter, task: Task) -> Painted:
    """Fill the rows of some images in both arrays; return how many images, and their anchors."""
    some, folder = task
    cv2.setNumThreads(1)
    train = np.load(folder / "train.npy", mmap_mode="r+")
    valid = np.load(folder / "valid.npy", mmap_mode="r+")
    anchors: list[list[int]] = []
    # One thread each: neither the number of processes nor that of cores may change a bit.
    with threadpool_limits(1):
        for portion in some:
            for array, (first, last), purpose in (
                (train, portion.train, rng.Purpose.TRAIN_PATCH),
                (valid, portion.valid, rng.Purpose.VALID_PATCH),
            ):
                array[first:last] = painter.patches(portion.image, last - first, purpose)
            anchors += [[portion.image, i, *map(int, a)] for i, a in enumerate(painter.anchors(portion.image))]
    return len(some), anchors


class _Worker:
    """What a worker process keeps from task to task, so that the pool of images travels to it once."""

    painter: Painter

    @classmethod
    def start(cls, painter: Painter) -> None:
        cls.painter = painter

    @classmethod
    def paint(cls, task: Task) -> Painted:
        return _paint(cls.painter, task)


def _run(painter: Painter, tasks: list[Task], workers: int) -> Iterator[Painted]:
    if workers == 1 or len(tasks) == 1:
        yield from (_paint(painter, task) for task in tasks)
        return
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, spawn, initializer=_Worker.start, initargs=(painter,)) as executor:
        yield from executor.map(_Worker.paint, tasks)


def channel_statistics(patches: NDArray[np.uint8]) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of each channel over all pixels, in 0–1, exact whatever the order.

    Sums are integers, so that they do not depend on the size of a block.
    """
    histogram = np.zeros((3, 256), np.int64)
    for start in range(0, len(patches), 4096):
        block = np.asarray(patches[start : start + 4096]).reshape(-1, 3)
        for channel in range(3):
            histogram[channel] += np.bincount(block[:, channel], minlength=256)
    values, total = np.arange(256), int(histogram[0].sum())
    first, second = histogram @ values, histogram @ (values**2)
    mean = [int(s) / total / 255 for s in first]
    std = [((total * int(q) - int(s) ** 2) ** 0.5) / total / 255 for s, q in zip(first, second, strict=True)]
    return mean, std


def write_set(
    folder: Path,
    pool: Pool,
    table: pd.DataFrame,
    params: Surrogate,
    trained: Trained,
    seed: int,
    workers: int,
) -> dict[str, Any]:
    """Draw a surrogate set into an existing empty folder (docs/method.md, section 2).

    Parameters
    ----------
    folder
        Where the files go.
    pool, table
        The images and the class table over them.
    params, trained, seed
        The recipe, the budget and patch side, the experiment's seed.
    workers
        Processes. The bytes do not depend on it.

    Returns
    -------
    dict
        What ``set.json`` holds.
    """
    plan = portions(table, trained, params.valid_patches_per_image)
    side = trained.patch
    for name, rows in (("train", plan[-1].train[1]), ("valid", plan[-1].valid[1])):
        np.lib.format.open_memmap(folder / f"{name}.npy", "w+", np.uint8, (rows, side, side, 3)).flush()
        spans = [getattr(portion, name) for portion in plan]
        labels = np.repeat(table["class_id"].to_numpy(np.int32), [last - first for first, last in spans])
        write_array(folder / f"{name}_y.npy", labels)

    painter = Painter(pool, params, side, seed)
    tasks = [(plan[i : i + IMAGES_A_TASK], folder) for i in range(0, len(plan), IMAGES_A_TASK)]
    anchors: list[list[int]] = []
    with tqdm(total=len(plan), desc="drawing patches", unit="image") as bar:
        for done, some in _run(painter, tasks, workers):
            anchors += some
            bar.update(done)
    frame = pd.DataFrame(anchors, columns=["image_id", "anchor", "row", "column"])
    write_table(folder / "anchors.csv", frame)

    mean, std = channel_statistics(read_array(folder / "train.npy"))
    summary = {
        "classes": count(table),
        "images": len(table),
        "patch": side,
        "train_patches": plan[-1].train[1],
        "valid_patches": plan[-1].valid[1],
        "mean": mean,
        "std": std,
        "sha256": digest(*(folder / f"{name}.npy" for name in ("train", "train_y", "valid", "valid_y"))),
    }
    write_json(folder / "recipe.json", A.to_dict(painter.recipe))
    write_json(folder / "set.json", summary)
    return summary
