"""What results.md says."""

import json
from typing import Any

import numpy as np

from exemplarcnn.config.params import Config
from exemplarcnn.reporting import markdown, tables
from exemplarcnn.reporting.results import Inputs, gather
from tests.conftest import profile_values
from tests.reporting import examples
from tests.reporting.examples import AUDIT, GROUPING, NAMES, OUTLIERS


def cells(text: str) -> list[list[str]]:
    """Return the first table."""
    lines = [line for line in text.partition("\n## ")[0].splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_the_table_is_one(results: dict[str, Any]) -> None:
    table = cells(markdown.render(results))
    assert {len(line) for line in table} == {6}
    assert table[1] == ["---"] * 6
    assert len(table) == 2 + len(NAMES)


def test_the_table_says_what_results_json_holds(results: dict[str, Any]) -> None:
    head, _, *rows = cells(markdown.render(results))
    found = [dict(zip(head, row, strict=True)) for row in rows]
    for line, row in zip(found, results["rows"], strict=True):
        assert line["Variant"] == row["title"]
        assert line["Accuracy (%)"] == f"{row['accuracy_mean']:.2f} ± {row['accuracy_std']:.2f}"
    assert [line["Classes"] for line in found] == ["–", "30", "30"]
    assert [line["SGD steps"] for line in found] == ["–", "30", "33"]


def test_the_papers_figures_have_a_column_of_their_own(results: dict[str, Any]) -> None:
    head, _, *rows = cells(markdown.render(results))
    place = next(i for i, name in enumerate(head) if "aper" in name)
    assert head[place] != "Accuracy (%)"
    assert [row[place] for row in rows] == ["–", "74.14 ± 0.39", "74.05"]
    for number, cell in ((number, cell) for row in rows for number, cell in enumerate(row)):
        assert number == place or "74.14" not in cell
    assert "not ours" in markdown.render(results)


def test_the_frame_is_the_table(results: dict[str, Any]) -> None:
    head, _, *rows = cells(markdown.render(results))
    table = tables.accuracies(results)
    assert list(table.columns) == head
    assert table.to_numpy().tolist() == rows


def test_pictures_and_groupings_are_linked(results: dict[str, Any]) -> None:
    text = markdown.render(results)
    for link in (
        "pictures/results.png",
        "pictures/confusion/raw_pixels.png",
        "pictures/mistakes/baseline.png",
        "pictures/patches/baseline.png",
        "pictures/clusters/clustered.png",
    ):
        assert f"({link})" in text
    assert "(pictures/patches/raw_pixels.png)" not in text
    assert "(pictures/clusters/baseline.png)" not in text
    for part in ("## Classes of Clustering", "5 clusters (4 of 2, 1 of 3 images)", "55.00 %", "0.4210", "largest 9"):
        assert part in text


def test_the_same_results_give_the_same_text(results: dict[str, Any]) -> None:
    assert markdown.render(results) == markdown.render(json.loads(json.dumps(results)))


def test_what_the_audit_found(results: dict[str, Any]) -> None:
    text = markdown.render(results).partition("## The images\n\n")[2]
    lines = text.splitlines()
    assert lines[2] == "| unlabeled | 1,540 | 45 | 1 | 2 | 44 | 3 | 0 |"
    assert lines[3] == "| other | 7 | 0 | 0 | 0 | 0 | 0 | 1 |"
    assert "borders: precision 1.000, recall 0.978 of 45; duplicates: precision –, recall 0.000 of 45." in text
    assert (
        "1,234 unlabelled images (12.3 %) are farther from every labelled class than all but 400 of the 8,000 test "
        "images (5.0 % false alarms). If all were of these classes, 501 would be expected, and 450 to 560 in 95 % of "
        "cases (features of `baseline`)."
    ) in text
    assert "the 45 images of none of them with an area under the ROC curve of 0.812; those counted have" in text
    assert "have precision 0.500, recall 0.375." in text
    assert "Of the 200 pairs closest in the features of `baseline`, 41 are among the 45 pairs" in text
    assert "[black borders in other](pictures/audit/borders-other.png)" in text


def test_where_nothing_is_known_of_the_images(results: dict[str, Any]) -> None:
    unknown = results | {"audit": AUDIT | {"marks": None}, "outliers": OUTLIERS | {"out_of_distribution": None}}
    text = markdown.render(unknown)
    assert "precision" not in text
    assert "ROC" not in text
    assert "1,234 unlabelled images (12.3 %) are farther" in text


def test_of_images_that_are_not_the_papers_its_figures_are_not_shown(results: dict[str, Any]) -> None:
    rows = [row | {"paper": None} for row in results["rows"]]
    assert "Paper, on all of STL-10 (%)" not in tables.accuracies(results | {"rows": rows})
    assert "not ours" not in markdown.render(results | {"rows": rows})


def test_without_labels_there_are_features_and_clusters_and_it_says_so() -> None:
    config = Config.model_validate(profile_values("own_unlabelled"))
    data = examples.data()
    data |= {"dataset": "photos", "train": 0, "test": 0, "unlabeled": 50, "fold_sizes": [], "class_names": []}
    sets = {name: {"classes": 20, "images": 50, "train_patches": 100} for name in config.variants.train}
    outliers = OUTLIERS | {"out_of_distribution": None, "counted": None}
    inputs = Inputs(
        data=data,
        digest="abc.dir",
        evaluations={},
        predictions={},
        labels=np.empty(0, np.int64),
        groupings={"clustered": GROUPING},
        surrogate_sets=sets,
        trainings={name: {"step": 30, "valid_accuracy": 0.5} for name in sets},
        audit=AUDIT,
        outliers=outliers,
        label_sets={},
    )
    unlabelled = gather(config, inputs)
    assert unlabelled["rows"] == unlabelled["differences"] == []
    text = markdown.render(unlabelled)
    assert "The images have no labels, so nothing was tested" in text
    assert "Data set: photos (hash abc.dir), 50 unlabelled images. Profile: own_unlabelled." in text
    assert "| clustered | 20 | 50 | 30 | 50.00 | 5.00 |" in text
    assert "## Classes of clustered" in text
    assert "(pictures/clusters/clustered.png)" in text
    for absent in ("confusion/", "farthest", "## Published results", "## Other protocols"):
        assert absent not in text


def test_what_is_known_of_pseudo_labels(with_resnet: dict[str, Any]) -> None:
    text = markdown.render(with_resnet)
    assert (
        "- Semi-supervised: 1,540 images, pseudo labels; of the 495 whose class is known, 62.5 % are labelled "
        "correctly; 45 are of none of the classes, and 12 near duplicates of training images are not counted; "
        "[some of them](pictures/labels/semi.png)"
    ) in text
    assert "## Learning from labels" in text


def test_names_are_text_in_markdown(results: dict[str, Any]) -> None:
    """A bar would be another cell, and $, _, < and a backtick would vanish."""
    named = json.loads(json.dumps(results))
    named["dataset"]["name"], named["profile"] = "[my](set)", "_own_"
    named["rows"][1]["title"] = "US$ and A$"
    for row in named["rows"]:
        row["class_accuracies"] = {"a|b": 1.0, "<b>`x`</b>": 2.0, "two\nlines": 3.0}
    for entry in named["learned"]:
        entry["title"] = "US$ and A$"
    named["published"] = [{"title": "_x_", "source": "a|b", "accuracy": 1.0, "std": None, "labels": "folds"}]
    text = markdown.render(named)
    assert r"Data set: \[my\](set) (hash" in text
    assert r"Profile: \_own\_." in text
    assert r"| a\|b | 1.0 | 1.0 | 1.0 |" in text
    assert r"| \<b\>\`x\`\</b\> | 2.0 | 2.0 | 2.0 |" in text
    assert "| two lines | 3.0 | 3.0 | 3.0 |" in text
    assert r"| \_x\_ | 1.00 | a\|b |" in text
    assert r"| US\$ and A\$ | Raw pixels |" in text
    assert "US$" not in text


def test_what_the_truth_says_about_a_grouping(results: dict[str, Any]) -> None:
    text = markdown.render(results)
    assert "In the clusters 62.5 % of the 11 images" in text
    assert "37.5 % would by chance" in text
    assert "In all classes of several images 50.0 % of the 18 images" in text
    assert "Of 8 known near-duplicate pairs among the images clustered, 75.0 % are in one cluster" in text
    assert "the round before: 0.432 over 17 images" in text


def test_a_grouping_without_clusters_or_neighbours_is_described(results: dict[str, Any]) -> None:
    bare = GROUPING | {
        "clusters": 0,
        "images_in_clusters": 0,
        "merged_fraction": 0.0,
        "cluster_sizes": {},
        "merge_heights": None,
        "neighbour_ranks": None,
        "neighbour_distances": None,
        "purity": None,
        "cluster_purity": None,
        "duplicates": None,
        "round": None,
    }
    text = markdown.render(results | {"groupings": {"clustered": bare}})
    assert "0 clusters (none images)" in text
    for part in ("Rank of the neighbours", "commonest label", "near-duplicate", "mutual information"):
        assert part not in text


def test_classes_whose_names_differ_by_blanks_alone_have_a_row_each(results: dict[str, Any]) -> None:
    names = ["a b", "a  b", "a\u00a0b"]
    for row in results["rows"]:
        row["class_accuracies"] = dict(zip(names, (10.0, 90.0, 50.0), strict=True))
    lines = [line.split("|")[1:3] for line in markdown.render(results).splitlines() if line.startswith("| a b |")]
    assert [cell.strip() for _, cell in lines] == ["10.0", "90.0", "50.0"]
