"""benchmarks/search.py chooses among recipes by training labels alone, and counts what a row needs."""

import shutil
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import yaml

from exemplarcnn.config.params import Config
from exemplarcnn.data import image_set, stl10
from tests.conftest import ROOT, profile_values

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
    pool, held_out = stl10.open_pool(data, "unlabeled"), parts[1]
    seen = {pool.batch([i]).tobytes() for i in range(len(pool))}
    assert len(seen) == 200
    assert not seen & {held_out.batch([i]).tobytes() for i in range(len(held_out))}


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
    assert search.resolved(trials, "c") == {
        "profile": "core",
        "row": "clustered",
        "seed": 0,
        "set": {"x.y": 3, "x.z": 2},
    }
    values: dict[str, Any] = {"x": {"y": 0}}
    search.put(values, search.resolved(trials, "c")["set"])
    assert values == {"x": {"y": 3, "z": 2}}
    with pytest.raises(KeyError):
        search.put(values, {"w.y": 1})


def test_a_misspelt_key_of_a_trial_is_refused(search: Any) -> None:
    with pytest.raises(SystemExit, match="trial a has sett"):
        search.resolved({"a": {"profile": "core", "row": "baseline", "sett": {}}}, "a")


def test_every_trial_of_the_file_is_of_this_version(search: Any, folder: Path) -> None:
    """Its parameters are valid, and none repeats another."""
    trials = yaml.safe_load((ROOT / "benchmarks" / "search.yaml").read_text())
    made = []
    for name in trials:
        trial = search.resolved(trials, name)
        values = profile_values(trial["profile"])
        search.put(values, trial["set"])
        made.append((trial["row"], Config.model_validate(values)))
    assert all(made[i] != made[j] for i in range(len(made)) for j in range(i))


def test_times_are_of_the_run_that_made_the_results(search: Any, tmp_path: Path) -> None:
    """Also if it was killed, or another trial takes over what it made."""
    took: dict[str, dict[str, Any]] = {}
    workspace = SimpleNamespace(folder=tmp_path, took=lambda: took)

    def lock(**params: str) -> dict[str, Any]:
        stages = {stage: {"deps": [], "params": value} for stage, value in params.items()}
        (tmp_path / "dvc.lock").write_text(yaml.safe_dump({"stages": stages}))
        return stages

    def ended(stage: str, seconds: float, at: float) -> None:
        took[stage] = {"seconds": seconds, "ended": datetime.fromtimestamp(at, UTC).isoformat()}

    search.keep_times(workspace, 0.0, {"alone": True, "whole": True})  # killed before any stage has ended
    first = lock(train="a")
    ended("train", 3600.0, 100.0)
    search.keep_times(workspace, 50.0, {"alone": True, "whole": True})  # killed after its training
    stages = lock(train="a", evaluate="a")
    ended("evaluate", 30.0, 200.0)
    search.keep_times(workspace, 150.0, {"alone": False, "whole": False})
    times = search.known_times(workspace)
    assert times[search.key("train", first["train"])] == {"alone": True, "whole": True, "seconds": 3600.0}
    assert times[search.key("evaluate", stages["evaluate"])]["alone"] is False
    assert search.key("train", lock(train="b")["train"]) not in times


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
