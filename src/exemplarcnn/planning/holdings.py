"""How many images a data folder holds, and how many classes and images the class tables will list."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from exemplarcnn import paths
from exemplarcnn.classes import tables
from exemplarcnn.classes.capacity import clustered_part, single_classes
from exemplarcnn.config.params import Config
from exemplarcnn.config.variants import ClusterEntry, PruneEntry
from exemplarcnn.data import pools, stl10

# Images in a cluster of two or more, on average: the authors' code had 4,868 in 2,249 (docs/method.md, section 5.2).
CLUSTER_SIZE = 2.2
# How many images are merged where a distance is given, not a fraction: unknown before there are features.
MERGED = 0.1


@dataclass(frozen=True)
class Holdings:
    """What a data folder holds.

    Attributes
    ----------
    images
        Number of images by pool; ``train`` and ``test`` only if there are labels.
    side
        Side of the data set's images in pixels.
    classes, fold
        Number of labelled classes, and of training images in a fold; 0 without labels.
    """

    images: dict[str, int]
    side: int
    classes: int
    fold: int

    @classmethod
    def of(cls, data: Path, config: Config, at_once: bool = False) -> "Holdings":
        """Count what the stages will read.

        Parameters
        ----------
        data, config
            Folder of the image set, and the parameters.
        at_once
            Do not list a folder of images, which can take seconds: count as many as there will be classes.

        Raises
        ------
        DataError
            If a pool is missing or damaged.
        """
        labelled = stl10.has_labels(data)
        names = dict.fromkeys((*config.pools, "unlabeled", *(("train", "test") if labelled else ())))
        images = {}
        for name in names:
            if at_once and (data / name).is_dir():
                seeds = (entry.classes for entry in config.variants.seed.values() if entry.pool == name)
                images[name] = max(seeds, default=0)
            else:
                images[name] = len(pools.open_pool(data, name))
        fold, classes = 0, 0
        if labelled:
            classes = len(stl10.read_class_names(data / paths.CLASS_NAMES.name))
            fold = max(map(len, stl10.read_folds(data / paths.FOLDS.name, images["train"])))
        return cls(images, stl10.side_of(data), classes, fold)


@dataclass(frozen=True)
class Listed:
    """How many classes a class table lists, how many images, and how many of the classes are a single image's."""

    classes: int
    images: int
    singles: int = 0


def listed(config: Config, held: Holdings, made: Iterable[str] = ()) -> dict[str, Listed]:
    """Say for each class table how many classes and images it lists, or will list.

    Parameters
    ----------
    config, held
        The parameters, and what the data folder holds.
    made
        Tables in ``classes/`` that are up to date; they are counted. All others are estimated: how many clusters there
        will be is not known before there are features.
    """
    variants = config.variants
    found: dict[str, Listed] = {}
    for name in made:
        pool = variants.pool_of(name)
        table = tables.read(paths.class_table(name), held.images[pool])
        found[name] = Listed(tables.count(table), len(table))
    for name, seeded in variants.seed.items():
        count = min(seeded.classes, held.images[seeded.pool])
        found.setdefault(name, Listed(count, count))
    for name, grouped in variants.group.items():
        size = held.images[variants.train[grouped.source].pool]
        estimate = _clusters(grouped, size) if isinstance(grouped, ClusterEntry) else _pruned(grouped, size)
        found.setdefault(name, estimate)
    for name, derived in variants.regroup.items():
        of = found[derived.table]
        found.setdefault(name, Listed(of.images, of.images) if derived.rule == "ungrouped" else of)
    return found


def _clusters(params: ClusterEntry, size: int) -> Listed:
    clustered = clustered_part(size, params.clustered_fraction)
    merged = round((MERGED if params.merged_fraction is None else params.merged_fraction) * clustered)
    clusters = min(round(merged / CLUSTER_SIZE), params.classes)
    singles = min(params.classes - clusters, single_classes(clustered - merged, size - clustered, params.neighbours))
    return Listed(clusters + singles, merged + singles * (1 + params.neighbours), singles)


def _pruned(params: PruneEntry, size: int) -> Listed:
    kept = (1 - params.drop_fraction) * clustered_part(size, params.clustered_fraction)
    return Listed(max(2, round(kept / params.mean_cluster_size)), round(kept))
