"""Measure here and now, for a second or a few, how long each operation takes.

What is measured is the code that the stages run, with networks of the sizes that the parameters ask for, on images of
this data set; weights are the initial ones, since what they are changes no time.
"""

import hashlib
import itertools
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial, singledispatch
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from exemplarcnn import paths, threads
from exemplarcnn.clustering import radius_graph, sketch
from exemplarcnn.clustering.widths import compare_blocks
from exemplarcnn.config.params import Config
from exemplarcnn.config.sections import Features
from exemplarcnn.data import audit, near_duplicates, pools, stl10
from exemplarcnn.data.colour_axes import Axes
from exemplarcnn.data.types import DataError, Pixels, Pool
from exemplarcnn.determinism import shared_operations
from exemplarcnn.evaluation import kmeans
from exemplarcnn.networks import exemplar_cnn, features, resnet
from exemplarcnn.networks.chunks import map_chunks
from exemplarcnn.patches.recipes import needs
from exemplarcnn.patches.sampler import PatchSampler
from exemplarcnn.planning.operations import (
    Describe,
    DrawPatch,
    Eigen,
    Hash,
    Inspect,
    KMeansDescribe,
    Multiply,
    Operation,
    Resemble,
    ResNetClassify,
    ResNetStep,
    Step,
    Validate,
)
from exemplarcnn.rng import Purpose
from exemplarcnn.training.batches import Batch, TrainingData
from exemplarcnn.training.checkpoint import Checkpoint
from exemplarcnn.training.labelled_images import AugmentedImages
from exemplarcnn.training.shards import outputs_of
from exemplarcnn.training.trainer import VALIDATION_BATCH, Trainer

COMPARED = 1_500  # images of which all pairs are compared by their spectra
# Of an operation that takes less, several are timed.
SECONDS = 1.5
# For a recipe that changes colours along axes: which ones changes no time.
ANY_AXES = Axes((0.5, 0.5, 0.5), ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)), (0.1, 0.1, 0.1))
IMAGES = 40  # that are read, or drawn from, spread over a pool
PATCHES_PER_IMAGE = 16


@dataclass(frozen=True)
class Bench:
    """Where operations are measured.

    Attributes
    ----------
    config, data, device
        The parameters, the folder of the image set, the device that trains.
    """

    config: Config
    data: Path
    device: torch.device

    def pool(self, name: str) -> Pool:
        """Open a pool."""
        return pools.open_pool(self.data, name)

    def some(self, name: str, count: int = IMAGES) -> list[int]:
        """Return ids of up to ``count`` images of a pool that can be read, spread over it."""
        pool, found = self.pool(name), []
        for image in np.unique(np.linspace(0, len(pool) - 1, count).astype(int)).tolist():
            try:
                pool.read(image)
            except DataError:
                continue
            found.append(image)
        if not found:
            raise DataError(f"{pool.path}: none of {count} images can be read, so nothing can be measured; check them")
        return found


@singledispatch
def measure(operation: Operation, bench: Bench) -> float:
    """Return the seconds that an operation takes once."""
    raise TypeError(operation)


def _seconds(work: Callable[[], object], count: int = 1) -> float:
    """Return how long one of ``count`` things takes that ``work`` does, the first time apart if that is short."""
    begun = time.perf_counter()
    work()
    if (first := time.perf_counter() - begun) > 2 * SECONDS > 0:
        return first / count
    begun, calls = time.perf_counter(), 0
    while calls == 0 or time.perf_counter() - begun < SECONDS:
        work()
        calls += 1
    return (time.perf_counter() - begun) / calls / count


@measure.register
def _(operation: Inspect, bench: Bench) -> float:
    pool, chosen = bench.pool(operation.pool), bench.some(operation.pool)

    def inspect() -> None:
        for image in chosen:
            pixels, _ = pool.read(image)
            audit.border_widths(pixels, bench.config.audit.borders)
            audit.contrast(pixels)
            audit.colourfulness(pixels)
            again = pool[image]
            near_duplicates.spectrum(near_duplicates.grey_levels(again))
            hashlib.sha256(again.tobytes()).digest()

    return _seconds(inspect, len(chosen))


@measure.register
def _(operation: Resemble, bench: Bench) -> float:
    pool, params = bench.pool("unlabeled"), bench.config.audit.duplicates
    levels = [near_duplicates.grey_levels(pool[image]) for image in bench.some("unlabeled", COMPARED)]
    spectra = np.stack([near_duplicates.spectrum(each) for each in levels])
    alike = np.argwhere(np.triu(spectra @ spectra.T >= params.spectrum, 1)).tolist()
    trials = alike[:IMAGES] or [[0, len(levels) - 1]]

    def compare() -> None:
        for first, second in trials:
            near_duplicates.similarity(
                near_duplicates.fine_structure(levels[first]),
                near_duplicates.fine_structure(levels[second]),
                params.shift,
            )

    return len(alike) / max(1, len(levels) * (len(levels) - 1) / 2) * _seconds(compare, len(trials))


def _sampler(bench: Bench, pool: str, patch: int) -> PatchSampler:
    params = bench.config.surrogate
    axes = ANY_AXES if params.recipe in needs.COLOUR_AXES else None
    return PatchSampler(bench.pool(pool), params, patch, bench.config.seed, axes)


@measure.register
def _(operation: DrawPatch, bench: Bench) -> float:
    chosen, sampler = bench.some(operation.pool), _sampler(bench, operation.pool, operation.patch)

    def draw() -> None:
        for image in chosen:
            sampler.patches(image, PATCHES_PER_IMAGE, Purpose.TRAIN_PATCH)

    return _seconds(draw, len(chosen) * PATCHES_PER_IMAGE)


class _Noise:
    """Images of noise instead of patches."""

    def __init__(self, count: int, side: int, classes: int, device: torch.device):
        generator = torch.Generator().manual_seed(0)
        size = (min(count, 512), side, side, 3)
        self.images = torch.randint(0, 256, size, dtype=torch.uint8, generator=generator).to(device)
        self.labels = torch.randint(0, classes, (len(self.images),), generator=generator).to(device)
        self.count = count

    def __len__(self) -> int:
        return self.count

    def each(self, rows: Iterable[NDArray[np.int64]], epoch: int) -> Iterator[Batch]:
        """Yield a batch for each group of rows."""
        for some in rows:
            index = torch.from_numpy(some % len(self.images)).to(self.images.device)
            yield self.images[index], self.labels[index]


def _trainer(operation: Step | Validate, bench: Bench, folder: Path, valid: int) -> Trainer:
    """Return a trainer of such a network on noise."""
    config = bench.config
    net = exemplar_cnn.initialise(config.network, operation.classes, operation.patch, config.seed)
    noise = partial(_Noise, side=operation.patch, classes=operation.classes, device=bench.device)
    data = TrainingData(noise(config.train.batch_size), noise(valid))
    return Trainer(net, data, config.train, config.seed, bench.device, Checkpoint(folder / "checkpoint", {}))


@measure.register
def _(operation: Step, bench: Bench) -> float:
    with TemporaryDirectory() as folder:
        trainer = _trainer(operation, bench, Path(folder), VALIDATION_BATCH)
        size = bench.config.train.batch_size
        ((_, labels),) = trainer.data.train.each([np.arange(size)], 0)
        batches = _batches(operation, bench, size)
        trainer.shards.train()

        return _seconds_of_steps(trainer, ((images, labels) for images in batches), size)


def _seconds_of_steps(trainer: Trainer, batches: Iterator[Batch], size: int) -> float:
    """Return the seconds that a step takes, batches included."""

    def step() -> None:
        trainer.step(*next(batches), size)
        if trainer.device.type == "cuda":
            torch.cuda.synchronize()

    return _seconds(step)


def _batches(operation: Step, bench: Bench, size: int) -> Iterator[Tensor]:
    """Yield a batch of noise again and again, or batches that a thread draws meanwhile, as `training.online` does."""
    if operation.pool is None:
        noise = _Noise(size, operation.patch, operation.classes, bench.device)
        ((images, _),) = noise.each([np.arange(size)], 0)
        return itertools.repeat(images)
    chosen, sampler = itertools.cycle(bench.some(operation.pool)), _sampler(bench, operation.pool, operation.patch)

    def draw(_: int) -> Tensor:
        each = -(-size // PATCHES_PER_IMAGE)
        drawn = [sampler.patches(next(chosen), PATCHES_PER_IMAGE, Purpose.TRAIN_PATCH) for _ in range(each)]
        return torch.from_numpy(np.concatenate(drawn)[:size]).to(bench.device)

    return threads.ahead(draw, itertools.count())


@measure.register
def _(operation: Validate, bench: Bench) -> float:
    count = 4 * threads.count() * VALIDATION_BATCH
    with TemporaryDirectory() as folder:
        trainer = _trainer(operation, bench, Path(folder), count)
        return _seconds(trainer._validate, count)


@measure.register
def _(operation: Describe, bench: Bench) -> float:
    config = bench.config
    net = exemplar_cnn.initialise(config.network, operation.classes, operation.patch, config.seed)
    if isinstance(operation.params, Features):
        extract = features.eval_features(net, operation.params, bench.device)
    else:
        extract = features.cluster_features(net, config.cluster, config.features.dense_stride, bench.device)
    return _of_images(bench, extract, config.features.batch_size)


def _of_images(bench: Bench, extract: features.FeatureExtractor, batch_size: int) -> float:
    """Return the seconds for one of the unlabelled images."""
    pool, count = bench.pool("unlabeled"), 2 * threads.count() * batch_size

    def read(rows: NDArray[np.int64]) -> Pixels:
        return pool.batch(rows % len(pool))

    return _seconds(lambda: list(map_chunks(read, extract, count, batch_size)), count)


@measure.register
def _(operation: ResNetStep, bench: Bench) -> float:
    config = bench.config
    params = config.resnet
    classes = len(stl10.read_class_names(bench.data / paths.CLASS_NAMES.name))
    pool = bench.pool("train")
    table = pd.DataFrame({"pool": "train", "image_id": np.arange(len(pool)), "label": 0})
    images = AugmentedImages({"train": pool}, table, bench.device, params.augment, params.epoch_images, config.seed)
    network = resnet.initialise(params, classes, config.seed)
    with TemporaryDirectory() as folder:
        checkpoint = Checkpoint(Path(folder) / "checkpoint", {})
        trainer = Trainer(network, TrainingData(images, images), params, config.seed, bench.device, checkpoint)
        trainer.shards.load_statistics()
        trainer.shards.train()
        size = params.batch_size
        rows = (np.arange(start, start + size) % len(images) for start in range(0, 1_000 * size, size))
        batches = images.each(rows, 0)

        return _seconds_of_steps(trainer, batches, size)


@measure.register
def _(operation: ResNetClassify, bench: Bench) -> float:
    params = bench.config.resnet
    layout = torch.channels_last if params.channels_last else torch.contiguous_format
    network = exemplar_cnn.to_device(resnet.initialise(params, 10, bench.config.seed), bench.device, layout).eval()

    def logits(images: Pixels) -> NDArray[np.float32]:
        with torch.inference_mode():
            found: NDArray[np.float32] = (
                outputs_of(network, torch.from_numpy(images).to(bench.device), params).cpu().numpy()
            )
        return found

    return _of_images(bench, logits, resnet.CHUNK)


@measure.register
def _(operation: KMeansDescribe, bench: Bench) -> float:
    length = 3 * operation.params.patch**2
    some = np.random.default_rng(0).random((operation.params.centres, length), np.float32)
    dictionary = kmeans.Dictionary(
        operation.params.side, operation.params.patch, some[0], np.eye(length, dtype=np.float32), some
    )

    def extract(images: Pixels) -> NDArray[np.float32]:
        at_once = kmeans.IMAGES_AT_ONCE
        parts = [kmeans.activations(images[i : i + at_once], dictionary) for i in range(0, len(images), at_once)]
        return torch.cat(parts).numpy()

    return _of_images(bench, extract, bench.config.features.batch_size)


@measure.register
def _(operation: Multiply, bench: Bench) -> float:
    rows, inner = radius_graph.BLOCK, 264
    if operation.kind == "near pairs":
        left = torch.rand(rows, inner).to(sketch.precision(torch.device("cpu")))
        with shared_operations():
            return _seconds(partial(compare_blocks, left), rows * rows * inner)
    first = np.random.default_rng(0).random((rows, inner))
    if operation.kind == "float64":
        return _seconds(lambda: first @ first.T, rows * rows * inner)
    short = first.astype(np.float32)
    with shared_operations():
        return _seconds(lambda: short @ short.T, rows * rows * inner)


@measure.register
def _(operation: Eigen, bench: Bench) -> float:
    count = 800
    rows = np.random.default_rng(0).random((count, count))
    symmetric = rows @ rows.T
    return _seconds(lambda: np.linalg.eigh(symmetric), count**3)


@measure.register
def _(operation: Hash, bench: Bench) -> float:
    content = bytes(2**25)
    return _seconds(lambda: hashlib.md5(content, usedforsecurity=False).digest(), len(content))
