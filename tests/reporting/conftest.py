"""A report of three rows, one of a network that learns from labels, and the committed one."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from exemplarcnn.config.params import Config
from exemplarcnn.reporting.results import Inputs, gather
from tests.conftest import ROOT, profile_values
from tests.reporting import examples
from tests.reporting.examples import NAMES

Parts = tuple[dict[str, Any], dict[str, Any], np.ndarray]


@pytest.fixture(scope="module")
def report_config() -> Config:
    values = profile_values("tiny")
    values["train"] |= {"epochs": 3, "batch_size": 128}
    values["variants"]["label"] = {}
    values["variants"]["evaluate"] = {
        "raw_pixels": {"title": "Raw pixels", "paper": None},
        "baseline": {"title": "ExemplarCNN", "paper": {"mean": 74.14, "std": 0.39}},
        "clustered": {"title": "Clustering", "paper": {"mean": 74.05, "std": None}},
    }
    return Config.model_validate(values)


@pytest.fixture(scope="module")
def parts() -> Parts:
    """``eval.json`` and predictions of each row, and the labels of the test images."""
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 10, 40)
    predictions = {}
    for name, share in zip(NAMES, (0.3, 0.5, 0.5), strict=True):
        wrong = generator.integers(0, 10, (3, 40))
        predictions[name] = np.where(generator.random((3, 40)) < share, labels, wrong).astype(np.uint8)
    summaries = {}
    for name in NAMES:
        folds = [float(100 * (fold == labels).mean()) for fold in predictions[name]]
        summaries[name] = {
            "accuracy_mean": float(np.mean(folds)),
            "accuracy_std": float(np.std(folds)),
            "fold_accuracies": folds,
            "chosen": [1.0] * 3,
            "leaky": {"accuracy_mean": max(folds), "accuracy_std": 0.5, "value": 0.1},
            "others": {
                "full": {"accuracy_mean": 71.23, "accuracy_std": 0.0, "fold_accuracies": [71.23]},
                "knn": {"accuracy_mean": 44.4, "accuracy_std": 1.25, "fold_accuracies": [43.15, 45.65]},
            },
            "class_accuracies": {"cat": 10 * len(name), "dog": 12.34},
        }
    return summaries, predictions, labels


@pytest.fixture(scope="module")
def inputs(parts: Parts) -> Inputs:
    evaluations, predictions, labels = parts
    sets = {
        "baseline": {"classes": 30, "images": 30, "train_patches": 1_280, "mean": [0.5] * 3},
        "clustered": {"classes": 30, "images": 61, "train_patches": 1_281, "mean": [0.5] * 3},
    }
    return Inputs(
        data=examples.data(),
        digest="abc.dir",
        evaluations=evaluations,
        predictions=predictions,
        labels=labels,
        groupings={"clustered": examples.GROUPING},
        surrogate_sets=sets,
        trainings={
            "baseline": {"step": 30, "valid_accuracy": 0.625},
            "clustered": {"step": 33, "valid_accuracy": 0.4},
        },
        audit=examples.AUDIT,
        outliers=examples.OUTLIERS,
        label_sets={},
    )


@pytest.fixture(scope="module")
def results(report_config: Config, inputs: Inputs) -> dict[str, Any]:
    return gather(report_config, inputs)


@pytest.fixture(scope="module")
def with_resnet(parts: Parts) -> dict[str, Any]:
    """A row that was trained and tested once beside one with folds."""
    values = profile_values("tiny_bench")
    values["variants"]["evaluate"] = {"baseline": {"title": "ExemplarCNN", "paper": None}}
    values["neighbours"]["of"] = ["baseline"]
    values["variants"]["label"] = {"semi": values["variants"]["label"]["semi_supervised"]}
    config = Config.model_validate(values)
    evaluations, predictions, labels = parts
    once = predictions["clustered"][:1]
    accuracy = float(100 * (once == labels).mean())
    single = {"accuracy_mean": accuracy, "accuracy_std": 0.0, "fold_accuracies": [accuracy], "chosen": []}
    single |= {"leaky": None, "others": {}, "class_accuracies": {"cat": 1.0, "dog": 2.0}}
    judged = {"images": 495, "accuracy": 0.625, "outside": 45, "left_out": 12}
    found = {"semi": {"method": "pseudo", "labelled": 1540, "by_class": {}, "judged": judged}}
    sets = {"baseline": {"classes": 30, "images": 30, "train_patches": 1_280}}
    both = {"baseline": evaluations["baseline"], "semi": single}
    guesses = {"baseline": predictions["baseline"], "semi": once}
    return gather(
        config,
        Inputs(
            data=examples.data(),
            digest="abc.dir",
            evaluations=both,
            predictions=guesses,
            labels=labels,
            groupings={},
            surrogate_sets=sets,
            trainings={"baseline": {"step": 30, "valid_accuracy": 0.625}},
            audit=examples.AUDIT,
            outliers=examples.OUTLIERS,
            label_sets=found,
        ),
    )


@pytest.fixture
def committed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The results of the sample, in a folder without a page."""
    monkeypatch.chdir(tmp_path)
    found: dict[str, Any] = json.loads((ROOT / "reports" / "results.json").read_text())
    return found
