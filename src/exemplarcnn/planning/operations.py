"""The operations that stages repeat, each measured here and now for a second or a few.

An operation says what is repeated, `measure` how long one takes. What is measured is the code that the stages run,
with networks of the sizes that the parameters ask for, on images of this data set; weights are the initial ones, since
what they are changes no time.
"""

import hashlib
import time
from abc import abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from exemplarcnn import threads
from exemplarcnn.clustering import radius_graph
from exemplarcnn.config.params import Config
from exemplarcnn.config.sections import Features
from exemplarcnn.config.variants import KMeans
from exemplarcnn.data import audit, near_duplicates, pools, stl10
from exemplarcnn.data.colour_axes import Axes
from exemplarcnn.data.types import DataError, Pixels, Pool
from exemplarcnn.determinism import shared_operations
from exemplarcnn.evaluation import kmeans
from exemplarcnn.networks import exemplar_cnn, features, resnet
from exemplarcnn.networks.chunks import map_chunks
from exemplarcnn.patches.recipes import needs
from exemplarcnn.patches.sampler import PatchSampler
from exemplarcnn.rng import Purpose
from exemplarcnn.training.batches import Batch, TrainingData
from exemplarcnn.training.checkpoint import Checkpoint
from exemplarcnn.training.labelled_images import AugmentedImages
from exemplarcnn.training.trainer import VALIDATION_BATCH, Trainer

# Of an operation that takes less, several are timed.
SECONDS = 1.5
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

    def some(self, name: str) -> list[int]:
        """Return ids of some images of a pool that can be read, spread over it."""
        pool, found = self.pool(name), []
        for image in np.unique(np.linspace(0, len(pool) - 1, IMAGES).astype(int)).tolist():
            try:
                pool.read(image)
            except DataError:
                continue
            found.append(image)
        return found


class Operation:
    """Something that a stage does many times."""

    @abstractmethod
    def measure(self, bench: Bench) -> float:
        """Return the seconds that one takes."""


def _seconds(work: Callable[[], object], count: int = 1, warm_up: bool = True) -> float:
    """Return how long one of ``count`` things takes that ``work`` does."""
    if warm_up:
        work()
    begun, calls = time.perf_counter(), 0
    while calls == 0 or time.perf_counter() - begun < SECONDS:
        work()
        calls += 1
    return (time.perf_counter() - begun) / calls / count


@dataclass(frozen=True)
class Inspect(Operation):
    """Read an image of a pool, and look for defects and near duplicates in it."""

    pool: str

    def measure(self, bench: Bench) -> float:
        """Return the seconds that one takes."""
        pool, chosen = bench.pool(self.pool), bench.some(self.pool)

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


@dataclass(frozen=True)
class DrawPatch(Operation):
    """Cut and transform a patch, in one process."""

    pool: str
    patch: int

    def measure(self, bench: Bench) -> float:
        """Return the seconds that one takes."""
        params, chosen = bench.config.surrogate, bench.some(self.pool)
        axes = (
            Axes((0.5,) * 3, ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)), (0.1,) * 3)
            if params.recipe in needs.COLOUR_AXES
            else None
        )
        sampler = PatchSampler(bench.pool(self.pool), params, self.patch, bench.config.seed, axes)

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

    def each(self, rows: Iterator[NDArray[np.int64]], epoch: int) -> Iterator[Batch]:
        """Yield a batch for each group of rows."""
        for some in rows:
            index = torch.from_numpy(some % len(self.images)).to(self.images.device)
            yield self.images[index], self.labels[index]


@dataclass(frozen=True)
class Step(Operation):
    """A step of SGD of a network for patches."""

    patch: int
    classes: int

    def trainer(self, bench: Bench, folder: Path, valid: int) -> Trainer:
        """Return a trainer of such a network on noise."""
        config = bench.config
        net = exemplar_cnn.initialise(config.network, self.classes, self.patch, config.seed)
        noise = partial(_Noise, side=self.patch, classes=self.classes, device=bench.device)
        data = TrainingData(noise(config.train.batch_size), noise(valid))
        return Trainer(net, data, config.train, config.seed, bench.device, Checkpoint(folder / "checkpoint", {}))

    def measure(self, bench: Bench) -> float:
        """Return the seconds that one takes."""
        with TemporaryDirectory() as folder:
            trainer = self.trainer(bench, Path(folder), VALIDATION_BATCH)
            (batch,) = trainer.data.train.each(iter([np.arange(len(trainer.data.train))]), 0)
            trainer.shards.train()

            def step() -> None:
                trainer.step(*batch, len(batch[0]))
                if bench.device.type == "cuda":
                    torch.cuda.synchronize()

            return _seconds(step)


@dataclass(frozen=True)
class Validate(Operation):
    """Classify a patch after an epoch."""

    patch: int
    classes: int

    def measure(self, bench: Bench) -> float:
        """Return the seconds that one takes."""
        count = 4 * threads.count() * VALIDATION_BATCH
        with TemporaryDirectory() as folder:
            trainer = Step(self.patch, self.classes).trainer(bench, Path(folder), count)
            return _seconds(trainer._validate, count)


@dataclass(frozen=True)
class Describe(Operation):
    """Compute an image's features with a network for patches."""

    params: Features | Literal["cluster"]
    patch: int
    classes: int

    def measure(self, bench: Bench) -> float:
        """Return the seconds that one takes."""
        config = bench.config
        net = exemplar_cnn.initialise(config.network, self.classes, self.patch, config.seed)
        if isinstance(self.params, Features):
            extract = features.eval_features(net, self.params, bench.device)
        else:
            extract = features.cluster_features(net, config.cluster, config.features.dense_stride, bench.device)
        return _of_images(bench, extract, config.features.batch_size)


def _of_images(bench: Bench, extract: features.FeatureExtractor, batch_size: int) -> float:
    """Return the seconds for one of the unlabelled images."""
    pool, count = bench.pool("unlabeled"), 2 * threads.count() * batch_size

    def read(rows: NDArray[np.int64]) -> Pixels:
        return pool.batch(rows % len(pool))

    return _seconds(lambda: list(map_chunks(read, extract, count, batch_size)), count, warm_up=False)


@dataclass(frozen=True)
class ResNetStep(Operation):
    """A step of SGD of the residual network, with the augmentation of its images."""

    def measure(self, bench: Bench) -> float:
        """Return the seconds that one takes."""
        config = bench.config
        params = config.resnet
        classes = len(stl10.read_class_names(bench.data / "class_names.txt"))
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

            def step() -> None:
                trainer.step(*next(batches), size)
                if bench.device.type == "cuda":
                    torch.cuda.synchronize()

            return _seconds(step)


@dataclass(frozen=True)
class ResNetClassify(Operation):
    """Classify an image with the residual network."""

    def measure(self, bench: Bench) -> float:
        """Return the seconds that one takes."""
        network = resnet.initialise(bench.config.resnet, 10, bench.config.seed).eval().to(bench.device)

        def logits(images: Pixels) -> NDArray[np.float32]:
            with torch.inference_mode():
                found: NDArray[np.float32] = (
                    network(network.normalise(torch.from_numpy(images).to(bench.device))).float().cpu().numpy()
                )
            return found

        return _of_images(bench, logits, resnet.CHUNK)


@dataclass(frozen=True)
class KMeansDescribe(Operation):
    """Compute an image's k-means features."""

    params: KMeans

    def measure(self, bench: Bench) -> float:
        """Return the seconds that one takes."""
        length = 3 * self.params.patch**2
        some = np.random.default_rng(0).random((self.params.centres, length), np.float32)
        dictionary = kmeans.Dictionary(
            self.params.side, self.params.patch, some[0], np.eye(length, dtype=np.float32), some
        )

        def extract(images: Pixels) -> NDArray[np.float32]:
            at_once = kmeans.IMAGES_AT_ONCE
            parts = [kmeans.activations(images[i : i + at_once], dictionary) for i in range(0, len(images), at_once)]
            return torch.cat(parts).numpy()

        return _of_images(bench, extract, bench.config.features.batch_size)


@dataclass(frozen=True)
class Multiply(Operation):
    """A multiplication and an addition in a product of matrices.

    ``near pairs``: by all threads, in the precision that the search for near pairs takes; ``float32``: by all threads;
    ``float64``: by one thread.
    """

    kind: Literal["near pairs", "float32", "float64"]

    def measure(self, bench: Bench) -> float:
        """Return the seconds that one takes."""
        rows, inner = radius_graph.BLOCK, 264
        if self.kind == "near pairs":
            left = torch.rand(rows, inner).to(radius_graph._precision(torch.device("cpu")))
            with shared_operations():
                return _seconds(lambda: torch.nonzero(left @ left.T >= inner), rows * rows * inner)
        first = np.random.default_rng(0).random((rows, inner))
        if self.kind == "float64":
            return _seconds(lambda: first @ first.T, rows * rows * inner)
        short = first.astype(np.float32)
        with shared_operations():
            return _seconds(lambda: short @ short.T, rows * rows * inner)


@dataclass(frozen=True)
class Eigen(Operation):
    """A part of an eigendecomposition: with n rows it takes n³ of these."""

    def measure(self, bench: Bench) -> float:
        """Return the seconds that one takes."""
        count = 800
        rows = np.random.default_rng(0).random((count, count))
        symmetric = rows @ rows.T
        return _seconds(lambda: np.linalg.eigh(symmetric), count**3)


@dataclass(frozen=True)
class Hash(Operation):
    """Hash a byte, as DVC does for every result."""

    def measure(self, bench: Bench) -> float:
        """Return the seconds that one takes."""
        content = bytes(2**25)
        return _seconds(lambda: hashlib.md5(content, usedforsecurity=False).digest(), len(content))
