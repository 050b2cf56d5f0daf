"""Measure SGD steps per second, beside a textbook loop, a fixed batch, and the machine's matrix products.

    python benchmarks/training.py              # patches of the embedded sample
    python benchmarks/training.py FOLDER       # patches of the images of STL-10's train_X.bin in FOLDER
    python benchmarks/training.py --quick      # a small network, a few steps

Networks: that of profile `core`, and the paper's with its 16,000 classes. Batches of 128 patches of 32×32, one thread
per core. These ways take turns, idle and then beside a process that keeps one core busy; each figure is the median over
rounds:

textbook       PNG files, `ImageFolder` and `DataLoader` with two worker processes, float32, `loss.item()` each step
fp32           the pipeline's `Trainer` with `train.precision: fp32` and `train.channels_last: false`
bf16           the same with its defaults: autocast to bfloat16, channels last
online         the same with `surrogate.mode: online`: patches are drawn while it trains
fixed batch    the steps of `bf16` on one batch in memory: the speed with an ideal loader
threads inside the same defaults with torch alone, whose threads share each operation
N threads      `bf16` with N threads and a shard for each, for 1, 2, 4, 8 and 16 as far as there are cores

Torch counts a step's floating-point operations. Their rate is also given as a share of the rate of the fastest of some
large matrix products, in float32 for the first two ways and in bfloat16 for the others. The count includes products
with the zeros around maps, a fifth of all here, which a convolution can skip. On a processor without instructions for
bfloat16 the defaults mean float32, and so does every row.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torch.utils.flop_counter import FlopCounterMode
from torchvision import datasets, transforms

from _common import ROOT, finish
from exemplarcnn import threads
from exemplarcnn.config import profiles
from exemplarcnn.config.params import Config, parse
from exemplarcnn.config.sections import Network, Train
from exemplarcnn.data import stl10
from exemplarcnn.data.stl10_folder import binary_folder
from exemplarcnn.data.types import Pool
from exemplarcnn.networks import exemplar_cnn
from exemplarcnn.networks.precision import computed, mixed_precision
from exemplarcnn.patches.online import OnlinePatches
from exemplarcnn.patches.surrogate_set import DrawingJob, SetDefinition, write_set
from exemplarcnn.processor import multiplies_bfloat16
from exemplarcnn.training.batches import Batches, Source, TrainingData
from exemplarcnn.training.checkpoint import Checkpoint
from exemplarcnn.training.online import Online
from exemplarcnn.training.trainer import Trainer

BATCH = 128
WARM = 2
CORES = os.cpu_count() or 1
CPU = torch.device("cpu")
Round = Callable[[], float]


def write_sets(pool: Pool, classes: int, folder: Path, steps: int) -> dict[str, Any]:
    """Draw a surrogate set of ``steps`` batches, in both modes and as PNG files; return its summary."""
    params = parse(profiles.compose(ROOT / "conf", "paper"), "profile paper")
    count = min(len(pool), classes, steps * BATCH // 10)
    trained = params.variants.train["baseline"].model_copy(
        update={"patches_per_image": None, "total_patches": steps * BATCH}
    )
    everything = np.arange(count)
    table = pd.DataFrame({"class_id": everything, "image_id": everything, "origin": "seed"})
    recipe = params.surrogate.model_copy(update={"valid_patches_per_image": 1})
    for mode in ("online", "materialised"):
        place = folder / mode
        job = DrawingJob(place, folder / "work", os.cpu_count() or 1)
        about = write_set(SetDefinition(pool, table, recipe, trained, 0, mode), job)
    patches, labels = (
        np.load(place / "train.npy", allow_pickle=False),
        np.load(place / "train_y.npy", allow_pickle=False),
    )
    for index, (patch, label) in enumerate(zip(patches, labels, strict=True)):
        png = folder / "png" / f"{label:05}"
        png.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(png / f"{index}.png"), cv2.cvtColor(patch, cv2.COLOR_RGB2BGR))
    return about


def textbook(net: exemplar_cnn.ExemplarCNN, params: Train, folder: Path, about: dict[str, Any]) -> Round:
    """Train as tutorials do."""
    steps = [transforms.ToTensor(), transforms.Normalize(about["mean"], about["std"])]
    dataset = datasets.ImageFolder(str(folder / "png"), transforms.Compose(steps))
    loader = DataLoader(dataset, batch_size=BATCH, shuffle=True, num_workers=2)
    criterion = nn.CrossEntropyLoss()
    optimiser = torch.optim.SGD(net.parameters(), lr=params.groups.conv1.lr, momentum=params.momentum)

    def run() -> float:
        net.train()
        ends = []
        for inputs, labels in loader:
            optimiser.zero_grad()
            loss = criterion(net(inputs), labels)
            loss.backward()
            optimiser.step()
            loss.item()
            ends.append(time.perf_counter())
        return per_step(ends)

    return run


def pipeline(net: exemplar_cnn.ExemplarCNN, params: Train, folder: Path, train: Source) -> Round:
    """Train as the pipeline does; an epoch is a round."""
    data = TrainingData(train, Batches(folder / "materialised", "valid", CPU))
    checkpoint = Checkpoint(folder / "checkpoint.safetensors", {}, minutes=1000)

    def run() -> float:
        checkpoint.path.unlink(missing_ok=True)
        trainer = Trainer(net, data, params, 0, CPU, checkpoint)
        ends: list[float] = []
        step = trainer.step

        def timed(images: Tensor, labels: Tensor, count: int, epoch: int = 0) -> None:
            step(images, labels, count, epoch)
            ends.append(time.perf_counter())

        trainer.step = timed  # type: ignore[method-assign]  # to look at the clock
        trainer.run()
        return per_step(ends)

    return run


def threads_inside(net: exemplar_cnn.ExemplarCNN, params: Train, train: Batches) -> Round:
    """Train in the precision of the defaults with torch alone: its threads share every operation."""
    optimiser = torch.optim.SGD(net.parameter_groups(params.groups), momentum=params.momentum)
    network = exemplar_cnn.to_device(net, CPU, torch.channels_last)
    rows = [np.arange(start, start + BATCH) for start in range(0, len(train) - BATCH + 1, BATCH)]

    def run() -> float:
        network.train()
        ends = []
        for images, labels in train.each(rows):
            with mixed_precision(CPU, params.precision):
                logits = network(network.normalise(images))
            optimiser.zero_grad()
            torch.autograd.backward(nn.functional.cross_entropy(logits.float(), labels))
            optimiser.step()
            ends.append(time.perf_counter())
        return per_step(ends)

    return run


def fixed(net: exemplar_cnn.ExemplarCNN, params: Train, folder: Path, train: Batches, steps: int) -> Round:
    """Repeat the pipeline's step on one batch."""
    patches, labels = train.get(np.arange(BATCH))

    def run() -> float:
        trainer = Trainer(net, TrainingData(train, train), params, 0, CPU, Checkpoint(folder / "none", {}))
        net.train()
        ends = []
        for _ in range(steps):
            trainer.step(patches, labels, BATCH)
            ends.append(time.perf_counter())
        return per_step(ends)

    return run


@contextmanager
def busy_process() -> Iterator[None]:
    """Keep one core busy."""
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        yield
    finally:
        process.kill()
        process.wait()


def with_threads(count: int, way: Round, inside: bool = False) -> Round:
    """Run with some threads: of our own, or inside torch's operations."""

    def run() -> float:
        threads.use(1 if inside else count)
        torch.set_num_threads(count if inside else 1)
        return way()

    return run


def per_step(ends: list[float]) -> float:
    """Return the median time of a step in seconds; the first steps warm up."""
    return float(np.median(np.diff(ends[WARM:])))


def matrix_products(dtype: torch.dtype, side: int = 2048) -> float:
    """Return the floating-point operations per second of a large matrix product."""
    first, second = torch.randn(side, side).to(dtype), torch.randn(side, side).to(dtype)
    seconds = []
    for _ in range(20):
        begin = time.perf_counter()
        first @ second
        seconds.append(time.perf_counter() - begin)
    return 2 * side**3 / min(seconds)


def operations(net: exemplar_cnn.ExemplarCNN) -> int:
    """Return the number of floating-point operations in one step."""
    net.train()
    with FlopCounterMode(display=False) as counter:
        net(torch.zeros(BATCH, 3, 32, 32)).sum().backward()
    return int(counter.get_total_flops())


def networks(quick: bool) -> Iterator[tuple[str, Config, int]]:
    """Yield name, parameters and number of classes of each network."""
    for profile, classes in [("tiny", 20)] if quick else [("core", 2000), ("paper", 16000)]:
        yield profile, parse(profiles.compose(ROOT / "conf", profile), f"profile {profile}"), classes


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", help="STL-10's binary files (default: the embedded sample)")
    parser.add_argument("--quick", action="store_true", help="profile `tiny`, a few steps")
    arguments = parser.parse_args()
    threads.keep_freed_memory()  # as stages do
    source = binary_folder(arguments.folder).resolve() if arguments.folder else ROOT / "data"
    pool = stl10.open_pool(source, "train")
    torch.set_num_threads(CORES)
    rates = {
        "fp32": matrix_products(torch.float32),
        # Without instructions for it, smaller ones: they take a hundred times as long.
        "bf16": matrix_products(torch.bfloat16, 2048 if multiplies_bfloat16(CPU) else 512),
    }
    print("matrix products, GFLOP/s:", {name: round(rate / 1e9) for name, rate in rates.items()}, end="\n\n")
    rows: list[dict[str, Any]] = []
    for profile, values, classes in networks(arguments.quick):
        steps, rounds = (6, 1) if arguments.quick else (30, 5) if profile == "core" else (8, 3)
        with tempfile.TemporaryDirectory() as name:
            rows += measure(profile, values.network, values.train, classes, pool, Path(name), steps, rounds, rates)
    finish(pd.DataFrame(rows).round(2), "training", quick=arguments.quick, products=rates, rows=rows)


def measure(
    profile: str,
    sizes: Network,
    params: Train,
    classes: int,
    pool: Pool,
    folder: Path,
    steps: int,
    rounds: int,
    rates: dict[str, float],
) -> list[dict[str, Any]]:
    """Measure all ways with one network, in turns."""
    about = write_sets(pool, classes, folder, steps)
    # At learning rates this small even the paper's network keeps its weights through all rounds.
    groups = {name: group.model_copy(update={"lr": 1e-6}) for name, group in params.groups}
    still = params.groups.model_copy(update=groups)
    one = params.model_copy(update={"epochs": 1, "batch_size": BATCH, "groups": still})
    plain = one.model_copy(update={"precision": "fp32", "channels_last": False})

    def net() -> exemplar_cnn.ExemplarCNN:
        return exemplar_cnn.initialise(sizes, classes, 32, 0, about["mean"], about["std"])

    kept = Batches(folder / "materialised", "train", CPU)
    online = Online(OnlinePatches(folder / "online", pool, 32, 0, CPU))
    sharded = {count: one.model_copy(update={"shards": count}) for count in (1, 2, 4, 8, 16) if count <= CORES}
    all_cores = partial(with_threads, CORES)
    ways = {
        "textbook": all_cores(textbook(net(), one, folder, about), inside=True),
        "fp32": all_cores(pipeline(net(), plain, folder, kept)),
        "bf16": all_cores(pipeline(net(), one, folder, kept)),
        "online": all_cores(pipeline(net(), one, folder, online)),
        "fixed batch": all_cores(fixed(net(), one, folder, kept, steps)),
        "threads inside": all_cores(threads_inside(net(), one, kept), inside=True),
        **{f"{n} threads": with_threads(n, pipeline(net(), each, folder, kept)) for n, each in sharded.items()},
    }
    count = operations(net())
    idle: dict[str, list[float]] = {name: [] for name in ways}
    beside: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            idle[name].append(way())
            with busy_process():
                beside[name].append(way())
    found = {name: float(np.median(each)) for name, each in idle.items()}
    slowed = {name: float(np.median(each)) for name, each in beside.items()}
    result = []
    for name, each in found.items():
        product = rates[computed("fp32" if name in ("textbook", "fp32") else params.precision, CPU)]
        row = {"network": profile, "way": name, "patches/s": BATCH / each, "beside": BATCH / slowed[name]}
        row |= {"beside/idle": each / slowed[name], "times textbook": found["textbook"] / each}
        result.append(row | {"of fixed batch": found["fixed batch"] / each, "of products": count / each / product})
    return result


if __name__ == "__main__":
    main()
