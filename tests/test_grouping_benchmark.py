"""benchmarks/grouping.py compares rows of the same seed and steps, and makes all groupings alike but for one thing."""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from matplotlib.figure import Figure

from exemplarcnn import paths
from exemplarcnn.classes import tables
from exemplarcnn.config.params import Config
from exemplarcnn.files import write_array
from tests.conftest import CONF, ROOT, profile_values


@pytest.fixture
def grouping(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import _common
    import _grouping_results
    import grouping

    monkeypatch.setattr(_grouping_results, "bootstrap_seeds", partial(_common.bootstrap_seeds, rounds=200))
    return grouping


@pytest.fixture
def results_of(grouping: Any) -> Any:
    import _grouping_results

    return _grouping_results


@pytest.fixture
def pictures(grouping: Any) -> Any:
    import _grouping_pictures

    return _grouping_pictures


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
    return found | {"steps": steps, "alike": 0.5, "several": 1.0, "purity": None, "hours": 0.5} | about


def results() -> list[dict[str, Any]]:
    return [
        entry(row, seed, steps, share + 0.01 * seed + (0.1 if row == "clustered" and steps == 9 else 0))
        for steps in (5, 9)
        for seed in (0, 1)
        for row, share in (("baseline", 0.5), ("clustered", 0.52), ("random", 0.4), ("ungrouped", 0.45))
    ]


def test_gains_are_over_the_baseline_of_the_same_seed_and_steps(results_of: Any) -> None:
    table = results_of.summary(results()).set_index(["steps", "row"])
    assert table.loc[(5, "baseline"), ["accuracy", "seed 0", "seed 1"]].tolist() == pytest.approx([50.5, 50, 51])
    assert table.loc[(5, "clustered"), ["gain", "least", "largest"]].tolist() == pytest.approx([2, 2, 2])
    assert table.loc[(9, "clustered"), "gain"] == pytest.approx(12)
    assert table.loc[(9, "random"), "gain"] == pytest.approx(-10)
    assert table.loc[(9, "random"), "low"] < -10 < table.loc[(9, "random"), "high"]
    assert np.isnan(table.loc[(9, "baseline"), "gain"])


def test_a_gain_is_that_of_the_seeds_that_a_row_has(results_of: Any) -> None:
    """Row `spread` runs with those whose clusters have few of the pool's images."""
    table = results_of.summary([*results(), entry("spread", 1, 5, 0.52)]).set_index(["steps", "row"])
    assert table.loc[(5, "spread"), ["gain", "least", "largest"]].tolist() == pytest.approx([1, 1, 1])


def test_the_papers_budget_has_a_baseline_of_its_own(results_of: Any) -> None:
    paper = [
        entry(row, seed, 5, share)
        for row, share in (("paper_baseline", 0.6), ("paper_clustered", 0.64))
        for seed in (0, 1)
    ]
    table = results_of.summary([*results(), *paper]).set_index(["steps", "row"])
    assert table.loc[(5, "paper_clustered"), "gain"] == pytest.approx(4)
    assert table.loc[(5, ["clustered", "paper_clustered"]), "over"].tolist() == ["baseline", "paper_baseline"]
    assert np.isnan(table.loc[(5, "paper_baseline"), "gain"])
    claims = results_of.claims([*results(), *paper]).set_index("rows")
    assert claims.loc["paper_clustered - paper_baseline", "gain"] == pytest.approx(4)


def test_purity_is_the_mean_of_the_seeds_or_nothing(results_of: Any) -> None:
    known = {"purity": 0.6, "by_chance": 0.3}
    lines = [entry("baseline", 0, 5, 0.5), entry("random", 0, 5, 0.5, purity=known), entry("baseline", 1, 5, 0.5)]
    table = results_of.summary([*lines, entry("random", 1, 5, 0.5, purity=known | {"purity": 0.8})]).set_index("row")
    assert table.loc["random", ["purity", "by chance"]].tolist() == pytest.approx([0.7, 0.3])
    assert np.isnan(table.loc["baseline", "purity"])


def test_a_claim_is_a_difference_of_two_rows(results_of: Any) -> None:
    table = results_of.claims(results())
    lines = table[table["rows"] == "clustered - ungrouped"]
    lines = lines[lines["claim"] != results_of.BEST_OTHER].set_index("steps")
    assert lines["gain"].tolist() == pytest.approx([7, 17])
    assert lines["claim"].str.startswith("grouping: the same images in fewer classes").all()
    assert "neighbours - baseline" not in set(table["rows"]), "it has not run"


def test_every_row_of_a_claim_is_in_the_profile(results_of: Any) -> None:
    rows = Config.model_validate(profile_values("grouping")).variants.train
    assert {row for pair in results_of.CLAIMS.values() for row in pair} == set(rows)
    assert set(results_of.ONCE) < set(rows)


# Which of images, classes and patches two rows differ in, in a pool of 100,000 images; a claim has to say it.
IMAGES = {"dendrogram": 2332, "clusters_alone": 612, "baseline": 2000, "paper_baseline": 2000}
CLASSES = {"clusters_alone": 280, "ungrouped": 7500, "spread": 7500}


def test_a_claim_says_what_else_differs(results_of: Any) -> None:
    for claim, (one, other) in results_of.CLAIMS.items():
        said = claim.split(": ", 1)[-1]
        differ = IMAGES.get(one, 7500) != IMAGES.get(other, 7500)
        assert differ == ("more images" in said), claim
        assert differ != ("the same images" in said or "as many images" in said), claim
        if CLASSES.get(one, 2000) == CLASSES.get(other, 2000):
            assert "more classes" not in said and "fewer classes" not in said, claim
        else:
            assert "more classes" in said or "fewer classes" in said, claim
        assert ("paper" in one) == ("patches and steps" in said), claim


def test_the_best_other_row_is_chosen_at_the_number_of_steps_before(results_of: Any) -> None:
    assert results_of.best_other(results(), 5) == ["ungrouped"]
    once = [entry(row, seed, 5, 0.9) for row in results_of.ONCE for seed in (0, 1)]
    assert results_of.best_other([*results(), *once], 5) == ["ungrouped"], "one that runs at every number of steps"
    two = [each for each in results() if each["row"] in ("baseline", "clustered")]
    assert results_of.best_other(two, 9) == []
    for each in (found := results()):
        if each["row"] == "random" and each["steps_asked"] == 9:
            each["right"][:] = True
    lines = results_of.claims(found)
    lines = lines[lines["claim"] == results_of.BEST_OTHER]
    assert lines[["rows", "steps"]].to_numpy().tolist() == [["clustered - ungrouped", 9]]
    short = results_of.claims([each for each in results() if each["steps_asked"] == 5])
    assert results_of.BEST_OTHER not in set(short["claim"]), "nothing was before"


def test_a_change_of_gain_is_paired(results_of: Any) -> None:
    """A gain of 2 points becomes one of 12, with the same images: those of each gain are not drawn anew."""
    lines = results_of.changes(results()).set_index("rows")
    assert lines.loc["clustered - baseline", ["from", "to"]].tolist() == [5, 9]
    assert lines.loc["clustered - baseline", ["gain", "least", "largest"]].tolist() == pytest.approx([10, 10, 10])
    assert lines.loc["clustered - ungrouped", "gain"] == pytest.approx(10)

    draw = np.random.default_rng(3)
    found = [
        entry(row, seed, steps, 0) | {"right": np.tile(noise, (2, 1))}
        for seed in (0, 1)
        for row, noise in (("baseline", np.zeros(1000, bool)), ("clustered", draw.random(1000) < 0.5))
        for steps in (5, 9, 20)
    ]
    (line,) = results_of.changes(found).to_dict("records")
    assert (line["from"], line["to"], line["low"], line["high"]) == (5, 20, 0, 0), "as the images gained, so they do"
    assert results_of.summary(found)["high"].sub(results_of.summary(found)["low"]).min() > 2, "each gain is uncertain"
    assert results_of.changes([each for each in found if each["steps_asked"] == 5]).empty


def test_each_number_of_steps_has_its_rows(grouping: Any) -> None:
    rows = list(profile_values("grouping")["variants"]["train"])
    equal = ["baseline", "clustered", "dendrogram", "neighbours", "random", "ungrouped"]
    assert grouping.rows_at(0, [5, 9, 20], rows, [], 20) == rows
    assert grouping.rows_at(1, [5, 9, 20], rows, results(), 20) == equal
    assert grouping.rows_at(2, [5, 9, 20], rows, results(), 20) == ["baseline", "clustered", "ungrouped"]
    assert grouping.rows_at(1, [5, 9], rows, results(), 20) == equal, "the last of several is no case of its own"
    assert grouping.rows_at(0, [20], rows, [], 20) == rows, "nothing tells the best"
    assert grouping.rows_at(1, [5, 9], ["baseline", "clustered"], results()[:2], 9) == ["baseline", "clustered"]


def test_rows_have_as_many_patches_but_for_the_papers_budget(grouping: Any) -> None:
    budget = ("patches_per_image", "patches_per_class", "total_patches")
    values = profile_values("grouping")
    for patches, images in ((450_000, 60), (4500, 20)):
        Config.model_validate(values)
        for row, trained in values["variants"]["train"].items():
            expected = (images, None, None) if row.startswith("paper_") else (None, None, patches)
            assert tuple(trained[key] for key in budget) == expected, row
        grouping.shorten(values)


def test_collisions_are_compared_only_where_images_differ(grouping: Any) -> None:
    assert not grouping.crowded({"images": np.int64(7500)}, 100_000)
    assert grouping.crowded({"images": np.int64(4012)}, 7000)
    found = [entry("clustered", seed, steps, 0.5, images=4012) for steps in (5, 9) for seed in (0, 1)]
    lines = grouping.left_out(found, 7000)
    assert [line.split(":")[0] for line in lines] == ["seed 0", "seed 1"]
    assert "no claim about collisions: the classes of clustered have 57% of the pool's 7000 images" in lines[0]
    assert grouping.left_out(found, 100_000) == []


class Folder:
    """Parameters that are kept, and stages that are noted instead of run."""

    def __init__(self, folder: Path, profile: str, pool: int):
        self.folder, self.values, self.pool = folder, profile_values(profile), pool
        self.ran: list[Any] = []
        self.written = "a"
        (folder / "dvc.lock").write_text("schema: '2.0'\nstages: {}\n")
        (folder / "conf").symlink_to(CONF)

    def use(self, profile: str, seed: int) -> None:
        self.values = profile_values(profile) | {"seed": seed}

    def edit(self, change: Any) -> None:
        change(self.values)

    def code(self) -> str:
        return self.written

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


def test_both_profiles_are_evaluated_alike(grouping: Any, folder: Folder) -> None:
    grouping.prepare(folder, "modern", 1, 123, False)
    assert folder.values["evaluate"]["C"] == [0.03, 0.1, 0.3, 1.0]
    assert [each["name"] for each in folder.values["evaluate"]["protocols"]] == ["folds"]
    Config.model_validate(folder.values)


@pytest.fixture
def seen(grouping: Any, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Rows that are evaluated, with the parameters at that time: 4,012 images, in 2,000 classes, but for baselines."""
    found: dict[str, Any] = {}

    def evaluated(workspace: Any, row: str) -> None:
        found[row] = json.loads(json.dumps(workspace.values))
        file = grouping.result_file(workspace, workspace.identity(), row)
        file.parent.mkdir(parents=True, exist_ok=True)
        np.savez(file, right=np.ones((2, 3), bool), classes=2000, images={"baseline": 2000}.get(row, 4012), steps=1)

    monkeypatch.setattr(grouping, "evaluated", evaluated)
    about = {"alike": None, "several": 0.0, "purity": None, "clusters": 170}
    monkeypatch.setattr(grouping, "like", lambda *_: about)
    return found


ASKED = {"baseline": "baseline", "clustered": "clustered", "spread": "spread", "paper_clustered": "clustered"}


def test_what_is_done_is_not_run_again_and_controls_have_the_numbers_of_the_clusters(
    grouping: Any, folder: Folder, seen: dict[str, Any]
) -> None:
    folder.pool = 100_000
    arguments = argparse.Namespace(profile="grouping", quick=False)
    first = grouping.run(folder, 0, 2345, arguments, ASKED)
    assert [words[-1] for words in folder.ran if words[0] == "repro"] == [f"evaluate@{row}" for row in ASKED]
    variants = seen["spread"]["variants"]
    assert variants["seed"]["spread"]["classes"] == 4012
    assert variants["group"]["clusters_alone"]["classes"] == 170
    assert variants["train"]["paper_clustered"]["steps"] == round(2345 * 4012 / 2000)

    before, ran = folder.identity(), list(folder.ran)
    folder.use("tiny", 5)
    other = folder.identity()
    again = grouping.run(folder, 0, 2345, arguments, ASKED)
    assert folder.ran == ran, "nothing runs, and no cache is emptied, for what is done"
    assert folder.identity() == other != before, "params.yaml stays that of the work that is not done"
    assert [each["row"] for each in again] == [each["row"] for each in first] == list(ASKED)
    assert all(each["images"] == theirs["images"] for each, theirs in zip(again, first, strict=True))
    assert [each["hours"] for each in again] == [each["hours"] for each in first]

    (done,) = (folder.folder / "found").glob("done-*.json")
    done.unlink()  # killed before the last row was done
    grouping.run(folder, 0, 2345, arguments, ASKED)
    assert folder.ran == ran, "each row is kept, too"


def test_rows_that_show_nothing_are_not_trained(grouping: Any, folder: Folder, seen: dict[str, Any]) -> None:
    found = grouping.run(folder, 0, 2345, argparse.Namespace(profile="grouping", quick=False), ASKED)
    assert [each["row"] for each in found] == list(seen) == ["baseline", "clustered", "paper_clustered"]


def test_time_that_was_lost_counts(
    grouping: Any, folder: Folder, seen: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: Any) -> None:
        time.sleep(0.2)
        raise KeyboardInterrupt

    arguments = argparse.Namespace(profile="grouping", quick=False)
    with monkeypatch.context() as context, pytest.raises(KeyboardInterrupt):
        context.setattr(grouping, "measure", interrupted)
        grouping.run(folder, 0, 2345, arguments, ASKED)
    (spent,) = (folder.folder / "found").glob("spent-*.json")
    assert list(json.loads(spent.read_text())) == ["2345 steps, seed 0, baseline"]
    assert grouping.run(folder, 0, 2345, arguments, ASKED)[0]["hours"] * 3600 >= 0.2
    grouping.run(folder, 1, 2345, arguments, ASKED)
    rows = ("baseline", "clustered", "paper_clustered")
    assert list(json.loads(spent.read_text())) == [f"2345 steps, seed {seed}, {row}" for seed in (0, 1) for row in rows]


def test_time_is_written_while_it_passes(grouping: Any, tmp_path: Path) -> None:
    file = tmp_path / "found/spent.json"

    def more_than(seconds: float) -> float:
        for _ in range(1000):
            if file.exists() and (found := float(json.loads(file.read_text())["a"])) > seconds:
                return found
            time.sleep(0.01)
        pytest.fail("nothing was added")

    with grouping.timed(file, "a", 0.01):
        more_than(more_than(0))  # a kill would leave this
    total = json.loads(file.read_text())["a"]
    with grouping.timed(file, "b"):
        pass
    with grouping.timed(file, "a"):
        time.sleep(0.05)
    assert json.loads(file.read_text()).keys() == {"a", "b"}
    assert json.loads(file.read_text())["a"] >= total + 0.05


def test_trainings_of_other_work_are_removed(grouping: Any, folder: Folder, seen: dict[str, Any]) -> None:
    left = folder.folder / "work/train/random/checkpoint.safetensors"

    def stays(work: str) -> bool:
        left.parent.mkdir(parents=True, exist_ok=True)
        left.touch()
        grouping.drop_unfinished(folder.folder, work)
        return left.exists()

    assert [stays(work) for work in ("one", "one", "two", "two", "one")] == [False, True, False, True, False]
    arguments = argparse.Namespace(profile="grouping", quick=False)
    marks = []
    for seed, steps, code in ((0, 5, "a"), (1, 5, "a"), (1, 9, "a"), (1, 9, "b")):
        folder.written = code
        grouping.run(folder, seed, steps, arguments, ASKED)
        marks.append((folder.folder / "begun.txt").read_text())
    assert len(set(marks)) == 4


def lock_of(*rows: str) -> dict[str, Any]:
    """Entries of dvc.lock for the stages of rows, with a checksum that other readers of YAML take for a number."""
    stages = {}
    for row in rows:
        for stage, folder in (("surrogate", "surrogates"), ("train", "models"), ("embed", "features")):
            out = {"path": f"{folder}/{row}", "md5": "12345678901234567890123456789012"}
            stages[f"{stage}@{row}"] = {"cmd": "x", "params": {"params.yaml": {"rate": 1e-05}}, "outs": [out]}
    return {"schema": "2.0", "stages": stages}


@pytest.mark.parametrize(
    "left", [("surrogates", "features", "lock"), ("features", "lock"), ("lock",), ("surrogates", "features")]
)
def test_what_no_other_row_needs_is_removed(grouping: Any, tmp_path: Path, left: tuple[str, ...]) -> None:
    """Wherever an earlier try was interrupted."""
    for row in ("baseline", "random"):
        for place in ("surrogates", "models", "features"):
            if row == "baseline" or place == "models" or place in left:
                (tmp_path / place / row).mkdir(parents=True)
                (tmp_path / place / row / "a").touch()
    rows = ("baseline", "random") if "lock" in left else ("baseline",)
    (tmp_path / "dvc.lock").write_text(yaml.safe_dump(lock_of(*rows)).replace("1.0e-05", "1e-05"))  # as DVC writes it
    assert grouping.remove(tmp_path, "random")
    stays = {f"{place}/baseline" for place in ("surrogates", "models", "features")} | {"models/random"}
    assert {str(path.relative_to(tmp_path)) for path in tmp_path.glob("*/*")} == stays
    expected = lock_of(*rows)
    for stage in ("surrogate@random", "embed@random"):
        expected["stages"].pop(stage, None)
    assert yaml.safe_load((tmp_path / "dvc.lock").read_text()) == expected
    assert not grouping.remove(tmp_path, "random"), "nothing is left"


def test_only_measured_rows_without_dependents_are_removed(grouping: Any, folder: Folder, seen: dict[str, Any]) -> None:
    (folder.folder / "dvc.lock").write_text(yaml.safe_dump(lock_of(*ASKED)))
    folder.pool = 100_000
    arguments = argparse.Namespace(profile="grouping", quick=False)
    grouping.run(folder, 0, 5, arguments, ASKED)
    stages = yaml.safe_load((folder.folder / "dvc.lock").read_text())["stages"]
    assert {stage.split("@")[1] for stage in stages if "train" not in stage} == {"baseline", "clustered"}
    assert [words[0] for words in folder.ran] == ["repro", "gc"] * len(ASKED)

    (folder.folder / "dvc.lock").write_text(yaml.safe_dump(lock_of(*ASKED)))  # killed before the removal
    next((folder.folder / "found").glob("done-*.json")).unlink()
    folder.ran.clear()
    grouping.run(folder, 0, 5, arguments, ASKED)
    assert folder.ran == [("gc", "--workspace", "--force", "-q")] * 2


STAGE = """
  {stage}:
    foreach: [baseline, random]
    do:
      cmd: mkdir -p {outs}/${{item}} && echo {stage} of ${{item}} | tee -a ran > {outs}/${{item}}/file
      deps: [{deps}]
      outs: ["{outs}/${{item}}"]
"""
CHAIN = (("surrogate", "data", "surrogates"), ("train", "surrogates", "models"), ("embed", "models", "features"))


@pytest.mark.slow
def test_dvc_makes_again_what_was_removed(grouping: Any, tmp_path: Path) -> None:
    """Without what a row had in DVC's cache, the other rows are up to date, and the row can run again."""

    def dvc(*words: str) -> None:
        subprocess.run([sys.executable, "-m", "dvc", *words], cwd=tmp_path, check=True)

    def cached() -> set[str]:
        files = (tmp_path / ".dvc/cache/files").rglob("*")
        return {path.read_text().strip() for path in files if path.is_file() and path.suffix != ".dir"}

    stages = (
        STAGE.format(stage=stage, outs=outs, deps=deps if deps == "data" else f'"{deps}/${{item}}"')
        for stage, deps, outs in CHAIN
    )
    (tmp_path / "dvc.yaml").write_text("stages:" + "".join(stages))
    (tmp_path / "data").touch()
    dvc("init", "--no-scm", "-q")
    dvc("repro", "-q")
    everything = {f"{stage} of {row}" for stage, *_ in CHAIN for row in ("baseline", "random")}
    assert cached() == everything
    (tmp_path / "ran").unlink()

    assert grouping.remove(tmp_path, "random")
    dvc("gc", "--workspace", "--force", "-q")
    assert cached() == everything - {"surrogate of random", "embed of random"}
    dvc("repro", "-q", "embed@baseline")
    assert not (tmp_path / "ran").exists()
    dvc("repro", "-q", "embed@random")
    assert (tmp_path / "ran").read_text().splitlines() == ["surrogate of random", "embed of random"]
    assert cached() == everything


def test_classes_are_measured_in_the_baselines_features(grouping: Any, folder: Folder) -> None:
    features = unit(np.random.default_rng(3).normal(size=(9, 4)))
    for path in (paths.cluster_features("baseline"), paths.class_table("random"), paths.TRUTH):
        (folder.folder / path).parent.mkdir(parents=True, exist_ok=True)
    write_array(folder.folder / paths.cluster_features("baseline"), features)
    grouped = class_table([0, 1], [2, 3], [4]).assign(origin=["cluster"] * 4 + ["single"])
    tables.write(folder.folder / paths.class_table("clustered"), grouped)
    found = grouping.like(folder, "clustered")
    pairs = class_table([0, 1], [2, 3])
    expected = {"alike": grouping.alike(features, pairs), "several": pytest.approx(2 / 3)}
    assert found == expected | {"purity": None, "clusters": 2}
    truth = pd.DataFrame({"index": range(9), "class": list("aabcdefgh"), "original": ""})
    truth.to_csv(folder.folder / paths.TRUTH, index=False)
    assert grouping.like(folder, "clustered")["purity"]["purity"] == pytest.approx(0.75)


@pytest.fixture
def drawn(pictures: Any, monkeypatch: pytest.MonkeyPatch) -> dict[str, Figure]:
    """The figures that are saved, by the names of their files."""
    figures: dict[str, Figure] = {}
    save = pictures.save

    def keep(figure: Figure, path: Path) -> None:
        figures[path.name] = figure
        save(figure, path)

    monkeypatch.setattr(pictures, "save", keep)
    return figures


def test_a_picture_has_a_line_for_each_gain(
    results_of: Any, pictures: Any, tmp_path: Path, drawn: dict[str, Figure]
) -> None:
    paper = [entry(f"paper_{row}", seed, 5, 0.5) for row in ("baseline", "clustered") for seed in (0, 1)]
    pictures.draw_steps(tmp_path / "pictures/a.png", results_of.summary([*results(), *paper]), "photographs")
    assert (tmp_path / "pictures/a.png").stat().st_size > 0
    (axes,) = drawn["a.png"].axes
    legend = axes.get_legend()
    assert legend is not None
    shown = [str(text.get_text()) for text in legend.get_texts()]
    assert shown == ["clustered", "random", "ungrouped", "paper_clustered over paper_baseline"]
    assert axes.get_title() == "photographs: gain of groupings (bars: 95 % over 2 seeds and test images)"


def test_likeness_has_a_panel_for_each_number_of_steps(
    results_of: Any, pictures: Any, tmp_path: Path, drawn: dict[str, Figure]
) -> None:
    """Without rows whose classes are mostly of one image, and without the paper's budget, which has other steps."""
    found = results()
    found += [entry(f"paper_{row}", seed, 5, 0.5) for row in ("baseline", "clustered") for seed in (0, 1)]
    found += [entry("dendrogram", seed, 9, 0.5, several=0.14) for seed in (0, 1)]
    found += [entry("neighbours", seed, 9, 0.5, several=0.5) for seed in (0, 1)]
    for each in found:
        if each["row"] == "ungrouped":
            each |= {"alike": None, "several": 0.0}
    pictures.draw_alike(tmp_path / "a.png", results_of.summary(found), "photographs")
    panels = {axes.get_title(): {text.get_text() for text in axes.texts} for axes in drawn["a.png"].axes}
    assert panels == {"5 steps": {"clustered", "random"}, "9 steps": {"clustered", "random", "neighbours"}}
    assert "at least half of the classes have several images" in str(drawn["a.png"].get_supxlabel())
    assert str(drawn["a.png"].get_suptitle()).startswith("photographs: gain and likeness")


def test_bars_say_what_they_are_over(results_of: Any, pictures: Any) -> None:
    assert pictures.bars(results_of.summary(results())) == "bars: 95 % over 2 seeds and test images"
    one = [each for each in results() if each["seed"] == 0]
    assert pictures.bars(results_of.summary(one)) == "bars: 95 % over test images"


@pytest.fixture
def command(grouping: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[tuple[Any, ...]]]:
    """Run the benchmark on results that are made up; return the folder, and which rows it asked for."""
    monkeypatch.setattr(grouping, "binary_folder", lambda folder: folder)
    monkeypatch.setattr(grouping, "pool_size", lambda _: 7000)

    def start(*words: str) -> list[tuple[Any, ...]]:
        asked: list[tuple[Any, ...]] = []

        def workspace(folder: Path, *_: Any) -> argparse.Namespace:
            asked.append((folder.name,))
            return argparse.Namespace(folder=tmp_path / folder.name)

        def run(_: Any, seed: int, steps: int, __: Any, tables_of: dict[str, str]) -> list[dict[str, Any]]:
            asked.append((seed, steps, len(tables_of)))
            shares = {"clustered": 0.52, "random": 0.4, "ungrouped": 0.45}
            rows = [row for row in tables_of if row != "spread"]
            return [entry(row, seed, steps, shares.get(row, 0.41), images=4012) for row in rows]

        monkeypatch.setattr(grouping, "Workspace", workspace)
        monkeypatch.setattr(grouping, "run", run)
        monkeypatch.setattr(sys, "argv", ["grouping.py", *words])
        grouping.main()
        return asked

    return start


def test_a_run_fits_into_its_hours(
    command: Callable[..., list[tuple[Any, ...]]], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    asked = command(str(tmp_path / "photographs"), "--stand-in")
    assert asked == [
        ("benchmark-grouping-grouping-photographs-stand-in",),
        *((seed, 2345, 10) for seed in (0, 1, 2)),
        *((seed, 9380, 6) for seed in (0, 1, 2)),
        *((seed, 37500, 3) for seed in (0, 1, 2)),
    ]
    text = capsys.readouterr().out
    figures = json.loads(text.splitlines()[-1])
    rows = 9 + 6 + 3  # the made up results have no row `spread`
    assert figures["hours"] == 3 * rows * 0.5
    assert f"all rows: {figures['hours']} hours, what was interrupted included" in text
    assert len(figures["said"]) == 3 and all(line in text for line in figures["said"])
    assert [line["rows"] for line in figures["changes"]] == ["clustered - baseline", "clustered - ungrouped"]
    assert "Gain at the largest number of steps, less that at the smallest:" in text
    (best,) = [line for line in figures["claims"] if "best at the number of steps before" in line["claim"]]
    assert (best["rows"], best["steps"]) == ("clustered - ungrouped", 37500)


def test_the_other_profile_is_short(
    command: Callable[..., list[tuple[Any, ...]]], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    asked = command(str(tmp_path / "photographs"), "--profile", "modern")
    assert asked == [
        ("benchmark-grouping-modern-photographs",),
        *((seed, steps, 2) for steps in (2345, 9380) for seed in (0, 1, 2)),
    ]
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["said"] == []


@pytest.mark.slow
def test_pools_have_folders_and_pictures_of_their_own(
    command: Callable[..., list[tuple[Any, ...]]], tmp_path: Path, drawn: dict[str, Figure]
) -> None:
    one = ("--quick", "--profile", "modern")
    cases = [
        ("a",),
        ("b",),
        ("a", "--stand-in"),
        ("a", "--stand-in", "--images", "more"),
        ("a", "--name", "mine"),
    ]
    folders = [command(str(tmp_path / folder), *words, *one)[0][0] for folder, *words in cases]
    names = ["a", "b", "a-stand-in", "a-stand-in-more", "mine"]
    assert folders == [f"benchmark-grouping-modern-{name}-quick" for name in names]
    assert list(drawn) == [f"modern-{name}-{kind}.png" for name in names for kind in ("steps", "alike")]
    assert [figure.axes[0].get_title().split(":")[0] for name, figure in drawn.items() if "steps" in name] == names


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
