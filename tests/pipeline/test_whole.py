"""The experiments that profile `tiny_bench` has beyond `tiny`: other images, learning from labels, odd images."""

import json
import sqlite3
from pathlib import Path

import pandas as pd
import pytest
import yaml
from PIL import Image

from .conftest import ROOT, Project

EVALUATED = ["raw_pixels", "kmeans", "random_network", "baseline", "clustered", "imagenet"]
LABELLED = ["semi_supervised", "supervised"]


@pytest.fixture(scope="module")
def whole(finished: Project) -> Project:
    """The finished project with the further experiments."""
    reset(finished)
    finished.repro()
    return finished


def reset(project: Project) -> None:
    project.run("exemplarcnn", "profile", "tiny_bench")


def test_the_report_has_all_rows(whole: Project) -> None:
    results = json.loads((whole.folder / "reports/results.json").read_text())
    assert [row["variant"] for row in results["rows"]] == EVALUATED + LABELLED
    for row in results["rows"][len(EVALUATED) :]:
        assert row["fold_accuracies"] == [row["accuracy_mean"]]
        assert 0 < row["accuracy_mean"] < 100
        for folder in ("labels", "confusion", "mistakes"):
            assert (whole.folder / f"reports/pictures/{folder}/{row['variant']}.png").exists()
    text = (whole.folder / "reports/results.md").read_text()
    for heading in ("## Learning from labels", "## Published results", "## The images"):
        assert heading in text


def test_every_kind_of_stage_runs_in_the_smoke_pipeline(whole: Project) -> None:
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    locked = yaml.safe_load((whole.folder / "dvc.lock").read_text())["stages"]
    assert {name.partition("@")[0] for name in locked} == set(stages)
    params = yaml.safe_load((whole.folder / "params.yaml").read_text())
    assert all(params["variants"].values())


def test_each_is_one_run_in_the_store(whole: Project) -> None:
    with sqlite3.connect(whole.folder / "mlflow.db") as store:
        names = [row[0] for row in store.execute("select name from runs where status = 'FINISHED'")]
    for name in ("random training", "imagenet training", "imagenet", "semi_supervised", "supervised"):
        assert names.count(f"{name} · seed 0 · tiny_bench") == 1
    shown = whole.run("exemplarcnn", "compare", "--json", "--profile", "tiny_bench").stdout
    assert {"imagenet", *LABELLED} <= {row["variant"] for row in json.loads(shown)}


def test_the_page_is_made(whole: Project) -> None:
    whole.run("exemplarcnn", "page")
    page = (whole.folder / "reports/index.html").read_text()
    assert "Semi-supervised" in page
    assert "resnet@supervised" in page, "its time"


def test_nothing_runs_again_and_forced_labels_are_the_same(whole: Project) -> None:
    assert whole.repro() == []
    before = whole.outs()
    # The other stages are those of `tiny`, in test_pipeline.py.
    stages = [*(f"label@{name}" for name in LABELLED), "resnet@supervised"]
    for stage in stages:
        assert whole.repro("--force", "--single-item", stage) == [stage]
    assert whole.outs() == before


def test_labels_of_both_kinds(whole: Project) -> None:
    guessed, given = (pd.read_csv(whole.folder / f"labels/{name}.csv") for name in LABELLED)
    assert set(guessed["pool"]) == {"unlabeled"}
    assert (guessed["margin"] >= 0).all()
    fold = [int(word) for word in (whole.folder / "data/fold_indices.txt").read_text().splitlines()[0].split()]
    assert given["image_id"].tolist() == sorted(fold)
    assert set(given["pool"]) == {"train"}
    assert given["margin"].isna().all()
    judged = json.loads((whole.folder / "metrics/semi_supervised/labels.json").read_text())["judged"]
    assert (judged["images"], judged["outside"], judged["left_out"]) == (495, 45, 0)
    curves = [pd.read_csv(whole.folder / f"metrics/{name}/train.csv") for name in LABELLED]
    assert [len(curve) for curve in curves] == [2, 2]


def test_a_fraction_of_the_labels_and_two_processes(whole: Project, tmp_path: Path) -> None:
    scratch = whole.copy(tmp_path / "project")
    table = pd.read_csv(scratch.folder / "labels/semi_supervised.csv")
    scratch.change(lambda values: values["variants"]["label"]["semi_supervised"].update(fraction=0.5))
    scratch.change(lambda values: values["machine"].update(processes=2))
    scratch.repro("--single-item", "label@semi_supervised")
    half = pd.read_csv(scratch.folder / "labels/semi_supervised.csv")
    assert len(half) == 270
    assert half["margin"].min() >= table["margin"].median() - 1e-5
    scratch.repro("--single-item", "resnet@semi_supervised")
    found = json.loads((scratch.folder / "metrics/semi_supervised/eval.json").read_text())
    assert 0 <= found["accuracy_mean"] <= 100


def test_flagged_images_are_left_out_of_the_seeds(whole: Project, tmp_path: Path) -> None:
    scratch = whole.copy(tmp_path / "project")
    table = pd.read_csv(scratch.folder / "classes/baseline.csv")
    flags = pd.read_csv(scratch.folder / "audit/unlabeled.csv")
    bordered = set(flags.loc[flags["border"] == 1, "image_id"])
    assert bordered & set(table["image_id"])
    scratch.change(lambda values: values["variants"]["seed"]["baseline"].update(leave_out=["border", "duplicate"]))
    assert scratch.repro("--single-item", "seed@baseline") == ["seed@baseline"]
    left = pd.read_csv(scratch.folder / "classes/baseline.csv")
    assert len(left) == len(table)
    assert not set(left["image_id"]) & bordered
    kept = [image for image in table["image_id"] if image in set(left["image_id"])]
    assert left["image_id"].tolist()[: len(kept)] == kept


def test_a_pool_folder_with_everything_in_it(whole: Project, tmp_path: Path) -> None:
    """A broken file, a grey image, a tiny one, a huge one and a text file: told by name, and the rest is used."""
    scratch = whole.copy(tmp_path / "project")
    other = scratch.folder / "data/other"
    added = {"broken.jpg": b"no image", "notes.txt": b"no image"}
    Image.new("L", (120, 120), 90).save(other / "grey.png")
    Image.new("RGB", (8, 8)).save(other / "tiny.png")
    Image.new("RGB", (9000, 6000)).save(other / "huge.png")
    for name, content in added.items():
        (other / name).write_bytes(content)
    done = scratch.run("python", "-m", "exemplarcnn.stages.audit")
    found = json.loads((scratch.folder / "metrics/audit.json").read_text())["pools"]["other"]
    assert [line.split(":")[0] for line in found["unusable"]] == ["broken.jpg", "huge.png", "tiny.png"]
    assert found["noticed"] == ["grey.png: no colour"]
    assert "notes.txt" in found["passed_over"][0]
    for name in ("broken.jpg", "huge.png", "tiny.png", "grey.png", "notes.txt"):
        assert name in done.stderr, "said while it runs"
    scratch.change(lambda values: values["variants"]["seed"]["imagenet"].update(classes=found["images"] - 3))
    for stage in ("seed imagenet", "colours other", "surrogate imagenet"):
        scratch.run("python", "-m", f"exemplarcnn.stages.{stage.split()[0]}", stage.split()[1])
    used = pd.read_csv(scratch.folder / "classes/imagenet.csv")
    assert len(used) == found["images"] - 3
