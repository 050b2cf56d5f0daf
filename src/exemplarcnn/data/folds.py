"""Check that labels and folds suffice for the protocols, also before anything is trained."""

import numpy as np
from numpy.typing import NDArray

from exemplarcnn.config.sections import Evaluate
from exemplarcnn.errors import PipelineError

# Training on n images at once holds some ten arrays of n × n numbers.
MAX_TRAINING_IMAGES = 10_000

Rows = NDArray[np.int64]


class EvaluationError(PipelineError):
    """Features, labels or folds cannot be evaluated."""


def check(labels: Rows, folds: list[Rows], classes: int, params: Evaluate) -> None:
    """Check that every protocol can be trained.

    Parameters
    ----------
    labels
        (images,) int64, the classes of all training images, from 0.
    folds
        Indices into the training images, (fold_size,) int64 each.
    classes
        Number of classes.
    params
        The protocols.

    Raises
    ------
    EvaluationError
        If there are too many training images, or a fold has too few of some class or too few for ``evaluate.k``.
    """
    if len(labels) > MAX_TRAINING_IMAGES:
        raise EvaluationError(
            f"found {len(labels)} training images, expected {MAX_TRAINING_IMAGES} at most: the exact classifiers hold "
            "all their inner products in memory; label fewer images"
        )
    for index, fold in enumerate(folds):
        counts = np.bincount(labels[fold], minlength=classes)
        if counts.min() < params.inner_folds:
            raise EvaluationError(
                f"fold {index} has {counts.min()} image(s) of class {counts.argmin()}; "
                f"cross-validation needs evaluate.inner_folds={params.inner_folds} of each: add some, or lower it"
            )
        inside = len(fold) - -(-len(fold) // params.inner_folds)
        if any(each.classifier == "knn" for each in params.protocols) and max(params.k) > inside:
            raise EvaluationError(
                f"evaluate.k has {max(params.k)}, but cross-validation trains on only {inside} images of fold {index}; "
                "remove the larger values"
            )


def with_mirrored(count: int) -> int:
    """Return how many images a classifier learns from: labelled ones, and their mirror images if it can take both."""
    return 2 * count if 2 * count <= MAX_TRAINING_IMAGES else count


def outside(folds: list[Rows], fold: int, count: int) -> Rows:
    """Return the training images that are not in a fold, ascending.

    Raises
    ------
    EvaluationError
        If the fold has all ``count`` images: none is left to monitor a training.
    """
    others = np.setdiff1d(np.arange(count), folds[fold])
    if not len(others):
        raise EvaluationError(
            f"fold {fold} has all {count} training images, and none is left to monitor a training; "
            "take some out of the fold"
        )
    return others
