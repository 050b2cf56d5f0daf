"""What is sent afterwards: runs that the store lacks, pictures that a run lacks, and the figures of a parent."""

import json
from hashlib import md5
from pathlib import Path
from typing import Any

import pytest

from exemplarcnn import paths
from exemplarcnn.config.params import Config
from exemplarcnn.files import read_json, write_json
from exemplarcnn.tracking import runs as tracking
from exemplarcnn.tracking import sending
from exemplarcnn.tracking.relocation import NOTE
from exemplarcnn.tracking.store import StoreError
from tests.conftest import DATA_MD5, SUMMARY, Pipeline, epoch, write_yaml
from tests.mlflow_runs import artifacts, only, runs, steps, warnings, without_description


def test_everything_is_sent_once(store: Any, pipeline: Pipeline, config: Config) -> None:
    pipeline.everything(config)
    stages = [f"train@{name}" for name in config.variants.train] + [
        f"evaluate@{name}" for name in config.variants.evaluate
    ]
    stages += [f"resnet@{name}" for name in config.variants.label]
    assert len(stages) > 10
    assert sending.send(config) == dict.fromkeys(stages, "sent")
    before = {stage: only(store, pipeline.records[stage]) for stage in stages}
    assert sending.send(config) == dict.fromkeys(stages, "there already")
    for stage in stages:
        after = only(store, pipeline.records[stage])
        assert after.info.status == "FINISHED"
        assert after.data.to_dictionary() == before[stage].data.to_dictionary()


def test_what_is_sent_is_what_would_have_been_logged(store: Any, pipeline: Pipeline, config: Config) -> None:
    record = pipeline.train()
    sending.send(config)
    sent = only(store, record)
    store.delete_run(sent.info.run_id)
    with tracking.run("train", "baseline", config) as tracked:
        tracked.epoch(epoch(1))
    logged = only(store, record)
    assert logged.info.run_id != sent.info.run_id
    assert logged.info.run_name == sent.info.run_name
    assert without_description(logged) == without_description(sent)
    sending.send(config)  # adds the pictures, which come after the run
    notes = [run.data.tags[NOTE].replace(run.info.run_id, "") for run in (only(store, record), sent)]
    assert notes[0] == notes[1]


def test_a_run_that_broke_off_is_completed(store: Any, pipeline: Pipeline, config: Config) -> None:
    record = pipeline.train(epochs=3)
    broken = tracking.open_run(store, record, pipeline.records, config)
    broken.epoch(epoch(1))  # the server goes down here, the training goes on
    assert sending.send(config)["train@baseline"] == "sent"
    run = only(store, record)
    assert (run.info.run_id, run.info.status) == (broken.run_id, "FINISHED")
    assert steps(store, run, "epoch") == [(1, 1.0), (2, 2.0), (3, 3.0)]


def test_results_that_do_not_stand_are_left_out(store: Any, folder: Path, pipeline: Pipeline, config: Config) -> None:
    pipeline.everything(config)
    del pipeline.values["network"]
    write_yaml(folder / "params.yaml", pipeline.values)
    said = sending.send(config)
    assert "params.yaml says network" in said["train@baseline"]
    assert "params.yaml says network" in said["evaluate@baseline"]
    assert said["evaluate@raw_pixels"] == "sent"
    assert runs(store, pipeline.records["train@baseline"]) == []


def test_changed_metrics_are_left_out(store: Any, folder: Path, pipeline: Pipeline, config: Config) -> None:
    record = pipeline.evaluate("raw_pixels")
    (folder / paths.evaluation("raw_pixels")).write_text(json.dumps(SUMMARY | {"accuracy_mean": 99.0}))
    assert (
        sending.send(config)["evaluate@raw_pixels"]
        == "metrics/raw_pixels/eval.json is not what evaluate@raw_pixels wrote"
    )
    assert runs(store, record) == []


def test_sending_says_what_is_wrong_with_the_store(no_server: None, pipeline: Pipeline, config: Config) -> None:
    pipeline.everything(config)
    with pytest.raises(StoreError, match=r"MLflow store http://127\.0\.0\.1:9"):
        sending.send(config)


# Pictures


def test_a_finished_run_gets_the_pictures_that_it_lacks(store: Any, pipeline: Pipeline, config: Config) -> None:
    """The stage that draws comes after the run is finished."""
    records = [pipeline.train(), pipeline.evaluate("baseline"), pipeline.resnet("supervised")]
    stages = [record.stage for record in records]
    for stage in stages:
        kind, variant = stage.split("@")
        with tracking.run(kind, variant, config):
            pass
    before = [only(store, record) for record in records]
    assert {run.info.status for run in before} == {"FINISHED"}
    assert [artifacts(store, run) for run in before] == [[], [], []]
    said = sending.send(config)
    assert {said[stage] for stage in stages} == {sending.PICTURES_SENT}
    drawn = [("filters/baseline", "patches/baseline"), ("confusion/baseline", "mistakes/baseline")]
    drawn += [("confusion/supervised", "mistakes/supervised")]
    assert [artifacts(store, run) for run in before] == [[f"{name}.png" for name in names] for names in drawn]
    after = [only(store, record) for record in records]
    assert [run.info.end_time for run in after] == [run.info.end_time for run in before]
    assert [without_description(run) for run in after] == [without_description(run) for run in before]
    said = sending.send(config)
    assert {said[stage] for stage in stages} == {sending.THERE}


def test_a_run_gets_only_what_it_lacks_and_keeps_what_it_has(store: Any, pipeline: Pipeline, config: Config) -> None:
    record = pipeline.train()
    paths.filters_picture("baseline").unlink()
    assert sending.send(config)["train@baseline"] == sending.SENT
    run = only(store, record)
    assert artifacts(store, run) == ["patches/baseline.png"]
    before = paths.patches_picture("baseline").read_bytes()
    pipeline.train()  # draws both
    paths.patches_picture("baseline").write_bytes(b"the same patches with another caption")
    assert sending.send(config)["train@baseline"] == sending.PICTURES_SENT
    assert artifacts(store, run) == ["filters/baseline.png", "patches/baseline.png"]
    kept = store.download_artifacts(run.info.run_id, "patches/baseline.png", str(pipeline.folder))
    assert Path(kept).read_bytes() == before


@pytest.mark.parametrize("when", ["before the result", "nobody knows when", "of something else, too"])
def test_a_picture_of_another_result_is_not_attached(store: Any, pipeline: Pipeline, config: Config, when: str) -> None:
    record = pipeline.train()
    sources = read_json(paths.PICTURE_SOURCES)
    if when == "before the result":
        sources["filters/baseline.png"] = ["another model"]
    elif when == "nobody knows when":
        del sources["filters/baseline.png"]
    else:
        sources["filters/baseline.png"].append("what no stage before has made")
    write_json(paths.PICTURE_SOURCES, sources)
    sending.send(config)
    assert artifacts(store, only(store, record)) == ["patches/baseline.png"]


def test_a_run_of_another_result_gets_no_pictures(
    store: Any, pipeline: Pipeline, config: Config, caplog: pytest.LogCaptureFixture
) -> None:
    """The same work on another kind of CPU: one run, with the result of who came first."""
    record = pipeline.train()
    with tracking.run("train", "baseline", config):
        pass
    run = only(store, record)
    store.set_tag(run.info.run_id, "md5.model", "of another CPU")
    assert sending.send(config)["train@baseline"] == sending.THERE
    assert artifacts(store, run) == []
    (warning,) = warnings(caplog)
    assert "gave another result" in warning


def test_where_nothing_was_drawn_nothing_is_attached(store: Any, pipeline: Pipeline, config: Config) -> None:
    record = pipeline.train()
    paths.PICTURE_SOURCES.unlink()
    assert sending.send(config)["train@baseline"] == sending.SENT
    assert artifacts(store, only(store, record)) == []


def test_pictures_that_the_store_does_not_take_are_sent_later(
    store: Any, pipeline: Pipeline, config: Config, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    record = pipeline.train()

    def fail(*arguments: Any) -> None:
        raise OSError("no space left on device")

    with monkeypatch.context() as full:
        full.setattr(type(store), "log_artifact", fail)
        assert sending.send(config)["train@baseline"] == sending.BROKEN
    (warning,) = warnings(caplog)
    assert "no space left on device" in warning
    assert only(store, record).info.status == "FINISHED"
    assert sending.send(config)["train@baseline"] == sending.PICTURES_SENT
    assert artifacts(store, only(store, record)) == ["filters/baseline.png", "patches/baseline.png"]


def test_artifacts_are_listed_once_a_run(
    store: Any, pipeline: Pipeline, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each listing asks the store."""
    pipeline.train()
    pipeline.evaluate("baseline")
    listed = []
    list_artifacts = type(store).list_artifacts

    def spy(client: Any, run_id: str, *path: str) -> Any:
        listed.append(run_id)
        return list_artifacts(client, run_id, *path)

    monkeypatch.setattr(type(store), "list_artifacts", spy)
    sending.send(config)
    sending.send(config)
    assert [listed.count(run) for run in set(listed)] == [2, 2]


# Descriptions


def test_a_description_names_the_pictures_that_the_run_has(store: Any, pipeline: Pipeline, config: Config) -> None:
    record = pipeline.evaluate("baseline")
    with tracking.run("evaluate", "baseline", config):
        pass
    before = only(store, record)
    assert "![" not in before.data.tags[NOTE]
    sending.send(config)
    text = only(store, record).data.tags[NOTE]
    assert text.startswith(before.data.tags[NOTE])
    assert f"![confusion](get-artifact?path=confusion%2Fbaseline.png&run_uuid={before.info.run_id})" in text
    assert f"[mistakes](#/experiments/{before.info.experiment_id}/runs/{before.info.run_id}/artifacts/mistakes/" in text
    # Another clone, which has not drawn them, does not forget them.
    paths.PICTURE_SOURCES.unlink()
    sending.send(config)
    assert only(store, record).data.tags[NOTE] == text


def test_a_run_from_before_there_were_descriptions_gets_one(store: Any, pipeline: Pipeline, config: Config) -> None:
    record = pipeline.evaluate("baseline")
    sending.send(config)
    run = only(store, record)
    for name in (NOTE, tracking.DESCRIBED):
        store.delete_tag(run.info.run_id, name)
    assert sending.send(config)["evaluate@baseline"] == sending.THERE
    assert only(store, record).data.tags == run.data.tags


def test_what_somebody_has_written_stays(store: Any, pipeline: Pipeline, config: Config) -> None:
    record = pipeline.evaluate("baseline")
    with tracking.run("evaluate", "baseline", config):
        pass
    store.set_tag(only(store, record).info.run_id, NOTE, "my own words")
    sending.send(config)
    assert only(store, record).data.tags[NOTE] == "my own words"


def test_a_description_that_somebody_has_emptied_or_deleted_stays_so(
    store: Any, pipeline: Pipeline, config: Config
) -> None:
    record = pipeline.evaluate("baseline")
    sending.send(config)
    run_id = only(store, record).info.run_id
    store.set_tag(run_id, NOTE, "")
    sending.send(config)
    assert only(store, record).data.tags[NOTE] == ""
    store.delete_tag(run_id, NOTE)
    sending.send(config)
    assert NOTE not in only(store, record).data.tags


def test_a_run_of_another_result_is_not_described_by_ours(store: Any, pipeline: Pipeline, config: Config) -> None:
    record = pipeline.evaluate("baseline")
    with tracking.run("evaluate", "baseline", config):
        pass
    run = only(store, record)
    store.set_tag(run.info.run_id, "md5.eval", "of another CPU")
    for name in (NOTE, tracking.DESCRIBED):
        store.delete_tag(run.info.run_id, name)
    sending.send(config)
    assert NOTE not in only(store, record).data.tags


def test_a_store_that_refuses_descriptions_takes_the_rest(
    store: Any, pipeline: Pipeline, config: Config, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    records = [pipeline.train(), pipeline.evaluate("baseline")]
    log_batch = type(store).log_batch

    def refuse(client: Any, run_id: str, **named: Any) -> Any:
        if any(tag.key == NOTE for tag in named.get("tags", ())):
            raise OSError("no such tag")
        return log_batch(client, run_id, **named)

    monkeypatch.setattr(type(store), "log_batch", refuse)
    said = sending.send(config)
    assert [said[record.stage] for record in records] == [sending.SENT, sending.SENT]
    (warning,) = warnings(caplog)  # one for all
    assert "no such tag" in warning
    assert [only(store, record).info.status for record in records] == ["FINISHED", "FINISHED"]
    assert len(artifacts(store, only(store, records[1]))) == 2


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
        sending.send(config)  # all runs are there from before
    for _ in range(2):
        sending.send(config)
    run = store.get_run(parent.info.run_id)
    expected = {f"{v}/{name}": SUMMARY[name] for v in config.rows for name in ("accuracy_mean", "accuracy_std")}
    assert run.data.metrics == expected
    for name in expected:
        assert len(store.get_metric_history(parent.info.run_id, name)) == 1
    found = only(store, pipeline.records["evaluate@baseline"])
    assert run.data.tags["run.evaluate.baseline"] == found.info.run_id
    assert run.data.tags["data.md5"] == DATA_MD5
    assert artifacts(store, parent) == ["differences.png", "results.json", "results.png"]
    assert "| Clustering | 60.00 ± 1.50 |" in run.data.tags[NOTE]
    assert (run.info.status, run.info.run_name) == ("RUNNING", "mine")


@pytest.mark.slow
def test_a_report_of_other_evaluations_is_not_attached(
    store: Any, pipeline: Pipeline, config: Config, parent: Any
) -> None:
    pipeline.everything(config)
    results = json.loads(paths.RESULTS_JSON.read_text())
    results["rows"][0]["fold_accuracies"][0] += 1
    write_json(paths.RESULTS_JSON, results)
    sending.send(config)
    assert artifacts(store, parent) == []


@pytest.mark.slow
def test_a_picture_of_another_report_is_not_attached(
    store: Any, pipeline: Pipeline, config: Config, parent: Any
) -> None:
    pipeline.everything(config)
    pipeline.draw(paths.RESULTS_PICTURE, "another report")
    sending.send(config)
    assert artifacts(store, parent) == ["differences.png", "results.json"]


def test_a_parent_that_is_not_in_the_store(
    store: Any, pipeline: Pipeline, config: Config, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("MLFLOW_RUN_ID", md5(pipeline.mark.encode()).hexdigest())
    record = pipeline.train()
    with tracking.run("train", "baseline", config):
        pass
    sending.send(config)
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
    sending.send(config)
    only(store, record)
