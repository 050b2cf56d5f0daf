"""Find images of none of the labelled classes by a network's features (docs/method.md, section 1.3)."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import betabinom
from sklearn.metrics import roc_auc_score

from exemplarcnn import threads
from exemplarcnn.clustering.radius_graph import RadiusSearch
from exemplarcnn.data import audit_tables
from exemplarcnn.data.folds import with_mirrored
from exemplarcnn.data.types import Pixels, Pool
from exemplarcnn.evaluation.estimators import SpanLinearSVC
from exemplarcnn.evaluation.svm import SvmError
from exemplarcnn.files import read_table
from exemplarcnn.networks.features import FeatureExtractor


@dataclass(frozen=True)
class Hyperplanes:
    """One hyperplane for each class, between its images and all others.

    Attributes
    ----------
    weights, intercept
        (features, classes) and (classes,), float64.
    """

    weights: NDArray[np.float64]
    intercept: NDArray[np.float64]

    @classmethod
    def learn(cls, features: NDArray[np.float32], labels: NDArray[np.int64], C: float) -> "Hyperplanes":
        """Train a linear SVM.

        Parameters
        ----------
        features
            Of the labelled images, (n, features) float32, for instance a memory map; never loaded as a whole.
        labels
            (n,) int64 from 0; some classes may have no image.
        C
            The SVM's penalty.

        Raises
        ------
        SvmError
            If the SVM cannot be trained: it does not reach its precision, there is one class only, or rounding hides
            what tells features apart.
        """
        try:
            trained = SpanLinearSVC(C, n_jobs=threads.count(), verbose=True).fit(features, labels)
        except ValueError as error:
            raise SvmError(f"cannot tell the classes of the labelled images apart: {error}") from error
        found, ends = trained.coef_.T, trained.intercept_
        if len(trained.classes_) == 2:  # one hyperplane, seen from its positive side
            found, ends = np.hstack([-found, found]), np.hstack([-ends, ends])
        # A class without images has no hyperplane, and nothing lies inside it.
        classes = int(labels.max()) + 1
        weights, intercept = np.zeros((len(found), classes)), np.full(classes, -np.inf)
        weights[:, trained.classes_], intercept[trained.classes_] = found, ends
        return cls(weights, intercept)

    def decision_function(self, features: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return how far inside each class images lie, (n, classes) float64; negative outside."""
        return features.astype(np.float64) @ self.weights + self.intercept


def mirrored(images: Pixels) -> Pixels:
    """Return images, (n, height, width, 3), with left and right exchanged."""
    return np.ascontiguousarray(images[:, :, ::-1])


class WithMirrored:
    """The images of a pool, followed by their mirror images, unless these are too many for an SVM together.

    A mirror image is of the same class: with few labels it is worth about as much as another labelled image.
    """

    def __init__(self, pool: Pool):
        self.pool, self._length = pool, with_mirrored(len(pool))

    def __len__(self) -> int:
        return self._length

    def batch(self, rows: NDArray[np.int64]) -> Pixels:
        """Return images, (n, height, width, 3) uint8."""
        images = self.pool.batch(rows % len(self.pool))
        turned = (rows >= len(self.pool))[:, None, None, None]
        return np.where(turned, mirrored(images), images)


def mean_decisions(hyperplanes: Hyperplanes, extract: FeatureExtractor) -> Callable[[Pixels], NDArray[np.float64]]:
    """Return the function from images to decision values, (n, classes) float64, averaged with their mirror images'."""

    def decide(images: Pixels) -> NDArray[np.float64]:
        both = hyperplanes.decision_function(extract(images))
        both += hyperplanes.decision_function(extract(mirrored(images)))
        return both / 2

    return decide


def scored(decisions: NDArray[np.float64]) -> pd.DataFrame:
    """Score how far each image is from all classes.

    Parameters
    ----------
    decisions
        From `mean_decisions`, (images, classes).

    Returns
    -------
    DataFrame
        ``image_id``; ``nearest``, the closest class, from 0; ``score``, minus that class's decision value: the higher,
        the farther from all classes.
    """
    nearest = decisions.argmax(axis=1)
    return pd.DataFrame({"image_id": np.arange(len(decisions)), "nearest": nearest, "score": -decisions.max(axis=1)})


def closest_pairs(features: NDArray[np.float32], count: int, memory: float, folder: Path | None = None) -> pd.DataFrame:
    """Return the pairs of images whose features are closest.

    Parameters
    ----------
    features
        (images, d) float32.
    count
        How many pairs; all pairs if there are fewer.
    memory
        Memory in GiB that the search may take.
    folder
        As for `RadiusSearch`.

    Returns
    -------
    DataFrame
        Image ids ``first`` < ``second``, and their Euclidean ``distance``; the closest pair comes first.
    """
    count = min(count, len(features) * (len(features) - 1) // 2)
    search = RadiusSearch(features, memory, folder=folder)
    radius = search.sample.radius_with(count)
    while (graph := search.graph(radius).tocoo()).nnz < count:
        radius = search.sample.wider(radius)
    order = np.lexsort((graph.col, graph.row, graph.data))[:count]
    return pd.DataFrame({"first": graph.row[order], "second": graph.col[order], "distance": graph.data[order]})


def agreement(pairs: pd.DataFrame, groups: "pd.Series[int]") -> dict[str, int]:
    """Count the closest pairs, the known near duplicates among them, and all known near duplicates.

    ``groups`` has the group of each image that has near duplicates, by image.
    """
    first, second = (groups.reindex(pairs[name]).to_numpy() for name in ("first", "second"))
    # An image in no group is NaN, which equals nothing.
    known = int((first == second).sum())
    return {"closest_pairs": len(pairs), "known_among_them": known, "known": audit_tables.count_pairs(groups)}


def count_outliers(scores: NDArray[np.float64], inside: NDArray[np.float64], false_alarms: float) -> dict[str, Any]:
    """Count images that score higher than all but a given share of images known to be of the classes.

    Parameters
    ----------
    scores, inside
        Scores of the images in question, (n,), and of images of the classes that the hyperplanes were not trained on,
        (m,).
    false_alarms
        The share of the latter that may score above the threshold, 0–1.

    Returns
    -------
    dict
        ``threshold``, the lowest score that no more than this share exceeds; ``inside`` and ``inside_above``, the
        number of images of the classes, and how many of them exceed it; ``images`` in question that exceed it, and
        their ``share``; and ``expected``, how many would exceed it if all were drawn like those of the classes: the
        ``mean``, and ``low`` and ``high``, between which 95 % of such draws lie.
    """
    most = math.floor(false_alarms * len(inside) + 1e-9)  # in floating point 0.29 × 100 is a little less than 29
    threshold = np.sort(inside)[len(inside) - 1 - most]
    above = np.count_nonzero(scores > threshold)
    # Exact for any distribution of scores: a new image is equally likely to take any place among the known ones.
    by_chance = betabinom(len(scores), most + 1, len(inside) - most)
    low, high = by_chance.ppf([0.025, 0.975])
    return {
        "threshold": float(threshold),
        "inside": len(inside),
        "inside_above": int(np.count_nonzero(inside > threshold)),
        "images": int(above),
        "share": float(above / len(scores)),
        "expected": {"mean": float(by_chance.mean()), "low": int(low), "high": int(high)},
    }


def detection_metrics(scores: pd.DataFrame, threshold: float, truth: Path) -> dict[str, float | None] | None:
    """Compare scores with the truth about the unlabelled images.

    Parameters
    ----------
    scores
        What :func:`scored` returns.
    threshold
        Images that score above it are counted as out of distribution.
    truth
        The file ``truth.csv``, which need not exist.

    Returns
    -------
    dict or None
        ``images``, the number out of distribution; ``auroc``, the area under the ROC curve of the scores, 0–1;
        ``precision`` (None if no score is above the threshold) and ``recall`` of the images above it, 0–1. None if the
        truth is not known, or has none or only such images.
    """
    if not truth.exists() or "kind" not in (known := read_table(truth)).columns:
        return None
    outside = (known["kind"] == "out_of_distribution").to_numpy()
    if outside.all() or not outside.any():
        return None
    above = (scores["score"] > threshold).to_numpy()
    right = np.count_nonzero(outside & above)
    return {
        "images": int(outside.sum()),
        "auroc": float(roc_auc_score(outside, scores["score"])),
        "precision": right / int(above.sum()) if above.any() else None,
        "recall": right / int(outside.sum()),
    }
