"""Measure time and memory of the evaluation protocol, beside scikit-learn's LinearSVC on the raw features.

    python benchmarks/evaluation.py FOLDER            # STL-10's binary files; half an hour at 71,536 features
    python benchmarks/evaluation.py --quick           # within a minute: the embedded sample, 1,000 features

The features are those of untrained networks: of profile `bench` with 636 classes (4,464 numbers per image), and of
profile `paper` (71,536 numbers). Both sides choose C among eight values by five inner folds in each of the ten folds:
410 trainings (ours makes 480, since for the figure called leaky it trains all eight on every fold). Ours runs in its
own process and is timed from the files of features to all predictions, including Gram matrices and scoring the test
set. Of LinearSVC's 410 trainings, 12 are drawn at random and timed, two at a time, with its default settings; the
whole is 410 / 12 of that, without scoring.

Agreement: the first fold's decision values for all test images are compared with those of LinearSVC at a tight
tolerance on raw features, for several C.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from joblib import Parallel, delayed
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedKFold
from sklearn.svm import LinearSVC
from threadpoolctl import threadpool_limits

from _common import ROOT, finish, watched
from exemplarcnn.config import profiles
from exemplarcnn.config.params import parse
from exemplarcnn.config.sections import Evaluate
from exemplarcnn.data import stl10
from exemplarcnn.data.stl10_folder import binary_folder
from exemplarcnn.determinism import use_threads
from exemplarcnn.evaluation import protocols
from exemplarcnn.evaluation.classifiers import FeatureSet
from exemplarcnn.networks import exemplar_cnn, features

SIZES = {4464: ("bench", 636), 71536: ("paper", 16_000)}
QUICK = {1000: ("tiny", 216)}
TIMED = 12
WORKERS = 2  # threads of ours, processes of LinearSVC
AGREE_AT = (0.1, 1.0, 10.0)
MEAN, STD = [0.45, 0.44, 0.41], [0.26, 0.26, 0.27]  # roughly those of natural images, by which the network normalises

Array = NDArray[np.float32]
Describe = Callable[[NDArray[np.uint8]], Array]


def untrained(folder: Path, source: Path, profile: str, classes: int, write: Callable[[Describe, int], object]) -> None:
    """Have features by an untrained network written to a folder, unless they are there.

    ``write`` gets the network's function from images to features, and how many images to give it at a time.
    """
    params = parse(profiles.compose(ROOT / "conf", profile), f"profile {profile}")
    made_of = {"source": str(source), "classes": classes} | params.network.model_dump() | params.features.model_dump()
    record = folder / "origin.json"
    if record.exists():
        if json.loads(record.read_text()) != json.loads(json.dumps(made_of)):
            sys.exit(f"error: {folder} was made from {record.read_text()}; remove it, or change --work")
        return
    folder.mkdir(parents=True, exist_ok=True)
    net = exemplar_cnn.initialise(params.network, classes, 32, 0, MEAN, STD)
    write(features.eval_features(net, params.features, torch.device("cpu")), params.features.batch_size)
    record.write_text(json.dumps(made_of))


def describe(folder: Path, source: Path, width: int, function: Describe, batch_size: int) -> None:
    """Write the features of all training and test images."""
    for split in ("train", "test"):
        features.write_features(folder / f"{split}.npy", stl10.open_pool(source, split), function, batch_size)
    found = np.load(folder / "test.npy", mmap_mode="r", allow_pickle=False).shape[1]
    if found != width:
        sys.exit(f"error: found {found} features, expected {width}; correct SIZES in benchmarks/evaluation.py")


def protocol(**changes: Any) -> Evaluate:
    """Return the protocol of profile `paper` on the folds only."""
    params = parse(profiles.compose(ROOT / "conf", "paper"), "profile paper").evaluate
    return params.model_copy(update={"protocols": params.protocols[:1], **changes})


def labels_and_folds(source: Path) -> tuple[NDArray[np.int64], list[NDArray[np.int64]]]:
    """Read the labels and folds of the training images."""
    count = len(stl10.open_pool(source, "train"))
    return stl10.read_labels(source / "train_y.bin", count), stl10.read_folds(source / "fold_indices.txt", count)


def child(folder: Path, source: Path) -> None:
    """Run the protocol, and print how long it took."""
    use_threads(os.cpu_count() or 1)
    labels, folds = labels_and_folds(source)
    train, test = (np.load(folder / f"{split}.npy", mmap_mode="r", allow_pickle=False) for split in ("train", "test"))
    features_of_all = FeatureSet(train, labels, folds, test, stl10.CLASSES)
    begin = time.perf_counter()
    results = protocols.evaluate(features_of_all, protocol(), 0, WORKERS)["folds"]
    seconds = time.perf_counter() - begin
    truth = stl10.read_labels(source / "test_y.bin", len(test))
    names = stl10.read_class_names(source / "class_names.txt")
    summary = protocols.summarise(results, protocol().C, truth, names)
    print(json.dumps({"seconds": seconds, "accuracy": summary["accuracy_mean"], "C": summary["chosen"]}))


def time_one(train: Array, rows: NDArray[np.int64], labels: NDArray[np.int64], C: float) -> float:
    """Train LinearSVC with its default settings on some images; return seconds."""
    with threadpool_limits(1):
        block = np.asarray(train[rows])
        begin = time.perf_counter()
        LinearSVC(C=C).fit(block, labels[rows])
        return time.perf_counter() - begin


def measure_peer(train: Array, labels: NDArray[np.int64], folds: list[NDArray[np.int64]]) -> dict[str, Any]:
    """Time some of LinearSVC's trainings, WORKERS at a time."""
    params = protocol()
    trainings = []
    for fold in folds:
        splits = StratifiedKFold(params.inner_folds, shuffle=True, random_state=0).split(fold, labels[fold])
        trainings += [(fold[inside], C) for inside, _ in splits for C in params.C] + [(fold, 1.0)]
    chosen = np.random.default_rng(0).choice(len(trainings), TIMED, replace=False)
    begin = time.perf_counter()
    seconds = Parallel(n_jobs=WORKERS, pre_dispatch="all", batch_size=1)(
        delayed(time_one)(train, trainings[i][0], labels, trainings[i][1]) for i in chosen
    )
    wall = time.perf_counter() - begin
    # Idle processes at the end do not count against LinearSVC.
    whole = len(trainings) * float(np.mean(seconds)) / WORKERS
    return {"trainings": len(trainings), "timed": sorted(round(s, 1) for s in seconds), "wall": wall, "seconds": whole}


def agree(
    train: Array, test: Array, labels: NDArray[np.int64], folds: list[NDArray[np.int64]], C: float
) -> dict[str, Any]:
    """Compare decision values for all test images with LinearSVC's on raw features."""
    with threadpool_limits(1):
        params = protocol(C=(C,), inner_folds=2)
        block, its_labels = np.asarray(train[folds[0]]), labels[folds[0]]
        every = [np.arange(len(block))]
        mine = protocols.evaluate(FeatureSet(block, its_labels, every, test, stl10.CLASSES), params, 0, 1)["folds"][0]
        assert mine.linear is not None
        theirs = LinearSVC(C=C, dual=False, tol=1e-9, max_iter=100_000).fit(block.astype(np.float64), its_labels)
        scores = np.concatenate(
            [theirs.decision_function(np.asarray(test[i : i + 500], np.float64)) for i in range(0, len(test), 500)]
        )
    off = float(np.abs(scores - mine.linear.scores).max())
    same = float((scores.argmax(axis=1) == mine.predictions).mean())
    return {"C": C, "decision values off by": off, "same predictions, %": 100 * same}


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", help="STL-10's binary files, except unlabeled_X.bin")
    widths_help = "numbers of features (default: both)"
    parser.add_argument("--widths", type=int, nargs="+", choices=list(SIZES), default=list(SIZES), help=widths_help)
    parser.add_argument("--agree-at", type=float, nargs="*", default=AGREE_AT, help="values of C (default 0.1 1 10)")
    parser.add_argument("--quick", action="store_true", help="the embedded sample, 1,000 features")
    work_help = "where features are kept (default work/benchmark-evaluation)"
    parser.add_argument("--work", type=Path, default=ROOT / "work" / "benchmark-evaluation", help=work_help)
    parser.add_argument("--child", type=Path, nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        child(*arguments.child)
        return
    if not arguments.quick and not arguments.folder:
        parser.error("name a FOLDER with STL-10's binary files, or add --quick")
    source = ROOT / "data" if arguments.quick else binary_folder(arguments.folder).resolve()
    sizes = QUICK if arguments.quick else {width: SIZES[width] for width in arguments.widths}
    labels, folds = labels_and_folds(source)
    rows, agreements = [], []
    for width, (profile, classes) in sizes.items():
        folder = arguments.work / f"{width}{'-quick' if arguments.quick else ''}"
        use_threads(os.cpu_count() or 1)
        untrained(folder, source, profile, classes, partial(describe, folder, source, width))
        train, test = (
            np.load(folder / f"{split}.npy", mmap_mode="r", allow_pickle=False) for split in ("train", "test")
        )
        ours = watched(__file__, str(folder), str(source))
        print(ours, file=sys.stderr)
        peer = measure_peer(train, labels, folds)
        print(peer, file=sys.stderr)
        times = {
            "ours, s": ours["seconds"],
            "LinearSVC, s": peer["seconds"],
            "times": peer["seconds"] / ours["seconds"],
        }
        rows.append({"features": width, **times, "ours, MiB": ours["peak_mib"], "accuracy": ours["accuracy"]})
        for found in Parallel(n_jobs=WORKERS)(
            delayed(agree)(train, test, labels, folds, C) for C in arguments.agree_at
        ):
            agreements.append({"features": width, **found})
            print(agreements[-1], file=sys.stderr)
    print(pd.DataFrame(agreements).to_string(index=False), end="\n\n")
    table = pd.DataFrame(rows).round(2)
    failed = [f"other predictions than LinearSVC's: {each}" for each in agreements if each["same predictions, %"] < 100]
    finish(table, "evaluation", failed, quick=arguments.quick, rows=rows, agreement=agreements)


if __name__ == "__main__":
    main()
