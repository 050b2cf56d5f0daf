"""From clusters to a class table: clusters first, then single images with their nearest held-out images.

docs/method.md, section 5.
"""

import math
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from scipy.spatial.distance import pdist

from exemplarcnn import rng
from exemplarcnn.classes.expansion import Neighbours, expand
from exemplarcnn.classes.tables import clustered_part, single_classes
from exemplarcnn.clustering.dendrogram import Cut, cut
from exemplarcnn.config import Grouped, Pruned
from exemplarcnn.errors import PipelineError


class GroupingError(PipelineError):
    """The pool is too small for the classes asked for."""


def halves(pool_size: int, share: float, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Split a pool at random into the part that is clustered and the part held out, each in ascending order."""
    order = rng.generator(seed, rng.Purpose.HALVES).permutation(pool_size)
    size = clustered_part(pool_size, share)
    return np.sort(order[:size]), np.sort(order[size:])


def group(
    features: NDArray[np.float32],
    params: Grouped | Pruned,
    seed: int,
    memory: float = 2.0,
    device: torch.device | None = None,
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Make a class table from the features of a pool (docs/method.md, section 5).

    Parameters
    ----------
    features
        (images, d) float32 of unit length, image ids in order.
    params, seed
        What is asked for, and the experiment's seed.
    memory, device
        As for `clustering.cut`.

    Returns
    -------
    table, statistics
        The class table, clusters first, and what ``clusters.json`` holds.

    Raises
    ------
    GroupingError
        If there are more clusters than classes, or too few images for the rest, the largest possible number of
        classes being named, unless ``or_fewer`` allows it; or if there are fewer than two classes.
    """
    clustered, held_out = halves(len(features), params.clustered_fraction, seed)
    if isinstance(params, Pruned):
        found = cut(np.asarray(features[clustered]), None, None, memory, device, params.mean_cluster_size)
        return prune(features, clustered, held_out, found, params, memory, device)
    found = cut(np.asarray(features[clustered]), params.threshold, params.merged_fraction, memory, device)
    return assemble(features, clustered, held_out, found, params, seed)


def assemble(
    features: NDArray[np.float32],
    clustered: NDArray[np.int64],
    held_out: NDArray[np.int64],
    found: Cut,
    params: Grouped,
    seed: int,
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Make a class table of clusters that have been found already.

    Parameters
    ----------
    features
        (images, d) float32 of unit length, image ids in order.
    clustered, held_out
        Image ids of the two parts, as `halves` gives them.
    found
        The clusters of the first part.
    params, seed
        As for `group`, which also says what is returned and raised.
    """
    sizes = np.bincount(found.labels)
    clusters = _chosen(found, sizes, params)
    alone = clustered[sizes[found.labels] == 1]
    wanted = _single_classes(params, len(clusters), len(alone), len(held_out))
    picks = rng.generator(seed, rng.Purpose.SINGLES).permutation(len(alone))[:wanted]
    singles = alone[picks]
    near = expand(
        np.asarray(features[singles]), np.asarray(features[held_out]), params.neighbours, params.neighbour_order
    )

    members = np.split(clustered[np.argsort(found.labels, kind="stable")], np.cumsum(sizes)[:-1])
    rows: list[tuple[int, int, str]] = []
    for class_id, cluster in enumerate(clusters):
        rows += [(class_id, int(image), "cluster") for image in members[cluster]]
    for class_id, (single, joined) in enumerate(zip(singles, near.images, strict=True), len(clusters)):
        rows.append((class_id, int(single), "single"))
        rows += [(class_id, int(image), "neighbour") for image in held_out[joined]]
    table = pd.DataFrame(rows, columns=["class_id", "image_id", "origin"])
    statistics = _statistics(found, sizes[clusters], len(clustered), len(held_out), near)
    if left_out := np.count_nonzero(sizes > 1) - len(clusters):
        images = int(sizes[sizes > 1].sum() - sizes[clusters].sum())
        statistics |= {"clusters_left_out": int(left_out), "images_left_out": images}
    return table, statistics


def prune(
    features: NDArray[np.float32],
    clustered: NDArray[np.int64],
    held_out: NDArray[np.int64],
    found: Cut,
    params: Pruned,
    memory: float = 2.0,
    device: torch.device | None = None,
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Drop the noisy clusters and merge the similar ones (docs/method.md, section 5.7).

    Parameters and results as for `assemble`; held-out images are not used. ``memory`` and ``device`` are those of
    `clustering.cut`.

    Raises
    ------
    GroupingError
        If fewer than two classes are left.
    """
    members = np.split(clustered[np.argsort(found.labels, kind="stable")], np.cumsum(np.bincount(found.labels))[:-1])
    clusters = [images for images in members if len(images) > 1]
    noise = np.array([pdist(features[images].astype(np.float64)).mean() for images in clusters])
    kept = (
        [clusters[i] for i in np.flatnonzero(noise <= np.quantile(noise, 1 - params.drop_fraction))] if clusters else []
    )
    means = np.array([features[images].mean(axis=0, dtype=np.float64) for images in kept]).reshape(
        -1, features.shape[1]
    )
    means /= np.maximum(np.linalg.norm(means, axis=1, keepdims=True), np.finfo(np.float64).tiny)
    # A cosine distance of c is a distance of √(2c) between unit vectors.
    similar = cut(means.astype(np.float32), math.sqrt(2 * params.merge_distance), None, memory, device).labels
    joined = [np.concatenate([kept[i] for i in np.flatnonzero(similar == label)]) for label in np.unique(similar)]
    if len(joined) < 2:
        raise GroupingError(
            f"{len(clusters)} clusters of two images or more, {len(kept)} of them kept and merged into {len(joined)}: "
            "at least two classes are needed; lower mean_cluster_size, drop_fraction or merge_distance"
        )
    sizes = np.array([len(images) for images in joined])
    class_ids = np.repeat(np.arange(len(joined)), sizes)
    table = pd.DataFrame({"class_id": class_ids, "image_id": np.concatenate(joined), "origin": "cluster"})
    none = expand(features[:0], features[:0], 0)
    statistics = _statistics(found, sizes, len(clustered), len(held_out), none)
    return table, statistics | {
        "dropped_clusters": len(clusters) - len(kept),
        "joined_clusters": len(kept) - len(joined),
    }


def _chosen(found: Cut, sizes: NDArray[np.int64], params: Grouped) -> NDArray[np.int64]:
    """Return the clusters of two images or more that become classes, ascending (docs/method.md, section 5.3)."""
    clusters = np.flatnonzero(sizes > 1)
    if len(clusters) <= params.classes:
        return clusters
    if not params.or_fewer:
        raise GroupingError(
            f"the cut gives {len(clusters)} clusters, more than the {params.classes} classes asked for; "
            "lower merged_fraction or threshold, ask for more classes, or set or_fewer: true, which keeps the largest"
        )
    # Clusters are numbered by their first images, and a stable sort leaves the lower one first.
    order = np.lexsort((found.diameters[clusters], -sizes[clusters]))
    return np.sort(clusters[order[: params.classes]])


def _single_classes(params: Grouped, clusters: int, alone: int, held_out: int) -> int:
    """Return how many classes of a single image and its neighbours there are to be beside the clusters."""
    wanted = params.classes - clusters
    possible = single_classes(alone, held_out, params.neighbours)
    if wanted > possible and not params.or_fewer:
        raise GroupingError(
            f"{params.classes} classes asked for: {clusters} clusters leave {wanted} to be made of single images with "
            f"{params.neighbours} neighbour(s) each, but {alone} single and {held_out} held-out images are there. "
            f"The largest possible number of classes is {clusters + possible}"
        )
    if clusters + possible < 2:
        raise GroupingError(
            f"{clusters} clusters, {alone} single and {held_out} held-out images make {clusters + possible} class(es), "
            "and a network needs two to tell apart: the images are too few, or too much alike"
        )
    return min(wanted, possible)


def shortfall(statistics: dict[str, Any], params: Grouped) -> str:
    """Say how many classes there are and why no more, where ``or_fewer`` let there be fewer than wanted; or nothing."""
    singles, held_out, k = statistics["single_classes"], statistics["held_out_images"], params.neighbours
    count = statistics["clusters"] + singles
    if count >= params.classes:
        return ""
    served = k > 0 and singles == held_out // k
    why = (
        f"the {held_out} held-out images suffice for {singles} with {k} neighbour(s) each" if served else "all are used"
    )
    return f"{count} classes where up to {params.classes} are wanted: of the images that no cluster took, {why}"


def _summary(values: NDArray[Any]) -> dict[str, float] | None:
    """Five numbers that show a distribution, or None of nothing."""
    if values.size == 0:
        return None
    names = ("min", "quarter", "median", "three_quarters", "max")
    return {name: float(x) for name, x in zip(names, np.quantile(values, [0, 0.25, 0.5, 0.75, 1]), strict=True)}


def _statistics(
    found: Cut, sizes: NDArray[np.int64], clustered: int, held_out: int, near: Neighbours
) -> dict[str, Any]:
    return {
        "clustered_images": clustered,
        "held_out_images": held_out,
        "threshold": found.threshold,
        "clusters": len(sizes),
        "images_in_clusters": int(sizes.sum()),
        "merged_fraction": float(sizes.sum() / clustered) if clustered else 0.0,
        "cluster_sizes": {str(size): int(number) for size, number in enumerate(np.bincount(sizes)) if number},
        "merge_heights": _summary(found.heights),
        "single_classes": len(near.images),
        "neighbour_ranks": _summary(near.ranks),
        "neighbour_distances": _summary(near.distances),
    }
