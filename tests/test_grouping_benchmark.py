"""benchmarks/grouping.py compares rows of the same seed and steps, and makes all groupings alike but for one thing."""

import argparse
import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from exemplarcnn import paths
from exemplarcnn.classes import tables
from exemplarcnn.config.params import Config
from exemplarcnn.files import write_array
from tests.conftest import ROOT, profile_values


@pytest.fixture
def grouping(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import _common
    import grouping

    monkeypatch.setattr(grouping, "bootstrap_seeds", partial(_common.bootstrap_seeds, rounds=200))
    return grouping


def class_table(*classes: list[int]) -> pd.DataFrame:
    rows = [(number, image, "cluster") for number, images in enumerate(classes) for image in images]
    return pd.DataFrame(rows, columns=["class_id", "image_id", "origin"])


def unit(points: np.ndarray) -> np.ndarray:
    return np.asarray(points / np.linalg.norm(points, axis=1, keepdims=True), np.float32)


def test_alike_is_the_mean_cosine_of_pairs_of_a_class(grouping: Any) -> None:
    features = unit(np.random.default_rng(1).normal(size=(40, 6)) + 1)
    cosines = features.astype(np.float64) @ features.T.astype(np.float64)
    slow = 2 * cosines[3, 5] / 5 + 3 * np.mean([cosines[8, 2], cosines[8, 7], cosines[2, 7]]) / 5
    chance = (cosines.sum() - 40) / (40 * 39)
    found = grouping.alike(features, class_table([3, 5], [8, 2, 7], [11]))
    assert found == pytest.approx((slow - chance) / (1 - chance), abs=0.01)  # pairs by chance are a sample


def test_alike_is_between_chance_and_the_same(grouping: Any) -> None:
    features = unit(np.random.default_rng(2).normal(size=(300, 4)))
    features[1] = features[0]
    assert grouping.alike(features, class_table([0, 1], [2])) == pytest.approx(1, abs=1e-6)
    assert grouping.alike(features, class_table(list(range(300)))) == pytest.approx(0, abs=0.02)
    assert grouping.alike(features, class_table([0], [1])) is None


def entry(row: str, seed: int, steps: int, share: float, **about: Any) -> dict[str, Any]:
    """Results of a row that is right with a fixed share of 1,000 test images in ten folds."""
    right = np.zeros((10, 1000), bool)
    right[:, : round(1000 * share)] = True
    found = {"row": row, "seed": seed, "steps_asked": steps, "right": right, "classes": 20, "images": 30}
    return found | {"steps": steps, "alike": 0.5, "purity": None, "shared": None} | about


def results() -> list[dict[str, Any]]:
    return [
        entry(row, seed, steps, share + 0.01 * seed + (0.1 if row == "clustered" and steps == 9 else 0))
        for steps in (5, 9)
        for seed in (0, 1)
        for row, share in (("baseline", 0.5), ("clustered", 0.52), ("random", 0.4), ("ungrouped", 0.45))
    ]


def test_gains_are_over_the_baseline_of_the_same_seed_and_steps(grouping: Any) -> None:
    table = grouping.summary(results()).set_index(["steps", "row"])
    assert table.loc[(5, "baseline"), ["accuracy", "seed 0", "seed 1"]].tolist() == pytest.approx([50.5, 50, 51])
    assert table.loc[(5, "clustered"), ["gain", "least", "largest"]].tolist() == pytest.approx([2, 2, 2])
    assert table.loc[(9, "clustered"), "gain"] == pytest.approx(12)
    assert table.loc[(9, "random"), "gain"] == pytest.approx(-10)
    assert table.loc[(9, "random"), "low"] < -10 < table.loc[(9, "random"), "high"]
    assert np.isnan(table.loc[(9, "baseline"), "gain"])


def test_purity_is_the_mean_of_the_seeds_or_nothing(grouping: Any) -> None:
    known = {"purity": 0.6, "by_chance": 0.3}
    lines = [entry("baseline", 0, 5, 0.5), entry("random", 0, 5, 0.5, purity=known), entry("baseline", 1, 5, 0.5)]
    table = grouping.summary([*lines, entry("random", 1, 5, 0.5, purity=known | {"purity": 0.8})]).set_index("row")
    assert table.loc["random", ["purity", "by chance"]].tolist() == pytest.approx([0.7, 0.3])
    assert np.isnan(table.loc["baseline", "purity"])


def test_a_claim_is_a_difference_of_two_rows(grouping: Any) -> None:
    table = grouping.claims(results())
    lines = table[table["claim"] == "grouping: images in classes, not one by one"].set_index("steps")
    assert lines["gain"].tolist() == pytest.approx([7, 17])
    assert "neighbours - baseline" not in set(table["rows"]), "it has not run"


def test_every_row_of_a_claim_is_in_the_profile(grouping: Any) -> None:
    rows = Config.model_validate(profile_values("grouping")).variants.train
    assert {row for pair in grouping.CLAIMS.values() for row in pair} == set(rows)


def test_the_best_other_row_is_no_clustering(grouping: Any) -> None:
    assert grouping.best_other(results(), 9) == ["ungrouped"]
    assert grouping.best_other([each for each in results() if each["row"] in ("baseline", "clustered")], 9) == []
    lines = grouping.claims(results()).set_index("claim")
    assert set(lines.loc["clustering beside the best other row", "rows"]) == {"clustered - ungrouped"}


def test_each_number_of_steps_has_its_rows(grouping: Any) -> None:
    rows = list(profile_values("grouping")["variants"]["train"])
    equal = [row for row in rows if row != "clustered_long"]
    assert grouping.rows_at(0, [5, 9, 20], rows, []) == rows
    assert grouping.rows_at(1, [5, 9, 20], rows, results()) == equal
    assert grouping.rows_at(2, [5, 9, 20], rows, results()) == ["baseline", "clustered", "ungrouped"]
    assert grouping.rows_at(0, [5], rows, []) == rows
    assert grouping.rows_at(1, [5, 9], ["baseline", "clustered"], results()[:2]) == ["baseline", "clustered"]


def test_collisions_are_compared_only_where_images_differ(grouping: Any) -> None:
    def with_spread(shared: float) -> list[dict[str, Any]]:
        return [*results(), *(entry("spread", seed, 5, 0.5, shared=shared) for seed in (0, 1))]

    assert grouping.COLLISIONS in set(grouping.claims(with_spread(0.1))["claim"])
    assert grouping.COLLISIONS not in set(grouping.claims(with_spread(0.6))["claim"])


class Folder:
    """Parameters that are kept, and stages that are noted instead of run."""

    def __init__(self, folder: Path, profile: str, pool: int):
        self.folder, self.values, self.pool = folder, profile_values(profile), pool
        self.ran: list[Any] = []

    def use(self, profile: str, seed: int) -> None:
        self.values = profile_values(profile) | {"seed": seed}

    def edit(self, change: Any) -> None:
        change(self.values)

    def code(self) -> str:
        return "the same"

    def identity(self) -> str:
        return "i" + str(abs(hash(json.dumps(self.values, sort_keys=True))))

    def dvc(self, *words: str) -> None:
        self.ran.append(words)


@pytest.fixture
def folder(grouping: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Folder:
    made = Folder(tmp_path, "grouping", 7000)
    monkeypatch.setattr(grouping.stl10, "open_pool", lambda *_: range(made.pool))
    return made


def groups(folder: Folder) -> dict[str, tuple[float, int]]:
    found = folder.values["variants"]["group"].items()
    return {name: (entry["clustered_fraction"], entry["neighbours"]) for name, entry in found}


def test_groupings_differ_only_in_what_they_are_named_after(grouping: Any, folder: Folder) -> None:
    assert len(grouping.prepare(folder, "grouping", 1, 123, False)) == 1
    assert groups(folder) == {
        "clustered": (0.5, 1),
        "dendrogram": (0.5, 0),
        "clusters_alone": (0.5, 0),
        "neighbours": (0.5, 1),
    }
    assert folder.values["train"]["steps"] == 123
    assert folder.values["variants"]["seed"]["spread"]["classes"] < 7000, "as many as there are, until more is known"
    Config.model_validate(folder.values)


def test_a_large_pool_is_grouped_in_the_papers_proportions(grouping: Any, folder: Folder) -> None:
    folder.pool = 100_000
    assert grouping.prepare(folder, "grouping", 1, 123, False) == []
    assert groups(folder)["clustered"] == (0.0625, 3)
    assert {fraction for fraction, _ in groups(folder).values()} == {0.0625}


def test_what_is_done_is_not_run_again_and_controls_have_the_numbers_of_the_clusters(
    grouping: Any, folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, Any] = {}

    def evaluated(workspace: Any, row: str) -> None:
        seen[row] = json.loads(json.dumps(workspace.values))
        file = grouping.result_file(workspace, workspace.identity(), row)
        file.parent.mkdir(parents=True, exist_ok=True)
        np.savez(file, right=np.ones((2, 3), bool), classes=2000, images={"baseline": 2000}.get(row, 4012), steps=1)

    monkeypatch.setattr(grouping, "evaluated", evaluated)
    monkeypatch.setattr(grouping, "like", lambda *_: {"alike": None, "purity": None, "shared": None, "clusters": 170})
    arguments = argparse.Namespace(profile="grouping", quick=False)
    asked = {"baseline": "baseline", "clustered": "clustered", "spread": "spread", "clustered_long": "clustered"}
    first = grouping.run(folder, 0, 2345, arguments, asked)
    assert [words[-1] for words in folder.ran if words[0] == "repro"] == [f"evaluate@{row}" for row in asked]
    variants = seen["spread"]["variants"]
    assert variants["seed"]["spread"]["classes"] == 4012
    assert variants["group"]["clusters_alone"]["classes"] == 170
    assert variants["train"]["clustered_long"]["steps"] == round(2345 * 4012 / 2000)

    before, ran = folder.identity(), list(folder.ran)
    folder.use("tiny", 5)
    other = folder.identity()
    again = grouping.run(folder, 0, 2345, arguments, asked)
    assert folder.ran == ran, "nothing runs, and no cache is emptied, for what is done"
    assert folder.identity() == other != before, "params.yaml stays that of the work that is not done"
    assert [each["row"] for each in again] == [each["row"] for each in first] == list(asked)
    assert all(each["images"] == theirs["images"] for each, theirs in zip(again, first, strict=True))

    (done,) = (folder.folder / "found").glob("done-*.json")
    done.unlink()  # killed before the last row was done
    grouping.run(folder, 0, 2345, arguments, asked)
    assert folder.ran == ran, "each row is kept, too"


def test_classes_are_measured_in_the_baselines_features(grouping: Any, folder: Folder) -> None:
    features = unit(np.random.default_rng(3).normal(size=(9, 4)))
    for path in (paths.cluster_features("baseline"), paths.class_table("random"), paths.TRUTH):
        (folder.folder / path).parent.mkdir(parents=True, exist_ok=True)
    write_array(folder.folder / paths.cluster_features("baseline"), features)
    grouped = class_table([0, 1], [2, 3], [4]).assign(origin=["cluster"] * 4 + ["single"])
    tables.write(folder.folder / paths.class_table("clustered"), grouped)
    tables.write(folder.folder / paths.class_table("spread"), class_table([0], [7], [8]).assign(origin="single"))
    found = grouping.like(folder, "clustered")
    pairs = class_table([0, 1], [2, 3])
    assert found == {"alike": grouping.alike(features, pairs), "purity": None, "clusters": 2, "shared": None}
    truth = pd.DataFrame({"index": range(9), "class": list("aabcdefgh"), "original": ""})
    truth.to_csv(folder.folder / paths.TRUTH, index=False)
    assert grouping.like(folder, "clustered")["purity"]["purity"] == pytest.approx(0.75)
    found = grouping.like(folder, "spread")
    assert found == {"alike": None, "purity": None, "clusters": 0, "shared": pytest.approx(1 / 3)}


def test_pictures_are_drawn(grouping: Any, tmp_path: Path) -> None:
    table = grouping.summary(results())
    grouping.draw_steps(tmp_path / "pictures/steps.png", table)
    grouping.draw_alike(tmp_path / "pictures/alike.png", table)
    assert {path.name for path in (tmp_path / "pictures").iterdir()} == {"steps.png", "alike.png"}


def test_bars_say_what_they_are_over(grouping: Any) -> None:
    assert grouping.bars(grouping.summary(results())) == "bars: 95 % over 2 seeds and test images"
    one = [each for each in results() if each["seed"] == 0]
    assert grouping.bars(grouping.summary(one)) == "bars: 95 % over test images"


@pytest.mark.slow
def test_one_process_works_in_a_folder(grouping: Any, tmp_path: Path) -> None:
    """Also if it is killed, as long as the DVC command goes on that it started."""
    import _locks

    held = _locks.lock(tmp_path / "w")
    assert _locks.lock(tmp_path / "w") == held, "a process may ask again"
    code = "import sys, pathlib, _locks; _locks.lock(pathlib.Path(sys.argv[1])); print('locked')"
    words = [sys.executable, "-c", code, str(tmp_path / "w")]
    environment = os.environ | {"PYTHONPATH": str(ROOT / "benchmarks")}

    def other() -> subprocess.CompletedProcess[str]:
        return subprocess.run(words, env=environment, capture_output=True, text=True)

    refused = other()
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "another benchmark, or a DVC command of one, works in" in refused.stderr
    with subprocess.Popen(["sleep", "60"], pass_fds=[held]) as outlives:
        os.close(held)
        del _locks._locks[tmp_path / "w"]
        assert other().returncode == 1
        outlives.kill()
    assert other().stdout == "locked\n"


def test_the_interval_is_over_seeds_and_images(grouping: Any) -> None:
    """Against the percentiles of plainly drawn means; seeds that differ widen it."""
    import _common

    draw = np.random.default_rng(5)
    gains = draw.normal(size=(3, 60)) + np.array([[0.0], [1.0], [3.0]])
    slow = []
    again = np.random.default_rng(0)
    for _ in range(4000):
        rows, images = again.integers(3, size=3), again.integers(60, size=60)
        slow.append(np.mean([[gains[row, image] for image in images] for row in rows]))
    low, high = _common.bootstrap_seeds(gains, 0, 4000)
    assert (low, high) == pytest.approx(tuple(np.quantile(slow, [0.025, 0.975])), abs=0.05)
    alone = _common.bootstrap_seeds(gains.mean(axis=0)[None], 0, 4000)
    assert high - low > 3 * (alone[1] - alone[0]), "one mean seed has images alone"


def test_a_failure_is_told_by_the_status(grouping: Any, capsys: pytest.CaptureFixture[str]) -> None:
    import _common

    _common.finish(pd.DataFrame([{"a": 1}]), "of a test", figure=1)
    with pytest.raises(SystemExit, match="error: one; two"):
        _common.finish(pd.DataFrame([{"a": 1}]), "of a test", ["one", "two"])
    assert capsys.readouterr().out.count('"benchmark": "of a test"') == 2
