"""Read what a stage has measured, as its run shows it."""

import pandas as pd

from exemplarcnn import paths
from exemplarcnn.files import read_json, read_mapping, read_table

CURVE = ("learning_rate", "train_loss", "train_accuracy", "valid_loss", "valid_accuracy", "probe_accuracy")
CLUSTERS = ("clusters", "images_in_clusters", "merged_fraction", "threshold", "single_classes")


def is_entry(variant: str, *stages: str) -> bool:
    """Tell whether ``params.yaml`` has a variant under one of these stages: ``metrics/`` keeps files of former ones."""
    variants = read_mapping(paths.PARAMS).get("variants", {})
    return any(variant in (variants.get(stage) or {}) for stage in stages)


def curve(variant: str) -> pd.DataFrame:
    """Read a learning curve: one row an epoch, with ``epoch`` and the columns in `CURVE`."""
    return read_table(paths.learning_curve(variant), integers=["epoch"], floats=CURVE)


def evaluation(variant: str) -> dict[str, float]:
    """Return the metrics of an evaluation: accuracies in percent, and what else MLflow's comparison needs about it."""
    summary = read_json(paths.evaluation(variant))
    values = {"accuracy_mean": summary["accuracy_mean"], "accuracy_std": summary["accuracy_std"]}
    values |= {f"fold_{i}_accuracy": x for i, x in enumerate(summary["fold_accuracies"])}
    values |= {f"fold_{i}_C": x for i, x in enumerate(summary["chosen"])}
    if summary["leaky"] is not None:
        values["leaky_accuracy_mean"] = summary["leaky"]["accuracy_mean"]
    values |= {f"{name}_accuracy_mean": other["accuracy_mean"] for name, other in summary["others"].items()}
    values |= {f"class_{name}_accuracy": x for name, x in summary["class_accuracies"].items()}
    if is_entry(variant, "train", "label") and paths.learning_curve(variant).exists():
        last = curve(variant).iloc[-1]
        values |= {f"final_{name}": last[name] for name in ("train_loss", "valid_loss", "valid_accuracy")}
    if is_entry(variant, "group") and (clusters := paths.cluster_statistics(variant)).exists():
        statistics = read_json(clusters)
        values |= {name: statistics[name] for name in CLUSTERS}
        if (judged := statistics.get("cluster_purity")) is not None:
            values["cluster_purity"] = judged["purity"]
    return values
