"""What each stage has to do, by arithmetic from the parameters and the numbers of images and classes.

Constants in capitals are rough, from single measurements on two CPU cores or from the code that they are about;
docs/results.md compares plans with whole runs. Memory is that of one process on a CPU.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

from exemplarcnn.classes import expansion
from exemplarcnn.classes.capacity import clustered_part
from exemplarcnn.config import objectives
from exemplarcnn.config.base import Layer
from exemplarcnn.config.params import Config
from exemplarcnn.config.sections import ClusterFeatures, Features
from exemplarcnn.config.variants import ClusterEntry, KMeans, TrainEntry
from exemplarcnn.data.folds import with_mirrored
from exemplarcnn.planning import shapes
from exemplarcnn.planning.holdings import Holdings, Listed
from exemplarcnn.planning.operations import (
    Describe,
    DrawPatch,
    Eigen,
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
from exemplarcnn.training.schedule import Length

Parts = tuple[tuple[Operation, float], ...]

# Bytes of a process that has imported the libraries, of one that also trains, and of one that draws patches.
PROCESS, TRAINER, DRAWER = 400_000_000, 700_000_000, 350_000_000
# Each pair of points that are compared: products for the candidates, and what it takes to measure these in full.
PAIRS = 1.5
# Passes through the coordinates of its training images, forward and transposed, that SVMs take for all values of C: the
# more the better features tell images apart. Those of a trained network take more the longer it was trained: those of
# its first weights, and so many for each unit of the logarithm of its steps.
PASSES, LEARNED_PASSES = {"pixels": 45, "kmeans": 200, "initial": 135}, 21
# A patch that is written into its set, in multiples of one that is drawn.
WRITTEN = 1.1
# Matrices of its training images' products that an SVM needs at once. Where folds are tried: two, and so many a thread.
SVM_MATRICES, FOLD_MATRICES = 5.5, 1.7
# Of the passes through its patches that k-means is allowed, the share that it takes.
KMEANS_SHARE = 0.5
FLOAT, DOUBLE, PIXEL = 4, 8, 3
CONVOLUTIONS: tuple[Layer, ...] = ("conv1", "conv2", "conv3")
# Of modules that take time to import; a test compares them.
WIDTH, WIDTHS, SAMPLE, SPECTRUM, KMEANS_EPOCHS, PROBED = 256, (64, 128, 256, 512), 256, 306, 20, 1_000


@dataclass(frozen=True)
class Work:
    """What a stage has to do.

    Attributes
    ----------
    stage
        Its name in DVC.
    images, patches, steps
        How many images it reads, patches it draws or trains on, steps of SGD it takes.
    parts
        The operations that take its time, and how many of each.
    outs
        Bytes of its results that DVC keeps in its cache.
    memory
        The most bytes of memory that it takes at once, mapped files apart.
    scratch
        Bytes of files that it needs while it runs, beside its results.
    """

    stage: str
    images: int = 0
    patches: int = 0
    steps: int = 0
    parts: Parts = ()
    outs: int = 0
    memory: int = PROCESS
    scratch: int = 0


@dataclass(frozen=True)
class Works:
    """The work of all stages.

    Parameters
    ----------
    config, held
        The parameters, and what the data folder holds.
    tables
        Classes and images of each class table.
    bfloat16
        Whether the device computes in bfloat16 where the parameters say so.
    """

    config: Config
    held: Holdings
    tables: dict[str, Listed]
    bfloat16: bool = True

    def all(self) -> list[Work]:
        """Return the work of each stage, in the order in which they can run."""
        variants = self.config.variants
        return [
            self.audit(),
            *(Work(f"seed@{name}", outs=16 * self.tables[name].images) for name in variants.seed),
            *(Work(f"colours@{pool}", outs=200) for pool in self.config.pools),
            *self._of_networks(),
            self.outliers(),
            *(self.control(name) for name in variants.control),
            *(self.describe(name) for name in variants.describe),
            *(self.evaluate(name) for name in variants.evaluate),
            *(self.label(name) for name in variants.label),
            *(self.resnet(name) for name in variants.label),
            Work("report"),
            Work("draw"),
        ]

    def _of_networks(self) -> Iterator[Work]:
        """Yield what makes and uses networks: each class table before the network that is trained on it."""
        variants = self.config.variants
        left, there = list(variants.train), set(variants.seed)
        while True:
            for table, derived in variants.regroup.items():
                if derived.table in there and table not in there:
                    there.add(table)
                    yield Work(f"regroup@{table}", outs=16 * self.tables[table].images)
            if (name := next((each for each in left if variants.train[each].table in there), None)) is None:
                return
            left.remove(name)
            yield self.surrogate(name)
            yield self.train(name)
            yield self.embed(name)
            for table, grouped in variants.group.items():
                if grouped.source == name:
                    there.add(table)
                    yield self.group(table)

    def audit(self) -> Work:
        """Read every image twice; compare all by their spectra, and those that are alike by their fine structure."""
        labelled = [name for name in ("train", "test") if name in self.held.images]
        names = list(dict.fromkeys((*self.config.pools, *labelled)))
        count = sum(self.held.images[name] for name in names)
        length = SPECTRUM
        parts: Parts = tuple((Inspect(name), float(self.held.images[name])) for name in names)
        return Work(
            "audit",
            images=count,
            parts=(*parts, *self._near_pairs(count, length), (Resemble(), count**2 / 2)),
            outs=60 * count,
            memory=PROCESS + count * (2 * FLOAT * length + 600) + self._sketch_bytes(count, length),
        )

    def _near_pairs(self, count: int, length: int) -> Parts:
        """Find all near pairs of points: a sample against all, all projected, and all against all."""
        width = min(WIDTH + 1, length) + 6
        beforehand = count * length * (min(SAMPLE, count) + WIDTH)
        return (
            (Multiply("float64"), beforehand / self.config.machine.threads),
            (Multiply("near pairs"), PAIRS * count**2 / 2 * width),
        )

    def _sketch_bytes(self, count: int, length: int) -> int:
        """Return the most bytes for the points of a search for near pairs, its sample, and blocks of candidates."""
        narrow, wide = (FLOAT * count * (min(width, length) + 7) for width in (WIDTHS[0], length))
        points = min(wide, max(narrow, round(self.config.machine.memory_gib * 2**30 / 2)))
        return points + FLOAT * count * SAMPLE + 200 * 2**20

    def set_of(self, name: str) -> tuple[int, int]:
        """Return how many training and validation patches a network's surrogate set has."""
        entry, listed = self.config.variants.train[name], self.tables[self.config.variants.train[name].table]
        if entry.patches_per_image is not None:
            train = entry.patches_per_image * listed.images
        else:
            train = entry.total_patches or (entry.patches_per_class or 0) * listed.classes
        return train, self.config.surrogate.valid_patches_per_image * listed.images

    def _is_online(self, entry: TrainEntry) -> bool:
        return (entry.mode or self.config.surrogate.mode) == "online"

    def surrogate(self, name: str) -> Work:
        """Draw the patches of a surrogate set, in processes."""
        entry, workers = self.config.variants.train[name], self.config.machine.workers
        train, valid = self.set_of(name)
        kept = valid if self._is_online(entry) else train + valid
        images = self.tables[entry.table].images
        return Work(
            f"surrogate@{name}",
            images=images,
            patches=train + valid,
            parts=((DrawPatch(entry.pool, entry.patch), WRITTEN * (train + valid) / workers),),
            outs=kept * PIXEL * entry.patch**2 + FLOAT * (train + valid) + 40 * images,
            memory=PROCESS + (DRAWER * workers if workers > 1 else 0) + 1_000 * images,
        )

    def train(self, name: str) -> Work:
        """Train a network, and validate it after each epoch."""
        entry, params = self.config.variants.train[name], self.config.training(name)
        classes = self._outputs(name)
        train, valid = self.set_of(name)
        length = Length(train, params)
        drawn_from = entry.pool if self._is_online(entry) else None
        parts: Parts = (
            (Step(entry.patch, classes, drawn_from), float(length.steps)),
            (Validate(entry.patch, classes), float(length.epochs * valid)),
        )
        if every := params.probe_every:
            described = length.epochs // every * (self.held.fold + PROBED)
            parts = (*parts, (Describe(self.config.features, entry.patch, classes), float(described)))
        weights = shapes.weights(self.config.network, classes)
        maps, kept = params.batch_size * self._numbers_in_maps(entry.patch), 5 if self.config.network.batch_norm else 4
        size = self._number(params.precision)
        return Work(
            f"train@{name}",
            images=self.tables[entry.table].images,
            patches=train,
            steps=length.steps,
            parts=parts,
            outs=2 * FLOAT * weights,
            # Weights and momentum, a gradient for each shard and their sum; what the backward pass needs of each map.
            memory=TRAINER + FLOAT * weights * (3 + params.shards) + kept * size * maps,
        )

    def _outputs(self, name: str) -> int:
        """Return how many numbers a network's last layer gives."""
        entry = self.config.variants.train[name]
        return objectives.outputs(entry.objective, self.tables[entry.table].classes, self.config.training(name))

    def _numbers_in_maps(self, side: int) -> int:
        """Return how many numbers the maps of the three convolutions have for an image."""
        found = shapes.maps(self.config.network, side, side, 1, 1)
        return sum(found[layer][0] * found[layer][1] ** 2 for layer in CONVOLUTIONS)

    def _number(self, precision: str) -> int:
        """Return the bytes of a number in a map."""
        return 2 if precision == "bf16" and self.bfloat16 else FLOAT

    def _description(self, params: Features | ClusterFeatures) -> int:
        """Return the bytes that describing images by all threads takes."""
        size = self._number(params.precision)
        at_once = self.config.features.batch_size * self.config.machine.threads
        return 3 * size * at_once * self._numbers_in_maps(self.held.side)

    def _labelled(self) -> int:
        return self.held.images.get("train", 0) + self.held.images.get("test", 0)

    def embed(self, name: str) -> Work:
        """Compute a network's features of labelled images, and those for clustering."""
        config, entry = self.config, self.config.variants.train[name]
        classes, labelled = self._outputs(name), self._labelled()
        parts: Parts = ((Describe(config.features, entry.patch, classes), float(labelled)),)
        outs = FLOAT * labelled * self._length(config.features, name)
        images, memory = labelled, self._description(config.features)
        if entry.cluster_features:
            pool = self.held.images[entry.pool]
            parts = (*parts, (Describe("cluster", entry.patch, classes), float(pool)))
            outs += FLOAT * pool * self._length(config.cluster, name)
            images, memory = images + pool, max(memory, self._description(config.cluster))
        weights = FLOAT * shapes.weights(config.network, classes)
        return Work(f"embed@{name}", images=images, parts=parts, outs=outs, memory=PROCESS + weights + memory)

    def _length(self, params: Features | ClusterFeatures, name: str) -> int:
        """Return how many numbers describe an image by a variant's network."""
        entry = self.config.variants.train[name]
        return shapes.features(self.config, params, entry.patch, self._outputs(name), self.held.side)

    def group(self, name: str) -> Work:
        """Cluster a part of a pool; give single images their nearest held-out ones."""
        params = self.config.variants.group[name]
        pool = self.held.images[self.config.variants.train[params.source].pool]
        count, length = (
            clustered_part(pool, params.clustered_fraction),
            self._length(self.config.cluster, params.source),
        )
        parts, held_out = self._near_pairs(count, length), pool - count
        memory = self._sketch_bytes(count, length)
        if isinstance(params, ClusterEntry) and params.neighbours:
            singles = self.tables[name].singles
            parts = (*parts, (Multiply("float32"), float(singles) * held_out * length))
            memory = max(memory, FLOAT * ((singles + held_out) * length + 2 * expansion.BLOCK * held_out))
        return Work(
            f"group@{name}",
            images=pool,
            parts=parts,
            outs=16 * self.tables[name].images,
            memory=PROCESS + memory + round(self.config.machine.memory_gib * 2**30 / 4),
        )

    def outliers(self) -> Work:
        """Score every image by an SVM on labelled images and their mirror images; find the closest pairs."""
        params, config = self.config.outliers, self.config
        pool, entry = self.held.images["unlabeled"], self.config.variants.train[self.config.outliers.of]
        labelled = self.held.images.get("train", 0)
        count = with_mirrored(labelled)
        described = count + 2 * (pool + self._labelled() - labelled) if count else 0
        length = self._length(params.features, params.of)
        parts: Parts = self._near_pairs(pool, self._length(config.cluster, params.of))
        if count:
            parts = (
                *parts,
                (Describe(params.features, entry.patch, self._outputs(params.of)), float(described)),
                (Multiply("float64"), count**2 / 2 * length / config.machine.threads),
                (Eigen(), float(count) ** 3),
            )
        learned = round(SVM_MATRICES * DOUBLE * count**2)
        cluster = self._sketch_bytes(pool, self._length(config.cluster, params.of))
        memory = max(self._description(params.features), learned, cluster)
        scratch = FLOAT * count * length
        return Work("outliers", described, parts=parts, outs=30 * pool, memory=PROCESS + memory, scratch=scratch)

    def control(self, name: str) -> Work:
        """Compute features that no network learned."""
        params, labelled = self.config.variants.control[name], self._labelled()
        parts: Parts = ()
        memory = PROCESS
        if isinstance(params, KMeans):
            images, length = min(params.images, self.held.images["unlabeled"]), 3 * params.patch**2
            learned = images * params.patches_per_image * params.centres * length * KMEANS_EPOCHS * KMEANS_SHARE
            parts = (
                (Multiply("float64"), learned / 2),  # in float32, by one thread
                (KMeansDescribe(params), float(images + labelled)),
            )
            memory += images * params.patches_per_image * length * (2 * FLOAT + 2 * DOUBLE)
        length = shapes.control_features(params)
        outs = FLOAT * labelled * length
        return Work(f"control@{name}", images=labelled, parts=parts, outs=outs, memory=memory)

    def describe(self, name: str) -> Work:
        """Compute other features of a network."""
        described, labelled = self.config.variants.describe[name], self._labelled()
        params = described.features or self.config.features
        entry = self.config.variants.train[described.of]
        classes = self._outputs(described.of)
        weights = FLOAT * shapes.weights(self.config.network, classes)
        return Work(
            f"describe@{name}",
            images=labelled,
            parts=((Describe(params, entry.patch, classes), float(labelled)),),
            outs=FLOAT * labelled * self._length(params, described.of),
            memory=PROCESS + weights + self._description(params),
        )

    def length_of(self, name: str) -> int:
        """Return how many numbers describe an image in features that are evaluated."""
        variants = self.config.variants
        if name in variants.control:
            return shapes.control_features(variants.control[name])
        if name in variants.describe:
            described = variants.describe[name]
            return self._length(described.features or self.config.features, described.of)
        return self._length(self.config.features, name)

    def evaluate(self, name: str) -> Work:
        """Train and test classifiers by every protocol."""
        config, length = self.config.evaluate, self.length_of(name)
        train, test, fold = self.held.images["train"], self.held.images["test"], self.held.fold
        workers = self.config.machine.workers
        multiplied = (train**2 / 2 + test * train) * length
        eigen, memory = 0.0, DOUBLE * (train**2 + test * train)
        for protocol in config.protocols:
            if protocol.classifier != "svm":
                continue
            count, sets = (fold, 10) if protocol.labels == "folds" else (train, 1)
            columns = len(config.C) * self.held.classes
            multiplied += sets * (1 + config.inner_folds) * 2 * self._passes(name) * count**2 * columns
            eigen += sets * count**3 / min(workers, sets)
            if sets == 1:
                folds = 2 + FOLD_MATRICES * min(workers, config.inner_folds)
                memory += round(DOUBLE * count**2 * max(SVM_MATRICES, folds))
        parts: Parts = ((Multiply("float64"), multiplied / workers), (Eigen(), eigen))
        outs = FLOAT * self.held.classes * length * 11
        return Work(f"evaluate@{name}", images=train + test, parts=parts, outs=outs, memory=PROCESS + memory)

    def _passes(self, name: str) -> float:
        variants = self.config.variants
        if name in variants.control:
            return PASSES[variants.control[name].method]
        if name not in variants.describe:
            learned = self._steps(name)
        else:
            described = variants.describe[name]
            learned = self._steps(described.of) if described.weights == "trained" else 0
        return PASSES["initial"] + LEARNED_PASSES * math.log1p(learned)

    def _steps(self, name: str) -> int:
        """Return the steps that a network's weights have seen: its own, and those of the network it started from."""
        own = Length(self.set_of(name)[0], self.config.training(name)).steps
        parent = self.config.variants.train[name].parent
        return own + (self._steps(parent) if parent else 0)

    def label(self, name: str) -> Work:
        """Label the unlabelled images with a fold's classifier, or take the fold's own labels."""
        params = self.config.variants.label[name]
        if params.method == "given":
            return Work(f"label@{name}", images=self.held.fold)
        entry, pool = self.config.variants.train[params.of], self.held.images["unlabeled"]
        classes = self._outputs(params.of)
        weights = FLOAT * shapes.weights(self.config.network, classes)
        return Work(
            f"label@{name}",
            images=pool,
            parts=((Describe(self.config.features, entry.patch, classes), float(pool)),),
            outs=40 * pool,
            memory=PROCESS + weights + self._description(self.config.features),
        )

    def resnet(self, name: str) -> Work:
        """Train the residual network on a label table, and test it."""
        params = self.config.resnet
        length = Length(params.epoch_images, params)
        outside, test = self.held.images["train"] - self.held.fold, self.held.images["test"]
        weights = shapes.resnet_weights(self.config, self.held.classes)
        size = self._number(params.precision)
        maps = shapes.resnet_maps(params, self.held.side)
        classified = length.epochs * outside + test
        return Work(
            f"resnet@{name}",
            images=length.images_until(length.steps),
            steps=length.steps,
            parts=((ResNetStep(), float(length.steps)), (ResNetClassify(), float(classified))),
            outs=FLOAT * weights,
            memory=TRAINER + FLOAT * weights * (3 + params.shards) + size * params.batch_size * maps,
        )
