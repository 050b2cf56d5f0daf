"""Measure a class table where the truth is known; reported, never used (docs/method.md, section 5.6)."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from exemplarcnn.errors import PipelineError
from exemplarcnn.files import read_table

REMEDY = "correct the file, or remove it and do without what it measures; `dvc add data` then records the change"


class TruthError(PipelineError):
    """A truth table does not fit its pool."""


def measure(
    table: pd.DataFrame, truth: pd.DataFrame | None, clustered: NDArray[np.int64], before: pd.DataFrame | None
) -> dict[str, Any]:
    """Measure all that is known about a class table.

    Parameters
    ----------
    table
        The class table.
    truth
        As `read_truth` returns it.
    clustered
        Ids of the images that were clustered: only they could meet in a cluster.
    before
        The class table that the clustered features were learned from, if it has classes of several images.

    Returns
    -------
    dict
        ``purity`` of all classes, ``cluster_purity`` of the clusters alone, ``duplicates`` (`duplicates_together`) and
        ``round`` (`mutual_information` with ``before``), each None if nothing is known.
    """
    clusters = table[table["origin"] == "cluster"]
    return {
        "purity": None if truth is None else purity(table, truth["class"]),
        "cluster_purity": None if truth is None else purity(clusters, truth["class"]),
        "duplicates": None if truth is None else duplicates_together(clusters, truth["original"], clustered),
        "round": None if before is None else mutual_information(table, before),
    }


def read_truth(path: Path, pool_size: int) -> pd.DataFrame | None:
    """Read what is known about the images of a pool; None if there is no such file.

    Returns
    -------
    DataFrame or None
        One row per image, in order: ``class``, a name as text, or NaN; ``original``, the id of the image that this one
        is a near duplicate of, or NaN.

    Raises
    ------
    TruthError
        If the file lacks a column, has text in place of a number, or does not list the pool's images one by one.
    """
    if not path.exists():
        return None
    try:
        table = read_table(path, integers=["index"], floats=["original"])
    except ValueError as error:
        raise TruthError(f"{path}: {error}; expected whole numbers in index and original; {REMEDY}") from None
    if missing := {"index", "class", "original"} - set(table.columns):
        raise TruthError(f"{path}: found no column {', '.join(sorted(missing))}; {REMEDY}")
    if table["index"].tolist() != list(range(pool_size)):
        raise TruthError(
            f"{path}: found {len(table)} rows, expected one for each of the pool's {pool_size} images, in order; "
            f"{REMEDY}"
        )
    return table[["class", "original"]].assign(**{"class": table["class"].mask(table["class"] == "")})


def purity(table: pd.DataFrame, labels: pd.Series) -> dict[str, Any] | None:
    """Compute the share of images with the commonest label of their class, over classes with two labels or more.

    Parameters
    ----------
    table
        Class table.
    labels
        Label of each image of the pool; NaN where none is known.

    Returns
    -------
    dict or None
        ``images`` that were counted; their ``purity``, 0–1; and ``by_chance``, the mean purity when the same labels are
        dealt to the same classes at random, 20 times. None if no class has two labelled images.
    """
    known = pd.DataFrame({"class": table["class_id"].to_numpy(), "label": labels.to_numpy()[table["image_id"]]})
    known = known.dropna()
    known = known[known.groupby("class")["label"].transform("size") > 1]
    if known.empty:
        return None

    def share(label: pd.Series) -> float:
        counts = pd.crosstab(known["class"], label.to_numpy())
        return float(counts.max(axis=1).sum() / len(known))

    deal = np.random.default_rng(0)
    dealt = [share(pd.Series(deal.permutation(known["label"].to_numpy()))) for _ in range(20)]
    return {"images": len(known), "purity": share(known["label"]), "by_chance": float(np.mean(dealt))}


def duplicates_together(
    table: pd.DataFrame, originals: pd.Series, clustered: NDArray[np.int64]
) -> dict[str, Any] | None:
    """Compute the share of known near-duplicate pairs that are in one class, among the pairs that could be.

    Parameters
    ----------
    table
        Class table.
    originals
        For each image of the pool, the id of the image that it is a near duplicate of, or NaN.
    clustered
        Ids of the images that were clustered.

    Returns
    -------
    dict or None
        ``pairs`` with both images among those clustered, and ``together``, the share of these in one class, 0–1. None
        if there are no such pairs.
    """
    copies = originals.dropna().astype(np.int64)
    pairs = copies[copies.index.isin(clustered) & copies.isin(clustered)]
    if pairs.empty:
        return None
    class_of = table.set_index("image_id")["class_id"].reindex(range(len(originals)))
    # Images outside all classes are NaN, which equals nothing.
    together = class_of[pairs.index].to_numpy() == class_of[pairs].to_numpy()
    return {"pairs": len(pairs), "together": float(together.mean())}


def mutual_information(table: pd.DataFrame, other: pd.DataFrame) -> dict[str, Any] | None:
    """Compute the normalised mutual information of two class tables, over the images that are in both.

    It is normalised by the arithmetic mean of the two entropies. None if fewer than two images are in both.
    """
    from sklearn.metrics import normalized_mutual_info_score  # takes a second, which `read_truth` does not need

    both = table.merge(other, on="image_id", suffixes=("", "_other"))
    if len(both) < 2:
        return None
    value = normalized_mutual_info_score(both["class_id"], both["class_id_other"])
    return {"images": len(both), "nmi": float(value)}
