"""The report's tables."""

import json
from typing import Any

import pytest

from exemplarcnn.reporting import differences, markdown, sentences, tables


def test_the_other_protocols_and_the_leaky_choice_have_a_table(results: dict[str, Any]) -> None:
    table = tables.other_protocols(results)
    assert list(table.columns) == ["Variant", "As above", "leaky", "full", "knn"]
    first = results["rows"][0]
    assert table.iloc[0].tolist() == [
        "Raw pixels",
        f"{first['accuracy_mean']:.2f}",
        f"{max(first['fold_accuracies']):.2f} (C = 0.1)",
        "71.23",
        "44.40 ± 1.25",
    ]
    section = markdown.render(results).partition("## Other protocols")[2].partition("\n## ")[0]
    assert all(cell in section for row in table.to_numpy().tolist() for cell in row)


def test_every_class_has_its_accuracy(results: dict[str, Any]) -> None:
    assert tables.by_class(results).to_numpy().tolist() == [
        ["cat", "100.0", "80.0", "90.0"],
        ["dog", "12.3", "12.3", "12.3"],
    ]
    assert "| cat | 100.0 | 80.0 | 90.0 |" in markdown.render(results)


def test_of_many_classes_the_worst_and_the_best_are_listed(results: dict[str, Any]) -> None:
    assert sentences.classes_shown(results) == ""
    many = json.loads(json.dumps(results))
    for place, row in enumerate(many["rows"]):
        row["class_accuracies"] = {f"c{number}": float((number * 37 + place) % 50) for number in range(50)}
    by_mean = sorted(range(50), key=lambda number: sum((number * 37 + place) % 50 for place in range(3)))
    assert tables.by_class(many)["Class"].tolist() == [f"c{number}" for number in by_mean[:10] + by_mean[-10:]]
    text = markdown.render(many).partition("## Class by class\n\n")[2].partition("\n## ")[0]
    assert text.startswith("Of 50 classes the 10 with the lowest and the 10 with the highest accuracy")
    assert text.count("| c") == 20


def test_how_well_networks_tell_their_surrogate_classes_apart(results: dict[str, Any]) -> None:
    table = tables.surrogate_task(results)
    assert table["Variant"].tolist() == ["ExemplarCNN", "Clustering"]
    assert table["Images"].tolist() == ["30", "61"]
    assert table["SGD steps"].tolist() == ["30", "33"]
    assert table["Validation patches classified correctly (%)"].tolist() == ["62.50", "40.00"]
    assert table["By chance (%)"].tolist() == ["3.33", "3.33"]
    assert "| ExemplarCNN | 30 | 30 | 30 | 62.50 | 3.33 |" in markdown.render(results)


def test_a_row_without_folds(with_resnet: dict[str, Any]) -> None:
    assert tables.accuracies(with_resnet)["Accuracy (%)"][1] == f"{with_resnet['rows'][1]['accuracy_mean']:.2f}"
    (entry,) = with_resnet["differences"]
    assert entry["folds"] == []
    means = [row["accuracy_mean"] for row in with_resnet["rows"]]
    assert entry["difference"] == pytest.approx(means[1] - means[0])
    said = differences.sentence(entry, {"semi": "Semi", "baseline": "Base"})
    assert said.startswith("Semi against Base: ")
    assert "Fold by fold" not in said
    assert tables.other_protocols(with_resnet)["Variant"].tolist() == ["ExemplarCNN"]
    assert list(tables.by_class(with_resnet).columns) == ["Class", "ExemplarCNN", "Semi-supervised"]


def test_published_figures_stand_apart_by_protocol(results: dict[str, Any]) -> None:
    assert "## Learning from labels" not in markdown.render(results)
    stl10 = results | {"dataset": results["dataset"] | {"fold_sizes": [1_000] * 10, "train": 5_000}}
    assert list(tables.published(stl10)) == ["STL-10, 10 folds of 1,000 labels:", "STL-10, all 5,000 labels:"]
    text = markdown.render(stl10).partition("## Published results\n\n")[2].partition("\n## ")[0]
    folds, _, everything = text.partition("STL-10, all 5,000 labels:")
    assert "| ExemplarCNN | 74.20 ± 0.40 | Dosovitskiy et al. 2016 |" in folds
    assert "| Cutout | 87.26 | DeVries and Taylor 2017 |" in everything
    ours = next(row for row in results["rows"] if row["variant"] == "baseline")
    mark = "this run: sample, profile tiny |"
    assert f"| ExemplarCNN | {ours['accuracy_mean']:.2f} ± {ours['accuracy_std']:.2f} | {mark}" in folds
    assert f"| ExemplarCNN | 71.23 | {mark}" in everything
    assert "Raw pixels" not in text


def test_figures_from_other_numbers_of_labels_have_a_table_of_their_own(results: dict[str, Any]) -> None:
    """The sample's, from 100 and 300 labels, stood under "1,000 labels" and "All 5,000 labels"."""
    found = tables.published(results)
    of_run = {what: [source.startswith("this run") for source in table["Source"]] for what, table in found.items()}
    assert {what: set(marks) for what, marks in of_run.items()} == {
        "STL-10, 10 folds of 1,000 labels:": {False},
        "This run, 10 folds of 30 labels, where STL-10 has 10 folds of 1,000 labels:": {True},
        "STL-10, all 5,000 labels:": {False},
        "This run, all 300 labels, where STL-10 has all 5,000 labels:": {True},
    }
    assert all(what in markdown.render(results) for what in found)
    # Folds may be STL-10's where the number of all labels is not.
    folds = results | {"dataset": results["dataset"] | {"fold_sizes": [1_000] * 10}}
    assert len(tables.published(folds)) == 3
    uneven = results | {"dataset": results["dataset"] | {"fold_sizes": [29, *[30] * 9]}}
    assert any("This run, 10 folds of 29 to 30 labels," in what for what in tables.published(uneven))


def test_a_variant_may_be_called_like_a_column(results: dict[str, Any]) -> None:
    named = json.loads(json.dumps(results))
    named["rows"][0]["title"] = "Class"
    assert tables.by_class(named).to_numpy().tolist()[0] == ["cat", "100.0", "80.0", "90.0"]
