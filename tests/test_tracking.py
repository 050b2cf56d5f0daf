"""The MLflow store: what is logged, what is found again, and that its failures never stop the work."""

import logging
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from exemplarcnn import paths, tracking
from exemplarcnn.config import Config, compose
from exemplarcnn.files import write_json
from exemplarcnn.training import Epoch

CONF = Path(__file__).parents[1] / "conf"
SUMMARY = {
    "accuracy_mean": 60.0,
    "accuracy_std": 1.5,
    "fold_accuracies": [58.5, 61.5],
    "C": [0.1, 10.0],
    "class_accuracies": {"cat": 70.0, "dog": 50.0},
}


@pytest.fixture(scope="session")
def store_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One store for all tests: making its tables takes seconds. Each test has an identity of its own."""
    return tmp_path_factory.mktemp("store") / "mlflow.db"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder without git and without any of MLflow's variables."""
    monkeypatch.chdir(tmp_path)
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_RUN_ID", "DVC_ROOT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    return tmp_path


@pytest.fixture
def store(store_file: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    import mlflow

    uri = f"sqlite:///{store_file}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    yield mlflow.MlflowClient(uri)


@pytest.fixture
def identity(request: pytest.FixtureRequest) -> str:
    return f"identity of {request.node.name}"


@pytest.fixture(scope="module")
def config() -> Config:
    return Config.model_validate(compose(CONF, "tiny"))


def runs(store: Any, identity: str) -> list[Any]:
    experiment = store.get_experiment_by_name(tracking.EXPERIMENT)
    return list(store.search_runs([experiment.experiment_id], f"tags.identity = '{identity}'"))


def only(store: Any, identity: str) -> Any:
    (found,) = runs(store, identity)
    return found


def epoch(number: int) -> Epoch:
    return Epoch(number, 0.05, 3.0 / number, 0.1 * number, 3.5 / number, 0.09 * number)


def steps(store: Any, run: Any, metric: str) -> list[tuple[int, float]]:
    return sorted((m.step, m.value) for m in store.get_metric_history(run.info.run_id, metric))


def repository(folder: Path) -> str:
    words = ["git", "-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", "init", "-q", str(folder)], check=True)
    subprocess.run([*words, "commit", "-q", "--allow-empty", "-m", "x"], cwd=folder, check=True)
    answer = subprocess.run(["git", "rev-parse", "HEAD"], cwd=folder, check=True, capture_output=True, text=True)
    return answer.stdout.strip()


# Where the store is


def test_the_tracking_uri_comes_first(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://somewhere:5000")
    monkeypatch.setenv("DVC_ROOT", "/elsewhere")
    assert tracking.store_uri() == "http://somewhere:5000"


def test_then_dvcs_root(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    repository(folder)
    root = folder / "main"
    root.mkdir()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")
    monkeypatch.setenv("DVC_ROOT", str(root))
    assert tracking.store_uri() == f"sqlite:///{root}/mlflow.db"


def test_then_the_root_of_the_repository(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    repository(folder)
    below = folder / "a" / "b"
    below.mkdir(parents=True)
    monkeypatch.chdir(below)
    assert tracking.store_uri() == f"sqlite:///{folder.resolve()}/mlflow.db"


def test_else_the_working_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert tracking.store_uri() == f"sqlite:///{folder.resolve()}/mlflow.db"
    monkeypatch.setenv("PATH", str(folder))  # no git at all
    assert tracking.store_uri() == f"sqlite:///{folder.resolve()}/mlflow.db"


# Parameters


def test_flatten_gives_dotted_names_and_short_texts() -> None:
    nested = {"a": {"b": {"c": 1}, "d": None}, "e": [1, 2], "f": "x" * 900}
    assert tracking.flatten(nested, "p.") == {"p.a.b.c": "1", "p.a.d": "None", "p.e": "[1, 2]", "p.f": "x" * 500}


def test_parameters_of_a_variant(config: Config) -> None:
    found = tracking.params_of(config, "clustered")
    assert found["train.groups.dense2.lr"] == str(config.train.groups.dense2.lr)
    assert found["seed"] == str(config.seed)
    assert found["variant.from"] == "baseline"
    assert found["variant.merged_fraction"] == str(config.grouped["clustered"].merged_fraction)
    assert found["variant.patch"] == "32"
    assert not [name for name in found if name.startswith(("seeded", "grouped", "trained", "controls", "evaluated"))]
    assert not [name for name in found if "title" in name or "paper" in name]


def test_parameters_of_controls(config: Config) -> None:
    assert tracking.params_of(config, "raw_pixels")["variant.side"] == str(config.controls.raw_pixels.side)
    assert tracking.params_of(config, "random_network")["variant.of"] == config.controls.random_network.of


# What is logged


def test_a_training_run(store: Any, folder: Path, identity: str, config: Config) -> None:
    (folder / "data.dvc").write_text("outs:\n- md5: 90d2.dir\n  path: data\n")
    picture = folder / "patches.png"
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(picture)
    with tracking.run("train", "baseline", identity, config) as tracked:
        for number in (1, 2):
            tracked.epoch(epoch(number))
        tracked.picture(picture)
        tracked.picture(folder / "missing.png")
        assert only(store, identity).info.status == "RUNNING"
    run = only(store, identity)
    assert run.info.status == "FINISHED"
    assert run.data.params == tracking.params_of(config, "baseline")
    wanted = {"kind": "train", "variant": "baseline", "identity": identity, "profile": "tiny", "data.md5": "90d2.dir"}
    assert run.data.tags | wanted == run.data.tags
    assert "mlflow.parentRunId" not in run.data.tags
    assert steps(store, run, "train_loss") == [(1, 3.0), (2, 1.5)]
    assert steps(store, run, "valid_accuracy") == [(1, 0.09), (2, 0.18)]
    assert set(run.data.metrics) == {
        "epoch",
        "learning_rate",
        "train_loss",
        "train_accuracy",
        "valid_loss",
        "valid_accuracy",
    }
    assert [artifact.path for artifact in store.list_artifacts(run.info.run_id)] == ["patches.png"]


def test_an_evaluation_run_stands_alone(store: Any, folder: Path, identity: str, config: Config) -> None:
    curve = folder / paths.learning_curve("clustered")
    curve.parent.mkdir(parents=True)
    curve.write_text("epoch,train_loss,valid_loss,valid_accuracy\n1,3,4,0.1\n2,1,2,0.5\n")
    statistics = {
        "clusters": 5,
        "images_in_clusters": 11,
        "merged_fraction": 0.5,
        "threshold": 0.4,
        "single_classes": 7,
    }
    write_json(folder / paths.cluster_statistics("clustered"), statistics | {"cluster_sizes": {"2": 5}})
    with tracking.run("evaluate", "clustered", identity, config) as tracked:
        tracked.evaluation(SUMMARY)
    assert only(store, identity).data.metrics == {
        "accuracy_mean": 60.0,
        "accuracy_std": 1.5,
        "fold_0_accuracy": 58.5,
        "fold_1_accuracy": 61.5,
        "fold_0_C": 0.1,
        "fold_1_C": 10.0,
        "class_cat_accuracy": 70.0,
        "class_dog_accuracy": 50.0,
        "final_train_loss": 1.0,
        "final_valid_loss": 2.0,
        "final_valid_accuracy": 0.5,
        **{name: float(value) for name, value in statistics.items()},
    }


def test_more_parameters_than_one_call_takes(
    store: Any, identity: str, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracking, "PARAMS_A_CALL", 7)
    with tracking.run("train", "baseline", identity, config):
        pass
    assert only(store, identity).data.params == tracking.params_of(config, "baseline")


def test_the_commit_is_kept(store: Any, folder: Path, identity: str, config: Config) -> None:
    first = repository(folder)
    with tracking.run("train", "baseline", identity, config):
        pass
    tags = only(store, identity).data.tags
    assert tags["mlflow.source.git.commit"] == first
    assert tags[f"commit.{first}"] == "true"


# The same work again


def test_finished_work_leaves_one_run(store: Any, folder: Path, identity: str, config: Config) -> None:
    repository(folder)
    with tracking.run("train", "baseline", identity, config) as tracked:
        tracked.epoch(epoch(1))
    before = only(store, identity)
    words = ["git", "-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false", "commit", "-q"]
    subprocess.run([*words, "--allow-empty", "-m", "y"], cwd=folder, check=True)
    second = tracking._git("rev-parse", "HEAD")
    with tracking.run("train", "baseline", identity, config) as tracked:
        tracked.epoch(epoch(1))
        tracked.metrics({"other": 1.0})
    after = only(store, identity)
    assert after.info.run_id == before.info.run_id
    assert after.info.end_time == before.info.end_time
    assert after.data.metrics == before.data.metrics
    assert steps(store, after, "epoch") == [(1, 1.0)]
    assert after.data.tags == before.data.tags | {f"commit.{second}": "true"}


def test_failed_work_is_continued_without_doubled_epochs(store: Any, identity: str, config: Config) -> None:
    with (
        pytest.raises(KeyboardInterrupt),
        tracking.run("train", "baseline", identity, config) as tracked,
    ):
        tracked.epoch(epoch(1))
        tracked.epoch(epoch(2))
        raise KeyboardInterrupt
    before = only(store, identity)
    assert before.info.status == "FAILED"
    with tracking.run("train", "baseline", identity, config) as tracked:
        assert only(store, identity).info.status == "RUNNING"
        for number in (1, 2, 3):
            tracked.epoch(epoch(number))
    after = only(store, identity)
    assert (after.info.run_id, after.info.status) == (before.info.run_id, "FINISHED")
    for metric in ("epoch", "train_loss", "valid_loss"):
        assert [step for step, _ in steps(store, after, metric)] == [1, 2, 3]


def test_a_killed_run_is_continued(store: Any, identity: str, config: Config) -> None:
    # What a killed process leaves behind: a run that says it is running.
    tracking._open("train", "baseline", identity, config).epoch(epoch(1))
    with tracking.run("train", "baseline", identity, config) as tracked:
        tracked.epoch(epoch(1))
        tracked.epoch(epoch(2))
    run = only(store, identity)
    assert run.info.status == "FINISHED"
    assert steps(store, run, "epoch") == [(1, 1.0), (2, 2.0)]


def test_other_work_is_another_run(store: Any, identity: str, config: Config) -> None:
    for kind, variant in (("train", "baseline"), ("evaluate", "baseline"), ("train", "clustered")):
        with tracking.run(kind, variant, identity, config):
            pass
    with tracking.run("train", "baseline", identity + " too", config):
        pass
    assert len(runs(store, identity)) == 3
    assert len(runs(store, identity + " too")) == 1


def test_the_run_of_mlflow_run_becomes_the_parent(
    store: Any, identity: str, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_RUN_ID", "0123456789abcdef0123456789abcdef")
    for variant in ("baseline", "clustered"):
        with tracking.run("train", variant, identity, config) as tracked:
            tracked.epoch(epoch(1))
    found = runs(store, identity)
    assert len(found) == 2
    assert {run.data.tags["mlflow.parentRunId"] for run in found} == {"0123456789abcdef0123456789abcdef"}
    assert {run.info.status for run in found} == {"FINISHED"}


def test_errors_of_the_work_come_through(store: Any, identity: str, config: Config) -> None:
    with pytest.raises(ValueError, match="diverged"), tracking.run("train", "baseline", identity, config):
        raise ValueError("diverged")
    assert only(store, identity).info.status == "FAILED"


# A store that fails


@pytest.fixture
def no_server(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "2")
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.name == tracking.log.name and r.levelno == logging.WARNING]


def test_a_store_out_of_reach_only_warns(
    no_server: None, config: Config, caplog: pytest.LogCaptureFixture, folder: Path
) -> None:
    done = []
    picture = folder / "a.png"
    picture.write_bytes(b"x")
    with tracking.run("train", "baseline", "no server", config) as tracked:
        tracked.epoch(epoch(1))
        tracked.evaluation(SUMMARY)
        tracked.picture(picture)
        done.append(True)
    assert done
    (warning,) = warnings(caplog)
    assert "http://127.0.0.1:9" in warning
    assert "The stage goes on without it" in warning


def test_a_store_out_of_reach_does_not_hide_errors_of_the_work(no_server: None, config: Config) -> None:
    with pytest.raises(ValueError, match="diverged"), tracking.run("train", "baseline", "no server", config):
        raise ValueError("diverged")


def test_a_broken_store_only_warns(
    folder: Path, config: Config, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (folder / "mlflow.db").write_text("this is no data base, but a text of some length " * 20)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
    with tracking.run("train", "baseline", "broken", config) as tracked:
        tracked.epoch(epoch(1))
    assert len(warnings(caplog)) == 1


def test_a_store_that_fails_on_the_way_warns_once(
    store: Any, identity: str, config: Config, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    with tracking.run("train", "baseline", identity, config) as tracked:
        tracked.epoch(epoch(1))

        def fail(*arguments: Any, **named: Any) -> None:
            raise OSError("database is locked")

        monkeypatch.setattr(tracked._client, "log_batch", fail)
        tracked.epoch(epoch(2))
        tracked.epoch(epoch(3))
    (warning,) = warnings(caplog)
    assert "database is locked" in warning
    # It stays unfinished, so that the same work goes on with it.
    run = only(store, identity)
    assert run.info.status == "RUNNING"
    monkeypatch.undo()


def test_epochs_missed_by_a_failing_store_are_made_up_for(
    store: Any, identity: str, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracked = tracking._open("train", "baseline", identity, config)
    tracked.epoch(epoch(1))
    tracked._client = None  # the store failed here
    tracked.epoch(epoch(2))
    with tracking.run("train", "baseline", identity, config) as tracked:
        for number in (1, 2, 3):
            tracked.epoch(epoch(number))
    assert [step for step, _ in steps(store, only(store, identity), "epoch")] == [1, 2, 3]


# Where pictures go


def test_pictures_lie_beside_the_store_wherever_it_is_made_from(
    store_file: Path, folder: Path, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlflow

    root, temporary = folder / "root", folder / "temporary"
    root.mkdir()
    temporary.mkdir()
    monkeypatch.setattr(tracking, "EXPERIMENT", f"exemplarcnn of {folder.name}")
    monkeypatch.setenv("DVC_ROOT", str(root))
    # A new store takes seconds; a new experiment in the shared one is enough.
    (root / "mlflow.db").symlink_to(store_file)
    monkeypatch.chdir(temporary)
    with tracking.run("train", "baseline", "anything", config):
        pass
    experiment = mlflow.MlflowClient(tracking.store_uri()).get_experiment_by_name(tracking.EXPERIMENT)
    assert str(temporary) not in experiment.artifact_location


@pytest.mark.parametrize(
    "uri",
    [
        "sqlite:////somewhere/a b/mlflow.db",
        "sqlite:///mlflow.db",
        "sqlite:///below/mlflow.db",
    ],
)
def test_every_form_of_a_local_store_gets_a_place_for_pictures(
    folder: Path, monkeypatch: pytest.MonkeyPatch, uri: str
) -> None:
    class Client:
        def create_experiment(self, name: str, artifact_location: str | None = None) -> str:
            return str(artifact_location)

    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    expected = (folder / uri.removeprefix("sqlite:///")).parent / "mlartifacts"
    assert tracking._create_experiment(Client()) == expected.as_uri()
