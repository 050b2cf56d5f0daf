"""What labels and folds must have for the protocols: asked by those who need it, and before anything is trained."""

import numpy as np
from numpy.typing import NDArray

from exemplarcnn.config.sections import Evaluate
from exemplarcnn.errors import PipelineError

# Training on n images at once holds some ten arrays of n × n numbers.
MAX_TRAINING_IMAGES = 10_000

Rows = NDArray[np.int64]


class EvaluationError(PipelineError):
    """Features, labels or folds that cannot be evaluated."""


def check(labels: Rows, folds: list[Rows], classes: int, params: Evaluate) -> None:
    """Check that every protocol can be trained.

    Parameters
    ----------
    labels
        Of all training images, from 0.
    folds
        Indices into them.
    classes
        How many there are.
    params
        The protocols.

    Raises
    ------
    EvaluationError
        If there are too many training images, or in a fold too few of some class or for the number of neighbours.
    """
    if len(labels) > MAX_TRAINING_IMAGES:
        raise EvaluationError(
            f"{len(labels)} training images: the exact classifiers hold all their inner products, so that "
            f"{MAX_TRAINING_IMAGES} are the most; keep fewer labelled images"
        )
    for index, fold in enumerate(folds):
        counts = np.bincount(labels[fold], minlength=classes)
        if counts.min() < params.inner_folds:
            raise EvaluationError(
                f"fold {index} has {counts.min()} image(s) of class {counts.argmin()}; "
                f"cross-validation with evaluate.inner_folds={params.inner_folds} needs as many of each"
            )
        inside = len(fold) - -(-len(fold) // params.inner_folds)
        if any(each.classifier == "knn" for each in params.protocols) and max(params.k) > inside:
            raise EvaluationError(
                f"evaluate.k has {max(params.k)}, but in cross-validation only {inside} images of fold {index} are left"
            )


def outside(folds: list[Rows], fold: int, count: int) -> Rows:
    """Return the training images that are not in a fold, ascending.

    Raises
    ------
    EvaluationError
        If the fold has all ``count`` of them: a training would have none to be watched by.
    """
    others = np.setdiff1d(np.arange(count), folds[fold])
    if not len(others):
        raise EvaluationError(
            f"fold {fold} has all {count} training images, and none is left to watch a training by; "
            "take some out of the fold"
        )
    return others
