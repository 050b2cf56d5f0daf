"""benchmarks/search.py chooses among recipes by training labels alone, and counts what a row needs."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from exemplarcnn.data import image_set, stl10
from tests.conftest import ROOT

DATA = ROOT / "data"


@pytest.fixture
def search(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import search

    monkeypatch.setattr(search, "HELD_OUT", 100)
    monkeypatch.setattr(search, "FOLD", 50)
    return search


def test_it_needs_no_test_file(search: Any, tmp_path: Path) -> None:
    source, data = tmp_path / "source", tmp_path / "data"
    source.mkdir()
    data.mkdir()
    for name in ("train_X.bin", "train_y.bin", "class_names.txt"):
        shutil.copy(DATA / name, source / name)
    search.fill(data, source, None)
    assert image_set.check(data)["test"] == 100
    labels = stl10.read_labels(DATA / "train_y.bin", 300)
    whole, parts = stl10.ImageFile(DATA / "train_X.bin"), [stl10.open_pool(data, name) for name in ("train", "test")]
    for part, rows, name in zip(parts, search.split(labels), ("train", "test"), strict=True):
        np.testing.assert_array_equal(part.batch(range(len(part))), whole.batch(rows))
        np.testing.assert_array_equal(stl10.read_labels(data / f"{name}_y.bin", len(part)), labels[rows])
    assert (np.bincount(stl10.read_labels(data / "test_y.bin", 100)) == 10).all()


def test_no_image_is_on_both_sides(search: Any) -> None:
    labels = np.repeat(np.arange(10), 30)
    inside, out = search.split(labels)
    np.testing.assert_array_equal(np.sort(np.concatenate([inside, out])), np.arange(300))
    np.testing.assert_array_equal(np.bincount(labels[out]), 10)


def test_a_trial_takes_over_what_another_sets(search: Any) -> None:
    trials = {
        "a": {"profile": "core", "row": "baseline", "set": {"x.y": 1, "x.z": 2}},
        "b": {"like": "a", "set": {"x.y": 3}},
        "c": {"like": "b", "row": "clustered"},
    }
    assert search.resolved(trials, "c") == {"profile": "core", "row": "clustered", "set": {"x.y": 3, "x.z": 2}}
    values: dict[str, Any] = {"x": {"y": 0}}
    search.put(values, search.resolved(trials, "c")["set"])
    assert values == {"x": {"y": 3, "z": 2}}
    with pytest.raises(KeyError):
        search.put(values, {"w.y": 1})


def test_only_stages_that_the_row_needs_count(search: Any) -> None:
    def stage(deps: list[str], outs: list[str]) -> dict[str, Any]:
        return {"deps": [{"path": path} for path in deps], "outs": [{"path": path} for path in outs]}

    stages = {
        "audit": stage(["data"], ["audit"]),
        "seed@baseline": stage(["audit/unlabeled.csv"], ["classes/baseline.csv"]),
        "embed@baseline": stage(["classes/baseline.csv"], ["features/baseline"]),
        "group@clustered": stage(["features/baseline/cluster.npy"], ["classes/clustered.csv"]),
        "evaluate@clustered": stage(["classes/clustered.csv"], ["metrics/clustered/eval.json"]),
        "evaluate@baseline": stage(["features/baseline"], ["metrics/baseline/eval.json"]),
        "evaluate@base": stage(["features/base"], ["metrics/base/eval.json"]),
    }
    assert search.needed(stages, "baseline") == {"audit", "seed@baseline", "embed@baseline", "evaluate@baseline"}
    assert search.needed(stages, "clustered") == set(stages) - {"evaluate@baseline", "evaluate@base"}
