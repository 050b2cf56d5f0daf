"""What results.json holds."""

import json
from pathlib import Path
from typing import Any

import pytest

from exemplarcnn import paths
from exemplarcnn.config.params import Config
from exemplarcnn.data.stl10 import data_digest
from exemplarcnn.files import digest_of, write_json
from exemplarcnn.reporting.results import FORMAT, Inputs, ReportError, gather, headline, read
from tests.reporting.examples import GROUPING, NAMES


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
        read()
    write_json(paths.RESULTS_JSON, results)
    assert read() == json.loads(json.dumps(results))
    for other in (results | {"format": FORMAT + 1}, {k: v for k, v in results.items() if k != "format"}):
        write_json(paths.RESULTS_JSON, other)
        with pytest.raises(ReportError, match="another version of the code; `dvc repro report` writes it again"):
            read()


def test_other_keys_are_another_format(results: dict[str, Any]) -> None:
    """Where this fails, raise FORMAT, and write the new pair here."""
    names = sorted({*results, *results["dataset"], *(key for row in results["rows"] for key in row)})
    names += sorted({key for entry in (*results["learned"], *results["differences"]) for key in entry})
    assert (FORMAT, digest_of(names)[:12]) == (2, "8262a336a323")


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


def test_steps_are_those_of_the_learning_curve(results: dict[str, Any]) -> None:
    assert "steps" not in results["rows"][0]
    assert "classes" not in results["rows"][0]
    assert results["rows"][1] | {"classes": 30, "images": 30, "train_patches": 1_280, "steps": 30} == results["rows"][1]
    assert results["rows"][2] | {"classes": 30, "images": 61, "train_patches": 1_281, "steps": 33} == results["rows"][2]


def test_steps_of_the_network_that_training_starts_from_count(report_config: Config, inputs: Inputs) -> None:
    values = report_config.model_dump(mode="json")
    values["variants"]["train"]["clustered"]["init_from"] = "models/baseline/weights.safetensors"
    found = gather(Config.model_validate(values), inputs)
    assert [row.get("steps") for row in found["rows"]] == [None, 30, 63]
    assert [entry["steps"] for entry in found["learned"]] == [30, 63]


# The hash of the data


def test_hash_of_data_that_dvc_tracks(tmp_path: Path) -> None:
    (tmp_path / "data.dvc").write_text("outs:\n- md5: 90d2.dir\n  size: 3\n  hash: md5\n  path: data\n")
    assert data_digest(tmp_path / "data") == "90d2.dir"


def test_hash_of_other_data_is_empty(tmp_path: Path) -> None:
    assert data_digest(tmp_path / "data") == ""
