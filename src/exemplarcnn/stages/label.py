"""Stage ``label``: make the table of images and labels that a network learns from (docs/method.md, section 6.2)."""

from contextlib import ExitStack

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from exemplarcnn import paths
from exemplarcnn.config.params import Config
from exemplarcnn.config.variants import LabelEntry
from exemplarcnn.data import audit_tables, stl10
from exemplarcnn.data.types import Pixels
from exemplarcnn.evaluation import pseudo_labels
from exemplarcnn.files import digest, read_array, rounded, write_json, write_table
from exemplarcnn.launching.dependencies import identity
from exemplarcnn.launching.launcher import main
from exemplarcnn.networks import saved
from exemplarcnn.networks.features import eval_features
from exemplarcnn.networks.kept_rows import kept_rows
from exemplarcnn.networks.precision import computed
from exemplarcnn.unfinished import unfinished


def run(name: str, config: Config) -> None:
    """Write ``labels/NAME.csv`` and ``metrics/NAME/labels.json``.

    Continue from what is in ``work/label/NAME/`` if there is anything.
    """
    with ExitStack() as opened:  # so that what was computed stays until the table is written
        given = config.variants.label[name].method == "given"
        _write(name, config, _given(config.variants.label[name]) if given else _predicted(name, config, opened))


def _write(name: str, config: Config, table: pd.DataFrame) -> None:
    """Write a label table and what is known about it."""
    params = config.variants.label[name]
    names = stl10.read_class_names(paths.CLASS_NAMES)
    write_table(paths.labels(name), table.round({"margin": 5}))
    compared = None
    if params.method == "pseudo" and (known := pseudo_labels.true_labels(paths.TRUTH, names)) is not None:
        groups = audit_tables.read_duplicates(paths.DUPLICATES)
        seen = groups.loc[groups["pool"] == "train", "group"]
        alike = groups[(groups["pool"] == "unlabeled") & groups["group"].isin(seen)]
        compared = pseudo_labels.compare_with_truth(table, known, set(alike["image_id"]))
    counts = table["label"].value_counts().sort_index()
    by_class = {names[int(label)]: int(count) for label, count in zip(counts.index, counts, strict=True)}
    summary = {"method": params.method, "labelled": len(table), "by_class": by_class, "judged": compared}
    # With the table's hash, so that stages that read the table but depend on `metrics/` run again when it changes.
    write_json(paths.label_statistics(name), rounded(summary | {"table": digest(paths.labels(name))}))


def _predicted(name: str, config: Config, opened: ExitStack) -> pd.DataFrame:
    """Label the unlabelled images with the classifier of a fold."""
    params = config.variants.label[name]
    pool = stl10.open_pool(paths.DATA, "unlabeled")
    usable = audit_tables.usable_images(paths.audit("unlabeled"))
    if not len(usable):
        raise pseudo_labels.LabelError(f"{paths.audit('unlabeled')}: no image can be used; add images that can be read")
    network = paths.model(params.of)
    device = saved.pick_device(config.machine.device)
    extract = eval_features(saved.load(network), config.features, device)
    weights, intercepts = pseudo_labels.load_classifier(paths.classifiers(params.of), params.fold)

    def read(rows: NDArray[np.int64]) -> Pixels:
        return pool.batch(usable[rows])

    def decide(images: Pixels) -> NDArray[np.float64]:
        return pseudo_labels.decision_function(extract(images), weights, intercepts)

    mark = identity(
        "stages.label",
        ("numpy", "torch"),
        data=stl10.data_digest(paths.DATA),
        images=usable.tolist(),
        model=saved.digest(network),
        classifier=[weights.tolist(), intercepts.tolist()],
        parameters=config.features.model_dump(mode="json"),
        device=device.type,
        computed=computed(config.features.precision, device),
    )
    work = opened.enter_context(unfinished(paths.WORK / "label" / name, mark))
    size = config.features.batch_size
    decisions = kept_rows(work, "decisions", read, decide, len(usable), size, f"labels, {name}")
    labels, margins = pseudo_labels.predict(read_array(decisions))
    table = pd.DataFrame({"pool": "unlabeled", "image_id": usable, "label": labels, "margin": margins})
    return pseudo_labels.most_confident(table, params.fraction)


def _given(params: LabelEntry) -> pd.DataFrame:
    """Take the labels of a fold."""
    pool = stl10.open_pool(paths.DATA, "train")
    fold = np.sort(stl10.read_folds(paths.FOLDS, len(pool))[params.fold])
    labels = stl10.read_labels(paths.TRAIN_LABELS, len(pool))[fold]
    return pd.DataFrame({"pool": "train", "image_id": fold, "label": labels, "margin": np.nan})


if __name__ == "__main__":
    main(run)
