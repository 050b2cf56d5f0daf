"""Check before any training what can be known by then: in every stage that runs, and in `exemplarcnn check`.

Most checks call early what would raise later anyway; none takes more than a second.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd

from exemplarcnn import paths
from exemplarcnn.classes import capacity, quality, seeding
from exemplarcnn.classes.regrouping import RULES
from exemplarcnn.config import objectives
from exemplarcnn.config.base import PoolName
from exemplarcnn.config.params import Config
from exemplarcnn.config.variants import ClusterEntry, KMeans, PruneEntry, TrainEntry
from exemplarcnn.data import audit_tables, folds, stl10
from exemplarcnn.data.types import DataError
from exemplarcnn.errors import PipelineError
from exemplarcnn.patches import allocation

Tables = dict[PoolName, pd.DataFrame]


class PreflightError(PipelineError):
    """Parameters and data do not fit together; the message names the entry of ``params.yaml``."""


def check(config: Config, data: Path = paths.DATA, audited: bool = False) -> None:
    """Check that the data has what the parameters ask for.

    Parameters
    ----------
    config
        The parameters.
    data
        Folder of the image set. If it is missing, only rules and objectives are checked: whatever needs the data
        reports that.
    audited
        Whether the audit's tables are those of this data. Without them it is unknown which images of a pool can be
        used, and all are counted; images in a folder are not even counted.

    Raises
    ------
    PipelineError
        For the first problem that would end a later stage.
    """
    for name, derived in config.variants.regroup.items():
        if derived.rule not in RULES:
            raise PreflightError(
                f"variants.regroup.{name}.rule: no rule {derived.rule!r}; name one that "
                f"src/exemplarcnn/classes/regrouping.py has: {', '.join(RULES)}"
            )
    for name, trained in config.variants.train.items():
        with _named(f"variants.train.{name}.objective"):
            objectives.check(trained, config.training(name), config.surrogate)
    if not (data / "unlabeled_X.bin").exists():
        return
    _check_labels(config, data)
    _check_side(config, data)
    tables = {pool: audit_tables.read_flags(paths.audit(pool)) for pool in config.pools} if audited else {}
    sizes = {pool: len(table) for pool, table in tables.items()} or _sizes(config, data)
    with _named(str(paths.TRUTH)):
        quality.read_truth(data / paths.TRUTH.name, len(stl10.open_pool(data, "unlabeled")))
    known = _check_tables(config, tables, sizes)
    for name, trained in config.variants.train.items():
        with _named(f"variants.train.{name}"):
            allocation.check_budget(trained, known.get(trained.table, 1))
            if trained.pool in tables:
                _check_one_size(config, trained, tables[trained.pool])
    for control in config.variants.control.values():
        if isinstance(control, KMeans):
            control.check_images(len(stl10.open_pool(data, "unlabeled")))


@contextmanager
def _named(entry: str) -> Iterator[None]:
    try:
        yield
    except PipelineError as error:
        said = str(error)
        raise PreflightError(said if said.startswith(entry) else f"{entry}: {said}") from None


def _check_labels(config: Config, data: Path) -> None:
    """Check the labels and folds by which features are tested and from which networks learn."""
    if not stl10.has_labels(data):
        if config.rows:
            raise DataError(stl10.NO_LABELS)
        if config.train.probe_every:
            raise PreflightError("train.probe_every needs labelled images, but data/ has none; set it to 0")
        return
    if not (config.rows or config.train.probe_every):
        return
    counts = {split: len(stl10.open_pool(data, split)) for split in ("train", "test")}
    labels = {split: stl10.read_labels(data / f"{split}_y.bin", count) for split, count in counts.items()}
    names = stl10.read_class_names(data / paths.CLASS_NAMES.name)
    known = stl10.read_folds(data / paths.FOLDS.name, counts["train"])
    if config.variants.evaluate:
        folds.check(labels["train"], known, len(names), config.evaluate)
    watched = [labelled.fold for labelled in config.variants.label.values()]
    for fold in [*watched, 0] if config.train.probe_every else watched:
        folds.outside(known, fold, counts["train"])


def _check_side(config: Config, data: Path) -> None:
    """Refuse parameters that ask for more pixels than the images have."""
    side = stl10.side_of(data)
    # Patches of a second pool are cut from images of any size, but its networks also compute features of these images.
    sizes = {f"variants.train.{name}.patch": trained.patch for name, trained in config.variants.train.items()}
    sizes |= {f"variants.control.{name}.side": control.side for name, control in config.variants.control.items()}
    sizes["audit.smallest_side"] = config.audit.smallest_side
    if large := [f"{name} is {size}" for name, size in sizes.items() if size > side]:
        raise PreflightError(
            f"{data}: found images of {side}×{side} pixels, but {', '.join(large)}; set {side} or less, or "
            "import larger images with `exemplarcnn data import FOLDER --side N`"
        )


def _sizes(config: Config, data: Path) -> dict[PoolName, int]:
    """Count the images of pools that are one file; listing a folder would take too long."""
    files = {pool: data / f"{pool}_X.bin" for pool in config.pools}
    return {pool: len(stl10.open_file(file)) for pool, file in files.items() if file.is_file()}


def _check_tables(config: Config, tables: Tables, sizes: dict[PoolName, int]) -> dict[str, int]:
    """Check that the class tables can be made; return the least number of classes of each, where it is known."""
    known = {}
    for name, seeded in config.variants.seed.items():
        if (size := sizes.get(seeded.pool)) is not None:
            table = tables.get(seeded.pool)
            usable = size if table is None else int(audit_tables.is_usable(table, seeded.leave_out).sum())
            with _named(f"variants.seed.{name}"):
                count = seeding.seed_count(seeded, usable, size)
            known[name] = 2 if seeded.or_fewer and table is None else count
    for name, grouped in config.variants.group.items():
        pool = config.variants.train[grouped.source].pool
        if (size := sizes.get(pool)) is not None:
            with _named(f"variants.group.{name}"):
                if (least_classes := capacity.CHECKS.get(grouped.method)) is not None:
                    known[name] = least_classes(grouped, size)
                if tables:
                    _check_alike(config, grouped, pool, size)
    for name, derived in config.variants.regroup.items():
        known[name] = known.get(derived.table, 1)
    return known


def _check_alike(config: Config, grouped: ClusterEntry | PruneEntry, pool: PoolName, size: int) -> None:
    """Refuse to cluster images that all have the same pixels: by any features they are one cluster."""
    groups = audit_tables.read_duplicates(paths.DUPLICATES)
    same = groups[(groups["pool"] == pool) & (groups["exact"] == 1)].set_index("image_id")["group"]
    if same.value_counts().max() < capacity.clustered_part(size, grouped.clustered_fraction) or same.empty:
        return
    clustered, _ = capacity.split_pool(size, grouped.clustered_fraction, config.seed)
    of = same.reindex(clustered)
    if of.nunique() + of.isna().sum() < 2:
        raise PreflightError(
            f"all {len(clustered)} images to be clustered have the same pixels, but a network needs at least two "
            "classes; remove the copies from your images and import them again"
        )


def _check_one_size(config: Config, trained: TrainEntry, table: pd.DataFrame) -> None:
    """Refuse parameters that need images of one size if the pool has several."""
    whole = table["problem"] == ""
    shapes = np.unique(table.loc[whole, ["height", "width"]].to_numpy(), axis=0)
    online = (trained.mode or config.surrogate.mode) == "online"
    if len(shapes) > 1 and (online or trained.cluster_features):
        what, instead = ("mode: online", "mode: materialised") if online else ("cluster_features: true", "false")
        some = " and ".join(f"{height}×{width}" for height, width in shapes[:2])
        raise PreflightError(
            f"{what} needs images of one size, but {trained.pool} has {some}; set {instead} for the variants of that "
            "pool, or bring its images to one size"
        )
    if trained.cluster_features and not whole.all():
        raise PreflightError(
            f"cluster_features: true needs images that can all be used, but {int((~whole).sum())} of {trained.pool} "
            f"cannot; remove those that {paths.audit(trained.pool)} names"
        )
