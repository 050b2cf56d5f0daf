"""Make a class table from the features of a pool, by one of several methods (docs/method.md, section 5).

A method is a function from a `Split` and its entry in ``params.yaml`` to a `GroupedTable`. `GROUPINGS` lists methods by
the name that ``variants.group.VARIANT.method`` gives.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from scipy.spatial.distance import pdist

from exemplarcnn import rng, threads
from exemplarcnn.classes.capacity import single_classes, split_pool
from exemplarcnn.classes.expansion import Expansion, expand
from exemplarcnn.clustering.dendrogram import Cut, cut
from exemplarcnn.clustering.estimator import CompleteLinkage
from exemplarcnn.clustering.sample import Chosen
from exemplarcnn.config.variants import ClusterEntry, PruneEntry
from exemplarcnn.determinism import shared_operations
from exemplarcnn.errors import PipelineError


class GroupingError(PipelineError):
    """The images or their clusters do not make the classes asked for."""


class GroupedTable(NamedTuple):
    """The result of a grouping.

    Attributes
    ----------
    table
        The class table.
    statistics
        The content of ``clusters.json``.
    warnings
        What the stage should tell the user.
    """

    table: pd.DataFrame
    statistics: dict[str, Any]
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Split:
    """The input of a grouping: a pool's features in two parts, of which one is clustered.

    Attributes
    ----------
    features
        (images, d) float32 of unit length, one row per image id.
    clustered, held_out
        Image ids of the two parts, as `capacity.split_pool` returns them.
    seed
        The experiment's seed.
    memory, device, folder
        As for `dendrogram.cut`.
    """

    features: NDArray[np.float32]
    clustered: NDArray[np.int64]
    held_out: NDArray[np.int64]
    seed: int
    memory: float = 2.0
    device: torch.device | None = None
    folder: Path | None = None

    def cut(self, threshold: float | None = None, fraction: float | None = None, size: float | None = None) -> Cut:
        """Cluster the clustered part, as `dendrogram.cut` does; all processes together."""
        points = Chosen(self.features, self.clustered)
        return cut(points, threshold, fraction, self.memory, self.device, size, shared=True, folder=self.folder)

    def members(self, found: Cut) -> list[NDArray[np.int64]]:
        """Return the image ids of each cluster of the clustered part."""
        ends = np.cumsum(np.bincount(found.labels))[:-1]
        return np.split(self.clustered[np.argsort(found.labels, kind="stable")], ends)


def group(
    features: NDArray[np.float32],
    params: ClusterEntry | PruneEntry,
    seed: int,
    memory: float = 2.0,
    device: torch.device | None = None,
    folder: Path | None = None,
) -> GroupedTable:
    """Make a class table from the features of a pool (docs/method.md, section 5).

    Parameters
    ----------
    features
        (images, d) float32 of unit length, one row per image id.
    params, seed
        The entry of ``variants.group``, and the experiment's seed.
    memory, device, folder
        As for `dendrogram.cut`.

    Raises
    ------
    GroupingError
        If the images or their clusters do not make the classes asked for.
    """
    clustered, held_out = split_pool(len(features), params.clustered_fraction, seed)
    return GROUPINGS[params.method](Split(features, clustered, held_out, seed, memory, device, folder), params)


def clusters(split: Split, params: ClusterEntry) -> GroupedTable:
    """Make clusters, filled up with single images and their nearest held-out images (sections 5.2 and 5.3).

    Raises
    ------
    GroupingError
        Without ``or_fewer``, if there are more clusters than classes, or too few images for the rest (the message names
        the largest possible number of classes). In any case, if there are fewer than two classes.
    """
    return fill_up(split, split.cut(params.threshold, params.merged_fraction), params)


def fill_up(split: Split, found: Cut, params: ClusterEntry) -> GroupedTable:
    """Make a class table from clusters already found: clusters first, then single images with their neighbours.

    Parameters and errors as for `clusters`; ``found`` holds the clusters of the clustered part.
    """
    sizes = np.bincount(found.labels)
    kept = _kept(found, sizes, params)
    alone = split.clustered[sizes[found.labels] == 1]
    wanted = _count_singles(params, len(kept), len(alone), len(split.held_out))
    picks = rng.generator(split.seed, rng.Purpose.SINGLES).permutation(len(alone))[:wanted]
    singles = alone[picks]
    held_out = np.asarray(split.features[split.held_out])
    with shared_operations():
        joined = expand(np.asarray(split.features[singles]), held_out, params.neighbours, params.neighbour_order)

    members = split.members(found)
    rows: list[tuple[int, int, str]] = []
    for class_id, cluster in enumerate(kept):
        rows += [(class_id, int(image), "cluster") for image in members[cluster]]
    for class_id, (single, places) in enumerate(zip(singles, joined.images, strict=True), len(kept)):
        rows.append((class_id, int(single), "single"))
        rows += [(class_id, int(image), "neighbour") for image in split.held_out[places]]
    table = pd.DataFrame(rows, columns=["class_id", "image_id", "origin"])
    statistics = _statistics(split, found, sizes[kept], joined)
    warnings = []
    if left_out := int(np.count_nonzero(sizes > 1)) - len(kept):
        images = int(sizes[sizes > 1].sum() - sizes[kept].sum())
        statistics |= {"clusters_left_out": left_out, "images_left_out": images}
        warnings.append(
            f"more clusters than classes: the largest are kept, and {left_out} with {images} images left out"
        )
    if said := _shortfall(statistics, params):
        warnings.append(said)
    return GroupedTable(table, statistics, tuple(warnings))


def pruned(split: Split, params: PruneEntry) -> GroupedTable:
    """Make large clusters, drop the noisy ones and merge the similar ones (docs/method.md, section 5.7).

    Held-out images are in no class.

    Raises
    ------
    GroupingError
        If fewer than two classes are left.
    """
    features = split.features
    found = split.cut(size=params.mean_cluster_size)
    large = [images for images in split.members(found) if len(images) > 1]
    noise = np.array([pdist(features[images].astype(np.float64)).mean() for images in large])
    kept = [large[i] for i in np.flatnonzero(noise <= np.quantile(noise, 1 - params.drop_fraction))] if large else []
    means = np.array([features[images].mean(axis=0, dtype=np.float64) for images in kept]).reshape(
        -1, features.shape[1]
    )
    means /= np.maximum(np.linalg.norm(means, axis=1, keepdims=True), np.finfo(np.float64).tiny)
    similar = np.arange(len(kept))
    if len(kept) > 1:
        # A cosine distance of c is a distance of √(2c) between unit vectors.
        alike = CompleteLinkage(math.sqrt(2 * params.merge_distance), memory_gib=split.memory, n_jobs=threads.count())
        similar = alike.fit_predict(means.astype(np.float32))
    merged = [np.concatenate([kept[i] for i in np.flatnonzero(similar == label)]) for label in np.unique(similar)]
    if len(merged) < 2:
        raise GroupingError(
            f"{len(large)} clusters of two images or more, {len(kept)} of them kept and merged into {len(merged)}, but "
            "at least two classes are needed; lower mean_cluster_size, drop_fraction or merge_distance"
        )
    sizes = np.array([len(images) for images in merged])
    class_ids = np.repeat(np.arange(len(merged)), sizes)
    table = pd.DataFrame({"class_id": class_ids, "image_id": np.concatenate(merged), "origin": "cluster"})
    statistics = _statistics(split, found, sizes, expand(features[:0], features[:0], 0))
    statistics |= {"dropped_clusters": len(large) - len(kept), "joined_clusters": len(kept) - len(merged)}
    return GroupedTable(table, statistics)


def _kept(found: Cut, sizes: NDArray[np.int64], params: ClusterEntry) -> NDArray[np.int64]:
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


def _count_singles(params: ClusterEntry, clusters: int, alone: int, held_out: int) -> int:
    """Return how many classes of a single image and its neighbours to make beside the clusters."""
    wanted = params.classes - clusters
    possible = single_classes(alone, held_out, params.neighbours)
    if wanted > possible and not params.or_fewer:
        raise GroupingError(
            f"cannot make {params.classes} classes: {clusters} clusters leave {wanted} for single images with "
            f"{params.neighbours} neighbour(s) each, but there are {alone} single and {held_out} held-out images; "
            f"the largest possible number of classes is {clusters + possible}"
        )
    if clusters + possible < 2:
        raise GroupingError(
            f"{clusters} clusters, {alone} single and {held_out} held-out images make {clusters + possible} class(es), "
            "but a network needs two to tell apart; add images that are less alike"
        )
    return min(wanted, possible)


def _shortfall(statistics: dict[str, Any], params: ClusterEntry) -> str:
    """Return how many classes there are and why no more, if ``or_fewer`` made them fewer; else an empty string."""
    singles, held_out, k = statistics["single_classes"], statistics["held_out_images"], params.neighbours
    count = statistics["clusters"] + singles
    if count >= params.classes:
        return ""
    served = k > 0 and singles == held_out // k
    why = (
        f"the {held_out} held-out images suffice for {singles} single ones with {k} neighbour(s) each"
        if served
        else "every image outside clusters is used"
    )
    return f"{count} of up to {params.classes} classes: {why}"


def _summary(values: NDArray[Any]) -> dict[str, float] | None:
    """Return minimum, quartiles and maximum; None if there are no values."""
    if values.size == 0:
        return None
    names = ("min", "quarter", "median", "three_quarters", "max")
    return {name: float(x) for name, x in zip(names, np.quantile(values, [0, 0.25, 0.5, 0.75, 1]), strict=True)}


def _statistics(split: Split, found: Cut, sizes: NDArray[np.int64], joined: Expansion) -> dict[str, Any]:
    """Gather statistics of the clusters that became classes, and of the neighbours that joined single images."""
    clustered = len(split.clustered)
    return {
        "clustered_images": clustered,
        "held_out_images": len(split.held_out),
        "threshold": found.threshold,
        "clusters": len(sizes),
        "images_in_clusters": int(sizes.sum()),
        "merged_fraction": float(sizes.sum() / clustered) if clustered else 0.0,
        "cluster_sizes": {str(size): int(number) for size, number in enumerate(np.bincount(sizes)) if number},
        "merge_heights": _summary(found.heights),
        "single_classes": len(joined.images),
        "neighbour_ranks": _summary(joined.ranks),
        "neighbour_distances": _summary(joined.distances),
    }


Grouping = Callable[[Split, Any], GroupedTable]
GROUPINGS: dict[str, Grouping] = {"clusters": clusters, "pruned": pruned}
