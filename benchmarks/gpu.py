"""Check and measure the pipeline on a GPU, in at most ten minutes; without one, the same checks, small, on the CPU.

    python benchmarks/gpu.py               # images of the embedded sample
    python benchmarks/gpu.py FOLDER        # images of a data folder in STL-10's layout
    python benchmarks/gpu.py --small       # small sizes, on a GPU too

Checks, each with its bar: patches drawn on the device differ from the recipe's by rounding alone; fifty steps of SGD in
float32, without dropout, lead to the weights of the CPU; a training that was stopped ends with the bits of one that was
not (if it does not, torch names the operation that prevents it). Figures: patches a second of the paper's network in
bfloat16, with the set on the device, from pinned memory, and drawn while it trains; images described a second; the
graph of near pairs of 50,000 points; the most memory that each takes on the device (on a CPU: of the process); and how
long a run of profile `paper` on all of STL-10 would take. Weights are the initial ones and images repeat: neither
changes a time.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from _common import ROOT, finish
from exemplarcnn import threads
from exemplarcnn.clustering.radius_graph import neighbour_graph
from exemplarcnn.config import profiles
from exemplarcnn.config.params import Config, parse
from exemplarcnn.config.sections import Train
from exemplarcnn.data import pools, stl10
from exemplarcnn.data.types import Pool
from exemplarcnn.determinism import use_threads
from exemplarcnn.errors import PipelineError
from exemplarcnn.launching.memory import Peak
from exemplarcnn.networks import exemplar_cnn, features
from exemplarcnn.networks.chunks import map_chunks
from exemplarcnn.networks.saved import pick_device
from exemplarcnn.patches.online import OnlinePatches
from exemplarcnn.patches.surrogate_set import DrawingJob, SetDefinition, write_set
from exemplarcnn.planning import plan
from exemplarcnn.planning.holdings import Holdings, listed
from exemplarcnn.planning.operations import DrawPatch, Inspect, Operation, Step
from exemplarcnn.planning.table import duration
from exemplarcnn.planning.works import Works
from exemplarcnn.training.batches import Batches, Source, TrainingData
from exemplarcnn.training.checkpoint import Checkpoint
from exemplarcnn.training.learning_curve import Epoch
from exemplarcnn.training.online import Online
from exemplarcnn.training.trainer import Trainer

CPU = torch.device("cpu")
PATCH = 32
# STL-10, and as many other images.
WHOLE = Holdings({"unlabeled": 100_000, "train": 5_000, "test": 8_000, "other": 100_000}, 96, 10, 1_000)
# The bars: grey levels that a patch may be off, at most and on average; how far weights may end from the CPU's, as a
# share of the way that they went.
MOST_LEVELS, MEAN_LEVELS, AWAY = 3, 1e-3, 0.01


@dataclass(frozen=True)
class Sizes:
    """How much is measured."""

    profile: str
    classes: int
    patches: int
    steps: int
    images: int
    points: int
    dimensions: int


LARGE = Sizes("paper", 16_000, 38_400, 200, 4_096, 50_000, 3_440)
SMALL = Sizes("tiny", 30, 640, 20, 64, 1_000, 100)


@dataclass(frozen=True)
class Place:
    """Where and with what everything is measured."""

    config: Config
    sizes: Sizes
    device: torch.device
    pool: Pool
    folder: Path

    def training(self, **changes: Any) -> Train:
        """Return the profile's parameters of training, changed."""
        return self.config.train.model_copy(update=changes)

    def network(self, dropout: bool) -> exemplar_cnn.ExemplarCNN:
        """Return the profile's network with its initial weights."""
        none = {} if dropout else {"dropout_conv": 0.0, "dropout_dense": 0.0}
        params = self.config.network.model_copy(update=none)
        return exemplar_cnn.initialise(params, self.sizes.classes, PATCH, 0)

    def trainer(self, params: Train, device: torch.device, source: Source, name: str, dropout: bool = True) -> Trainer:
        """Return a trainer, with a checkpoint of its own name."""
        valid = Batches(self.folder / "materialised", "valid", device)
        checkpoint = Checkpoint(self.folder / name, {}, minutes=1_000)
        return Trainer(self.network(dropout), TrainingData(source, valid), params, 0, device, checkpoint)

    def patches(self, device: torch.device) -> Batches:
        """Return the patches of the set that is on disk."""
        return Batches(self.folder / "materialised", "train", device)

    def online(self, device: torch.device) -> OnlinePatches:
        """Return what draws the patches of the other set."""
        return OnlinePatches(self.folder / "online", self.pool, PATCH, 0, device)


def write_sets(place: Place) -> None:
    """Draw a small surrogate set in both modes."""
    count = min(len(place.pool), place.sizes.classes)
    everything = np.arange(count)
    table = pd.DataFrame({"class_id": everything, "image_id": everything, "origin": "seed"})
    total = {"patches_per_image": None, "total_patches": place.sizes.patches}
    trained = place.config.variants.train["baseline"].model_copy(update=total)
    recipe = place.config.surrogate.model_copy(update={"valid_patches_per_image": 1})
    for mode in ("online", "materialised"):
        job = DrawingJob(place.folder / mode, place.folder / "work", threads.count())
        write_set(SetDefinition(place.pool, table, recipe, trained, 0, mode), job)


def drawing(place: Place) -> dict[str, Any]:
    """Compare patches drawn on the device with the recipe's."""
    rows = np.arange(min(place.sizes.patches, 4_096))
    device = place.online(place.device)
    device.in_torch = True  # on a CPU, too, which would use the recipe itself
    apart = (device.draw(rows, 1).cpu().int() - place.online(CPU).draw(rows, 1).int()).abs()
    mean, most = float(apart.float().mean()), int(apart.max())
    bar = f"at most {MOST_LEVELS}, {MEAN_LEVELS} on average"
    passed = most <= MOST_LEVELS and mean < MEAN_LEVELS
    return {"found": f"at most {most}, {mean:.6f} on average", "unit": "grey levels", "bar": bar, "passed": passed}


def steps(place: Place) -> dict[str, Any]:
    """Take fifty steps in float32 here and on the CPU."""
    params = place.training(steps=50, precision="fp32", channels_last=False)
    start = {name: value.clone() for name, value in place.network(dropout=False).state_dict().items()}
    ends = []
    for name, device in (("there", CPU), ("here", place.device)):
        trainer = place.trainer(params, device, place.patches(device), name, dropout=False)
        trainer.run()
        ends.append(trainer.network.tensors())
    way, away = (
        sum(float((first[name] - second[name]).double().square().sum()) for name in start) ** 0.5
        for first, second in ((ends[0], start), (ends[1], ends[0]))
    )
    return {"found": f"{away / way:.2e}", "unit": "of the way", "bar": f"{AWAY}", "passed": away <= AWAY * way}


class StopError(Exception):
    """Ends a training after an epoch."""


def resumption(place: Place) -> dict[str, Any]:
    """Stop a training after its first epoch, let another continue, and compare with one that was not stopped."""
    source = place.patches(place.device)
    epoch = -(-len(source) // place.config.train.batch_size)
    params = place.training(steps=epoch + min(epoch, 20))

    def stop(row: Epoch) -> None:
        raise StopError

    whole, first, second = (place.trainer(params, place.device, source, name) for name in ("whole", "cut", "cut"))
    whole.run()
    try:
        first.run(stop)
    except StopError:
        second.run()
    ends = whole.network.tensors(), second.network.tensors()
    same = all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])
    found = "the same bits" if same else f"other bits: {_culprit(place)}"
    return {"found": found, "unit": "", "bar": "the same bits", "passed": same}


def _culprit(place: Place) -> str:
    """Return what torch says is not deterministic in a step."""
    trainer = place.trainer(place.config.train, place.device, place.patches(place.device), "culprit")
    (batch,) = trainer.data.train.each(iter([np.arange(trainer.params.batch_size)]), 0)
    try:
        torch.use_deterministic_algorithms(True)
        trainer.shards.train()
        trainer.step(*batch, len(batch[0]))
    except RuntimeError as error:
        return str(error).splitlines()[0]
    finally:
        torch.use_deterministic_algorithms(False)
    return "torch names no operation"


def speed(place: Place, source: Source) -> dict[str, Any]:
    """Train with the profile's parameters; count the patches of a second."""
    trainer = place.trainer(place.config.train, place.device, source, "speed")
    size, warm = place.config.train.batch_size, 3
    generator = np.random.default_rng(0)
    rows = (generator.integers(0, len(source), size) for _ in range(warm + place.sizes.steps))
    trainer.shards.train()
    for number, (images, labels) in enumerate(source.each(rows, 0)):
        if number == warm:
            _wait(place)
            begun = time.perf_counter()
        trainer.step(images, labels, size)
    _wait(place)
    return {"found": f"{place.sizes.steps * size / (time.perf_counter() - begun):,.0f}", "unit": "patches a second"}


def _wait(place: Place) -> None:
    if place.device.type == "cuda":
        torch.cuda.synchronize(place.device)


def held(place: Place) -> dict[str, Any]:
    """Train with the set on the device."""
    source = place.patches(place.device)
    source.hold()
    return speed(place, source)


def pinned(place: Place) -> dict[str, Any]:
    """Train with the set in the machine's memory."""
    source = place.patches(place.device)
    source._held, source.labels = None, source.labels.cpu()
    return speed(place, source)


def online(place: Place) -> dict[str, Any]:
    """Train with patches that are drawn meanwhile."""
    return speed(place, Online(place.online(place.device)))


def described(place: Place, for_clusters: bool) -> dict[str, Any]:
    """Describe images by the profile's network."""
    config, net, count = place.config, place.network(dropout=True), place.sizes.images
    if for_clusters:
        extract = features.cluster_features(net, config.cluster, config.features.dense_stride, place.device)
    else:
        extract = features.eval_features(net, config.features, place.device)

    def read(rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        return place.pool.batch(rows % len(place.pool))

    extract(read(np.arange(config.features.batch_size)))
    begun = time.perf_counter()
    for _ in map_chunks(read, extract, count, config.features.batch_size):
        pass
    return {"found": f"{count / (time.perf_counter() - begun):,.0f}", "unit": "images a second"}


def graph(place: Place) -> dict[str, Any]:
    """Find the near pairs of points of which a tenth have a near one, and compare them with the CPU's."""
    generator = np.random.default_rng(0)
    points = generator.standard_normal((place.sizes.points, place.sizes.dimensions), np.float32)
    points *= np.arange(1, place.sizes.dimensions + 1, dtype=np.float32) ** -0.5  # a spectrum that falls
    near = place.sizes.points // 10
    points[:near] = points[near : 2 * near] + 0.1 * points[:near]
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    begun = time.perf_counter()
    found = neighbour_graph(points, 0.2, device=place.device)
    seconds = time.perf_counter() - begun
    expected = neighbour_graph(points, 0.2)
    same = found.nnz >= near and abs(found - expected).nnz == 0
    said = f"{seconds:.1f}, {found.nnz:,} pairs"
    return {"found": said, "unit": f"seconds, {place.sizes.points:,} points", "bar": "the CPU's pairs", "passed": same}


def estimate(place: Place, data: Path) -> dict[str, Any]:
    """Estimate a run of the profile on all of STL-10."""
    works = Works(place.config, WHOLE, listed(place.config, WHOLE)).all()
    # A folder without a second pool: its images are taken for those of the first.
    here = {"other": "other" if pools.has_other(data) else "unlabeled"}

    def there(operation: Operation) -> Operation:
        if isinstance(operation, (Inspect, DrawPatch, Step)) and operation.pool in here:
            return replace(operation, pool=here[operation.pool])
        return operation

    costs = plan.measured_costs({there(each) for work in works for each, _ in work.parts}, place.config, data)
    seconds = {work.stage: sum(costs[there(each)] * count for each, count in work.parts) for work in works}
    longest = ", ".join(
        f"{stage} {duration(taken)}" for stage, taken in sorted(seconds.items(), key=lambda item: -item[1])[:3]
    )
    return {"found": f"{duration(sum(seconds.values()))}: {longest}", "unit": f"profile {place.config.profile}"}


def measured(place: Place, name: str, work: Callable[[Place], dict[str, Any]]) -> dict[str, Any]:
    """Do something, and add how much memory and time it took."""
    cuda = place.device.type == "cuda"
    if cuda:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(place.device)
    begun = time.perf_counter()
    with Peak() as peak:
        try:
            row = work(place)
        except (PipelineError, RuntimeError, OSError) as error:  # the other rows are of use
            row = {"found": f"failed: {(str(error).splitlines() or [type(error).__name__])[0]}", "passed": False}
    memory = torch.cuda.max_memory_allocated(place.device) if cuda else peak.bytes
    taken = {"memory_gb": round(memory / 1e9, 2), "seconds": round(time.perf_counter() - begun, 1)}
    return {"what": name, "unit": "", "bar": "", "passed": None} | row | taken


def run(data: Path, device: torch.device, sizes: Sizes, folder: Path) -> list[dict[str, Any]]:
    """Make all checks and measurements; return a row for each."""
    config = parse(profiles.compose(ROOT / "conf", sizes.profile), sizes.profile)
    place = Place(config, sizes, device, stl10.open_pool(data, "unlabeled"), folder)
    use_threads(config.machine.threads)
    write_sets(place)
    return [
        measured(place, "patches drawn on the device", drawing),
        measured(place, "fifty steps in float32", steps),
        measured(place, "stopped and resumed", resumption),
        measured(place, "training, set on the device", held),
        measured(place, "training, set in pinned memory", pinned),
        measured(place, "training, patches drawn online", online),
        measured(place, "features for classifiers", lambda place: described(place, False)),
        measured(place, "features for clustering", lambda place: described(place, True)),
        measured(place, "graph of near pairs", graph),
        measured(place, "estimate of a whole run", lambda place: estimate(place, data)),
    ]


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", default=ROOT / "data", help="images in STL-10's layout")
    parser.add_argument("--small", action="store_true", help="small sizes; always so without a GPU")
    arguments = parser.parse_args()
    threads.keep_freed_memory()  # as stages do
    device = pick_device("auto")
    small = arguments.small or device.type == "cpu"
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "no GPU: the CPU"
    print(f"{name}; {'small sizes' if small else 'the sizes of profile paper'}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        rows = run(arguments.folder, device, SMALL if small else LARGE, Path(folder))
    finish(pd.DataFrame(rows).fillna(""), "gpu", device=name, small=small, rows=rows)
    if failed := [row["what"] for row in rows if row["passed"] is False]:
        sys.exit(f"error: not as it should be: {', '.join(failed)}")


if __name__ == "__main__":
    main()
