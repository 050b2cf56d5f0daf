"""The protocols that turn features into accuracies, and choose C (docs/method.md, sections 1 and 4.1).

A protocol says which labels train a classifier: those of each of the ten folds, or those of all training images. The
classifier is tested on the whole test set. C of the linear SVM, or k of the nearest neighbours, is chosen by stratified
cross-validation among the training labels, which never sees a test label. The result of the best choice on the test set
is computed, too, and called leaky.
"""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedKFold
from threadpoolctl import threadpool_limits

from exemplarcnn import rng
from exemplarcnn.config.sections import Evaluate, Protocol
from exemplarcnn.data import folds
from exemplarcnn.data.folds import EvaluationError, Rows
from exemplarcnn.evaluation.classifiers import CLASSIFIERS, Classifier, FeatureSet, Products, Result
from exemplarcnn.evaluation.metrics import choose, class_accuracies, correct
from exemplarcnn.progress import tqdm

ROWS_AT_ONCE = 1024


def evaluate(features: FeatureSet, params: Evaluate, seed: int, workers: int) -> dict[str, list[Result]]:
    """Run all protocols.

    Parameters
    ----------
    features
        Features of training and test images.
    params, seed
        The protocols and the experiment's seed.
    workers
        Number of threads. The result does not depend on it.

    Returns
    -------
    dict
        For each protocol a list with one result for each fold, or a single result if it trains on all labels.

    Raises
    ------
    EvaluationError
        If counts do not match, a feature is not finite, or a set of labels does not suit the protocols.
    SvmError
        If a linear SVM does not reach ``params.tol``.
    """
    _check(features, params)
    # One thread each, so that neither the number of workers nor that of cores can change a bit.
    with threadpool_limits(1):
        products = Products.of(features, workers)
        return {each.name: _run(each, features, products, params, seed, workers) for each in params.protocols}


def grid(protocol: Protocol, params: Evaluate) -> tuple[float, ...]:
    """Return the values that a protocol chooses from."""
    return CLASSIFIERS[protocol.classifier].grid(params)


def _run(
    protocol: Protocol, features: FeatureSet, products: Products, params: Evaluate, seed: int, workers: int
) -> list[Result]:
    sets = features.folds if protocol.labels == "folds" else [np.arange(len(features.train))]
    values = grid(protocol, params)
    kind = CLASSIFIERS[protocol.classifier]
    with ThreadPoolExecutor(workers) as pool:
        classifiers: list[Classifier] = list(pool.map(lambda rows: kind(features, products, rows, params), sets))
        splits = [
            (index, inside, out)
            for index, rows in enumerate(sets)
            for inside, out in StratifiedKFold(
                params.inner_folds, shuffle=True, random_state=_split_seed(protocol, seed, index)
            ).split(rows, features.labels[rows])
        ]

        def try_out(split: tuple[int, Rows, Rows]) -> NDArray[np.int64]:
            index, inside, out = split
            return classifiers[index].count_right(inside, out)

        bar = tqdm(pool.map(try_out, splits), total=len(splits), desc=f"{protocol.name}: choice", unit="split")
        right = np.stack(list(bar)).reshape(len(sets), params.inner_folds, len(values)).sum(axis=1)

        def train(index: int) -> Result:
            inner = [float(share) for share in right[index] / len(sets[index])]
            return classifiers[index].result(choose(values, right[index]), inner)

        return list(tqdm(pool.map(train, range(len(sets))), total=len(sets), desc=protocol.name, unit="set"))


def _split_seed(protocol: Protocol, seed: int, index: int) -> int:
    # The set of all labels has its own inner folds; classifiers on the same labels share theirs.
    major = index if protocol.labels == "folds" else 2**32
    return int(rng.generator(seed, rng.Purpose.INNER_FOLDS, major).integers(2**32))


def _check(features: FeatureSet, params: Evaluate) -> None:
    train, labels, test = features.train, features.labels, features.test
    if len(train) != len(labels):
        raise EvaluationError(
            f"cannot evaluate: {len(train)} training images have features, but {len(labels)} have labels; "
            "run exemplarcnn verify to find damaged results"
        )
    if train.shape[1] != test.shape[1]:
        raise EvaluationError(
            f"cannot evaluate: training images have {train.shape[1]} features, test images {test.shape[1]}; "
            "run exemplarcnn verify to find damaged results"
        )
    folds.check(labels, features.folds, features.classes, params)
    for name, array in (("training", train), ("test", test)):
        for start in range(0, len(array), ROWS_AT_ONCE):
            good = np.isfinite(array[start : start + ROWS_AT_ONCE]).all(axis=1)
            if not good.all():
                raise EvaluationError(
                    f"cannot evaluate: {name} image {start + int(np.argmin(good))} has features that are not finite; "
                    "run exemplarcnn verify to find damaged results"
                )


def summarise(
    results: list[Result], values: tuple[float, ...], test_labels: NDArray[np.int64], class_names: list[str]
) -> dict[str, Any]:
    """Summarise the results of a protocol.

    Parameters
    ----------
    results
        One for each fold.
    values
        The grid that they chose from.
    test_labels, class_names
        The test images' labels, (test images,) from 0, and the names of the classes.

    Returns
    -------
    dict
        Accuracies in percent: ``accuracy_mean``, ``accuracy_std`` (population standard deviation over the folds),
        ``fold_accuracies``, ``class_accuracies`` (means over the folds); ``chosen``, a value for each fold; and
        ``leaky``, mean, deviation and value for the one value that is best on the test set.
    """
    right = correct(np.stack([result.predictions for result in results]), test_labels)
    folds = 100 * right.mean(axis=1)
    right_by_value = np.stack([np.count_nonzero(result.by_value == test_labels, axis=1) for result in results])
    best = choose(values, right_by_value.sum(axis=0))
    leaky = 100 * right_by_value[:, best] / len(test_labels)
    return {
        "accuracy_mean": float(folds.mean()),
        "accuracy_std": float(folds.std()),
        "fold_accuracies": [float(x) for x in folds],
        "chosen": [result.choice for result in results],
        "leaky": {
            "accuracy_mean": float(leaky.mean()),
            "accuracy_std": float(leaky.std()),
            "value": values[best],
        },
        "class_accuracies": class_accuracies(right, test_labels, class_names),
    }
