"""The table of results: what results.json holds and what results.md says."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from exemplarcnn.data.image_set import Summary
from exemplarcnn.data.stl10 import data_digest

from exemplarcnn import paths
from exemplarcnn.config import Config, compose
from exemplarcnn.evaluation.protocols import bootstrap, correct, gain
from exemplarcnn.files import digest_of, write_json
from exemplarcnn.reporting import report
from exemplarcnn.reporting.report import (
    FORMAT,
    ReportError,
    by_class,
    describe_dataset,
    describe_difference,
    frame,
    gather,
    headline,
    judged_otherwise,
    markdown,
    surrogate_task,
)
from tests.conftest import CONF

NAMES = ("raw_pixels", "baseline", "clustered")
GROUPING = {
    "clustered_images": 20,
    "held_out_images": 21,
    "threshold": 0.421,
    "clusters": 5,
    "images_in_clusters": 11,
    "merged_fraction": 0.55,
    "cluster_sizes": {"2": 4, "3": 1},
    "merge_heights": {"min": 0.1, "quarter": 0.2, "median": 0.3, "three_quarters": 0.35, "max": 0.4},
    "single_classes": 7,
    "neighbour_ranks": {"min": 1.0, "quarter": 1.0, "median": 2.0, "three_quarters": 3.0, "max": 9.0},
    "neighbour_distances": {"min": 0.1, "quarter": 0.2, "median": 0.25, "three_quarters": 0.3, "max": 0.5},
    "purity": {"images": 18, "purity": 0.5, "by_chance": 0.4},
    "cluster_purity": {"images": 11, "purity": 0.625, "by_chance": 0.375},
    "duplicates": {"pairs": 8, "together": 0.75},
    "round": {"images": 17, "nmi": 0.4321},
}


AUDIT = {
    "pools": {
        "unlabeled": {
            "images": 1540,
            "borders": 45,
            "empty": 1,
            "grey": 2,
            "duplicates": 44,
            "leaks": 3,
            "unusable": [],
        },
        "other": {
            "images": 7,
            "borders": 0,
            "empty": 0,
            "grey": 0,
            "duplicates": 0,
            "leaks": 0,
            "unusable": ["x.png: y"],
        },
    },
    "marks": {
        "borders": {"true": 45, "found": 44, "precision": 1.0, "recall": 0.9778},
        "duplicates": {"true": 45, "found": 0, "precision": None, "recall": 0.0},
    },
}
OUTLIERS = {
    "of": "baseline",
    "counted": {
        "threshold": 0.41,
        "inside": 8000,
        "inside_above": 400,
        "images": 1234,
        "share": 0.1234,
        "expected": {"mean": 500.6, "low": 450, "high": 560},
    },
    "out_of_distribution": {"images": 45, "auroc": 0.81234, "precision": 0.5, "recall": 0.375},
    "near_duplicates": {"closest_pairs": 200, "known_among_them": 41, "known": 45},
}


@pytest.fixture(scope="module")
def config() -> Config:
    values = compose(CONF, "tiny")
    values["train"] |= {"epochs": 3, "batch_size": 128}
    values["variants"]["label"] = {}
    values["variants"]["evaluate"] = {
        "raw_pixels": {"title": "Raw pixels", "paper": None},
        "baseline": {"title": "ExemplarCNN", "paper": {"mean": 74.14, "std": 0.39}},
        "clustered": {"title": "Clustering", "paper": {"mean": 74.05, "std": None}},
    }
    return Config.model_validate(values)


def summary(official: bool = False) -> Summary:
    return Summary(
        dataset="sample",
        side=96,
        train=300,
        test=40,
        unlabeled=1_540,
        other=None,
        fold_sizes=[30] * 10,
        folds_official=official,
        class_names=list("abcdefghij"),
    )


@pytest.fixture(scope="module")
def parts() -> tuple[dict[str, Any], dict[str, Any], np.ndarray]:
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
def results(config: Config, parts: Any) -> dict[str, Any]:
    summaries, predictions, labels = parts
    sets = {
        "baseline": {"classes": 30, "images": 30, "train_patches": 1_280, "mean": [0.5] * 3},
        "clustered": {"classes": 30, "images": 61, "train_patches": 1_281, "mean": [0.5] * 3},
    }
    groupings = {"clustered": GROUPING}
    found = (summaries, predictions, labels, groupings, sets, {"baseline": 0.625, "clustered": 0.4})
    return gather(config, summary(), "abc.dir", *found, AUDIT, OUTLIERS, {})


def cells(text: str) -> list[list[str]]:
    """Return the first table."""
    lines = [line for line in text.partition("\n## ")[0].splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


# results.json


def test_what_every_comparison_needs_is_there(results: dict[str, Any]) -> None:
    assert results["profile"] == "tiny"
    assert results["dataset"] == {
        "name": "sample",
        "hash": "abc.dir",
        "folds_official": False,
        "fold_sizes": [30] * 10,
        "unlabeled": 1_540,
        "train": 300,
        "test": 40,
    }
    assert [row["variant"] for row in results["rows"]] == list(NAMES)
    for row in results["rows"]:
        assert {"variant", "accuracy_mean", "accuracy_std", "fold_accuracies", "paper"} <= set(row)
    assert results["groupings"] == {"clustered": GROUPING}


def test_a_report_of_other_code_is_refused(
    results: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`exemplarcnn show` and `page` ended in a KeyError."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ReportError, match=r"results\.json is not there yet; `dvc repro` makes it"):
        report.read()
    write_json(paths.RESULTS_JSON, results)
    assert report.read() == json.loads(json.dumps(results))
    for other in (results | {"format": FORMAT + 1}, {k: v for k, v in results.items() if k != "format"}):
        write_json(paths.RESULTS_JSON, other)
        with pytest.raises(ReportError, match="another version of the code; `dvc repro report` writes it anew"):
            report.read()


def test_other_keys_are_another_format(results: dict[str, Any]) -> None:
    """Where this fails, raise FORMAT, and write the new pair here."""
    names = sorted({*results, *results["dataset"], *(key for row in results["rows"] for key in row)})
    names += sorted({key for entry in (*results["learned"], *results["differences"]) for key in entry})
    assert (FORMAT, digest_of(names)[:12]) == (1, "bf120d886391")


def test_it_is_json(results: dict[str, Any]) -> None:
    assert json.loads(json.dumps(results, allow_nan=False)) == results


def test_accuracies_are_those_of_the_evaluations_in_percent(results: dict[str, Any], parts: Any) -> None:
    for row in results["rows"]:
        given = parts[0][row["variant"]]
        assert {key: row[key] for key in ("accuracy_mean", "accuracy_std", "fold_accuracies")} == {
            key: given[key] for key in ("accuracy_mean", "accuracy_std", "fold_accuracies")
        }
        assert 1 < row["accuracy_mean"] <= 100


def test_the_headline_has_a_mean_and_a_deviation_of_every_row(results: dict[str, Any], parts: Any) -> None:
    summaries = parts[0]
    assert headline(results) == {
        name: {"mean": summaries[name]["accuracy_mean"], "std": summaries[name]["accuracy_std"]} for name in NAMES
    }


def test_the_papers_figures_are_apart_from_ours(results: dict[str, Any]) -> None:
    assert [row["paper"] for row in results["rows"]] == [
        None,
        {"mean": 74.14, "std": 0.39},
        {"mean": 74.05, "std": None},
    ]


def test_steps_count_the_last_batch_of_each_epoch(results: dict[str, Any]) -> None:
    assert "steps" not in results["rows"][0]
    assert "classes" not in results["rows"][0]
    assert results["rows"][1] | {"classes": 30, "images": 30, "train_patches": 1_280, "steps": 30} == results["rows"][1]
    assert results["rows"][2] | {"classes": 30, "images": 61, "train_patches": 1_281, "steps": 33} == results["rows"][2]


def test_every_pair_is_compared_once(results: dict[str, Any], config: Config, parts: Any) -> None:
    _, predictions, labels = parts
    pairs = [(entry["variant"], entry["against"]) for entry in results["differences"]]
    assert pairs == [("baseline", "raw_pixels"), ("clustered", "raw_pixels"), ("clustered", "baseline")]
    means = {row["variant"]: row["accuracy_mean"] for row in results["rows"]}
    for entry in results["differences"]:
        assert entry["difference"] == pytest.approx(means[entry["variant"]] - means[entry["against"]])
        one, two = (correct(predictions[entry[key]], labels) for key in ("variant", "against"))
        low, high = bootstrap(gain(one, two)[None], config.seed)
        assert (entry["difference"], entry["low"], entry["high"]) == pytest.approx(
            (gain(one, two).mean(), low[0], high[0])
        )
        assert entry["folds"] == pytest.approx(list(100 * (one.mean(axis=1) - two.mean(axis=1))))


def test_an_interval_that_ends_at_zero_is_not_above_it() -> None:
    """Of ten folds one row is right in some more, of one image, and in fewer, of another: nothing is gained."""
    values = compose(CONF, "tiny")
    values["variants"]["evaluate"] = {name: {"title": name, "paper": None} for name in ("raw_pixels", "baseline")}
    values["neighbours"]["of"] = ["baseline"]
    labels = np.zeros(12, np.int64)
    right = {name: np.zeros((10, 12), bool) for name in values["variants"]["evaluate"]}
    # 0.9 - 0.8 is 0.09999999999999998, and 0.3 - 0.2 another tenth.
    for image, (mine, other) in enumerate([(9, 8), (2, 3), (3, 2), (7, 8), (6, 5), (1, 2)] * 2):
        right["baseline"][:mine, image] = right["raw_pixels"][:other, image] = True
    predictions = {name: (~found).astype(np.uint8) for name, found in right.items()}
    gains = gain(*(correct(predictions[name], labels) for name in ("baseline", "raw_pixels")))
    assert gains.mean() != 0, "or this test is of no use"
    (entry,) = report._differences(Config.model_validate(values), predictions, labels)
    assert entry["difference"] == 0
    assert all(entry[end] == round(entry[end], 9) for end in ("low", "high"))


# results.md


def test_the_table_is_one(results: dict[str, Any]) -> None:
    table = cells(markdown(results))
    assert {len(line) for line in table} == {6}
    assert table[1] == ["---"] * 6
    assert len(table) == 2 + len(NAMES)


def test_the_table_says_what_results_json_holds(results: dict[str, Any]) -> None:
    head, _, *rows = cells(markdown(results))
    found = [dict(zip(head, row, strict=True)) for row in rows]
    for line, row in zip(found, results["rows"], strict=True):
        assert line["Variant"] == row["title"]
        assert line["Accuracy (%)"] == f"{row['accuracy_mean']:.2f} ± {row['accuracy_std']:.2f}"
    assert [line["Classes"] for line in found] == ["–", "30", "30"]
    assert [line["SGD steps"] for line in found] == ["–", "30", "33"]


def test_the_papers_figures_have_a_column_of_their_own(results: dict[str, Any]) -> None:
    head, _, *rows = cells(markdown(results))
    place = next(i for i, name in enumerate(head) if "aper" in name)
    assert head[place] != "Accuracy (%)"
    assert [row[place] for row in rows] == ["–", "74.14 ± 0.39", "74.05"]
    for number, cell in ((number, cell) for row in rows for number, cell in enumerate(row)):
        assert number == place or "74.14" not in cell
    assert "not ours" in markdown(results)


def test_the_frame_is_the_table(results: dict[str, Any]) -> None:
    head, _, *rows = cells(markdown(results))
    table = frame(results)
    assert list(table.columns) == head
    assert table.to_numpy().tolist() == rows


def test_the_data_set_is_named_with_its_hash_and_folds(results: dict[str, Any]) -> None:
    sentence = describe_dataset(results)
    assert sentence in markdown(results)
    for part in ("sample", "abc.dir", "1,540", "300", "40", "10 folds of 30 labels, not the official", "tiny"):
        assert part in sentence
    official = results | {"dataset": results["dataset"] | {"folds_official": True}}
    assert "10 folds of 30 labels, the official ones. Profile" in describe_dataset(official)
    assert "not the official" not in describe_dataset(official)


def test_the_side_of_images_is_said_where_it_is_not_stl10s(
    results: dict[str, Any], parts: tuple[dict[str, Any], dict[str, Any], np.ndarray]
) -> None:
    assert "pixels" not in describe_dataset(results)
    larger = results | {"dataset": results["dataset"] | {"side": 128}}
    assert "; 128×128 pixels. Profile" in describe_dataset(larger)


@pytest.mark.parametrize(
    ("low", "high", "sure"),
    [
        (0.1, 2.0, True),
        (-2.0, -0.1, True),
        (-0.1, 2.0, False),
        (0.0, 2.0, False),
        (-2.0, 0.0, False),
        (0.0, 0.0, False),
    ],
)
def test_a_difference_is_told_from_zero_by_its_interval(low: float, high: float, sure: bool) -> None:
    entry = {
        "variant": "a",
        "against": "b",
        "difference": (low + high) / 2,
        "low": low,
        "high": high,
        "folds": [1.0, -1.0],
    }
    text = describe_difference(entry, {"a": "One", "b": "Two"})
    assert text.startswith(f"One against Two: {(low + high) / 2:+.2f} points")
    assert ("not distinguishable" not in text) == sure


def test_a_difference_is_told_fold_by_fold() -> None:
    entry = {"variant": "a", "against": "b", "difference": 1.0, "low": 0.1, "high": 2.0, "folds": [3.0, 0.0, 1.0, 0.0]}
    assert describe_difference(entry, {"a": "One", "b": "Two"}).endswith("Fold by fold ± 1.22, above zero in 2 of 4.")


def test_the_other_protocols_and_the_leaky_choice_have_a_table(results: dict[str, Any]) -> None:
    table = judged_otherwise(results)
    assert list(table.columns) == ["Variant", "As above", "leaky", "full", "knn"]
    first = results["rows"][0]
    assert table.iloc[0].tolist() == [
        "Raw pixels",
        f"{first['accuracy_mean']:.2f}",
        f"{max(first['fold_accuracies']):.2f} (C = 0.1)",
        "71.23",
        "44.40 ± 1.25",
    ]
    section = markdown(results).partition("## Judged otherwise")[2].partition("\n## ")[0]
    assert all(cell in section for row in table.to_numpy().tolist() for cell in row)


def test_of_a_long_table_only_differences_with_the_first_trained_row_are_written(
    results: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert markdown(results).count(" against ") == 3
    monkeypatch.setattr(report, "SHORT", 2)
    text = markdown(results)
    assert text.count(" against ") == 2
    assert "Clustering against Raw pixels" not in text


def test_every_class_has_its_accuracy(results: dict[str, Any]) -> None:
    assert by_class(results).to_numpy().tolist() == [["cat", "100.0", "80.0", "90.0"], ["dog", "12.3", "12.3", "12.3"]]
    assert "| cat | 100.0 | 80.0 | 90.0 |" in markdown(results)


def test_of_many_classes_the_worst_and_the_best_are_listed(results: dict[str, Any]) -> None:
    assert report.describe_classes(results) == ""
    many = json.loads(json.dumps(results))
    for place, row in enumerate(many["rows"]):
        row["class_accuracies"] = {f"c{number}": float((number * 37 + place) % 50) for number in range(50)}
    by_mean = sorted(range(50), key=lambda number: sum((number * 37 + place) % 50 for place in range(3)))
    assert by_class(many)["Class"].tolist() == [f"c{number}" for number in by_mean[:10] + by_mean[-10:]]
    text = markdown(many).partition("## Class by class\n\n")[2].partition("\n## ")[0]
    assert text.startswith("Of 50 classes the 10 that are told worst and the 10 that are told best")
    assert text.count("| c") == 20


def test_pictures_and_groupings_are_linked(results: dict[str, Any]) -> None:
    text = markdown(results)
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
    text = markdown(results | {"groupings": {"clustered": bare}})
    assert "0 clusters (none images)" in text
    for part in ("Rank of the neighbours", "commonest label", "near-duplicate", "mutual information"):
        assert part not in text


def test_what_the_truth_says_about_a_grouping(results: dict[str, Any]) -> None:
    text = markdown(results)
    assert "In the clusters 62.5 % of the 11 images" in text
    assert "37.5 % would by chance" in text
    assert "In all classes of several images 50.0 % of the 18 images" in text
    assert "Of 8 known near-duplicate pairs among the images clustered, 75.0 % are in one cluster" in text
    assert "the round before: 0.432 over 17 images" in text


def test_the_same_results_give_the_same_text(results: dict[str, Any]) -> None:
    assert markdown(results) == markdown(json.loads(json.dumps(results)))


# The hash of the data


def test_hash_of_data_that_dvc_tracks(tmp_path: Path) -> None:
    (tmp_path / "data.dvc").write_text("outs:\n- md5: 90d2.dir\n  size: 3\n  hash: md5\n  path: data\n")
    assert data_digest(tmp_path / "data") == "90d2.dir"


def test_hash_of_other_data_is_empty(tmp_path: Path) -> None:
    assert data_digest(tmp_path / "data") == ""


# The images


def test_what_the_audit_found(results: dict[str, Any]) -> None:
    text = markdown(results).partition("## The images\n\n")[2]
    lines = text.splitlines()
    assert lines[2] == "| unlabeled | 1,540 | 45 | 1 | 2 | 44 | 3 | 0 |"
    assert lines[3] == "| other | 7 | 0 | 0 | 0 | 0 | 0 | 1 |"
    assert "borders: precision 1.000, recall 0.978 of 45; duplicates: precision –, recall 0.000 of 45." in text
    assert (
        "1,234 unlabelled images (12.3 %) are farther from every labelled class than all but 400 of the 8,000 test "
        "images (5.0 % false alarms); were all of the classes, 501 would be, and 95 % of the time 450 to 560 (features "
        "of `baseline`)."
    ) in text
    assert "the 45 images of none of them with an area under the ROC curve of 0.812; those counted have" in text
    assert "have precision 0.500, recall 0.375." in text
    assert "Of the 200 pairs closest in the features of `baseline`, 41 are among the 45 pairs" in text
    assert "[black borders in other](pictures/audit/borders-other.png)" in text


def test_where_nothing_is_known_of_the_images(results: dict[str, Any]) -> None:
    unknown = results | {"audit": AUDIT | {"marks": None}, "outliers": OUTLIERS | {"out_of_distribution": None}}
    text = markdown(unknown)
    assert "precision" not in text
    assert "ROC" not in text
    assert "1,234 unlabelled images (12.3 %) are farther" in text


def test_of_images_that_are_not_the_papers_its_figures_are_not_shown(results: dict[str, Any]) -> None:
    rows = [row | {"paper": None} for row in results["rows"]]
    assert "Paper, on all of STL-10 (%)" not in frame(results | {"rows": rows})
    assert "not ours" not in markdown(results | {"rows": rows})


# The surrogate task, and images without labels


def test_how_well_networks_tell_their_surrogate_classes_apart(results: dict[str, Any]) -> None:
    table = surrogate_task(results)
    assert table["Variant"].tolist() == ["ExemplarCNN", "Clustering"]
    assert table["Images"].tolist() == ["30", "61"]
    assert table["SGD steps"].tolist() == ["30", "33"]
    assert table["Validation patches told right (%)"].tolist() == ["62.50", "40.00"]
    assert table["By chance (%)"].tolist() == ["3.33", "3.33"]
    assert "| ExemplarCNN | 30 | 30 | 30 | 62.50 | 3.33 |" in markdown(results)


def test_without_labels_there_are_features_and_clusters_and_it_says_so() -> None:
    config = Config.model_validate(compose(CONF, "own_unlabelled"))
    data = summary()
    data.update(dataset="photos", train=0, test=0, unlabeled=50, fold_sizes=[], class_names=[])
    sets = {name: {"classes": 20, "images": 50, "train_patches": 100} for name in config.variants.train}
    outliers = OUTLIERS | {"out_of_distribution": None, "counted": None}
    found: tuple[Any, ...] = ({}, {}, np.empty(0, np.int64), {"clustered": GROUPING}, sets, dict.fromkeys(sets, 0.5))
    unlabelled = gather(config, data, "abc.dir", *found, AUDIT, outliers, {})
    assert unlabelled["rows"] == unlabelled["differences"] == []
    text = markdown(unlabelled)
    assert "The images have no labels, so that nothing was tested" in text
    assert "Data set: photos (hash abc.dir), 50 unlabelled images. Profile: own_unlabelled." in text
    assert "| clustered | 20 | 50 | 10 | 50.00 | 5.00 |" in text
    assert "## Classes of clustered" in text
    assert "(pictures/clusters/clustered.png)" in text
    for absent in ("confusion/", "farthest", "## Others", "## Judged otherwise"):
        assert absent not in text


# Networks that learn from labels, and what others report


@pytest.fixture(scope="module")
def with_resnet(parts: Any) -> dict[str, Any]:
    """A row that was trained and tested once beside one with folds."""
    values = compose(CONF, "tiny_bench")
    values["variants"]["evaluate"] = {"baseline": {"title": "ExemplarCNN", "paper": None}}
    values["neighbours"]["of"] = ["baseline"]
    values["variants"]["label"] = {"semi": values["variants"]["label"]["semi_supervised"]}
    config = Config.model_validate(values)
    summaries, predictions, labels = parts
    once = predictions["clustered"][:1]
    accuracy = float(100 * (once == labels).mean())
    single = {"accuracy_mean": accuracy, "accuracy_std": 0.0, "fold_accuracies": [accuracy], "chosen": []}
    single |= {"leaky": None, "others": {}, "class_accuracies": {"cat": 1.0, "dog": 2.0}}
    judged = {"images": 495, "accuracy": 0.625, "outside": 45, "left_out": 12}
    found = {"semi": {"method": "pseudo", "labelled": 1540, "by_class": {}, "judged": judged}}
    sets = {"baseline": {"classes": 30, "images": 30, "train_patches": 1_280}}
    both = {"baseline": summaries["baseline"], "semi": single}
    guesses = {"baseline": predictions["baseline"], "semi": once}
    return gather(config, summary(), "abc.dir", both, guesses, labels, {}, sets, {}, AUDIT, OUTLIERS, found)


def test_a_row_without_folds(with_resnet: dict[str, Any]) -> None:
    assert frame(with_resnet)["Accuracy (%)"][1] == f"{with_resnet['rows'][1]['accuracy_mean']:.2f}"
    (entry,) = with_resnet["differences"]
    assert entry["folds"] == []
    means = [row["accuracy_mean"] for row in with_resnet["rows"]]
    assert entry["difference"] == pytest.approx(means[1] - means[0])
    said = describe_difference(entry, {"semi": "Semi", "baseline": "Base"})
    assert said.startswith("Semi against Base: ")
    assert "Fold by fold" not in said
    assert judged_otherwise(with_resnet)["Variant"].tolist() == ["ExemplarCNN"]
    assert list(by_class(with_resnet).columns) == ["Class", "ExemplarCNN", "Semi-supervised"]


def test_what_is_known_of_pseudo_labels(with_resnet: dict[str, Any]) -> None:
    text = markdown(with_resnet)
    assert (
        "- Semi-supervised: 1,540 images, pseudo labels; of the 495 whose class is known 62.5 % are labelled right, "
        "45 are of none of the classes, and 12 near duplicates of training images are not counted; "
        "[some of them](pictures/labels/semi.png)"
    ) in text
    assert "## Learning from labels" in text


def test_published_figures_stand_apart_by_protocol(results: dict[str, Any]) -> None:
    assert "## Learning from labels" not in markdown(results)
    stl10 = results | {"dataset": results["dataset"] | {"fold_sizes": [1_000] * 10, "train": 5_000}}
    assert list(report.published(stl10)) == ["STL-10, 10 folds of 1,000 labels:", "STL-10, all 5,000 labels:"]
    text = markdown(stl10).partition("## Others\n\n")[2].partition("\n## ")[0]
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
    tables = report.published(results)
    of_run = {what: [source.startswith("this run") for source in table["Source"]] for what, table in tables.items()}
    assert {what: set(found) for what, found in of_run.items()} == {
        "STL-10, 10 folds of 1,000 labels:": {False},
        "This run, 10 folds of 30 labels, where STL-10 has 10 folds of 1,000 labels:": {True},
        "STL-10, all 5,000 labels:": {False},
        "This run, all 300 labels, where STL-10 has all 5,000 labels:": {True},
    }
    assert all(what in markdown(results) for what in tables)
    # Folds may be STL-10's where the number of all labels is not.
    folds = results | {"dataset": results["dataset"] | {"fold_sizes": [1_000] * 10}}
    assert len(report.published(folds)) == 3
    uneven = results | {"dataset": results["dataset"] | {"fold_sizes": [29, *[30] * 9]}}
    assert any("This run, 10 folds of 29 to 30 labels," in what for what in report.published(uneven))


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
    text = markdown(named)
    assert r"Data set: \[my\](set) (hash" in text
    assert r"Profile: \_own\_." in text
    assert r"| a\|b | 1.0 | 1.0 | 1.0 |" in text
    assert r"| \<b\>\`x\`\</b\> | 2.0 | 2.0 | 2.0 |" in text
    assert "| two lines | 3.0 | 3.0 | 3.0 |" in text
    assert r"| \_x\_ | 1.00 | a\|b |" in text
    assert r"- US\$ and A\$ against Raw pixels:" in text
    assert "US$" not in text


def test_a_variant_may_be_called_like_a_column(results: dict[str, Any]) -> None:
    named = json.loads(json.dumps(results))
    named["rows"][0]["title"] = "Class"
    assert by_class(named).to_numpy().tolist()[0] == ["cat", "100.0", "80.0", "90.0"]


def test_clusters_that_are_left_out_are_told() -> None:
    left = {"clusters_left_out": 226, "images_left_out": 470}
    lines = report.describe_grouping(GROUPING | left)
    assert len(lines) == len(report.describe_grouping(GROUPING)) + 1
    assert any("226 further clusters, of 470 images, are left out" in line for line in lines)
