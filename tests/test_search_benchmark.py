"""benchmarks/search.py chooses among recipes by training labels alone, and counts what a row needs, kills or not."""

import json
import os
import shutil
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from exemplarcnn import paths
from exemplarcnn.config.params import Config
from exemplarcnn.data import image_set, stl10
from exemplarcnn.files import write_array, write_json
from exemplarcnn.tracking import timings
from tests.conftest import ROOT, profile_values

DATA = ROOT / "data"
GRID = [0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0]


class KilledError(BaseException):
    """No code goes on after it, as after SIGKILL."""


class FakeDVC:
    """Runs a training and the evaluation of a row, each of ten minutes, of which a percent is right for each step."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.ran: list[str] = []
        # What ends a stage, by its name and train.steps, once.
        self.ends: dict[str, BaseException] = {}

    def __call__(self, *words: str) -> None:
        if words[0] == "gc":
            self.ran.append("gc")
            return
        row = words[-1].removeprefix("evaluate@")
        values = yaml.safe_load((self.folder / paths.PARAMS).read_text())
        steps = values["train"]["steps"]
        train: dict[str, Any] = {"params": {"params.yaml": {"seed": values["seed"], "train.steps": steps}}}
        evaluation: dict[str, Any] = {"deps": [{"path": f"models/{row}", "md5": json.dumps(train)}]}
        evaluation["params"] = {"params.yaml": {"features": values["features"]}}
        self.run(f"train@{row}", train | {"outs": [{"path": f"models/{row}"}]}, steps)
        self.run(f"evaluate@{row}", evaluation, steps)
        labels = stl10.read_labels(DATA / "test_y.bin", 500)
        right = np.arange(500) < 5 * steps
        found = self.folder / paths.classifiers(row)
        write_array(found / "predictions.npy", np.stack([np.where(right, labels, 255)] * 10))
        write_json(found / "search.json", {"C": [0.03, 30.0] + [1.0] * 8, "grid": values["evaluate"]["C"]})

    def run(self, stage: str, entry: dict[str, Any], steps: int) -> None:
        lock = self.folder / "dvc.lock"
        stages = yaml.safe_load(lock.read_text())["stages"] if lock.exists() else {}
        if stages.get(stage) == entry:
            return
        work = self.folder / "work" / stage.replace("@", "/") / "checkpoint"
        if work.exists() and work.read_text() != str(steps):
            raise subprocess.CalledProcessError(1, "a checkpoint of other settings is refused")
        self.ran.append(f"{stage} {steps}")
        if (error := self.ends.pop(f"{stage} {steps}", None)) is not None:
            work.parent.mkdir(parents=True)
            work.write_text(str(steps))
            raise error
        shutil.rmtree(work.parent, ignore_errors=True)
        ended(self.folder, stage, 600.0, time.time())
        lock.write_text(yaml.safe_dump({"stages": stages | {stage: entry}}))


def ended(folder: Path, stage: str, seconds: float, at: float) -> None:
    """Note the end of a stage as stages do."""
    file = folder / timings.PLACE
    known = json.loads(file.read_text()) if file.exists() else {}
    when = datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds")
    write_json(file, known | {stage: {"seconds": seconds, "ended": when}})


def locked(folder: Path, **params: Any) -> dict[str, Any]:
    """Write dvc.lock."""
    stages = {f"{kind}@a": {"params": {"params.yaml": {"x.y": value}}} for kind, value in params.items()}
    (folder / "dvc.lock").write_text(yaml.safe_dump({"stages": stages}))
    return stages


def written(folder: Path, stage: str, at: float) -> Path:
    """Write unfinished work of a stage."""
    file = folder / "work" / stage.replace("@", "/") / "part"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.touch()
    os.utime(file, (at, at))
    return file


@pytest.fixture
def search(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import search

    monkeypatch.setattr(search, "HELD_OUT", 100)
    monkeypatch.setattr(search, "FOLD", 50)
    return search


@pytest.fixture
def trials(search: Any) -> Any:
    import _trials

    return _trials


@pytest.fixture
def times(search: Any) -> Any:
    import _times

    return _times


@pytest.fixture
def workspace(search: Any, tmp_path: Path) -> Any:
    """A workspace whose DVC is `FakeDVC`."""
    from _common import Workspace

    shutil.copytree(ROOT / "conf", tmp_path / "conf")
    (tmp_path / "data").symlink_to(DATA)
    shutil.copy(ROOT / "dvc.yaml", tmp_path)
    (tmp_path / "data.dvc").write_text("outs: []\n")
    made = object.__new__(Workspace)
    made.folder, made.dvc = tmp_path, FakeDVC(tmp_path)  # type: ignore[method-assign]
    return made


@pytest.fixture
def clock(times: Any, monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time at which trials begin."""
    now = [1000.0]
    monkeypatch.setattr(times.time, "time", lambda: now[0])
    return now


def steps(count: int, **other: Any) -> dict[str, Any]:
    return {"profile": "core", "row": "baseline", "set": {"train.steps": count}} | other


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


def test_a_trial_takes_over_what_another_sets(trials: Any) -> None:
    file = {
        "a": {"profile": "core", "row": "baseline", "set": {"x.y": 1, "x.z": 2}},
        "b": {"like": "a", "set": {"x.y": 3}},
        "c": {"like": "b", "row": "clustered"},
    }
    assert trials.resolved(file, "c") == {
        "profile": "core",
        "row": "clustered",
        "seed": 0,
        "set": {"x.y": 3, "x.z": 2},
    }
    values: dict[str, Any] = {"x": {"y": 0}}
    trials.put(values, trials.resolved(file, "c")["set"])
    assert values == {"x": {"y": 3, "z": 2}}
    with pytest.raises(KeyError):
        trials.put(values, {"w.y": 1})


def test_a_misspelt_key_of_a_trial_is_refused(trials: Any) -> None:
    with pytest.raises(SystemExit, match="trial a has sett"):
        trials.resolved({"a": {"profile": "core", "row": "baseline", "sett": {}}}, "a")


@pytest.mark.slow
def test_every_trial_of_the_file_is_of_this_version(search: Any, trials: Any) -> None:
    """Its parameters are valid, and none repeats another."""
    import _simclr

    file = yaml.safe_load((ROOT / "benchmarks" / "search.yaml").read_text())
    made: list[Any] = []
    for name in file:
        trial = trials.resolved(file, name)
        if "simclr" in trial:
            made.append(_simclr.Settings(**trial["simclr"]))
            continue
        values = profile_values(trial["profile"])
        trials.put(values, trial["set"])
        made.append((trial["row"], Config.model_validate(values)))
    assert all(made[i] != made[j] for i in range(len(made)) for j in range(i))


def test_trials_of_the_features_are_beside_the_training_that_they_share(trials: Any) -> None:
    """DVC keeps it only until a trial trains anew."""
    file = yaml.safe_load((ROOT / "benchmarks" / "search.yaml").read_text())
    trained = []
    for name in file:
        if "row" in (trial := trials.resolved(file, name)) and trial["row"] != "kmeans":
            values = profile_values(trial["profile"])
            trials.put(values, trial["set"])
            own = {key: values["variants"][key] for key in ("seed", "group", "train")}
            trained.append(json.dumps([values["surrogate"], values["network"], values["train"], own, trial["row"]]))
    runs = [made for i, made in enumerate(trained) if i == 0 or made != trained[i - 1]]
    assert len(runs) == len(set(runs))
    assert len(runs) < len(trained)


def test_all_trials_are_evaluated_alike(workspace: Any, trials: Any) -> None:
    for trial in (steps(10, seed=3, profile="ablation"), {"simclr": {"steps": 1}, "seed": 3}):
        trials.prepare(workspace, {"set": {}} | trial)
        values = yaml.safe_load((workspace.folder / "params.yaml").read_text())
        assert values["seed"] == 3
        assert values["evaluate"]["C"] == GRID
        assert [each["name"] for each in values["evaluate"]["protocols"]] == ["folds"]


# Times


def test_times_are_of_the_run_that_made_the_results(
    times: Any, workspace: Any, clock: list[float], tmp_path: Path
) -> None:
    """Also if it was killed, or another trial takes over what it made."""
    times.begin(workspace, "a", True)  # killed before any stage has ended
    clock[0] = 2000.0
    times.begin(workspace, "a", True)  # killed after its training
    first = locked(tmp_path, train="a")
    ended(tmp_path, "train@a", 3600.0, 2100.0)
    clock[0] = 3000.0
    times.begin(workspace, "a", False)
    stages = locked(tmp_path, train="a", evaluate="a")
    ended(tmp_path, "evaluate@a", 30.0, 3100.0)
    found = times.settle(workspace)["stages"]
    assert found[times.key("train@a", first["train@a"])] == {"alone": True, "seconds": 3600.0}
    assert found[times.key("evaluate@a", stages["evaluate@a"])] == {"alone": False, "seconds": 30.0}
    assert len(found) == 2
    other = locked(tmp_path, train="b")
    assert times.key("train@a", other["train@a"]) not in times.settle(workspace)["stages"], "it is of another run"


def test_killed_before_dvc_noted_the_stage(times: Any, workspace: Any, clock: list[float], tmp_path: Path) -> None:
    """Then dvc.lock still has what the stage made before, for which it took another time."""
    times.begin(workspace, "a", True)
    stages = locked(tmp_path, train="a")
    ended(tmp_path, "train@a", 100.0, 1100.0)
    clock[0] = 2000.0
    times.begin(workspace, "b", True)
    ended(tmp_path, "train@a", 500.0, 2500.0)
    found = times.settle(workspace)["stages"]
    assert found == {times.key("train@a", stages["train@a"]): {"alone": True, "seconds": 100.0}}


def test_a_training_that_went_on_took_both_times(
    times: Any, workspace: Any, clock: list[float], tmp_path: Path
) -> None:
    times.begin(workspace, "a", True)
    locked(tmp_path, seed="a")
    ended(tmp_path, "seed@a", 60.0, 1100.0)
    written(tmp_path, "train@a", 3100.0)  # the last checkpoint, 2000 seconds after the training began; then a kill
    clock[0] = 9000.0
    assert times.begin(workspace, "a", True) == {"train@a"}
    written(tmp_path, "train@a", 9500.0)  # 500 more, and another kill
    clock[0] = 20_000.0
    times.begin(workspace, "other", True)  # does not train; the checkpoint waits
    assert times.settle(workspace)["left"] == {"train@a": 2500.0}
    clock[0] = 30_000.0
    times.begin(workspace, "a", True)
    stages = locked(tmp_path, seed="a", train="a")
    shutil.rmtree(tmp_path / "work" / "train" / "a")
    ended(tmp_path, "train@a", 700.0, 30_900.0)
    state = times.settle(workspace)
    assert state["stages"][times.key("train@a", stages["train@a"])]["seconds"] == 3200.0
    assert state["left"] == {}


def test_the_time_of_work_that_nobody_has_timed_is_not_known(
    times: Any, workspace: Any, clock: list[float], tmp_path: Path
) -> None:
    written(tmp_path, "train@a", 500.0)
    times.begin(workspace, "a", True)
    written(tmp_path, "train@a", 1500.0)
    clock[0] = 2000.0
    times.begin(workspace, "a", True)
    locked(tmp_path, train="a")
    shutil.rmtree(tmp_path / "work" / "train" / "a")
    ended(tmp_path, "train@a", 700.0, 2700.0)
    assert times.settle(workspace)["stages"] == {}
    clock[0] = 3000.0
    times.begin(workspace, "b", True)
    assert times.settle(workspace)["stages"] == {}, "it ended before this trial began"


def test_unfinished_work_of_another_trial_is_removed_unless_it_is_a_training(
    times: Any, workspace: Any, clock: list[float], tmp_path: Path
) -> None:
    """It may begin anew or go on, and its time would be the sum in either case."""
    times.begin(workspace, "a", True)
    train, embed = (written(tmp_path, stage, 1500.0) for stage in ("train@a", "embed@a"))
    times.begin(workspace, "a", True)
    assert train.exists()
    assert embed.exists(), "the same trial goes on"
    times.begin(workspace, "b", True)
    assert train.exists()
    assert not embed.exists()
    times.forget(workspace)
    assert not train.exists()


def test_times_are_not_taken_from_another_trials_stages(times: Any, workspace: Any, tmp_path: Path) -> None:
    locked(tmp_path, evaluate="a")
    (tmp_path / "params.yaml").write_text("x: {y: a}\n")
    assert list(times.took(workspace, "a").values()) == [None]
    assert times.took(workspace, "b") == {}, "it has not run"
    for other in ("x: {y: b}\n", "x: {}\n"):
        (tmp_path / "params.yaml").write_text(other)
        assert times.took(workspace, "a") == {}


def test_only_stages_that_the_row_needs_count(times: Any) -> None:
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
    assert times.needed(stages, "baseline") == {"audit", "seed@baseline", "embed@baseline", "evaluate@baseline"}
    assert times.needed(stages, "clustered") == set(stages) - {"evaluate@baseline", "evaluate@base"}


# Trials, one after the other


def test_trials_run_once_and_are_compared(search: Any, workspace: Any, tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    trials = {
        "a": steps(40),
        "b": {"like": "a", "set": {"features.pool": 4}},
        "c": {"like": "a", "set": {"train.steps": 50}},
    }
    search.search(workspace, trials, list(trials), log, False, True)
    assert workspace.dvc.ran == [
        *("train@baseline 40", "evaluate@baseline 40", "gc"),
        *("evaluate@baseline 40", "gc"),
        *("train@baseline 50", "evaluate@baseline 50", "gc"),
    ]
    lines = search.lines(log)
    assert [lines[name]["accuracy"] for name in "abc"] == [40, 40, 50]
    assert [lines[name]["minutes"] for name in "abc"] == [20, 20, 20]
    assert [lines[name].get("gain") for name in "abc"] == [None, 0, 10]
    assert [lines[name]["ends"] for name in "abc"] == [2, 2, 2]
    assert search.hours(lines.values()).startswith(f"{50 / 60:.1f} hours in all"), "two trials share a training"
    file = tmp_path / "conf" / "profile" / "paper.yaml"
    file.write_text(file.read_text() + "# another profile\n")
    search.search(workspace, trials, list(trials), log, False, True)
    assert len(workspace.dvc.ran) == 8
    file = tmp_path / "src" / "code.py"
    file.parent.mkdir()
    file.write_text("x = 1\n")
    search.search(workspace, trials, ["c"], log, False, True)
    assert "gain" not in search.lines(log)["c"], "other code ran what it is like"


@pytest.mark.slow
def test_a_kill_loses_no_minutes(
    search: Any, trials: Any, workspace: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "log.jsonl"

    def kill(*_: Any) -> None:
        raise KilledError

    workspace.dvc.ends["evaluate@baseline 40"] = KilledError()
    with pytest.raises(KilledError):
        search.search(workspace, {"a": steps(40)}, ["a"], log, False, True)
    with monkeypatch.context() as context:
        context.setattr(trials, "write_json", kill)  # with the result, but without its figures
        with pytest.raises(KilledError):
            search.search(workspace, {"a": steps(40)}, ["a"], log, False, True)
    search.search(workspace, {"a": steps(40)}, ["a"], log, False, True)
    assert workspace.dvc.ran == ["train@baseline 40", "evaluate@baseline 40", "evaluate@baseline 40", "gc"]
    line = search.lines(log)["a"]
    assert line["minutes"] == pytest.approx(20, abs=0.1)
    assert line["ends"] == 2


@pytest.mark.slow
def test_the_figures_of_another_trial_are_not_taken(search: Any, workspace: Any, tmp_path: Path) -> None:
    """Killed between the result and its figures, after which another trial ran."""
    log = tmp_path / "log.jsonl"
    search.search(workspace, {"a": steps(40)}, ["a"], log, False, True)
    (tmp_path / "found" / f"figures-{search.lines(log)['a']['identity']}.json").unlink()
    search.search(workspace, {"b": steps(50)}, ["b"], log, False, True)
    log.unlink()
    search.search(workspace, {"a": steps(40)}, ["a"], log, False, True)
    line = search.lines(log)["a"]
    assert (line["accuracy"], line["minutes"], line.get("ends")) == (40, None, None)
    assert "1 whose time is not known" in search.hours([line])


def test_a_stage_whose_time_is_not_known_leaves_minutes_open(search: Any, workspace: Any, tmp_path: Path) -> None:
    work = tmp_path / "work" / "train" / "baseline" / "checkpoint"
    work.parent.mkdir(parents=True)
    work.write_text("40")
    search.search(workspace, {"a": steps(40)}, ["a"], tmp_path / "log.jsonl", False, True)
    line = search.lines(tmp_path / "log.jsonl")["a"]
    assert sorted(line["seconds"].values(), key=str) == [600.0, None]
    assert line["minutes"] is None


@pytest.mark.slow
def test_a_trial_that_fails_stops_no_other(search: Any, workspace: Any, tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    trials = {"a": steps(40), "b": {"like": "a", "set": {"train.steps": 50}}}
    workspace.dvc.ends["train@baseline 40"] = subprocess.CalledProcessError(1, "diverged")
    search.search(workspace, trials, ["a", "b"], log, False, True)
    lines = search.lines(log)
    assert (lines["a"]["failed"], lines["b"]["failed"], lines["b"]["accuracy"]) == (True, False, 50)
    assert "gain" not in lines["b"]
    assert workspace.dvc.ran == ["train@baseline 40", "train@baseline 50", "evaluate@baseline 50", "gc"]
    search.search(workspace, trials, ["a", "b"], log, False, True)
    assert len(workspace.dvc.ran) == 4, "it would fail again"
    search.search(workspace, trials, ["a"], log, True, True)
    assert search.lines(log)["a"]["accuracy"] == 40


def test_a_trial_that_was_killed_may_be_changed(search: Any, workspace: Any, tmp_path: Path) -> None:
    """Its checkpoint is refused, and gives way."""
    log = tmp_path / "log.jsonl"
    workspace.dvc.ends["train@baseline 40"] = KilledError()
    with pytest.raises(KilledError):
        search.search(workspace, {"a": steps(40)}, ["a"], log, False, True)
    search.search(workspace, {"a": steps(30)}, ["a"], log, False, True)
    line = search.lines(log)["a"]
    assert (line["accuracy"], line["minutes"]) == (30, 20)


def test_a_wrong_trial_stops_the_search_before_any_runs(search: Any, workspace: Any, tmp_path: Path) -> None:
    for wrong, said in (
        (steps(40, set={"w.y": 1}), "KeyError: 'w'"),
        (steps(40, set={"train.stepps": 1}), "train.stepps: unknown parameter"),
        (steps(40, row="base"), "KeyError: 'base'"),
        ({"simclr": {"step": 1}}, "TypeError"),
    ):
        with pytest.raises(SystemExit) as error:
            search.search(workspace, {"a": steps(40), "b": wrong}, ["a", "b"], tmp_path / "log.jsonl", False, True)
        assert "trial b" in str(error.value)
        assert said in str(error.value)
    assert workspace.dvc.ran == []


def test_half_a_line_of_the_log_is_nothing(search: Any, tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    assert search.lines(log) == {}
    search.add(log, {"name": "a", "x": 1})
    log.write_text(log.read_text() + '{"name": "b", "x')
    assert list(search.lines(log)) == ["a"]
    search.add(log, {"name": "c", "x": 2})
    search.add(log, {"name": "a", "x": 3})
    assert search.lines(log) == {"a": {"name": "a", "x": 3}, "c": {"name": "c", "x": 2}}


def test_the_table_shows_failures_and_hours(
    search: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "t.yaml").write_text(yaml.safe_dump({"a": steps(1), "b": steps(2)}))
    log = tmp_path / "t.jsonl"
    about = {"like": None, "identity": "x", "alone": True}
    search.add(log, about | {"name": "a", "accuracy": 40.0, "failed": False, "minutes": 90.0, "seconds": {"t": 5400.0}})
    search.add(log, about | {"name": "b", "failed": True, "minutes": None})
    monkeypatch.setattr(search, "Workspace", lambda *_: None)
    monkeypatch.setattr(search, "search", lambda *_: None)
    monkeypatch.setattr(sys, "argv", ["search.py", str(tmp_path), str(tmp_path / "t.yaml")])
    with pytest.raises(SystemExit, match="error: b failed"):
        search.main()
    said = capsys.readouterr().out
    assert said.startswith("1.5 hours in all")
    assert "True" in next(line for line in said.splitlines() if line.strip().startswith("b"))
    monkeypatch.setattr(sys, "argv", [*sys.argv, "--show"])
    search.main()  # which runs nothing, so that nothing fails
