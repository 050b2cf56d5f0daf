"""Stage ``outliers``: find unlabelled images far from every class, and the closest pairs (docs/method.md, 1.3)."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from exemplarcnn import paths
from exemplarcnn.config.params import Config
from exemplarcnn.data import audit_tables, stl10
from exemplarcnn.evaluation import outliers
from exemplarcnn.files import atomic_folder, read_array, rounded, write_json, write_table
from exemplarcnn.launching.dependencies import identity
from exemplarcnn.launching.launcher import main
from exemplarcnn.networks import saved
from exemplarcnn.networks.features import FeatureExtractor, eval_features
from exemplarcnn.networks.kept_rows import kept_rows
from exemplarcnn.networks.precision import computed
from exemplarcnn.unfinished import unfinished

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


def run(_: str, config: Config) -> None:
    """Write ``outliers/pairs.csv`` and ``metrics/outliers.json``.

    If the set has labels, also write ``outliers/images.csv`` with the distances to the labelled classes, and count the
    images that are too far from all of them. Continue from what is in ``work/outliers/`` if there is anything.
    """
    params = config.outliers
    network = paths.model(params.of)
    device = saved.pick_device(config.machine.device)
    mark = identity(
        "stages.outliers",
        ("numpy", "scipy", "torch"),
        data=stl10.data_digest(paths.DATA),
        model=saved.digest(network),
        parameters=params.model_dump(mode="json"),
        device=device.type,
        computed=computed(params.features.precision, device),
    )
    with unfinished(paths.WORK / "outliers", mark) as work:
        extract = eval_features(saved.load(network), params.features, device)
        scores, counted = _scores(work, extract, config) if stl10.has_labels(paths.DATA) else (None, None)
        features = read_array(paths.cluster_features(params.of))
        pairs = outliers.closest_pairs(features, params.pairs, config.machine.memory_gib, work)
        known = audit_tables.duplicate_groups(audit_tables.read_duplicates(paths.DUPLICATES), "unlabeled")
        with atomic_folder(paths.OUTLIERS) as partial:
            if scores is not None:
                write_table(partial / "images.csv", scores.round({"score": 5}))
            write_table(partial / "pairs.csv", pairs.round({"distance": 5}))
        summary = {
            "of": params.of,
            "images": len(features),
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


def _scores(work: Path, extract: FeatureExtractor, config: Config) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Score each image by its distance to the labelled classes, name the nearest class, and count distant images."""
    params = config.outliers
    size = params.features.batch_size
    labelled = stl10.open_pool(paths.DATA, "train")
    labels = stl10.read_labels(paths.TRAIN_LABELS, len(labelled))
    names = stl10.read_class_names(paths.CLASS_NAMES)
    both = outliers.WithMirrored(labelled)
    features = read_array(kept_rows(work, "labelled", both.batch, extract, len(both), size, "labelled images"))
    hyperplanes = outliers.Hyperplanes.learn(features, np.resize(labels, len(both)), params.C)
    decide = outliers.mean_decisions(hyperplanes, extract)
    found = {}
    for split in ("unlabeled", "test"):
        pool = stl10.open_pool(paths.DATA, split)
        decisions = kept_rows(work, split, pool.batch, decide, len(pool), size, f"out of distribution, {split}")
        found[split] = outliers.scored(read_array(decisions))
    scores, known = found["unlabeled"], found["test"]
    counted = outliers.count_outliers(scores["score"].to_numpy(), known["score"].to_numpy(), params.false_alarms)
    return scores.assign(nearest=np.array(names)[scores["nearest"]]), counted


if __name__ == "__main__":
    main(run)
