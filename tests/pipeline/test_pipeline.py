"""Whole runs of the profile `tiny`."""

import json
import re
import sqlite3
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
import yaml
from filelock import FileLock

from .conftest import Project

EVALUATED = ["raw_pixels", "kmeans", "random_network", "baseline", "clustered"]


def test_results_have_the_rows_in_order(finished: Project) -> None:
    results = json.loads((finished.folder / "reports/results.json").read_text())
    assert [row["variant"] for row in results["rows"]] == EVALUATED
    assert results["profile"] == "tiny"
    assert results["dataset"]["name"] == "sample"
    assert results["dataset"]["folds_official"] is False
    for row in results["rows"]:
        assert len(row["fold_accuracies"]) == 10
        assert row["accuracy_mean"] == pytest.approx(sum(row["fold_accuracies"]) / 10)
        assert 0 < row["accuracy_mean"] < 100
        assert list(row["others"]) == ["full", "knn"]
        assert [len(row["others"][name]["fold_accuracies"]) for name in ("full", "knn")] == [1, 10]
        assert row["leaky"]["accuracy_mean"] > 0
        assert (finished.folder / f"reports/pictures/mistakes/{row['variant']}.png").exists()


def test_both_variants_have_the_same_number_of_classes(finished: Project) -> None:
    tables = [pd.read_csv(finished.folder / f"classes/{name}.csv") for name in ("baseline", "clustered")]
    assert tables[0]["class_id"].nunique() == tables[1]["class_id"].nunique()
    assert not tables[1]["image_id"].duplicated().any()


def test_store_holds_every_training_and_evaluation(finished: Project) -> None:
    with sqlite3.connect(finished.folder / "mlflow.db") as store:
        names = [row[0] for row in store.execute("select name from runs where status = 'FINISHED'")]
    expected = [f"{v} training · seed 0 · tiny" for v in ("baseline", "clustered")]
    expected += [f"{v} · seed 0 · tiny" for v in EVALUATED]
    assert sorted(names) == sorted(expected)


def test_every_run_has_its_pictures(finished: Project) -> None:
    client = mlflow.MlflowClient(f"sqlite:///{finished.folder}/mlflow.db")
    kinds = {"train": ["filters", "patches"], "evaluate": ["confusion", "mistakes"]}
    for run in client.search_runs([each.experiment_id for each in client.search_experiments()]):
        kind, variant = run.data.tags["kind"], run.data.tags["variant"]
        assert [artifact.path for artifact in client.list_artifacts(run.info.run_id)] == kinds[kind]
        for folder in kinds[kind]:
            sent = Path(client.download_artifacts(run.info.run_id, f"{folder}/{variant}.png"))
            drawn = finished.folder / f"reports/pictures/{folder}/{variant}.png"
            assert sent.read_bytes() == drawn.read_bytes()


def test_pictures_say_in_dvcs_words_what_they_were_drawn_from(finished: Project) -> None:
    data = yaml.safe_load((finished.folder / "data.dvc").read_text())["outs"][0]["md5"]
    outs = {data: "data"} | {md5: path for path, md5 in finished.outs().items()}
    sources = json.loads((finished.folder / "reports/pictures/sources.json").read_text())
    named = {picture: [outs[md5] for md5 in found] for picture, found in sources.items()}
    assert named["filters/baseline.png"] == ["models/baseline"]
    assert named["patches/clustered.png"] == ["data", "classes/clustered.csv", "surrogates/clustered"]
    assert named["clusters/clustered.png"] == ["data", "classes/clustered.csv", "features/baseline"]
    assert named["confusion/kmeans.png"] == ["metrics/kmeans/confusion.csv"]
    assert named["audit/leaks.png"] == ["data", "audit"]


def test_another_caption_draws_anew_and_runs_nothing_else(scratch: Project) -> None:
    before, lock = scratch.outs(), scratch.folder / "dvc.lock"
    figure = scratch.folder / "src/exemplarcnn/reporting/figures/patches.py"
    title = "Surrogate classes: an image with its anchor"
    text = figure.read_text()
    assert title in text
    figure.write_text(text.replace(title, "Classes: an image with its anchor"))
    assert scratch.repro() == ["draw"]
    differing = {path for path, md5 in scratch.outs().items() if before[path] != md5}
    assert differing == {"reports/pictures"}
    assert "reporting/figures/patches.py" in lock.read_text()
    said = scratch.run("exemplarcnn", "log").stdout.splitlines()
    assert all(line.endswith(": there already") for line in said), "its runs keep the pictures that they have"


def test_metrics_and_plots_show(finished: Project) -> None:
    (shown,) = json.loads(finished.dvc("metrics", "show", "--json").stdout).values()
    assert list(shown["data"]) == ["reports/accuracy.json"]
    assert list(shown["data"]["reports/accuracy.json"]["data"]) == EVALUATED
    finished.dvc("plots", "show", "-o", "plots")
    page = (finished.folder / "plots/index.html").read_text()
    assert "Learning curve of baseline" in page
    assert "Confusion of clustered" in page


def test_nothing_runs_again(finished: Project) -> None:
    assert finished.repro() == []


def test_only_what_depends_on_a_parameter_runs(scratch: Project) -> None:
    """Of the clustering here, of the evaluation where test_runs.py mixes kinds of runs."""
    scratch.change(lambda values: values["variants"]["group"]["clustered"].update(merged_fraction=0.05))
    after = {f"{stage}@clustered" for stage in ("group", "surrogate", "train", "embed", "evaluate")}
    assert set(scratch.repro()) == after | {"report", "draw"}


def test_rivals_and_controls_are_entries_of_params(scratch: Project) -> None:
    """A pruned grouping, a second round, random groups, a second budget for a class table, other features."""

    def add(values: dict[str, Any]) -> None:
        clustered = values["variants"]["group"]["clustered"]
        pruned = {"from": "baseline", "method": "pruned", "clustered_fraction": 0.5}
        values["variants"]["group"]["rival"] = pruned | {
            "mean_cluster_size": 4.0,
            "drop_fraction": 0.5,
            "merge_distance": 0.05,
        }
        values["variants"]["group"]["second"] = clustered | {"from": "clustered", "neighbour_order": "global"}
        values["variants"]["regroup"] = {"random": {"table": "clustered", "rule": "random"}}
        values["variants"]["train"]["clustered"]["cluster_features"] = True
        budget = {"patches_per_image": None, "total_patches": 100}
        first = {"of": "baseline", "weights": "trained", "features": values["features"] | {"layers": ["conv1"]}}
        values["variants"]["describe"]["first"] = first
        values["variants"]["train"]["short"] = (
            values["variants"]["train"]["clustered"] | budget | {"cluster_features": False}
        )

    scratch.change(add)
    added = ["group@rival", "group@second", "regroup@random", "surrogate@short", "describe@first"]
    ran = scratch.repro(*added)
    assert set(added) <= set(ran)
    features = np.load(scratch.folder / "features/first/eval/test.npy", mmap_mode="r")
    whole = np.load(scratch.folder / "features/baseline/eval/test.npy", mmap_mode="r")
    np.testing.assert_array_equal(features, whole[:, : features.shape[1]])
    assert features.shape[1] == 4 * 4
    assert not any(stage.startswith("train") for stage in ran)
    tables = {
        name: pd.read_csv(scratch.folder / f"classes/{name}.csv") for name in ("clustered", "rival", "second", "random")
    }
    assert tables["rival"]["class_id"].nunique() < tables["clustered"]["class_id"].nunique()
    assert set(tables["random"]["image_id"]) == set(tables["clustered"]["image_id"])
    assert tables["random"]["class_id"].tolist() == tables["clustered"]["class_id"].tolist()
    judged = json.loads((scratch.folder / "metrics/second/clusters.json").read_text())
    assert 0 < judged["round"]["nmi"] < 1
    assert judged["round"]["images"] > 50
    sets = [json.loads((scratch.folder / f"surrogates/{name}/set.json").read_text()) for name in ("clustered", "short")]
    assert sets[0]["train_patches"] > sets[1]["train_patches"] == 100
    assert sets[0]["classes"] == sets[1]["classes"]


def test_two_processes_group_and_train_to_the_same_files_and_one_run(scratch: Project) -> None:
    made = [scratch.folder / "classes/clustered.csv", scratch.folder / "metrics/clustered/clusters.json"]
    before = [path.read_bytes() for path in made]
    model = scratch.folder / "models/baseline/weights.safetensors"
    alone = model.read_bytes()
    curve = (scratch.folder / "metrics/baseline/train.csv").read_bytes()
    scratch.change(lambda values: values["machine"].update(processes=2, threads=2))
    assert scratch.repro() == [], "no result depends on the machine"
    for path in made:
        path.unlink()
    scratch.run("python", "-m", "exemplarcnn.stages.group", "clustered")
    assert [path.read_bytes() for path in made] == before

    count = len(trainings(scratch))
    model.unlink()
    scratch.run("python", "-m", "exemplarcnn.stages.train", "baseline")
    assert model.read_bytes() == alone
    assert (scratch.folder / "metrics/baseline/train.csv").read_bytes() == curve
    assert len(trainings(scratch)) == count, "it is the run of this very result"


def test_two_trainings_of_one_variant_do_not_share_a_checkpoint(finished: Project) -> None:
    model = finished.folder / "models/baseline/weights.safetensors"
    before = model.read_bytes()
    with FileLock(finished.folder / "work/train/baseline.lock"):
        refused = finished.run("python", "-m", "exemplarcnn.stages.train", "baseline", check=False)
    assert refused.returncode == 1
    assert refused.stderr.splitlines()[-1].startswith("error: another process is training baseline")
    assert model.read_bytes() == before


@pytest.mark.parametrize("processes", [1, 2])
def test_where_a_model_cannot_be_written_nothing_trained_is_lost(scratch: Project, processes: int) -> None:
    before = (scratch.folder / "models/baseline/weights.safetensors").read_bytes()
    models, aside = scratch.folder / "models", scratch.folder / "aside"
    if processes > 1:
        scratch.change(lambda values: values["machine"].update(processes=processes))
    models.rename(aside)
    models.write_text("")
    refused = scratch.run("python", "-m", "exemplarcnn.stages.train", "baseline", check=False)
    models.unlink()
    aside.rename(models)
    scratch.reset()
    assert refused.returncode == 1
    (line,) = [line for line in refused.stderr.splitlines() if line.startswith("error: ")]
    assert re.fullmatch(r"error: \S*models: File exists; fix this and rerun: .*", line)
    assert "exemplarcnn/stages/train.py" not in refused.stderr, "a traceback"
    scratch.run("python", "-m", "exemplarcnn.stages.train", "baseline")
    assert (models / "baseline/weights.safetensors").read_bytes() == before


def test_a_variant_whose_patches_are_drawn_online(scratch: Project) -> None:
    scratch.change(
        lambda values: values["variants"]["train"].update(
            fresh=values["variants"]["train"]["baseline"] | {"mode": "online", "cluster_features": False}
        )
    )
    assert scratch.repro("train@fresh") == ["surrogate@fresh", "train@fresh"]
    made = scratch.folder / "surrogates/fresh"
    assert not (made / "train.npy").exists()
    curves = [pd.read_csv(scratch.folder / f"metrics/{name}/train.csv") for name in ("baseline", "fresh")]
    assert curves[0].iloc[0].equals(curves[1].iloc[0]), "the first epoch has the patches of the set"
    assert curves[0].iloc[1]["train_loss"] != curves[1].iloc[1]["train_loss"]
    # The code that draws is a part of the set, so that another one repeats the training.
    drawing = (made / "drawing.json").read_text()
    transforms = scratch.folder / "src/exemplarcnn/patches/recipes/geometry.py"
    code = transforms.read_text()
    transforms.write_text(code + "# changed\n")
    scratch.run("python", "-m", "exemplarcnn.stages.surrogate", "fresh")
    transforms.write_text(code)
    assert (made / "drawing.json").read_text() != drawing


def test_a_set_by_the_other_recipe(scratch: Project) -> None:
    scratch.change(lambda values: values["surrogate"].update(recipe="dosovitskiy"))
    assert scratch.repro("surrogate@baseline") == ["colours@unlabeled", "surrogate@baseline"]
    axes = json.loads((scratch.folder / "colours/unlabeled.json").read_text())
    recipe = json.loads((scratch.folder / "surrogates/baseline/recipe.json").read_text())
    assert recipe["transform"]["transforms"][1]["axes"] == axes["axes"]


def trainings(project: Project) -> list[Any]:
    client = mlflow.MlflowClient(f"sqlite:///{project.folder}/mlflow.db")
    everywhere = [experiment.experiment_id for experiment in client.search_experiments()]
    return [run for run in client.search_runs(everywhere) if run.data.tags.get("kind") == "train"]


def test_epochs_touch_training_and_nothing_before_it(scratch: Project) -> None:
    scratch.change(lambda values: values["train"].update(epochs=3))
    changed = set(json.loads(scratch.dvc("status", "--json").stdout))
    assert changed == {"train@baseline", "train@clustered"}
    # Nor does a table of former results go without a word.
    for command in ("show", "page"):
        said = scratch.run("exemplarcnn", command).stderr
        assert "these results are out of date: params.yaml says train.epochs: 3, but train@baseline ran with 2" in said
    scratch.reset()
    assert "out of date" not in scratch.run("exemplarcnn", "show").stderr


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda v: v["train"].update(epoch=3), "train.epoch: unknown parameter"),
        (lambda v: v["train"].update(epochs=0), "train.epochs"),
        (lambda v: v["evaluate"].update(C=[-1]), "evaluate.C.0"),
    ],
    ids=["unknown", "out of range", "negative C"],
)
def test_wrong_parameters_are_named(fresh: Project, edit: Any, message: str) -> None:
    good = (fresh.folder / "params.yaml").read_text()
    fresh.change(edit)
    done = fresh.dvc("repro", "seed@baseline", check=False)
    (fresh.folder / "params.yaml").write_text(good)
    assert done.returncode != 0
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not (fresh.folder / "classes").exists()


def test_broken_data_is_named(fresh: Project) -> None:
    path = fresh.folder / "data/train_X.bin"
    good = path.read_bytes()
    path.unlink()
    path.write_bytes(good[:-1])
    done = fresh.dvc("repro", "seed@baseline", check=False)
    path.unlink()
    path.write_bytes(good)
    assert done.returncode != 0
    assert "train_X.bin" in done.stderr
    assert "Traceback" not in done.stderr
