"""Stage ``label``: which images a network learns from, and as what."""

import numpy as np
import pandas as pd

from exemplarcnn import paths
from exemplarcnn.config import Config, Labelled
from exemplarcnn.data import audit_tables, stl10
from exemplarcnn.evaluation import pseudo_labels
from exemplarcnn.files import rounded, write_json, write_table
from exemplarcnn.launching.launcher import main
from exemplarcnn.networks import saved
from exemplarcnn.networks.features import eval_features
from exemplarcnn.reporting import figures
from exemplarcnn.text import plain

# Images of each class in the picture.
SHOWN = 6


def run(name: str, config: Config) -> None:
    """Write ``labels/NAME.csv``, ``metrics/NAME/labels.json`` and a picture of some of the images."""
    params = config.variants.label[name]
    names = stl10.read_class_names(paths.CLASS_NAMES)
    table = _guessed(params, config) if params.method == "pseudo" else _given(params)
    write_table(paths.labels(name), table.round({"margin": 5}))
    judged = None
    if params.method == "pseudo" and (known := pseudo_labels.known_classes(paths.TRUTH, names)) is not None:
        groups = audit_tables.read_duplicates(paths.DUPLICATES)
        seen = groups.loc[groups["pool"] == "train", "group"]
        alike = groups[(groups["pool"] == "unlabeled") & groups["group"].isin(seen)]
        judged = pseudo_labels.judge(table, known, set(alike["image_id"]))
    counts = table["label"].value_counts().sort_index()
    by_class = {names[int(label)]: int(count) for label, count in zip(counts.index, counts, strict=True)}
    summary = {"method": params.method, "labelled": len(table), "by_class": by_class, "judged": judged}
    write_json(paths.label_statistics(name), rounded(summary))
    pools = {pool: stl10.open_pool(paths.DATA, pool) for pool in table["pool"].unique()}
    rows = []
    chosen = figures.spread(list(enumerate(names)), figures.CLASSES)
    for label, title in chosen:
        mine = table[table["label"] == label].sort_values("margin", ascending=False, kind="stable")
        some = figures.spread(list(mine[["pool", "image_id", "margin"]].itertuples(index=False)), SHOWN)
        rows.append([(pools[pool][image], _caption(title, image, margin)) for pool, image, margin in some])
    which = "" if len(chosen) == len(names) else f", {len(chosen)} of {len(names)} classes"
    figures.gallery(paths.labels_picture(name), f"Images by label, from the surest to the least sure{which}", rows)


def _caption(title: str, image: int, margin: float) -> str:
    return f"{plain(title, figures.IN_A_TILE)}: image {image}" + ("" if np.isnan(margin) else f"\nby {margin:.2f}")


def _guessed(params: Labelled, config: Config) -> pd.DataFrame:
    """Take what the classifier of a fold says of the unlabelled images."""
    pool = stl10.open_pool(paths.DATA, "unlabeled")
    usable = audit_tables.usable_images(paths.audit("unlabeled"))
    describe = eval_features(
        saved.load(paths.model(params.of)), config.features, saved.pick_device(config.machine.device)
    )
    weights, intercepts = pseudo_labels.load_classifier(paths.classifiers(params.of), params.fold)
    labels, margins = pseudo_labels.guess(pool, usable, describe, config.features.batch_size, weights, intercepts)
    table = pd.DataFrame({"pool": "unlabeled", "image_id": usable, "label": labels, "margin": margins})
    return pseudo_labels.most_confident(table, params.fraction)


def _given(params: Labelled) -> pd.DataFrame:
    """Take the labels of a fold."""
    pool = stl10.open_pool(paths.DATA, "train")
    fold = np.sort(stl10.read_folds(paths.FOLDS, len(pool))[params.fold])
    labels = stl10.read_labels(paths.TRAIN_LABELS, len(pool))[fold]
    return pd.DataFrame({"pool": "train", "image_id": fold, "label": labels, "margin": np.nan})


if __name__ == "__main__":
    main(run)
