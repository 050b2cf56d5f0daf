"""Gather the report's figures, ``results.json``, from the results of all earlier stages."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exemplarcnn import paths
from exemplarcnn.config import objectives
from exemplarcnn.config.params import Config
from exemplarcnn.data import image_set, stl10
from exemplarcnn.data.image_set import Summary
from exemplarcnn.errors import PipelineError
from exemplarcnn.files import read_array, read_json, read_table
from exemplarcnn.reporting import differences

# Version of results.json: increase it whenever keys are added, are removed or change their meaning.
FORMAT = 2


class ReportError(PipelineError):
    """There is no report that this code can read; the message says how to make one."""


@dataclass(frozen=True)
class Inputs:
    """What the report is made from.

    Attributes
    ----------
    data, digest
        Summary of the data, and its hash.
    evaluations, predictions
        By row: ``eval.json``, and predicted labels from 0, (folds, test images) uint8.
    labels
        True labels of the test images from 0, (test images,) int64; empty if nothing is evaluated.
    groupings, surrogate_sets
        ``clusters.json`` and ``set.json`` of the trained variants that have them.
    trainings
        By trained network, the last row of its learning curve: ``step``, the steps of its training, and
        ``valid_accuracy``, on validation patches at its end, 0–1.
    audit, outliers
        ``audit.json`` and ``outliers.json``.
    label_sets
        ``labels.json`` of the networks that learn from labels, without hashes.
    """

    data: Summary
    digest: str
    evaluations: dict[str, dict[str, Any]]
    predictions: dict[str, NDArray[np.uint8]]
    labels: NDArray[np.int64]
    groupings: dict[str, dict[str, Any]]
    surrogate_sets: dict[str, dict[str, Any]]
    trainings: dict[str, dict[str, float]]
    audit: dict[str, Any]
    outliers: dict[str, Any]
    label_sets: dict[str, dict[str, Any]]


def read_inputs(config: Config) -> Inputs:
    """Read the stages' results for the variants that the parameters name."""
    data = image_set.check(paths.DATA)
    variants = config.variants
    return Inputs(
        data=data,
        digest=stl10.data_digest(paths.DATA),
        evaluations={name: read_json(paths.evaluation(name)) for name in config.rows},
        predictions={name: read_array(paths.classifiers(name) / "predictions.npy") for name in config.rows},
        labels=stl10.read_labels(paths.TEST_LABELS, data["test"]) if config.rows else np.empty(0, np.int64),
        groupings={
            name: read_json(paths.cluster_statistics(name)) for name in variants.group if name in variants.train
        },
        surrogate_sets={name: read_json(paths.surrogate_set(name) / "set.json") for name in variants.train},
        trainings={name: _last_epoch(name) for name in variants.train},
        audit=read_json(paths.AUDIT_JSON),
        outliers=read_json(paths.OUTLIERS_JSON),
        label_sets={name: _label_set(name) for name in variants.label},
    )


def _last_epoch(name: str) -> dict[str, float]:
    """Return the figures of a training's last epoch."""
    curve = read_table(paths.learning_curve(name), integers=["step"], floats=["valid_accuracy"]).iloc[-1]
    return {"step": int(curve["step"]), "valid_accuracy": float(curve["valid_accuracy"])}


def _label_set(name: str) -> dict[str, Any]:
    """Return the figures of a table of labels, without its hash."""
    found = read_json(paths.label_statistics(name))
    return {key: value for key, value in found.items() if key != "table"}


def gather(config: Config, inputs: Inputs) -> dict[str, Any]:
    """Gather the content of ``results.json``.

    Parameters
    ----------
    config
        The parameters, which name the rows and their order.
    inputs
        As `read_inputs` returns it.

    Returns
    -------
    dict
        ``format``, ``profile``, ``dataset``, ``rows``, ``learned``, ``differences``, ``groupings``, ``audit``,
        ``outliers``, ``labelled``, ``published`` and ``full``, the names of protocols with all labels; accuracies in
        percent.
    """
    budgets = {name: _budget(config, inputs, name) for name in inputs.trainings}
    return {
        "format": FORMAT,
        "profile": config.profile,
        "dataset": _dataset(inputs),
        "rows": [_row(config, inputs, name) | budgets.get(name, {}) for name in config.rows],
        "learned": [
            {
                "variant": name,
                "title": config.rows[name].title if name in config.rows else name,
                "objective": config.variants.train[name].objective,
                "valid_accuracy": 100 * training["valid_accuracy"],
                "chance": 100 * _chance(config, name, budgets[name]["classes"]),
                **budgets[name],
            }
            for name, training in inputs.trainings.items()
        ],
        "differences": differences.between_rows(list(config.rows), inputs.predictions, inputs.labels, config.seed),
        "groupings": inputs.groupings,
        "audit": inputs.audit,
        "outliers": inputs.outliers,
        "labelled": inputs.label_sets,
        "published": [each.model_dump() for each in config.published],
        "full": [each.name for each in config.evaluate.protocols if (each.labels, each.classifier) == ("all", "svm")],
    }


def _dataset(inputs: Inputs) -> dict[str, Any]:
    data = inputs.data
    return {
        "name": data["dataset"],
        **stl10.side_entry(data["side"]),
        "hash": inputs.digest,
        "folds_official": data["folds_official"],
        "fold_sizes": data["fold_sizes"],
        "unlabeled": data["unlabeled"],
        "train": data["train"],
        "test": data["test"],
    }


def _budget(config: Config, inputs: Inputs, name: str) -> dict[str, int]:
    """Return what a network learned from, and in how many steps of SGD, with those of the network it started from."""
    sizes = {key: inputs.surrogate_sets[name][key] for key in ("classes", "images", "train_patches")}
    return sizes | {"steps": _steps(config, inputs, name)}


def _steps(config: Config, inputs: Inputs, name: str) -> int:
    parent = config.variants.train[name].parent
    return int(inputs.trainings[name]["step"]) + (_steps(config, inputs, parent) if parent else 0)


def _chance(config: Config, name: str, classes: int) -> float:
    """Return the fraction of patches that guessing tells right; of pairs, that of finding one of a batch's others."""
    others = config.training(name).batch_size - 1
    return 1 / {"exemplar": classes, "rotation": objectives.TURNS}.get(config.variants.train[name].objective, others)


def _row(config: Config, inputs: Inputs, name: str) -> dict[str, Any]:
    row, found = config.rows[name], inputs.evaluations[name]
    accuracy = ("accuracy_mean", "accuracy_std", "fold_accuracies")
    others = {protocol: {key: other[key] for key in accuracy} for protocol, other in found["others"].items()}
    return {
        "variant": name,
        "title": row.title,
        **{key: found[key] for key in (*accuracy, "class_accuracies", "leaky")},
        "others": others,
        "paper": row.paper.model_dump() if row.paper else None,
    }


def headline(results: dict[str, Any]) -> dict[str, dict[str, float]]:
    """Return mean accuracy and its deviation over the folds, in percent, by variant: to compare at a glance."""
    return {row["variant"]: {"mean": row["accuracy_mean"], "std": row["accuracy_std"]} for row in results["rows"]}


def read() -> dict[str, Any]:
    """Read ``results.json``, as `gather` made it.

    Raises
    ------
    ReportError
        If it is missing, or another version of the code wrote it.
    """
    if not paths.RESULTS_JSON.exists():
        raise ReportError(f"{paths.RESULTS_JSON} is not there yet; `dvc repro` makes it")
    results: dict[str, Any] = read_json(paths.RESULTS_JSON)
    if results.get("format") != FORMAT:
        raise ReportError(
            f"{paths.RESULTS_JSON} was written by another version of the code; `dvc repro report` writes it again"
        )
    return results


def titles(results: dict[str, Any]) -> dict[str, str]:
    """Return the title of each variant in the results."""
    return {entry["variant"]: entry["title"] for entry in (*results["learned"], *results["rows"])}
