"""Stage ``outliers``: find unlabelled images far from every class, and the closest pairs (docs/method.md, 1.3)."""

from typing import Any

import numpy as np
import pandas as pd

from exemplarcnn import paths
from exemplarcnn.config.params import Config
from exemplarcnn.data import audit_tables, stl10
from exemplarcnn.data.types import Pool
from exemplarcnn.determinism import shared_operations
from exemplarcnn.evaluation import outliers
from exemplarcnn.files import atomic_folder, read_array, rounded, write_json, write_table
from exemplarcnn.launching.launcher import main
from exemplarcnn.networks import saved
from exemplarcnn.networks.features import eval_features

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


def run(_: str, config: Config) -> None:
    """Write ``outliers/pairs.csv`` and ``metrics/outliers.json``.

    If the set has labels, also write ``outliers/images.csv`` with the distances to the labelled classes, and count the
    images that are too far from all of them.
    """
    params = config.outliers
    pool = stl10.open_pool(paths.DATA, "unlabeled")
    scores, counted = _scores(pool, config) if stl10.has_labels(paths.DATA) else (None, None)
    features = read_array(paths.cluster_features(params.of))
    with shared_operations():
        pairs = outliers.closest_pairs(features, params.pairs, config.machine.memory_gib)
    known = audit_tables.duplicate_pairs(audit_tables.read_duplicates(paths.DUPLICATES), "unlabeled")
    with atomic_folder(paths.OUTLIERS) as partial:
        if scores is not None:
            write_table(partial / "images.csv", scores.round({"score": 5}))
        write_table(partial / "pairs.csv", pairs.round({"distance": 5}))
    summary = {
        "of": params.of,
        "images": len(pool),
        "score_quantiles": scores
        if scores is None
        else {f"{share:g}": float(scores["score"].quantile(share)) for share in QUANTILES},
        "counted": counted,
        "out_of_distribution": None
        if scores is None or counted is None
        else outliers.detection_metrics(scores, counted["threshold"], paths.TRUTH),
        "near_duplicates": outliers.agreement(pairs, known),
    }
    write_json(paths.OUTLIERS_JSON, rounded(summary))


def _scores(pool: Pool, config: Config) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Score each image by its distance to the labelled classes, name the nearest class, and count distant images."""
    params = config.outliers
    labelled = stl10.open_pool(paths.DATA, "train")
    labels = stl10.read_labels(paths.TRAIN_LABELS, len(labelled))
    names = stl10.read_class_names(paths.CLASS_NAMES)
    network = saved.load(paths.model(params.of))
    extract = eval_features(network, params.features, saved.pick_device(config.machine.device))
    hyperplanes = outliers.Hyperplanes.learn(labelled, labels, extract, params.features.batch_size, params.C)
    scores, known = (
        outliers.score(each, hyperplanes, extract, params.features.batch_size)
        for each in (pool, stl10.open_pool(paths.DATA, "test"))
    )
    counted = outliers.count_outliers(scores["score"].to_numpy(), known["score"].to_numpy(), params.false_alarms)
    return scores.assign(nearest=np.array(names)[scores["nearest"]]), counted


if __name__ == "__main__":
    main(run)
