"""What is logged, what is found again, and that a store that fails never stops the work."""

import json
import logging
import subprocess
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from hashlib import md5
from pathlib import Path
from typing import Any

import pytest
import yaml
from mlflow.utils.validation import _validate_metric_name

from exemplarcnn import paths
from exemplarcnn.config import Config
from exemplarcnn.files import digest_of, write_json
from exemplarcnn.tracking import runs as tracking
from exemplarcnn.tracking import store as store_module
from exemplarcnn.tracking.lineage import Record
from exemplarcnn.tracking.store import StoreError
from tests.conftest import CONF, DATA_MD5, SUMMARY, Pipeline, epoch


def runs(store: Any, record: Record) -> list[Any]:
    everywhere = [experiment.experiment_id for experiment in store.search_experiments()]
    return list(store.search_runs(everywhere, f"tags.identity = '{record.identity}'"))


def only(store: Any, record: Record) -> Any:
    (found,) = runs(store, record)
    return found


def steps(store: Any, run: Any, metric: str) -> list[tuple[int, float]]:
    return sorted((m.step, m.value) for m in store.get_metric_history(run.info.run_id, metric))


def repository(folder: Path) -> str:
    subprocess.run(["git", "init", "-q", str(folder)], check=True)
    return commit(folder)


def commit(folder: Path) -> str:
    words = ["git", "-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", "add", "-A"], cwd=folder, check=True)
    subprocess.run([*words, "commit", "-q", "--allow-empty", "-m", "x"], cwd=folder, check=True)
    answer = subprocess.run(["git", "rev-parse", "HEAD"], cwd=folder, check=True, capture_output=True, text=True)
    return answer.stdout.strip()


# Parameters


def test_flatten_gives_dotted_names_and_short_texts() -> None:
    nested = {"a": {"b": {"c": 1}, "d": None}, "e": [1, 2], "f": "x" * 900}
    assert tracking.flatten(nested, "p.") == {"p.a.b.c": "1", "p.a.d": "None", "p.e": "[1, 2]", "p.f": "x" * 500}


def test_parameters_of_a_result() -> None:
    table = Record(
        "group@clustered", {"features/baseline": "1"}, {"variants.group.clustered": {"from": "baseline"}}, {"c": "2"}
    )
    train = Record("train@baseline", {}, {"variants.train.baseline.patch": 32, "seed": 3}, {"features/baseline": "1"})
    other = Record("train@clustered", {"c": "2"}, {"train": {"epochs": 7}, "seed": 3}, {})
    records = {record.stage: record for record in (table, train, other)}
    assert tracking.params_of(other, records) == {
        "variant.from": "baseline",
        "variants.train.baseline.patch": "32",
        "train.epochs": "7",
        "seed": "3",
    }


def test_what_mlflow_takes_keeps_its_name() -> None:
    for name in ("accuracy_mean", "class_Käfer 1.0_accuracy", "clustered/accuracy_std", "x" * 250):
        assert tracking.key(name) == name


def test_other_names_stay_apart_and_are_the_same_in_every_run() -> None:
    odd = ["C#", "C+", "C_", "a//b", "a/../b", "../a", "./a", "a/", ".", "..", "/a", "a:b", "a\n", "", "é" * 300]
    odd += ["x" * 400, "x" * 401, "x" * 249 + "#"]
    keys = [tracking.key(name) for name in odd]
    assert len(set(keys)) == len(odd)
    for made in keys:
        _validate_metric_name(made)
        assert len(made) <= 250
    assert tracking.key("class_C#_accuracy") == "class_C__accuracy-" + digest_of("class_C#_accuracy")[:8]


def test_what_was_changed() -> None:
    profile = {"seed": 0, "train": {"epochs": 10, "lr": 0.1}, "machine": {"threads": 2}, "C": [1, 2]}
    params = {"seed": 5, "train": {"epochs": 20, "lr": 0.1}, "machine.threads": 4, "C": [1]}
    assert tracking.changes(params, profile) == ["train.epochs=20", "C=[1]"]
    assert tracking.changes(profile, profile) == []


# What is logged


def test_a_training_run(store: Any, pipeline: Pipeline, config: Config) -> None:
    record = pipeline.train()
    with tracking.run("train", "baseline", config) as tracked:
        tracked.epoch(epoch(1))
        assert only(store, record).info.status == "RUNNING"
        assert steps(store, only(store, record), "train_loss") == [(1, 3.0)]
    run = only(store, record)
    assert run.info.status == "FINISHED"
    assert run.data.params == tracking.params_of(record, pipeline.records)
    assert run.data.params["train.epochs"] == str(config.train.epochs)
    assert (
        run.data.tags
        | {
            "kind": "train",
            "variant": "baseline",
            "identity": record.identity,
            "profile": "tiny_bench",
            "data.md5": DATA_MD5,
            "md5.model": f"{pipeline.mark}baseline.dir",
            "md5.curve": record.outs["metrics/baseline/train.csv"],
        }
        == run.data.tags
    )
    assert "mlflow.parentRunId" not in run.data.tags
    assert steps(store, run, "train_loss") == [(1, 3.0), (2, 1.5)]
    assert steps(store, run, "valid_accuracy") == [(1, 0.09), (2, 0.18)]
    found = {name for name in run.data.metrics if not name.startswith("system/")}
    assert found == {"epoch", *tracking.CURVE} - {"probe_accuracy"}
    assert [artifact.path for artifact in store.list_artifacts(run.info.run_id, "patches")] == ["patches/baseline.png"]


def test_the_probe_is_logged_in_the_epochs_that_have_it(store: Any, pipeline: Any, config: Config) -> None:
    record = pipeline.train()
    with tracking.run("train", "baseline", config) as tracked:
        tracked.epoch(replace(epoch(1), probe_accuracy=None))
        tracked.epoch(replace(epoch(2), probe_accuracy=0.4))
    assert steps(store, only(store, record), "probe_accuracy") == [(2, 0.4)]


def test_an_epoch_is_logged_as_the_curve_holds_it(store: Any, pipeline: Pipeline, config: Config) -> None:
    """Whether it is logged at once or read from the file later makes no difference."""
    record = pipeline.train(epochs=1)
    with tracking.run("train", "baseline", config) as tracked:
        tracked.epoch(replace(epoch(1), valid_loss=2 / 3))
    assert only(store, record).data.metrics["valid_loss"] == 0.666667


def test_data_sets_are_logged_with_their_hashes(store: Any, pipeline: Pipeline, config: Config) -> None:
    records = pipeline.train(), pipeline.evaluate("baseline")
    for record in records:
        kind, _, variant = record.stage.partition("@")
        with tracking.run(kind, variant, config):
            pass
    sets = [
        {(each.dataset.name, each.dataset.digest) for each in only(store, record).inputs.dataset_inputs}
        for record in records
    ]
    assert sets[0] == {("data", DATA_MD5), ("surrogates/baseline", f"{pipeline.mark}.dir")}
    assert sets[1] == {("data", DATA_MD5), ("models/baseline", f"{pipeline.mark}baseline.dir")}


def test_an_evaluation_run_stands_alone(store: Any, pipeline: Pipeline, config: Config) -> None:
    pipeline.train("clustered")
    record = pipeline.evaluate("clustered")
    statistics = {
        "clusters": 5,
        "images_in_clusters": 11,
        "merged_fraction": 0.5,
        "threshold": 0.4,
        "single_classes": 7,
    }
    judged = {"cluster_purity": {"images": 4, "purity": 0.75, "by_chance": 0.5}, "cluster_sizes": {"2": 5}}
    write_json(paths.cluster_statistics("clustered"), statistics | judged)
    with tracking.run("evaluate", "clustered", config):
        pass
    run = only(store, record)
    assert {name: value for name, value in run.data.metrics.items() if not name.startswith("system/")} == {
        "accuracy_mean": 60.0,
        "cluster_purity": 0.75,
        "accuracy_std": 1.5,
        "fold_0_accuracy": 58.5,
        "fold_1_accuracy": 61.5,
        "leaky_accuracy_mean": 62.0,
        "full_accuracy_mean": 70.0,
        "fold_0_C": 0.1,
        "fold_1_C": 10.0,
        "class_cat_accuracy": 70.0,
        "class_dog_accuracy": 50.0,
        "final_train_loss": 1.5,
        "final_valid_loss": 1.75,
        "final_valid_accuracy": 0.18,
        **{name: float(value) for name, value in statistics.items()},
    }
    # Through the model that it was made of, the parameters of the training too.
    assert run.data.params["train.epochs"] == str(config.train.epochs)
    assert run.data.tags["md5.eval"] == record.outs["metrics/clustered/eval.json"]
    for kind in ("confusion", "mistakes"):
        assert [each.path for each in store.list_artifacts(run.info.run_id, kind)] == [f"{kind}/clustered.png"]


def test_classes_of_any_name_have_an_accuracy_each(store: Any, pipeline: Pipeline, config: Config) -> None:
    accuracies = {"C#": 10.0, "C+": 20.0, "C": 30.0, "long " * 60 + "a": 40.0, "long " * 60 + "b": 50.0, "a//b": 60.0}
    record = pipeline.evaluate("baseline")
    write_json(paths.evaluation("baseline"), SUMMARY | {"class_accuracies": accuracies})
    with tracking.run("evaluate", "baseline", config):
        pass
    run = only(store, record)
    assert run.info.status == "FINISHED"
    found = {name: run.data.metrics[tracking.key(f"class_{name}_accuracy")] for name in accuracies}
    assert found == accuracies
    assert sum(name.startswith("class_") for name in run.data.metrics) == len(accuracies)


def test_more_parameters_than_one_call_takes(
    store: Any, pipeline: Pipeline, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracking, "PARAMS_A_CALL", 7)
    record = pipeline.train()
    with tracking.run("train", "baseline", config):
        pass
    assert only(store, record).data.params == tracking.params_of(record, pipeline.records)


def test_names_tell_what_was_changed(store: Any, folder: Path, pipeline: Pipeline, config: Config) -> None:
    (folder / "conf").symlink_to(CONF)
    same = pipeline.train()
    with tracking.run("train", "baseline", config):
        pass
    pipeline.values["train"]["epochs"] = 7
    other = pipeline.train()
    with tracking.run("train", "baseline", config):
        pass
    assert only(store, same).info.run_name == "train baseline tiny_bench seed 0"
    assert only(store, other).info.run_name == "train baseline tiny_bench seed 0 train.epochs=7"


def test_a_run_says_who_made_it_and_for_which_experiment(
    store: Any, pipeline: Pipeline, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOGNAME", "alice")
    monkeypatch.setenv("DVC_EXP_NAME", "c++")  # not a name that MLflow takes for a tag
    record = pipeline.train()
    with tracking.run("train", "baseline", config):
        pass
    tags = only(store, record).data.tags
    assert tags["mlflow.user"] == "alice"
    assert tracking.key("experiment.c++") in tags


def test_a_user_without_a_name_can_log(
    store: Any, pipeline: Pipeline, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nobody() -> str:
        raise KeyError("getpwuid(): uid not found: 1234")

    monkeypatch.setattr("getpass.getuser", nobody)
    record = pipeline.train()
    with tracking.run("train", "baseline", config):
        pass
    assert "mlflow.user" not in only(store, record).data.tags


def test_a_commit_that_has_the_result_is_kept(store: Any, folder: Path, pipeline: Pipeline, config: Config) -> None:
    record = pipeline.train()
    first = repository(folder)
    with tracking.run("train", "baseline", config):
        pass
    tags = only(store, record).data.tags
    assert tags["mlflow.source.git.commit"] == first
    assert tags[f"commit.{first}"] == "true"


def test_a_commit_with_changes_since_does_not_have_the_result(
    store: Any, folder: Path, pipeline: Pipeline, config: Config
) -> None:
    first = repository(folder)
    pipeline.values["train"]["epochs"] = 7
    (folder / "params.yaml").write_text(yaml.safe_dump(pipeline.values))
    record = pipeline.train()
    with tracking.run("train", "baseline", config):
        pass
    tags = only(store, record).data.tags
    assert tags["mlflow.source.git.commit"] == first
    assert f"commit.{first}" not in tags


def test_an_experiment_is_kept(
    store: Any, folder: Path, pipeline: Pipeline, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = pipeline.train()
    repository(folder)
    # Inside an experiment git stands on a commit that nobody knows.
    monkeypatch.setenv("DVC_EXP_BASELINE_REV", "abc")
    monkeypatch.setenv("DVC_EXP_NAME", "brave-one")
    with tracking.run("train", "baseline", config):
        pass
    tags = only(store, record).data.tags
    assert tags["experiment.brave-one"] == "true"
    assert tags["mlflow.source.git.commit"] == "abc"
    assert not [name for name in tags if name.startswith("commit.")]


# The same work again


def test_finished_work_leaves_one_run(store: Any, folder: Path, pipeline: Pipeline, config: Config) -> None:
    record = pipeline.train()
    repository(folder)
    with tracking.run("train", "baseline", config) as tracked:
        tracked.epoch(epoch(1))
    before = only(store, record)
    second = commit(folder)
    with tracking.run("train", "baseline", config) as tracked:
        tracked.epoch(epoch(1))
        tracked.metrics({"other": 1.0})
    after = only(store, record)
    assert after.info.run_id == before.info.run_id
    assert after.info.end_time == before.info.end_time
    assert after.data.metrics == before.data.metrics
    assert steps(store, after, "epoch") == [(1, 1.0), (2, 2.0)]
    assert after.data.tags == before.data.tags | {f"commit.{second}": "true"}


def test_failed_work_is_continued_without_doubled_epochs(store: Any, pipeline: Pipeline, config: Config) -> None:
    record = pipeline.train(epochs=3)
    with pytest.raises(KeyboardInterrupt), tracking.run("train", "baseline", config) as tracked:
        tracked.epoch(epoch(1))
        tracked.epoch(epoch(2))
        raise KeyboardInterrupt
    before = only(store, record)
    assert before.info.status == "FAILED"
    with tracking.run("train", "baseline", config) as tracked:
        assert only(store, record).info.status == "RUNNING"
        for number in (1, 2, 3):
            tracked.epoch(epoch(number))
    after = only(store, record)
    assert (after.info.run_id, after.info.status) == (before.info.run_id, "FINISHED")
    for metric in ("epoch", "train_loss", "valid_loss"):
        assert [step for step, _ in steps(store, after, metric)] == [1, 2, 3]


def test_a_killed_run_is_continued(store: Any, pipeline: Pipeline, config: Config) -> None:
    record = pipeline.train()
    # What a killed process leaves behind: a run that says it is running.
    tracking._open(store, record, pipeline.records, config).epoch(epoch(1))
    with tracking.run("train", "baseline", config) as tracked:
        tracked.epoch(epoch(1))
        tracked.epoch(epoch(2))
    run = only(store, record)
    assert run.info.status == "FINISHED"
    assert steps(store, run, "epoch") == [(1, 1.0), (2, 2.0)]


def test_two_processes_at_once_open_one_run(store: Any, folder: Path, pipeline: Pipeline, config: Config) -> None:
    record = pipeline.train()
    (folder / ".dvc" / "tmp").mkdir(parents=True)
    with ThreadPoolExecutor(4) as pool:
        opened = list(pool.map(lambda _: tracking._open(store, record, pipeline.records, config), range(4)))
    assert len({run.run_id for run in opened}) == 1
    only(store, record)


@pytest.mark.parametrize("mine", ["older", "newer"])
def test_of_two_people_who_log_the_same_at_once_one_run_stays(
    mine: str, store: Any, pipeline: Pipeline, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A lock holds on one machine alone; on a server both have looked, and found nothing, before either creates."""
    record = pipeline.train()
    theirs: list[str] = []
    create = type(store).create_run

    def both(client: Any, experiment: str, tags: dict[str, str], **named: Any) -> Any:
        now = 1_700_000_000_000
        other = create(client, experiment, start_time=now, tags={"identity": tags["identity"]})
        theirs.append(other.info.run_id)
        return create(client, experiment, start_time=now + (1 if mine == "newer" else -1), tags=tags, **named)

    monkeypatch.setattr(type(store), "create_run", both)
    with tracking.run("train", "baseline", config):
        pass
    left = {run.info.run_id for run in runs(store, record)}
    kept = tracking.find(store, record, pipeline.records)
    assert kept.info.status == "FINISHED"
    assert (kept.info.run_id in theirs) == (mine == "newer")
    # The other one takes its own back when it looks again; nobody takes back somebody else's.
    assert left == ({*theirs} if mine == "newer" else {*theirs, kept.info.run_id})


def test_of_several_runs_a_finished_one_is_gone_on_with(store: Any, pipeline: Pipeline, config: Config) -> None:
    record = pipeline.train()
    made = [store.create_run("0", start_time=time, tags={"identity": record.identity}) for time in (3, 1, 2)]
    assert tracking.find(store, record, pipeline.records).info.run_id == made[1].info.run_id
    store.set_terminated(made[2].info.run_id, "FINISHED")
    assert tracking.find(store, record, pipeline.records).info.run_id == made[2].info.run_id


# The same result of other code


def before_the_renaming(
    store: Any, pipeline: Pipeline, config: Config, status: str = "FINISHED", **changed: str
) -> tuple[Record, str]:
    """A training, and the id of a run of it by code that had other names for some parameters."""
    own = "variants.train.baseline"
    pipeline.values |= {f"{own}.total_patches": None, f"{own}.patches_per_image": 4}
    params = (f"{own}.total_patches", f"{own}.patches_per_image", "surrogate", "features")
    outs = {"surrogates/baseline": f"{pipeline.mark}.dir"}
    pipeline.add("surrogate", "baseline", {"data": DATA_MD5}, outs, *params)
    record = pipeline.train()
    tracking.send(config)
    sent = only(store, record)
    store.delete_run(sent.info.run_id)
    old = {"variant.total_patches": "variant.patches", "features.batch_size": "features.chunk"}
    assert sent.data.params.keys() >= old.keys()
    tags = sent.data.tags | {"identity": f"{pipeline.mark} of other code"}
    run = store.create_run("0", tags=tags | {name: value for name, value in changed.items() if name in tags})
    for name, value in sent.data.params.items():
        store.log_param(run.info.run_id, old.get(name, name), changed.get(name, value))
    store.set_terminated(run.info.run_id, status)
    return record, run.info.run_id


def test_a_result_that_is_there_under_old_names_is_not_sent_again(
    store: Any, folder: Path, pipeline: Pipeline, config: Config
) -> None:
    record, old = before_the_renaming(store, pipeline, config)
    commit_id = repository(folder)
    assert tracking.send(config)["train@baseline"] == "there already"
    assert runs(store, record) == []
    assert tracking.find(store, record, pipeline.records).info.run_id == old
    assert store.get_run(old).data.tags[f"commit.{commit_id}"] == "true"


@pytest.mark.parametrize(
    "changed",
    [
        {"variant.total_patches": "100"},
        {"variant.patches_per_image": "5"},
        {"train.epochs": "3"},
        {"variant": "clustered"},
        {"data.md5": "0.dir"},
        {"md5.model": "0.dir"},
        {"md5.curve": "0"},
        {"status": "FAILED"},
    ],
    ids=str,
)
def test_another_result_is_sent(changed: dict[str, str], store: Any, pipeline: Pipeline, config: Config) -> None:
    record, old = before_the_renaming(store, pipeline, config, **changed)
    assert tracking.send(config)["train@baseline"] == "sent"
    assert only(store, record).info.run_id != old


def test_work_that_is_done_again_by_other_code_is_a_run_of_its_own(
    store: Any, pipeline: Pipeline, config: Config
) -> None:
    """What it will make is not known when it begins, whatever lies in the folder."""
    record, old = before_the_renaming(store, pipeline, config)
    before = store.get_run(old).data.to_dictionary()
    with tracking.run("train", "baseline", config) as tracked:
        assert tracked.run_id == only(store, record).info.run_id != old
    assert only(store, record).info.status == "FINISHED"
    assert store.get_run(old).data.to_dictionary() == before


def test_a_damaged_lock_is_named_and_not_the_store(
    store: Any, folder: Path, pipeline: Pipeline, config: Config, caplog: pytest.LogCaptureFixture
) -> None:
    pipeline.train()
    (folder / "dvc.lock").write_text("schema: '2.0'\n<<<<<<< HEAD\nstages: {}\n=======\n>>>>>>> other\n")
    done = []
    with tracking.run("train", "baseline", config):
        done.append(True)
    assert done
    (warning,) = warnings(caplog)
    assert warning.startswith("dvc.lock: git left a conflict in it, at line 2; take one side, as with `git checkout")
    assert "MLflow" not in warning


def test_what_another_process_finished_stays_finished(store: Any, pipeline: Pipeline, config: Config) -> None:
    record = pipeline.train()
    with pytest.raises(KeyboardInterrupt), tracking.run("train", "baseline", config):
        store.set_terminated(only(store, record).info.run_id, "FINISHED")
        raise KeyboardInterrupt
    assert only(store, record).info.status == "FINISHED"


def test_a_parameter_that_made_no_difference_does_not_block_a_run(
    store: Any, pipeline: Pipeline, config: Config
) -> None:
    record = pipeline.train()
    broken = tracking._open(store, record, pipeline.records, config)
    # Another surrogate recipe, the very same surrogate set.
    pipeline.values["surrogate"]["flip"] = 0.25
    outs = {"surrogates/baseline": f"{pipeline.mark}.dir"}
    pipeline.add("surrogate", "baseline", {"data": DATA_MD5}, outs, "surrogate")
    with tracking.run("train", "baseline", config):
        pass
    run = only(store, record)
    assert (run.info.run_id, run.info.status) == (broken.run_id, "FINISHED")


def test_errors_of_the_work_come_through(store: Any, pipeline: Pipeline, config: Config) -> None:
    record = pipeline.train()
    with pytest.raises(ValueError, match="diverged"), tracking.run("train", "baseline", config):
        raise ValueError("diverged")
    assert only(store, record).info.status == "FAILED"


def test_a_network_that_learns_from_labels_is_one_run(store: Any, pipeline: Pipeline, config: Config) -> None:
    record = pipeline.resnet("semi_supervised")
    with tracking.run("resnet", "semi_supervised", config) as tracked:
        tracked.epoch(epoch(1))
    run = only(store, record)
    assert run.info.status == "FINISHED"
    assert run.info.run_name == "resnet semi_supervised tiny_bench seed 0"
    assert steps(store, run, "train_loss") == [(1, 3.0), (2, 1.5)]
    assert run.data.metrics["accuracy_mean"] == SUMMARY["accuracy_mean"]
    assert run.data.metrics["class_cat_accuracy"] == 70
    assert not any("leaky" in name or name.endswith("_C") for name in run.data.metrics)
    made = {"md5.model", "md5.curve", "md5.eval", "md5.classifiers"}
    assert made <= set(run.data.tags)


# Sending what the store lacks


def test_everything_is_sent_once(store: Any, pipeline: Pipeline, config: Config) -> None:
    pipeline.everything(config)
    stages = [f"train@{name}" for name in config.variants.train] + [
        f"evaluate@{name}" for name in config.variants.evaluate
    ]
    stages += [f"resnet@{name}" for name in config.variants.label]
    assert len(stages) > 10
    assert tracking.send(config) == dict.fromkeys(stages, "sent")
    before = {stage: only(store, pipeline.records[stage]) for stage in stages}
    assert tracking.send(config) == dict.fromkeys(stages, "there already")
    for stage in stages:
        after = only(store, pipeline.records[stage])
        assert after.info.status == "FINISHED"
        assert after.data.to_dictionary() == before[stage].data.to_dictionary()


def test_what_is_sent_is_what_would_have_been_logged(store: Any, pipeline: Pipeline, config: Config) -> None:
    record = pipeline.train()
    tracking.send(config)
    sent = only(store, record)
    store.delete_run(sent.info.run_id)
    with tracking.run("train", "baseline", config) as tracked:
        tracked.epoch(epoch(1))
    logged = only(store, record)
    assert logged.info.run_id != sent.info.run_id
    assert (logged.info.run_name, logged.data.params, logged.data.tags, logged.data.metrics) == (
        sent.info.run_name,
        sent.data.params,
        sent.data.tags,
        sent.data.metrics,
    )


def test_a_run_that_broke_off_is_completed(store: Any, pipeline: Pipeline, config: Config) -> None:
    record = pipeline.train(epochs=3)
    broken = tracking._open(store, record, pipeline.records, config)
    broken.epoch(epoch(1))  # the server goes down here, the training goes on
    assert tracking.send(config)["train@baseline"] == "sent"
    run = only(store, record)
    assert (run.info.run_id, run.info.status) == (broken.run_id, "FINISHED")
    assert steps(store, run, "epoch") == [(1, 1.0), (2, 2.0), (3, 3.0)]


def test_results_that_do_not_stand_are_left_out(store: Any, folder: Path, pipeline: Pipeline, config: Config) -> None:
    pipeline.everything(config)
    del pipeline.values["network"]
    (folder / "params.yaml").write_text(yaml.safe_dump(pipeline.values))
    said = tracking.send(config)
    assert "params.yaml says network" in said["train@baseline"]
    assert "params.yaml says network" in said["evaluate@baseline"]
    assert said["evaluate@raw_pixels"] == "sent"
    assert runs(store, pipeline.records["train@baseline"]) == []


def test_changed_metrics_are_left_out(store: Any, folder: Path, pipeline: Pipeline, config: Config) -> None:
    record = pipeline.evaluate("raw_pixels")
    (folder / paths.evaluation("raw_pixels")).write_text(json.dumps(SUMMARY | {"accuracy_mean": 99.0}))
    assert (
        tracking.send(config)["evaluate@raw_pixels"]
        == "metrics/raw_pixels/eval.json is not what evaluate@raw_pixels wrote"
    )
    assert runs(store, record) == []


def test_sending_says_what_is_wrong_with_the_store(no_server: None, pipeline: Pipeline, config: Config) -> None:
    pipeline.everything(config)
    with pytest.raises(StoreError, match=r"MLflow store http://127\.0\.0\.1:9"):
        tracking.send(config)


# Under `mlflow run`


@pytest.fixture
def parent(store: Any, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Any:
    experiment = store.create_experiment(request.node.nodeid)
    run = store.create_run(experiment, run_name="mine")
    store.log_param(run.info.run_id, "profile", "tiny")
    monkeypatch.setenv("MLFLOW_RUN_ID", run.info.run_id)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", experiment)
    return run


def test_runs_are_nested(store: Any, pipeline: Pipeline, config: Config, parent: Any) -> None:
    records = [pipeline.train("baseline"), pipeline.train("clustered")]
    for variant in ("baseline", "clustered"):
        with tracking.run("train", variant, config) as tracked:
            tracked.epoch(epoch(1))
    for record in records:
        run = only(store, record)
        assert run.data.tags["mlflow.parentRunId"] == parent.info.run_id
        assert run.info.experiment_id == parent.info.experiment_id
        assert run.info.status == "FINISHED"
    untouched = store.get_run(parent.info.run_id)
    assert (untouched.info.status, untouched.info.run_name) == ("RUNNING", "mine")
    assert untouched.data.params == {"profile": "tiny"}


@pytest.mark.slow
def test_the_parent_gets_the_figures_even_of_cached_stages(
    store: Any, pipeline: Pipeline, config: Config, monkeypatch: pytest.MonkeyPatch, parent: Any
) -> None:
    pipeline.everything(config)
    with monkeypatch.context() as before:
        before.delenv("MLFLOW_RUN_ID")
        tracking.send(config)  # all runs are there from before
    for _ in range(2):
        tracking.send(config)
    run = store.get_run(parent.info.run_id)
    expected = {f"{v}/{name}": SUMMARY[name] for v in config.rows for name in ("accuracy_mean", "accuracy_std")}
    assert run.data.metrics == expected
    for name in expected:
        assert len(store.get_metric_history(parent.info.run_id, name)) == 1
    found = only(store, pipeline.records["evaluate@baseline"])
    assert run.data.tags["run.evaluate.baseline"] == found.info.run_id
    assert run.data.tags["data.md5"] == DATA_MD5
    assert {artifact.path for artifact in store.list_artifacts(parent.info.run_id)} == {"results.png", "results.json"}
    assert (run.info.status, run.info.run_name) == ("RUNNING", "mine")


def test_a_report_of_other_evaluations_is_not_attached(
    store: Any, pipeline: Pipeline, config: Config, parent: Any
) -> None:
    pipeline.everything(config)
    results = json.loads(paths.RESULTS_JSON.read_text())
    results["rows"][0]["fold_accuracies"][0] += 1
    write_json(paths.RESULTS_JSON, results)
    tracking.send(config)
    assert store.list_artifacts(parent.info.run_id) == []


def test_a_parent_that_is_not_in_the_store(
    store: Any, pipeline: Pipeline, config: Config, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("MLFLOW_RUN_ID", md5(pipeline.mark.encode()).hexdigest())
    record = pipeline.train()
    with tracking.run("train", "baseline", config):
        pass
    tracking.send(config)
    run = only(store, record)
    assert run.info.status == "FINISHED"
    assert "mlflow.parentRunId" not in run.data.tags
    (warning,) = warnings(caplog)
    assert "is not in the store" in warning


def test_a_deleted_experiment_is_named(
    store: Any,
    pipeline: Pipeline,
    config: Config,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", pipeline.mark)
    store.delete_experiment(store.create_experiment(pipeline.mark))
    pipeline.train()
    with tracking.run("train", "baseline", config):
        pass
    (warning,) = warnings(caplog)
    assert "is deleted; `mlflow experiments restore" in warning


def test_an_experiment_named_by_the_user(
    store: Any, pipeline: Pipeline, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = pipeline.train()
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", pipeline.mark)
    with tracking.run("train", "baseline", config):
        pass
    assert store.get_experiment(only(store, record).info.experiment_id).name == pipeline.mark
    # The same work is found again wherever its run is.
    monkeypatch.delenv("MLFLOW_EXPERIMENT_NAME")
    tracking.send(config)
    only(store, record)


# A store that fails


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    ours = (tracking.log.name, store_module.log.name)
    return [r.getMessage() for r in caplog.records if r.name in ours and r.levelno == logging.WARNING]


def test_a_store_out_of_reach_only_warns(
    no_server: None, pipeline: Pipeline, config: Config, caplog: pytest.LogCaptureFixture
) -> None:
    pipeline.train()
    done = []
    with tracking.run("train", "baseline", config) as tracked:
        tracked.epoch(epoch(1))
        tracked.artifact(paths.patches_picture("baseline"))
        done.append(True)
    assert done
    (warning,) = warnings(caplog)
    assert "http://127.0.0.1:9" in warning
    assert "The work continues" in warning


def test_a_store_out_of_reach_does_not_hide_errors_of_the_work(
    no_server: None, pipeline: Pipeline, config: Config
) -> None:
    pipeline.train()
    with pytest.raises(ValueError, match="diverged"), tracking.run("train", "baseline", config):
        raise ValueError("diverged")


def test_passwords_are_not_repeated(
    no_server: None,
    monkeypatch: pytest.MonkeyPatch,
    pipeline: Pipeline,
    config: Config,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:secret@127.0.0.1:9")
    pipeline.train()
    with tracking.run("train", "baseline", config):
        pass
    (warning,) = warnings(caplog)
    assert "secret" not in warning


def test_a_folder_that_dvc_does_not_know_only_warns(
    store: Any, folder: Path, config: Config, caplog: pytest.LogCaptureFixture
) -> None:
    done = []
    with tracking.run("train", "baseline", config):
        done.append(True)
    assert done
    (warning,) = warnings(caplog)
    assert "not inside of a DVC repository" in warning


def test_a_broken_store_only_warns(
    folder: Path,
    pipeline: Pipeline,
    config: Config,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    pipeline.train()
    (folder / "mlflow.db").write_text("this is no data base, but a text of some length " * 20)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
    with tracking.run("train", "baseline", config) as tracked:
        tracked.epoch(epoch(1))
    assert len(warnings(caplog)) == 1


def test_a_store_that_fails_on_the_way_warns_once(
    store: Any, pipeline: Pipeline, config: Config, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = pipeline.train(epochs=3)
    with tracking.run("train", "baseline", config) as tracked:
        tracked.epoch(epoch(1))

        def fail(*arguments: Any, **named: Any) -> None:
            raise OSError("database is locked")

        monkeypatch.setattr(tracked._client, "log_batch", fail)
        tracked.epoch(epoch(2))
        tracked.epoch(epoch(3))
    (warning,) = warnings(caplog)
    assert "database is locked" in warning
    # It stays unfinished, so that it is completed later.
    run = only(store, record)
    assert run.info.status == "RUNNING"
    assert tracking.send(config)["train@baseline"] == "sent"
    assert steps(store, only(store, record), "epoch") == [(1, 1.0), (2, 2.0), (3, 3.0)]
