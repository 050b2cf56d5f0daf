"""What is logged, what is found again, and that a store that fails never stops the work."""

import subprocess
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from exemplarcnn import paths
from exemplarcnn.config.params import Config
from exemplarcnn.files import write_json
from exemplarcnn.tracking import lineage, measures, sending
from exemplarcnn.tracking import runs as tracking
from exemplarcnn.tracking.lineage import Record
from exemplarcnn.tracking.parameters import key, params_of
from exemplarcnn.tracking.relocation import NOTE
from tests.conftest import CONF, DATA_MD5, SUMMARY, Pipeline, epoch, one_fast, write_yaml
from tests.mlflow_runs import artifacts, only, runs, steps, warnings


def repository(folder: Path) -> str:
    subprocess.run(["git", "init", "-q", str(folder)], check=True)
    return commit(folder)


def commit(folder: Path) -> str:
    words = ["git", "-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", "add", "-A"], cwd=folder, check=True)
    subprocess.run([*words, "commit", "-q", "--allow-empty", "-m", "x"], cwd=folder, check=True)
    answer = subprocess.run(["git", "rev-parse", "HEAD"], cwd=folder, check=True, capture_output=True, text=True)
    return answer.stdout.strip()


def test_a_training_run(store: Any, pipeline: Pipeline, config: Config) -> None:
    record = pipeline.train()
    with tracking.run("train", "baseline", config) as tracked:
        tracked.epoch(epoch(1))
        assert only(store, record).info.status == "RUNNING"
        assert steps(store, only(store, record), "train_loss") == [(1, 3.0)]
    run = only(store, record)
    assert run.info.status == "FINISHED"
    assert run.data.params == params_of(record, pipeline.records)
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
    assert found == {"epoch", *measures.CURVE} - {"probe_accuracy"}
    assert artifacts(store, run) == [], "pictures come later"


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


def test_files_of_former_entries_are_not_measured(store: Any, pipeline: Pipeline, config: Config) -> None:
    """metrics/ is in git, and DVC removes nothing from it when a network becomes, say, a control."""
    pipeline.train("clustered")
    pipeline.evaluate("clustered")
    write_json(paths.cluster_statistics("clustered"), dict.fromkeys(measures.CLUSTERS, 1))
    assert {"final_train_loss", "clusters"} <= set(measures.evaluation("clustered"))
    for stage in ("train", "group"):
        del pipeline.values["variants"][stage]["clustered"]
    write_yaml(pipeline.folder / "params.yaml", pipeline.values)
    found = measures.evaluation("clustered")
    assert not {name for name in found if name.startswith("final_") or name in measures.CLUSTERS}
    assert found["accuracy_mean"] == 60


def test_parameters_that_are_edited_while_a_stage_works_are_not_the_runs(
    store: Any, pipeline: Pipeline, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, after = pipeline.train(epochs=2), None
    pipeline.values["train"] |= {"epochs": 77}
    after = pipeline.train(epochs=2)
    assert before.identity != after.identity
    answers = iter([before, after])
    monkeypatch.setattr(lineage, "current", lambda stage: next(answers))
    with tracking.run("train", "baseline", config):
        pass
    run = only(store, before)
    assert run.info.status == "FINISHED"
    assert "77" not in (run.data.params["train.epochs"], run.data.tags["mlflow.note.content"])
    assert runs(store, after) == []


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


def test_classes_of_any_name_have_an_accuracy_each(store: Any, pipeline: Pipeline, config: Config) -> None:
    accuracies = {"C#": 10.0, "C+": 20.0, "C": 30.0, "long " * 60 + "a": 40.0, "long " * 60 + "b": 50.0, "a//b": 60.0}
    record = pipeline.evaluate("baseline")
    write_json(paths.evaluation("baseline"), SUMMARY | {"class_accuracies": accuracies})
    with tracking.run("evaluate", "baseline", config):
        pass
    run = only(store, record)
    assert run.info.status == "FINISHED"
    found = {name: run.data.metrics[key(f"class_{name}_accuracy")] for name in accuracies}
    assert found == accuracies
    assert sum(name.startswith("class_") for name in run.data.metrics) == len(accuracies)


def test_more_parameters_than_one_call_takes(
    store: Any, pipeline: Pipeline, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracking, "PARAMS_A_CALL", 7)
    record = pipeline.train()
    with tracking.run("train", "baseline", config):
        pass
    assert only(store, record).data.params == params_of(record, pipeline.records)


def test_names_tell_what_was_changed(store: Any, folder: Path, pipeline: Pipeline, config: Config) -> None:
    (folder / "conf").symlink_to(CONF)
    same = pipeline.train()
    with tracking.run("train", "baseline", config):
        pass
    pipeline.values["train"]["epochs"] = 7
    other = pipeline.train()
    with tracking.run("train", "baseline", config):
        pass
    assert only(store, same).info.run_name == "baseline training · seed 0 · tiny_bench"
    run = only(store, other)
    assert run.info.run_name == "baseline training · train.epochs=7 · seed 0 · tiny_bench"
    assert "Changed from the profile: `train.epochs=7`." in run.data.tags[NOTE]
    assert "Changed" not in only(store, same).data.tags[NOTE]


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
    assert key("experiment.c++") in tags


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
    write_yaml(folder / "params.yaml", pipeline.values)
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
    tracking.open_run(store, record, pipeline.records, config).epoch(epoch(1))
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
        opened = list(pool.map(lambda _: tracking.open_run(store, record, pipeline.records, config), range(4)))
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
    sending.send(config)
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
    assert sending.send(config)["train@baseline"] == sending.PICTURES_SENT
    assert runs(store, record) == []
    assert tracking.find(store, record, pipeline.records).info.run_id == old
    assert store.get_run(old).data.tags[f"commit.{commit_id}"] == "true"


@pytest.mark.parametrize(
    "changed",
    one_fast(
        [
            {"variant.total_patches": "100"},
            {"variant.patches_per_image": "5"},
            {"train.epochs": "3"},
            {"variant": "clustered"},
            {"data.md5": "0.dir"},
            {"md5.model": "0.dir"},
            {"md5.curve": "0"},
            {"status": "FAILED"},
        ]
    ),
    ids=str,
)
def test_another_result_is_sent(changed: dict[str, str], store: Any, pipeline: Pipeline, config: Config) -> None:
    record, old = before_the_renaming(store, pipeline, config, **changed)
    assert sending.send(config)["train@baseline"] == "sent"
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
    assert warning.startswith("dvc.lock: git left a conflict in it, at line 2; take one side (`git checkout")
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
    broken = tracking.open_run(store, record, pipeline.records, config)
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
    assert run.info.run_name == "semi_supervised · seed 0 · tiny_bench"
    assert steps(store, run, "train_loss") == [(1, 3.0), (2, 1.5)]
    assert run.data.metrics["accuracy_mean"] == SUMMARY["accuracy_mean"]
    assert run.data.metrics["class_cat_accuracy"] == 70
    assert not any("leaky" in name or name.endswith("_C") for name in run.data.metrics)
    made = {"md5.model", "md5.curve", "md5.eval", "md5.classifiers"}
    assert made <= set(run.data.tags)


# A store that fails


def test_a_store_out_of_reach_only_warns(
    no_server: None, pipeline: Pipeline, config: Config, caplog: pytest.LogCaptureFixture
) -> None:
    pipeline.train()
    done = []
    with tracking.run("train", "baseline", config) as tracked:
        tracked.epoch(epoch(1))
        tracked.attach([paths.patches_picture("baseline")])
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
    assert sending.send(config)["train@baseline"] == "sent"
    assert steps(store, only(store, record), "epoch") == [(1, 1.0), (2, 2.0), (3, 3.0)]
