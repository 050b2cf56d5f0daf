"""What `exemplarcnn show` prints: the table, and the differences that tell most."""

import json
from pathlib import Path
from typing import Any

import pytest

from exemplarcnn import paths
from exemplarcnn.reporting import report, summary
from tests.conftest import ROOT

RESULTS = ROOT / "reports" / "results.json"


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The committed ones, in a folder without a page."""
    monkeypatch.chdir(tmp_path)
    found: dict[str, Any] = json.loads(RESULTS.read_text())
    return found


def pairs(results: dict[str, Any]) -> list[tuple[str, str]]:
    return [(entry["variant"], entry["against"]) for entry in summary.telling(results)]


def entry(results: dict[str, Any], variant: str, against: str) -> dict[str, Any]:
    return next(x for x in results["differences"] if (x["variant"], x["against"]) == (variant, against))


def without(results: dict[str, Any], *names: str) -> dict[str, Any]:
    return results | {
        "rows": [row for row in results["rows"] if row["variant"] not in names],
        "differences": [x for x in results["differences"] if not {x["variant"], x["against"]} & {*names}],
        "labelled": {key: value for key, value in results["labelled"].items() if key not in names},
    }


def test_of_many_differences_four_tell_most(results: dict[str, Any]) -> None:
    assert len(results["differences"]) == 28
    assert pairs(results) == [
        ("baseline", "random_network"),
        ("clustered", "random_network"),
        ("clustered", "baseline"),
        ("semi_supervised", "supervised"),
    ]


def test_the_control_is_the_best_one(results: dict[str, Any]) -> None:
    for row in results["rows"]:
        if row["variant"] == "kmeans":
            row["accuracy_mean"] = 99.0
    assert pairs(results)[:2] == [("baseline", "kmeans"), ("clustered", "kmeans")]


def test_a_difference_is_turned_where_the_rows_stand_the_other_way_round(results: dict[str, Any]) -> None:
    before = entry(results, "supervised", "semi_supervised")
    after = summary.telling(results)[3]
    assert after["difference"] == -before["difference"]
    assert (after["low"], after["high"]) == (-before["high"], -before["low"])
    one = entry(results, "clustered", "baseline")
    turned = summary._entry({"differences": [one]}, ("baseline", "clustered"))
    assert turned["folds"] == [-x for x in one["folds"]]


@pytest.mark.parametrize(
    ("missing", "left"),
    [
        (("raw_pixels", "kmeans", "random_network"), [("clustered", "baseline"), ("semi_supervised", "supervised")]),
        (("clustered",), [("baseline", "random_network"), ("semi_supervised", "supervised")]),
        (("semi_supervised", "baseline", "clustered", "imagenet"), []),
    ],
)
def test_rows_that_are_not_there_are_left_out(
    results: dict[str, Any], missing: tuple[str, ...], left: list[tuple[str, str]]
) -> None:
    assert pairs(without(results, *missing)) == left


def test_the_screen_holds_the_table_four_lines_and_where_the_rest_lies(results: dict[str, Any]) -> None:
    text = summary.write(results)
    assert sum(" against " in line for line in text.splitlines()) == 4
    assert report.frame(results).to_string(index=False) in text
    assert "`exemplarcnn page` writes reports/index.html" in text
    assert "24 further differences: reports/results.json." in text
    assert len(text.splitlines()) < 24
    paths.PAGE.parent.mkdir()
    paths.PAGE.touch()
    assert "On one page: reports/index.html, for a browser." in summary.write(results)


def test_of_images_without_labels_it_shows_the_surrogate_task(results: dict[str, Any]) -> None:
    text = summary.write(results | {"rows": [], "differences": [], "labelled": {}})
    assert report.surrogate_task(results).to_string(index=False) in text
    assert report.NOT_TESTED in text
    assert "further differences" not in text
