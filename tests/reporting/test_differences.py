"""Differences between rows: what they are, what is said of them, and which are shown."""

from typing import Any

import numpy as np
import pytest

from exemplarcnn.config.params import Config
from exemplarcnn.evaluation.intervals import bootstrap, gain
from exemplarcnn.evaluation.metrics import correct
from exemplarcnn.reporting import differences, markdown


def test_every_pair_is_compared_once(results: dict[str, Any], report_config: Config, parts: Any) -> None:
    _, predictions, labels = parts
    pairs = [(entry["variant"], entry["against"]) for entry in results["differences"]]
    assert pairs == [("baseline", "raw_pixels"), ("clustered", "raw_pixels"), ("clustered", "baseline")]
    means = {row["variant"]: row["accuracy_mean"] for row in results["rows"]}
    for entry in results["differences"]:
        assert entry["difference"] == pytest.approx(means[entry["variant"]] - means[entry["against"]])
        one, two = (correct(predictions[entry[key]], labels) for key in ("variant", "against"))
        low, high = bootstrap(gain(one, two)[None], report_config.seed)
        assert (entry["difference"], entry["low"], entry["high"]) == pytest.approx(
            (gain(one, two).mean(), low[0], high[0])
        )
        assert entry["folds"] == pytest.approx(list(100 * (one.mean(axis=1) - two.mean(axis=1))))


def test_an_interval_that_ends_at_zero_is_not_above_it() -> None:
    """Of ten folds one row is right in some more, of one image, and in fewer, of another: nothing is gained."""
    labels = np.zeros(12, np.int64)
    right = {name: np.zeros((10, 12), bool) for name in ("raw_pixels", "baseline")}
    # 0.9 - 0.8 is 0.09999999999999998, and 0.3 - 0.2 another tenth.
    for image, (mine, other) in enumerate([(9, 8), (2, 3), (3, 2), (7, 8), (6, 5), (1, 2)] * 2):
        right["baseline"][:mine, image] = right["raw_pixels"][:other, image] = True
    predictions = {name: (~found).astype(np.uint8) for name, found in right.items()}
    gains = gain(*(correct(predictions[name], labels) for name in ("baseline", "raw_pixels")))
    assert gains.mean() != 0, "or this test is of no use"
    (entry,) = differences.between_rows(["raw_pixels", "baseline"], predictions, labels, 0)
    assert entry["difference"] == 0
    assert all(entry[end] == round(entry[end], 9) for end in ("low", "high"))


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
    text = differences.sentence(entry, {"a": "One", "b": "Two"})
    assert text.startswith(f"One against Two: {(low + high) / 2:+.2f} points")
    assert ("not distinguishable" not in text) == sure


def test_a_difference_is_told_fold_by_fold() -> None:
    entry = {"variant": "a", "against": "b", "difference": 1.0, "low": 0.1, "high": 2.0, "folds": [3.0, 0.0, 1.0, 0.0]}
    assert differences.sentence(entry, {"a": "One", "b": "Two"}).endswith("Fold by fold ± 1.22, above zero in 2 of 4.")


def test_of_a_long_table_only_differences_with_the_first_trained_row_are_written(
    results: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert markdown.render(results).count(" against ") == 3
    monkeypatch.setattr(differences, "SHORT", 2)
    text = markdown.render(results)
    assert text.count(" against ") == 2
    assert "Clustering against Raw pixels" not in text


# The few that tell most


def pairs(results: dict[str, Any]) -> list[tuple[str, str]]:
    return [(entry["variant"], entry["against"]) for entry in differences.in_brief(results)]


def entry(results: dict[str, Any], variant: str, against: str) -> dict[str, Any]:
    return next(x for x in results["differences"] if (x["variant"], x["against"]) == (variant, against))


def without(results: dict[str, Any], *names: str) -> dict[str, Any]:
    return results | {
        "rows": [row for row in results["rows"] if row["variant"] not in names],
        "differences": [x for x in results["differences"] if not {x["variant"], x["against"]} & {*names}],
        "labelled": {key: value for key, value in results["labelled"].items() if key not in names},
    }


def test_of_many_differences_four_tell_most(committed: dict[str, Any]) -> None:
    assert len(committed["differences"]) == 28
    assert pairs(committed) == [
        ("baseline", "random_network"),
        ("clustered", "random_network"),
        ("clustered", "baseline"),
        ("semi_supervised", "supervised"),
    ]


def test_the_control_is_the_best_one(committed: dict[str, Any]) -> None:
    for row in committed["rows"]:
        if row["variant"] == "kmeans":
            row["accuracy_mean"] = 99.0
    assert pairs(committed)[:2] == [("baseline", "kmeans"), ("clustered", "kmeans")]


def test_a_difference_is_turned_where_the_rows_stand_the_other_way_round(committed: dict[str, Any]) -> None:
    before = entry(committed, "supervised", "semi_supervised")
    after = differences.in_brief(committed)[3]
    assert after["difference"] == -before["difference"]
    assert (after["low"], after["high"]) == (-before["high"], -before["low"])
    one = entry(committed, "clustered", "baseline")
    turned = differences._entry({"differences": [one]}, ("baseline", "clustered"))
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
    committed: dict[str, Any], missing: tuple[str, ...], left: list[tuple[str, str]]
) -> None:
    assert pairs(without(committed, *missing)) == left
