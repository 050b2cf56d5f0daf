"""Label tables: a classifier's guesses against plain sums, the most confident, and what is known of them."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import save_file

from exemplarcnn import paths
from exemplarcnn.config.params import Config
from exemplarcnn.data import stl10
from exemplarcnn.data.stl10 import write_images
from exemplarcnn.evaluation.pseudo_labels import (
    LabelError,
    compare_with_truth,
    decision_function,
    load_classifier,
    most_confident,
    predict,
    read,
    true_labels,
)
from exemplarcnn.files import digest, read_json
from exemplarcnn.stages import label as stage
from tests.conftest import profile_values


def test_guesses_are_those_of_the_classifier() -> None:
    generator = np.random.default_rng(1)
    weights, intercepts = generator.normal(size=(4, 48)), generator.normal(size=4)
    features = generator.normal(size=(10, 48)).astype(np.float32)
    labels, margins = predict(decision_function(features, weights, intercepts))
    for place, row in enumerate(features.astype(float)):
        scores = [float(row @ each + bias) for each, bias in zip(weights, intercepts, strict=True)]
        best, second = sorted(scores, reverse=True)[:2]
        assert labels[place] == scores.index(best)
        assert margins[place] == pytest.approx(best - second)


def test_the_most_confident_share_in_the_order_of_the_table() -> None:
    margins = [0.5, 0.1, 0.9, 0.5, 0.7]
    table = pd.DataFrame({"pool": "unlabeled", "image_id": [3, 5, 6, 8, 9], "label": 0, "margin": margins})
    assert most_confident(table, 0.6)["image_id"].tolist() == [3, 6, 9]
    assert most_confident(table, 1.0).equals(table)
    assert most_confident(table, 0.01)["image_id"].tolist() == [6]


def test_labels_against_what_is_known(tmp_path: Path) -> None:
    truth = tmp_path / "truth.csv"
    assert true_labels(truth, ["cat", "dog"]) is None
    # Images 0 and 4 are of none of the classes.
    table = pd.DataFrame({"index": range(6), "class": ["", "cat", "dog", "dog", "", "cat"], "kind": "photo"})
    table.to_csv(truth, index=False)
    known = true_labels(truth, ["cat", "dog"])
    assert known is not None
    assert known.tolist() == [-1, 0, 1, 1, -1, 0]
    table = pd.DataFrame({"image_id": [0, 1, 2, 3, 5], "label": [1, 0, 0, 1, 0]})
    assert compare_with_truth(table, known, set()) == {"images": 4, "accuracy": 0.75, "outside": 1, "left_out": 0}
    assert compare_with_truth(table, known, {2, 4}) == {"images": 3, "accuracy": 1.0, "outside": 1, "left_out": 1}
    assert compare_with_truth(table, known, {1, 2, 3, 5})["accuracy"] is None


def test_an_image_that_nobody_has_labelled_is_not_taken_for_one_of_no_class(tmp_path: Path) -> None:
    truth = tmp_path / "truth.csv"
    pd.DataFrame({"index": range(4), "class": ["", "cat", "cow", "dog"]}).to_csv(truth, index=False)
    known = true_labels(truth, ["cat", "dog"])
    assert known is not None
    assert known.to_dict() == {1: 0, 2: -1, 3: 1}
    table = pd.DataFrame({"image_id": range(4), "label": [0, 0, 0, 0]})
    assert compare_with_truth(table, known, set()) == {"images": 2, "accuracy": 0.5, "outside": 1, "left_out": 0}


def test_the_classifier_of_a_fold(tmp_path: Path) -> None:
    weights = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    intercepts = np.array([[1, 2, 3], [4, 5, 6]], np.float32)
    save_file({"weights": weights, "intercept": intercepts}, tmp_path / "svm.safetensors")
    found, biases = load_classifier(tmp_path, 1)
    assert np.array_equal(found, weights[1])
    assert biases.tolist() == [4, 5, 6]
    with pytest.raises(LabelError, match=r"svm\.safetensors: found 2 classifiers, expected one of fold 2 \("):
        load_classifier(tmp_path, 2)


def test_a_missing_or_empty_table(tmp_path: Path) -> None:
    with pytest.raises(LabelError, match=r"labels\.csv: not found; `dvc repro` makes it"):
        read(tmp_path / "labels.csv")
    (tmp_path / "labels.csv").write_text("pool,image_id,label,margin\n")
    with pytest.raises(LabelError, match=r"labels\.csv: found no rows, expected a row for each labelled image"):
        read(tmp_path / "labels.csv")


def test_the_table_of_labels_is_known_by_its_hash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The stage `draw` runs again when it changes."""
    monkeypatch.chdir(tmp_path)
    write_images(paths.DATA / "train_X.bin", np.zeros((6, 96, 96, 3), np.uint8))
    stl10.write_labels(paths.TRAIN_LABELS, [0, 1, 0, 1, 0, 1])
    stl10.write_class_names(paths.CLASS_NAMES, ["cat", "dog"])
    stl10.write_folds(paths.FOLDS, [np.arange(4)] * stl10.FOLDS)
    stage.run("supervised", Config.model_validate(profile_values("tiny_bench")))
    found = read_json(paths.label_statistics("supervised"))
    assert found["by_class"] == {"cat": 2, "dog": 2}
    assert found["table"] == digest(paths.labels("supervised"))
