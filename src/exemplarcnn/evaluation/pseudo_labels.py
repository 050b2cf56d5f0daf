"""Label tables: images and labels for the semi-supervised experiment (docs/method.md, section 6.2).

A table is a CSV file with the columns ``pool``, ``image_id``, ``label`` (from 0) and ``margin`` (of the label over the
second best, empty where the label was given).
"""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from safetensors.numpy import load_file

from exemplarcnn.errors import PipelineError
from exemplarcnn.files import read_table


class LabelError(PipelineError):
    """A label table cannot be made or read."""


def load_classifier(folder: Path, fold: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return weights (classes, features) and intercepts (classes,), float64, of one fold's linear SVM.

    Raises
    ------
    LabelError
        If there is no such fold.
    """
    tensors = load_file(folder / "svm.safetensors")
    if fold >= len(tensors["weights"]):
        raise LabelError(
            f"{folder / 'svm.safetensors'}: found {len(tensors['weights'])} classifiers, expected one of fold {fold} "
            "(counted from 0); set a lower fold in variants.label"
        )
    return tensors["weights"][fold].astype(np.float64), tensors["intercept"][fold].astype(np.float64)


def decision_function(
    features: NDArray[np.float32], weights: NDArray[np.float64], intercepts: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return decision values, (n, classes) float64, of a classifier from :func:`load_classifier`."""
    found: NDArray[np.float64] = features.astype(np.float64) @ weights.T + intercepts
    return found


def predict(decisions: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Label images by decision values, (n, classes) float64.

    Returns
    -------
    labels, margins
        (n,) int64 from 0, and (n,) float64: how far the best class is above the second best.
    """
    ordered = np.sort(decisions, axis=1)
    return decisions.argmax(axis=1), ordered[:, -1] - ordered[:, -2]


def most_confident(table: pd.DataFrame, share: float) -> pd.DataFrame:
    """Keep a share of a table's rows, those with the widest margins and at least one, in the table's order."""
    count = max(1, round(share * len(table)))
    kept = table["margin"].sort_values(ascending=False, kind="stable").index[:count]
    return table.loc[kept.sort_values()].reset_index(drop=True)


def true_labels(truth: Path, names: list[str]) -> "pd.Series[int] | None":
    """Return the true labels of unlabelled images, by image, from 0; −1 for none of the classes; None if not known.

    Leaves out images whose class the table does not tell. In one that tells what each image is (``kind``), an image
    without a class is of none.
    """
    if not truth.exists():
        return None
    table = read_table(truth, integers=["index"]).set_index("index")
    known = table["class"] if "kind" in table else table["class"][table["class"].fillna("") != ""]
    places = {name: place for place, name in enumerate(names)}
    return known.map(places).fillna(-1).astype(int)


def compare_with_truth(table: pd.DataFrame, known: "pd.Series[int]", left_out: set[int]) -> dict[str, Any]:
    """Compare labels of unlabelled images with their true labels.

    Parameters
    ----------
    table
        The label table.
    known
        From :func:`true_labels`.
    left_out
        Images that do not count: near duplicates of training images, whose labels the classifier has seen.

    Returns
    -------
    dict
        ``images``, the number of images of the classes; ``accuracy``, the share of them labelled correctly, 0–1, or
        None if there are none; ``outside``, the number of labelled images of none of the classes; ``left_out``, the
        number of images that do not count.
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
        raise LabelError(f"{path}: found no rows, expected a row for each labelled image; `dvc repro` rebuilds it")
    return table
