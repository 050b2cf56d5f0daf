"""Measure the SVM's estimators beside the functions that the pipeline calls and scikit-learn's own, in the same run.

    python benchmarks/estimators.py FOLDER      # STL-10's binary files; a quarter of an hour
    python benchmarks/estimators.py --quick     # within a minute: the embedded sample, 1,000 features

Each trains on the images of the first fold and gives decision values of a thousand test images, from features of
untrained networks (those of `benchmarks/evaluation.py`). Each runs in its own process, with two threads or processes;
LinearSVC can use one only. It has its default settings, with which it may stop before it is done. Memory is the peak of
the process beyond that of one which only imports the same and reads the files. Agreement: largest difference of a
decision value to those of the functions (of `SpanLinearSVCCV`, where C is chosen), and how many of the test images get
the same class. The search for C by `GridSearchCV` runs up to 5,000 features only. `CompleteLinkage` is in
`benchmarks/clustering.py`.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.model_selection import GridSearchCV
from sklearn.svm import LinearSVC

from _common import ROOT, finish, watched
from evaluation import QUICK, SIZES, Describe, labels_and_folds, untrained
from exemplarcnn.data import stl10
from exemplarcnn.data.stl10_folder import binary_folder
from exemplarcnn.determinism import use_threads
from exemplarcnn.evaluation import SpanLinearSVC, SpanLinearSVCCV, svm

C, CS = 1.0, (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
TEST, JOBS = 1000, 2
MOST_FOR_GRID = 5000  # features

Scores = NDArray[np.float64]


def functions(train: Scores, labels: NDArray[np.int64], test: Scores) -> Scores:
    """Train as the pipeline does."""
    classes = int(labels.max()) + 1
    trained = svm.LinearSVM(C).fit(svm.span(svm.gram(train, train, JOBS)), labels, classes)
    return trained.decision_function(svm.gram(test, train, JOBS))


def fitted(model: Any) -> Callable[[Scores, NDArray[np.int64], Scores], Scores]:
    """Return a function that trains an estimator and returns its decision values."""
    return lambda train, labels, test: np.asarray(model.fit(train, labels).decision_function(test))


METHODS: dict[str, Callable[[Scores, NDArray[np.int64], Scores], Scores]] = {
    "nothing": lambda train, labels, test: np.array([train[0, 0], test[0, 0]]),
    "functions": functions,
    "SpanLinearSVC": fitted(SpanLinearSVC(C, n_jobs=JOBS)),
    "LinearSVC": fitted(LinearSVC(C=C)),
    "SpanLinearSVCCV": fitted(SpanLinearSVCCV(CS, n_jobs=JOBS)),
    "GridSearchCV of LinearSVC": fitted(GridSearchCV(LinearSVC(), {"C": CS}, n_jobs=JOBS)),
}


def describe(folder: Path, source: Path, function: Describe, batch_size: int) -> None:
    """Write the features and labels of the first fold's images, and the features of some test images."""
    labels, folds = labels_and_folds(source)
    np.save(folder / "labels.npy", labels[folds[0]])
    for split, rows in (("train", folds[0]), ("test", np.arange(TEST))):
        pool = stl10.open_pool(source, split)
        rows = rows[rows < len(pool)]
        parts = [function(pool.batch(rows[i : i + batch_size])) for i in range(0, len(rows), batch_size)]
        np.save(folder / f"{split}.npy", np.concatenate(parts))


def child(method: str, folder: Path) -> None:
    """Run one method, and print how long it took."""
    labels = np.load(folder / "labels.npy", allow_pickle=False)
    train, test = (np.load(folder / f"{split}.npy", mmap_mode="r", allow_pickle=False) for split in ("train", "test"))
    for array in (train, test):
        array.max()  # so that no method waits for the disk
    use_threads(JOBS)
    begin = time.perf_counter()
    scores = METHODS[method](train, labels, test)
    seconds = time.perf_counter() - begin
    np.save(folder / f"scores-{method.split()[0]}.npy", scores)
    print(json.dumps({"seconds": seconds}))


def compare(folder: Path, width: int) -> list[dict[str, Any]]:
    """Run all methods on one number of features."""
    rows: list[dict[str, Any]] = []
    nothing = 0.0
    for method in METHODS:
        if method.startswith("Grid") and width > MOST_FOR_GRID:
            continue
        found = watched(__file__, method, str(folder))
        if method == "nothing":
            nothing = found["peak_mib"]
            continue
        beside = "SpanLinearSVCCV" if "CV" in method else "functions"  # those that choose C may choose another one
        scores, ours = (
            np.load(folder / f"scores-{name.split()[0]}.npy", allow_pickle=False) for name in (method, beside)
        )
        row = {"features": width, "method": method, "s": found["seconds"], "MiB": found["peak_mib"] - nothing}
        row |= {"beside": beside, "values off by": float(np.abs(scores - ours).max())}
        row["same classes, %"] = 100 * float((scores.argmax(axis=1) == ours.argmax(axis=1)).mean())
        rows.append(row)
        print(row, file=sys.stderr)
    return rows


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", help="STL-10's binary files, except unlabeled_X.bin")
    parser.add_argument("--quick", action="store_true", help="the embedded sample, 1,000 features")
    work_help = "where features are kept (default work/benchmark-estimators)"
    parser.add_argument("--work", type=Path, default=ROOT / "work" / "benchmark-estimators", help=work_help)
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        child(arguments.child[0], Path(arguments.child[1]))
        return
    if not arguments.quick and not arguments.folder:
        parser.error("name a FOLDER with STL-10's binary files, or add --quick")
    source = ROOT / "data" if arguments.quick else binary_folder(arguments.folder).resolve()
    rows = []
    for width, (profile, classes) in (QUICK if arguments.quick else SIZES).items():
        folder = arguments.work / f"{width}{'-quick' if arguments.quick else ''}"
        use_threads(JOBS)
        untrained(folder, source, profile, classes, partial(describe, folder, source))
        rows += compare(folder, width)
    unlike = [row for row in rows if row["method"].startswith("Span") and row["same classes, %"] < 100]
    failed = [f"{row} predicts other classes" for row in unlike]
    finish(pd.DataFrame(rows).round(9), "estimators", failed, quick=arguments.quick, rows=rows)


if __name__ == "__main__":
    main()
