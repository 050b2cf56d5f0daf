"""Label tables: which images are learned from, and as what, in the semi-supervised experiment.

A table is a CSV file with the columns ``pool``, ``image_id``, ``label`` (from 0) and ``margin`` (of the label over the
second best, empty where the label was given). See docs/method.md, section 6.2.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from safetensors.numpy import load_file

from exemplarcnn.data.types import Pool
from exemplarcnn.errors import PipelineError
from exemplarcnn.files import read_table
from exemplarcnn.networks.chunks import map_chunks
from exemplarcnn.networks.features import FeatureExtractor
from exemplarcnn.progress import tqdm


class LabelError(PipelineError):
    """No label table can be made."""


def load_classifier(folder: Path, fold: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return weights (classes, features) and intercepts (classes,) of one fold's linear SVM."""
    tensors = load_file(folder / "svm.safetensors")
    if fold >= len(tensors["weights"]):
        raise LabelError(f"{folder}: there are {len(tensors['weights'])} classifiers, no fold {fold} (counted from 0)")
    return tensors["weights"][fold].astype(np.float64), tensors["intercept"][fold].astype(np.float64)


def predict(
    pool: Pool,
    indices: NDArray[np.int64],
    extract: FeatureExtractor,
    chunk: int,
    weights: NDArray[np.float64],
    intercepts: NDArray[np.float64],
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Label images by a linear classifier; their features are never stored.

    Parameters
    ----------
    pool, indices
        The images.
    extract, chunk
        The function to features, and how many images it is given at a time.
    weights, intercepts
        Of the classifier.

    Returns
    -------
    labels, margins
        (n,) int64 from 0, and (n,) float64: how far the best class is above the second best.
    """

    def score(rows: NDArray[np.int64]) -> NDArray[np.float64]:
        found: NDArray[np.float64] = extract(pool.batch(indices[rows])).astype(np.float64) @ weights.T + intercepts
        return found

    scores = np.empty((len(indices), len(weights)))
    with tqdm(total=len(indices), desc="labels", unit="image") as bar:
        for rows, found in map_chunks(score, len(indices), chunk):
            scores[rows] = found
            bar.update(len(found))
    ordered = np.sort(scores, axis=1)
    return scores.argmax(axis=1), ordered[:, -1] - ordered[:, -2]


def most_confident(table: pd.DataFrame, share: float) -> pd.DataFrame:
    """Keep the share of a table's rows with the widest margins, at least one; in the table's order."""
    count = max(1, round(share * len(table)))
    kept = table["margin"].sort_values(ascending=False, kind="stable").index[:count]
    return table.loc[kept.sort_values()].reset_index(drop=True)


def true_labels(truth: Path, names: list[str]) -> "pd.Series[int] | None":
    """Return the true labels of unlabelled images, from 0, as far as they are known; −1 for none of the classes."""
    if not truth.exists():
        return None
    table = read_table(truth, integers=["index"]).set_index("index")["class"]
    places = {name: place for place, name in enumerate(names)}
    return table.map(places).fillna(-1).astype(int)


def compare_with_truth(table: pd.DataFrame, known: "pd.Series[int]", left_out: set[int]) -> dict[str, Any]:
    """Compare labels of unlabelled images with what is known of these.

    Parameters
    ----------
    table
        The label table.
    known
        See :func:`true_labels`.
    left_out
        Images that do not count: near duplicates of training images, whose labels the classifier was told.

    Returns
    -------
    dict
        ``images`` of the classes; ``accuracy``, the share 0–1 of these that are labelled right; ``outside``, how many
        images of none of the classes were labelled; ``left_out``.
    """
    counted = table[~table["image_id"].isin(left_out)]
    true = known.reindex(counted["image_id"]).to_numpy()
    inside = true >= 0
    right = counted["label"].to_numpy()[inside] == true[inside]
    return {
        "images": int(inside.sum()),
        "accuracy": float(right.mean()) if inside.any() else None,
        "outside": int((true == -1).sum()),
        "left_out": int(len(table) - len(counted)),
    }


def read(path: Path) -> pd.DataFrame:
    """Read a label table.

    Raises
    ------
    LabelError
        If it is missing or has no row.
    """
    try:
        table = read_table(path, integers=["image_id", "label"], floats=["margin"])
    except FileNotFoundError:
        raise LabelError(f"{path}: not found; `dvc repro` makes it") from None
    if not len(table):
        raise LabelError(f"{path}: no image has a label")
    return table
