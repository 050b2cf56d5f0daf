"""Measure time and memory of the exact complete-linkage cut, beside other ways in the same run.

    python benchmarks/clustering.py                      # simulated features; needs no data
    python benchmarks/clustering.py --images FOLDER      # also features of the images in STL-10 binary files
    python benchmarks/clustering.py --points FILE        # also the rows of a .npy file, as features/.../cluster.npy
    python benchmarks/clustering.py --pieces --images FOLDER --classes FILE
                                                         # no peers: class tables from half of the images and from all
    python benchmarks/clustering.py --quick              # within a minute: 2,000 points
    python benchmarks/clustering.py --exact [--images FOLDER]
                                                         # no timing: compare clusters and heights with scipy's on
                                                         # float64 distances, up to 20,000 points, at several cuts,
                                                         # and the merges that each number of axes gives
    python benchmarks/clustering.py --large 1000000      # no peers; whole components of near pairs are checked
    python benchmarks/clustering.py --widths [--images FOLDER] [--points FILE]
                                                         # no peers: the search on each number of axes, and its choice

The dendrogram is cut where a tenth of the points is merged. Each method runs in its own process, from a memory-mapped
file of features to the number of each point's cluster. Memory is the peak of what the process holds beyond the mapped
file and its imports. "estimator" is `CompleteLinkage`, which calls the function of "ours". The peers: "plain", a
float32 product of all pairs in torch and a heap (`_plain_linkage.py`), and fastcluster and scipy. These two get float32
distances from a blocked matrix product over the upper triangle, written block by block into the float64 array that they
take (fastcluster is made to work in that array). One that does not fit into memory is reported as such. Agreement is
measured against the first peer that ran; fastcluster's and scipy's distances have float32 errors: differences may be
due to those.

Real features are those of three networks: one of profile `own`'s size before its training, the same after a short one,
and one of the paper's size after a short one (kept in --work; --networks chooses). They describe the images of
`unlabeled` and `test`; if more points are needed, also their mirror images, then their corners (80×80, resized), then
mirrored corners. With --pieces, the images of `unlabeled` are grouped as profile `paper` groups them, and then all in
one piece, without neighbours; the class of each image, the column `class` of FILE, says how pure the classes are.
Simulated features have 3,440 coordinates: a Gaussian with the eigenvalues of real features, then each point is moved
towards an earlier one, to a distance drawn from real nearest-neighbour distances. A run with --images prints the
numbers in REAL_LIKE.
"""

import argparse
import functools
import importlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, NoReturn

import cv2
import numpy as np
import pandas as pd
import psutil
import torch
from numpy.typing import NDArray
from scipy.cluster import hierarchy
from scipy.spatial.distance import squareform

from _common import ROOT, finish, peak_anonymous
from _components import TooLargeError, check
from _plain_linkage import plain_cut
from exemplarcnn.classes import grouping, quality, seeding
from exemplarcnn.clustering import CompleteLinkage, dendrogram
from exemplarcnn.clustering.linkage import complete_linkage, flat_clusters
from exemplarcnn.clustering.radius_graph import RadiusSearch, neighbour_graph
from exemplarcnn.clustering.sample import Sample
from exemplarcnn.clustering.widths import WIDTHS
from exemplarcnn.config import profiles
from exemplarcnn.config.params import parse
from exemplarcnn.data import stl10
from exemplarcnn.data.types import Pixels, Pool
from exemplarcnn.determinism import shared_operations, use_threads
from exemplarcnn.launching.memory import anonymous
from exemplarcnn.networks import exemplar_cnn, features, saved
from exemplarcnn.patches.surrogate_set import DrawingJob, SetDefinition, write_set
from exemplarcnn.training.batches import Batches, TrainingData
from exemplarcnn.training.checkpoint import Checkpoint
from exemplarcnn.training.trainer import Trainer

DIMENSIONS = 3440  # of drawn points
FRACTION = 0.1
OURS = ("ours", "estimator")
METHODS = (*OURS, "plain", "fastcluster", "scipy")
# Networks whose features are clustered: a profile that gives the sizes, classes of 80 patches each, and epochs.
NETWORKS = {"untrained": ("own", 1000, 0), "own": ("own", 1000, 4), "paper": ("code", 300, 2)}
STRIP = 1000  # points on a side of each block of the peers' product
# From 15,000 real images, see above: length of the mean, share of the variance left after k axes, and deciles of the
# distance to the nearest neighbour among 5,000 of them.
REAL_LIKE: dict[str, Any] = {
    "mean_length": 0.909,
    "variance_after": {
        1: 0.72426,
        2: 0.61359,
        4: 0.46546,
        8: 0.31947,
        16: 0.21149,
        32: 0.14229,
        64: 0.09601,
        128: 0.0648,
        256: 0.0431,
        512: 0.02599,
        1024: 0.01202,
        2048: 0.00245,
    },
    "nearest": [0.0496, 0.2427, 0.2607, 0.2712, 0.2797, 0.2874, 0.295, 0.3039, 0.3148, 0.3319, 0.4994],
}

Features = NDArray[np.float32]
View = Callable[[Pixels], Pixels]


# What is measured, each method in its own process


def condensed(points: Features) -> NDArray[np.float64]:
    """Return all distances in scipy's order, from float32 products of blocks of the upper triangle."""
    n = len(points)
    result = np.empty(n * (n - 1) // 2)
    squares = np.concatenate([np.square(points[i : i + STRIP]).sum(axis=1) for i in range(0, n, STRIP)])
    for top in range(0, n, STRIP):
        rows = np.asarray(points[top : top + STRIP])
        for left in range(top, n, STRIP):
            block = rows @ np.asarray(points[left : left + STRIP]).T
            block *= -2
            block += squares[top : top + STRIP, None]
            block += squares[left : left + STRIP]
            np.sqrt(np.maximum(block, 0, out=block), out=block)
            for i in range(len(rows)):
                first = max(left, top + i + 1)
                start = (top + i) * (2 * n - top - i - 1) // 2 - (top + i) - 1
                result[start + first : start + left + block.shape[1]] = block[i, first - left :]
    return result


def by_peer(points: Features, name: str) -> NDArray[np.int64]:
    """Cluster in another way."""
    if name == "plain":
        return plain_cut(points, FRACTION)
    if name == "scipy":
        Z = hierarchy.linkage(condensed(points), "complete")
    else:
        import fastcluster

        # fastcluster.linkage copies its input even if told not to preserve it; the routine below it does not.
        distances, Z = condensed(points), np.empty((len(points) - 1, 4))
        fastcluster.linkage_wrap(len(points), distances, Z, fastcluster.mthidx["complete"])
    threshold = dendrogram.threshold_for(Z, len(points), FRACTION)
    assert threshold is not None
    return flat_clusters(Z, len(points), threshold)


def child(method: str, file: Path, count: int, out: Path) -> None:
    """Run one method on the first points of a file, and print how long it took."""
    Path("/proc/self/oom_score_adj").write_text("1000")  # if memory runs out, kill this process first
    use_threads(os.cpu_count() or 1)
    points = np.load(file, mmap_mode="r", allow_pickle=False)[:count]
    torch.ones(64, 64) @ torch.ones(64, 64)
    if method == "fastcluster":
        importlib.import_module(method)  # here, so that the time excludes its import
    for start in range(0, count, STRIP):  # so that no method waits for the disk
        points[start : start + STRIP].max()
    print("ready", flush=True)
    sys.stdin.readline()
    begin = time.perf_counter()
    threshold = None
    if method == "ours":
        cut = dendrogram.cut(points, None, FRACTION)
        labels, threshold = cut.labels, cut.threshold
    elif method == "estimator":
        labels = CompleteLinkage(merged_fraction=FRACTION, n_jobs=-1).fit_predict(points)
    else:
        with shared_operations():
            labels = by_peer(points, method)
    seconds = time.perf_counter() - begin
    np.save(out, labels)
    print(json.dumps({"seconds": seconds, "threshold": threshold}), flush=True)


def fail(method: str, said: IO[str]) -> NoReturn:
    """End the benchmark with the last words of a process."""
    said.seek(0)
    sys.exit(f"error: {method} failed:\n{said.read()[-3000:]}")


def measure(method: str, file: Path, count: int) -> dict[str, Any]:
    """Run a method in its own process, and watch its memory from outside."""
    row: dict[str, Any] = {"points": count, "method": method}
    pairs = count * (count - 1) // 2 * 8
    if method in ("fastcluster", "scipy") and 1.02 * pairs > psutil.virtual_memory().available:
        return row | {"outcome": f"does not fit: its distances alone take {pairs / 2**30:.1f} GiB"}
    out = file.with_suffix(f".{method}.npy")
    out.unlink(missing_ok=True)
    words = [sys.executable, __file__, "--child", method, str(file), str(count), str(out)]
    with (
        tempfile.TemporaryFile("w+") as said,  # not a pipe, which progress bars would fill up
        subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=said, text=True) as process,
    ):
        assert process.stdin is not None
        assert process.stdout is not None
        if process.stdout.readline().strip() != "ready":
            fail(method, said)
        before = anonymous(psutil.Process(process.pid))
        process.stdin.write("go\n")
        process.stdin.flush()
        peak = max(before, peak_anonymous(process, 0.01))
        answer = process.stdout.readline()
        if process.wait() not in (0, -signal.SIGKILL):
            fail(method, said)
    if process.returncode != 0:
        return row | {"outcome": "ended by the system for lack of memory", "peak_mib": (peak - before) / 2**20}
    figures: dict[str, float | None] = json.loads(answer)
    return row | {"outcome": "", "peak_mib": (peak - before) / 2**20, "labels": str(out)} | figures


# Features


def small_network(folder: Path, pool: Pool, kind: str) -> Path:
    """Train one of the networks briefly."""
    folder = folder / kind
    model = folder / "model"
    if (model / "weights.safetensors").exists():
        return model
    profile, classes, epochs = NETWORKS[kind]
    params = parse(profiles.compose(ROOT / "conf", profile), f"profile {profile}")
    trained = params.variants.train["baseline"].model_copy(update={"patches_per_image": 80})
    patches = folder / "patches"
    table = seeding.seed_table(len(pool), classes, 0)
    definition = SetDefinition(pool, table, params.surrogate, trained, seed=0)
    write_set(definition, DrawingJob(patches, folder / "patches-work", workers=2))
    about = json.loads((patches / "set.json").read_text())
    net = exemplar_cnn.initialise(params.network, classes, 32, 0, about["mean"], about["std"])
    if epochs:
        cpu = torch.device("cpu")
        train = params.train.model_copy(update={"epochs": epochs})
        data = TrainingData(*(Batches(patches, name, cpu) for name in ("train", "valid")))
        Trainer(net, data, train, 0, cpu, Checkpoint(folder / "checkpoint.safetensors", {"of": "benchmark"})).run()
    model.mkdir(exist_ok=True)
    saved.describe(model / "network.json", params.network, about)
    saved.save_weights(model / "weights.safetensors", net)
    return model


def corner(image: NDArray[np.uint8], which: int) -> NDArray[np.uint8]:
    """Return one of the four 80×80 corners, resized to 96×96."""
    top, left = divmod(which, 2)
    part = image[16 * top : 16 * top + 80, 16 * left : 16 * left + 80]
    return np.asarray(cv2.resize(part, (96, 96), interpolation=cv2.INTER_AREA), np.uint8)


def real(folder: Path, source: Path, count: int, kind: str) -> tuple[Path, int]:
    """Describe images, their mirror images, their corners and the mirrored corners by a network until they suffice."""
    pools = [stl10.open_pool(source, "unlabeled"), stl10.ImageFile(source / "test_X.bin")]
    distinct = sum(map(len, pools))
    file = folder / f"{kind}-{count}.npy"
    made_of = {"source": str(source.resolve()), "images": distinct, "network": list(NETWORKS[kind])}
    for record, made in ((folder / kind / "origin.json", folder / kind / "model"), (file.with_suffix(".json"), file)):
        if record.exists() and (found := json.loads(record.read_text())) != made_of:
            sys.exit(f"error: {record} says {found}, not {made_of}; remove what is there, or change --work")
        if made.exists() and not record.exists():
            sys.exit(f"error: {made} may be of other images: {record.name} is missing; remove it, or change --work")
        record.parent.mkdir(parents=True, exist_ok=True)
        record.write_text(json.dumps(made_of))
    if file.exists():
        return file, distinct
    params = parse(profiles.compose(ROOT / "conf", NETWORKS[kind][0]), f"profile {NETWORKS[kind][0]}")
    net = saved.load(small_network(folder, pools[0], kind))
    describe = features.cluster_features(net, params.cluster, params.features.dense_stride, torch.device("cpu"))
    parts: list[list[View]] = [[lambda image: image], [functools.partial(corner, which=which) for which in range(4)]]
    kinds = [(view, mirror) for views in parts for mirror in (1, -1) for view in views]
    partial = file.with_suffix(".partial")
    dimensions = describe(np.zeros((1, 96, 96, 3), np.uint8)).shape[1]
    array = np.lib.format.open_memmap(partial, "w+", np.float32, (count, dimensions))
    done = 0
    for view, mirror in kinds:
        for pool in pools:
            for start in range(0, len(pool), 64):
                batch = pool.batch(np.arange(start, min(start + 64, len(pool))))
                batch = np.ascontiguousarray(np.stack([view(image)[:, ::mirror] for image in batch]))[: count - done]
                if len(batch):
                    array[done : done + len(batch)] = describe(batch)
                    done += len(batch)
                    print(f"\r{done:,} of {count:,} images described", end="", file=sys.stderr)
    if done < count:
        sys.exit(f"error: {source}: found images for {done} points only, expected {count}; lower --sizes and --growth")
    array.flush()
    partial.rename(file)
    return file, distinct


def look(file: Path) -> dict[str, Any]:
    """Measure on real features what `drawn` needs."""
    points = np.asarray(np.load(file, mmap_mode="r", allow_pickle=False)[:5000], np.float64)
    mean = points.mean(axis=0)
    values = np.linalg.svd(points - mean, compute_uv=False) ** 2
    left = 1 - np.cumsum(values) / values.sum()
    gaps = np.sqrt(np.maximum(2 - 2 * points @ points.T, 0)) + 10 * np.eye(len(points))
    axes = [k for k in (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048) if k < points.shape[1]]
    return {
        "mean_length": round(float(np.linalg.norm(mean)), 4),
        "variance_after": {k: round(float(left[k - 1]), 5) for k in axes},
        "nearest": np.quantile(gaps.min(axis=1), np.linspace(0, 1, 11)).round(4).tolist(),
    }


def drawn(folder: Path, count: int) -> Path:
    """Draw points with the eigenvalues and nearest-neighbour distances of real features."""
    file = folder / f"drawn-{count}.npy"
    if file.exists():
        return file
    draw = np.random.Generator(np.random.PCG64(1))
    after = REAL_LIKE["variance_after"]
    left = np.interp(
        np.log(np.arange(1, DIMENSIONS + 1)), np.log([*after, DIMENSIONS]), np.log([*after.values(), 1e-6])
    )
    spread = np.sqrt(np.maximum(-np.diff(np.exp(left), prepend=1.0), 1e-12))
    spread *= np.sqrt((1 - REAL_LIKE["mean_length"] ** 2) / np.square(spread).sum())
    partial = file.with_suffix(".partial")
    array = np.lib.format.open_memmap(partial, "w+", np.float32, (count, DIMENSIONS))
    for start in range(0, count, STRIP):
        rows = min(STRIP, count - start)
        fresh = draw.normal(size=(rows, DIMENSIONS)) * spread
        fresh[:, 0] += REAL_LIKE["mean_length"]
        fresh /= np.linalg.norm(fresh, axis=1, keepdims=True)
        if start:
            towards = array[np.sort(draw.integers(0, start, rows))]
            gap = fresh - towards
            wanted = np.interp(draw.random(rows), np.linspace(0, 1, 11), REAL_LIKE["nearest"])
            fresh = towards + gap * (wanted / np.linalg.norm(gap, axis=1))[:, None]
            fresh /= np.linalg.norm(fresh, axis=1, keepdims=True)
        array[start : start + rows] = fresh
    array.flush()
    partial.rename(file)
    return file


# The number of axes


def by_width(data: str, file: Path, count: int) -> list[dict[str, Any]]:
    """Time the search for near pairs on each number of axes, in turns, and on the one that it chooses."""
    use_threads(os.cpu_count() or 1)
    points = np.load(file, mmap_mode="r", allow_pickle=False)[:count]
    sample = Sample.draw(points)
    radius = sample.nearest_within(1.5 * FRACTION + 4 / len(sample.distances))
    rows = []
    for width in (*(each for each in WIDTHS if each < points.shape[1]), points.shape[1], None):
        search = RadiusSearch(points, width=width)
        begin = time.perf_counter()
        pairs = search.graph(radius).nnz
        seconds = time.perf_counter() - begin
        rows.append({"data": data, "points": count, "width": width or f"chosen: {search.axes}", "pairs": pairs})
        rows[-1]["seconds"] = round(seconds, 2)
        print(rows[-1], file=sys.stderr)
    assert len({row["pairs"] for row in rows}) == 1
    return rows


# Class tables


def in_pieces(data: str, file: Path, source: Path, classes: Path) -> list[dict[str, Any]]:
    """Group the images as the paper does, half of them clustered, and all in one piece; measure what comes of it."""
    use_threads(os.cpu_count() or 1)
    labels = pd.read_csv(classes)["class"]
    points = np.load(file, mmap_mode="r", allow_pickle=False)[: len(stl10.open_pool(source, "unlabeled"))]
    entry = parse(profiles.compose(ROOT / "conf", "paper"), "profile paper").variants.group["clustered"]
    rows = []
    for fraction, neighbours in ((0.5, 3), (1.0, 0)):
        params = entry.model_copy(update={"clustered_fraction": fraction, "neighbours": neighbours})
        begin = time.perf_counter()
        table = grouping.group(points, params, seed=0).table
        seconds = time.perf_counter() - begin
        merged = table[table["origin"] == "cluster"]
        row = {
            "data": data,
            "clustered": fraction,
            "clusters": merged["class_id"].nunique(),
            "in clusters": len(merged),
        }
        row |= {"classes": table["class_id"].nunique(), "images": len(table), "seconds": round(seconds, 1)}
        for name, part in (("clusters", merged), ("classes", table)):
            if (found := quality.purity(part, labels)) is not None:
                row |= {f"purity of {name}": found["purity"], f"{name} by chance": found["by_chance"]}
        rows.append(row)
        print(row, file=sys.stderr)
    return rows


# Comparison with scipy on exact distances


def exactly(data: str, points: Features) -> list[dict[str, Any]]:
    """Compare clusters and heights at several cuts with scipy's on float64 distances, and the merges of all widths."""
    n = len(points)
    exact = torch.from_numpy(points.astype(np.float64))
    full = torch.cdist(exact, exact, compute_mode="donot_use_mm_for_euclid_dist").numpy()  # as pdist, on all threads
    Z = hierarchy.linkage(squareform(full, checks=False), "complete")
    del full
    rows = []
    for share in (0.02, 0.1, 0.5) if n < 5000 else (0.02, 0.1):
        found = dendrogram.cut(points, None, share, memory=4.0)
        widths = [width for width in (*WIDTHS, points.shape[1]) if width <= points.shape[1]]
        each = (complete_linkage(neighbour_graph(points, found.threshold, 4.0, width=width)) for width in widths)
        agree = sum(np.array_equal(merges, found.merges) for merges in each)
        theirs = flat_clusters(Z, n, found.threshold)
        below = Z[Z[:, 2] <= found.threshold, 2]
        same = np.array_equal(found.labels, theirs) and len(below) == len(found.heights)
        off = float(np.abs(below - found.heights).max()) if same else np.nan
        merged = float((np.bincount(theirs)[theirs] > 1).mean())
        row = {"data": data, "points": n, "merged": merged, "same clusters": same, "heights off by": off}
        rows.append(row | {"widths with the same merges": f"{agree} of {len(widths)}"})
        print(rows[-1], file=sys.stderr)
    return rows


def exact(files: dict[str, Path], sizes: list[int]) -> pd.DataFrame:
    """Compare on the given points and, up to 5,000, on random and clustered ones of 3,440 coordinates."""
    rows = []
    for n in sizes:
        draw = np.random.default_rng(n)
        for data, file in files.items():
            chosen = np.sort(draw.permutation(len(np.load(file, mmap_mode="r", allow_pickle=False)))[:n])
            rows += exactly(data, np.load(file, mmap_mode="r", allow_pickle=False)[chosen])
        if n > 5000:
            continue
        random = draw.normal(size=(n, DIMENSIONS)).astype(np.float32)
        centres = draw.normal(size=(n // 4, DIMENSIONS))[draw.integers(0, n // 4, n)]
        clustered = (centres + 0.3 * draw.normal(size=(n, DIMENSIONS))).astype(np.float32)
        for data, points in {"random": random, "clustered": clustered}.items():
            rows += exactly(data, points / np.linalg.norm(points, axis=1, keepdims=True))
    return pd.DataFrame(rows)


# Very many points


def large(file: Path, count: int, seeds: int) -> None:
    """Cluster points without peers, and compare components of some of them with scipy's clusters."""
    row = measure("ours", file, count)
    print({key: value for key, value in row.items() if key != "labels"}, file=sys.stderr)
    differ = False
    if "labels" in row:
        points, labels = (np.load(path, mmap_mode="r", allow_pickle=False) for path in (file, row.pop("labels")))
        sizes = np.bincount(labels)
        row |= {
            "clusters of two or more": int(np.count_nonzero(sizes > 1)),
            "merged": float((sizes[labels] > 1).mean()),
        }
        try:
            row |= check(points[:count], np.asarray(labels), row["threshold"], seeds)
            differ = row["components that differ"] > 0 or abs(row["merged"] - FRACTION) > 0.001
        except TooLargeError as error:
            row["components"] = str(error)
    failed = ["these are not the clusters of complete linkage where a tenth of the points is merged"] if differ else []
    if "components that differ" not in row:
        failed.append("no cluster was checked")
    finish(pd.DataFrame([row]), "clustering-large", failed, dimensions=DIMENSIONS, rows=[row])


# The table


def agreement(one: str, other: str) -> str:
    """Say how many points are in clusters that the other method does not have."""
    a, b = np.load(one, allow_pickle=False), np.load(other, allow_pickle=False)
    pairs = np.unique(np.stack([a, b]), axis=1)
    split = (np.bincount(pairs[0])[a] > 1) | (np.bincount(pairs[1])[b] > 1)
    return "same clusters" if not split.any() else f"{np.count_nonzero(split)} points differ"


def compare(data: str, file: Path, sizes: list[int]) -> list[dict[str, Any]]:
    """Measure all methods at each size; return rows with ratios to the better peer."""
    rows = []
    for count in sizes:
        found = {method: measure(method, file, count) for method in METHODS}
        others = [row for name, row in found.items() if name not in OURS and "labels" in row]
        peers = [row for name, row in found.items() if name not in OURS and not row["outcome"]]
        for name, row in found.items():
            row["data"] = data
            if not row["outcome"] and others:
                row |= {"against": others[0]["method"], "clusters": agreement(row["labels"], others[0]["labels"])}
            if name in OURS and peers:
                row["time_ratio"] = row["seconds"] / min(peer["seconds"] for peer in peers)
                row["memory_ratio"] = row["peak_mib"] / min(peer["peak_mib"] for peer in peers)
            rows.append(row)
            print({key: value for key, value in row.items() if key != "labels"}, file=sys.stderr)
    return rows


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, help="folder with unlabeled_X.bin and test_X.bin")
    networks_help = "whose features of the images are clustered (default all)"
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS), help=networks_help)
    parser.add_argument("--points", type=Path, nargs="*", default=[], help=".npy files of points")
    parser.add_argument("--widths", action="store_true", help="time the search on each number of axes, without peers")
    parser.add_argument("--sizes", type=int, nargs="+", default=[20_000, 50_000], help="points, with the peers")
    growth_help = "points, without the peers"
    parser.add_argument("--growth", type=int, nargs="*", default=[10_000, 20_000, 50_000, 100_000], help=growth_help)
    pieces_help = "no peers: group half of the images, and all in one piece"
    parser.add_argument("--pieces", action="store_true", help=pieces_help)
    parser.add_argument("--classes", type=Path, help="CSV file with the class of each image of `unlabeled`")
    parser.add_argument("--large", type=int, help="no peers: cluster so many drawn points, and check some components")
    parser.add_argument("--components", type=int, default=400, help="points whose components --large checks")
    parser.add_argument("--quick", action="store_true", help="2,000 points with the peers, 2,000 and 4,000 without")
    work_help = "where features are kept (default work/benchmark-clustering)"
    parser.add_argument("--work", type=Path, default=ROOT / "work" / "benchmark-clustering", help=work_help)
    parser.add_argument("--child", nargs=4, help=argparse.SUPPRESS)
    parser.add_argument("--exact", action="store_true", help="compare with scipy on float64 distances, without timing")
    arguments = parser.parse_args()
    if arguments.child:
        method, file, count, out = arguments.child
        child(method, Path(file), int(count), Path(out))
        return
    sizes, growth = ([2000], [2000, 4000]) if arguments.quick else (arguments.sizes, arguments.growth)
    arguments.work.mkdir(parents=True, exist_ok=True)
    most = max([*sizes, *growth])

    if arguments.pieces:
        if arguments.images is None or arguments.classes is None:
            parser.error("--pieces needs --images and --classes")
        whole = len(stl10.open_pool(arguments.images, "unlabeled"))
        described = {kind: real(arguments.work, arguments.images, whole, kind)[0] for kind in arguments.networks}
        found = [in_pieces(kind, file, arguments.images, arguments.classes) for kind, file in described.items()]
        lines = [line for each in found for line in each]
        finish(pd.DataFrame(lines).round(4), "clustering-pieces", rows=lines)
        return
    if arguments.large:
        large(drawn(arguments.work, arguments.large), arguments.large, arguments.components)
        return
    files = {"drawn": drawn(arguments.work, most)} | {str(file): file for file in arguments.points}
    if arguments.images:
        for kind in arguments.networks:
            file, distinct = real(arguments.work, arguments.images, most, kind)
            files = {f"{kind} ({min(distinct, most):,} images and what is made of them)": file} | files
        print("REAL_LIKE =", look(file), file=sys.stderr)
    if arguments.widths:
        rows = [line for data, file in files.items() for count in sizes for line in by_width(data, file, count)]
        finish(pd.DataFrame(rows), "clustering-widths", rows=rows)
        return
    if arguments.exact:
        trials = exact(files, [1000] if arguments.quick else [1000, 2000, 5000, 20_000])
        failed = [] if trials["same clusters"].all() else ["some clusters are not scipy's"]
        if any(len(set(said.split(" of "))) > 1 for said in trials["widths with the same merges"]):
            failed.append("some widths give other merges")
        finish(trials, "clustering-exact", failed, dimensions=DIMENSIONS, rows=trials.to_dict("records"))
        return
    rows, curves = [], {}
    for data, file in files.items():
        rows += compare(data, file, sizes)
        alone = [measure("ours", file, count) | {"data": data} for count in growth]
        rows += alone
        points, seconds = ([row[key] for row in alone] for key in ("points", "seconds"))
        curves[data] = round(float(np.polyfit(np.log(points), np.log(seconds), 1)[0]), 2) if len(alone) > 1 else None
        if curves[data] is not None:
            print(f"{data}: time grows with the {curves[data]}th power of the number of points", file=sys.stderr)
    table = pd.DataFrame(rows).drop(columns=["labels"]).round(3)
    # The distances of fastcluster and scipy have errors of their own; those of "plain" have not.
    unlike = [row for row in rows if row.get("against") == "plain" and row["clusters"] != "same clusters"]
    failed = [f"{row['method']}, {row['points']} points of {row['data']}: {row['clusters']}" for row in unlike]
    finish(
        table,
        "clustering",
        failed,
        fraction=FRACTION,
        dimensions=DIMENSIONS,
        growth=curves,
        rows=table.to_dict("records"),
    )


if __name__ == "__main__":
    main()
