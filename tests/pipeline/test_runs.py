"""Runs of `mlflow run`, of DVC's experiments and of `dvc repro` in one store, and a store that is not always there."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlflow
import pytest
import yaml

from .conftest import Project

EVALUATED = ["raw_pixels", "kmeans", "random_network", "baseline", "clustered"]
STAGES = [f"evaluate {name}" for name in EVALUATED] + ["train baseline", "train clustered"]


@pytest.fixture
def project(finished: Project) -> Iterator[Project]:
    """The finished project, with its results committed; parameters and results are set back afterwards."""
    finished.run("exemplarcnn", "profile", "tiny")
    finished.git("add", "-A")
    words = ("-c", "user.name=test", "-c", "user.email=test@localhost", "commit", "-q", "--allow-empty")
    finished.git(*words, "-m", "results")
    yield finished
    finished.git("checkout", "-q", ".")
    finished.dvc("checkout", "-q")


def store_of(project: Project) -> str:
    return f"sqlite:///{project.folder}/mlflow.db"


def runs(uri: str) -> dict[str, Any]:
    client = mlflow.MlflowClient(uri)
    everywhere = [experiment.experiment_id for experiment in client.search_experiments()]
    return {run.info.run_id: run for run in client.search_runs(everywhere)}


def of_stages(found: dict[str, Any]) -> list[Any]:
    return [run for run in found.values() if run.data.tags.get("kind") in ("train", "evaluate")]


def parents(found: dict[str, Any]) -> list[Any]:
    return [run for run in found.values() if run.data.tags.get("kind") not in ("train", "evaluate")]


def whole_run(project: Project, folder: Path | None = None) -> None:
    """`mlflow run` of the project, with an address that is relative, as MLflow's own default is."""
    store = f"sqlite:///{os.path.relpath(project.folder / 'mlflow.db', folder or project.folder)}"
    words = ["mlflow", "run", str(project.folder), "--env-manager=local", "-P", "profile=tiny"]
    # What a relative address is relative to, is told by the process of `mlflow run` itself.
    project.run(*words, folder=folder, cold=folder is not None, MLFLOW_TRACKING_URI=store)


def fewer_centres(values: dict[str, Any]) -> None:
    values["variants"]["control"]["kmeans"]["centres"] = 19


def test_one_stage_under_mlflow_run(project: Project) -> None:
    before = runs(store_of(project))
    project.change(lambda values: values["evaluate"].update(inner_folds=3))
    words = ["mlflow", "run", ".", "--env-manager=local", "-e", "evaluate", "-P", "variant=raw_pixels"]
    project.run(*words, MLFLOW_TRACKING_URI=store_of(project))
    new = {key: run for key, run in runs(store_of(project)).items() if key not in before}
    (parent,), (child,) = parents(new), of_stages(new)
    assert child.data.tags["mlflow.parentRunId"] == parent.info.run_id
    assert child.info.experiment_id == parent.info.experiment_id
    assert child.info.run_name == "raw_pixels · evaluate.inner_folds=3 · seed 0 · tiny"
    assert parent.data.metrics["raw_pixels/accuracy_mean"] == child.data.metrics["accuracy_mean"]
    assert {run.info.status for run in new.values()} == {"FINISHED"}


def test_a_queued_experiment_runs_its_own_code_and_reaches_the_main_store(project: Project) -> None:
    before = runs(store_of(project))
    words = ("-S", "profile=tiny", "-S", "variants.control.kmeans.centres=21")
    project.dvc("exp", "run", "--queue", "-n", "more-centres", *words)
    # An experiment in a folder of its own must not look at the code that somebody goes on editing in the main one.
    edited = project.folder / "src/exemplarcnn/stages/evaluate.py"
    code = edited.read_text()
    edited.write_text("raise SystemExit('code of the main folder')\n")
    project.dvc("exp", "run", "--run-all")
    edited.write_text(code)
    after = runs(store_of(project))
    (new,) = (run for key, run in after.items() if key not in before)
    assert (new.data.tags["variant"], new.info.status) == ("kmeans", "FINISHED")
    assert new.data.tags["mlflow.source.git.commit"] == project.run("git", "rev-parse", "HEAD").stdout.strip()
    tagged = [run for run in after.values() if "experiment.more-centres" in run.data.tags]
    # Those that DVC took from its cache are told about the experiment too.
    assert Counter(run.data.tags["kind"] for run in tagged) == {"evaluate": len(EVALUATED), "train": 2}
    assert "more-centres" in project.dvc("exp", "show", "--json").stdout
    listed = json.loads(project.run("exemplarcnn", "compare", "kmeans", "--json").stdout)
    assert "more-centres" in {row["experiment"] for row in listed}


def test_a_queued_experiment_has_the_parameters_of_its_profile_and_what_was_set(project: Project) -> None:
    def queued(*overrides: str) -> str:
        words = [word for override in overrides for word in ("-S", override)]
        project.dvc("exp", "run", "--queue", *words)
        return project.run("git", "show", "refs/exps/celery/stash:params.yaml").stdout

    params = project.folder / "params.yaml"
    try:
        for profile in ("tiny_bench", "tiny"):  # the second is what lies there
            text = queued(f"profile={profile}")
            project.run("exemplarcnn", "profile", profile)
            header, written = params.read_text().split("\n", 1)
            assert header.startswith("# Written by")
            assert text == written
        values = yaml.safe_load(params.read_text())
        set_to = yaml.safe_load(queued("profile=tiny", "variants.train.baseline.patches_per_image=50"))
        values["variants"]["train"]["baseline"]["patches_per_image"] = 50
        assert set_to == values
        # A name that is no parameter is refused by DVC, with + by the first stage.
        refused = project.dvc("exp", "run", "--queue", "-S", "variants.train.baseline.patches=50", check=False)
        assert "Key 'patches' is not in struct" in refused.stderr
        refused = project.dvc("exp", "run", "--temp", "-S", "+variants.train.baseline.patches=50", check=False)
        assert "variants.train.baseline.patches: is now called total_patches" in refused.stdout + refused.stderr
    finally:
        project.dvc("queue", "remove", "--all")


def test_runs_mixed_with_repro_and_experiments(project: Project, tmp_path: Path) -> None:
    before = runs(store_of(project))
    whole_run(project, tmp_path)
    project.change(fewer_centres)
    assert set(project.repro()) == {"control@kmeans", "evaluate@kmeans", "report", "draw"}
    whole_run(project)
    project.dvc("exp", "run", "--temp", "-S", "profile=tiny", "-S", "variants.control.kmeans.centres=19")
    whole_run(project)
    after = runs(store_of(project))
    assert {run.info.status for run in after.values()} == {"FINISHED"}
    identities = Counter(run.data.tags["identity"] for run in of_stages(after))
    assert set(identities.values()) == {1}
    new = {key: run for key, run in after.items() if key not in before}
    (evaluated,) = of_stages(new)
    assert evaluated.info.run_name == "kmeans · centres=19 · seed 0 · tiny"
    assert len(parents(new)) == 3
    results = json.loads((project.folder / "reports/results.json").read_text())
    for parent in parents(new):
        assert " · " not in parent.info.run_name
        assert parent.data.params["profile"] == "tiny"
        # Their figures are there although every stage was cached.
        for row in results["rows"]:
            name = row["variant"]
            assert parent.data.metrics[f"{name}/accuracy_mean"] == pytest.approx(row["accuracy_mean"])
            assert after[parent.data.tags[f"run.evaluate.{name}"]].data.tags["variant"] == name
    data = yaml.safe_load((project.folder / "data.dvc").read_text())["outs"][0]["md5"]
    commit = project.run("git", "rev-parse", "HEAD").stdout.strip()
    client = mlflow.MlflowClient(store_of(project))
    everywhere = [experiment.experiment_id for experiment in client.search_experiments()]
    wanted = f"tags.variant = 'clustered' and tags.`data.md5` = '{data}' and tags.`commit.{commit}` = 'true'"
    assert {run.data.tags["kind"] for run in client.search_runs(everywhere, wanted)} == {"train", "evaluate"}


def test_a_fresh_clone_with_an_empty_store_sends_all(project: Project, tmp_path: Path) -> None:
    clone = tmp_path / "clone"
    project.git("clone", "-q", str(project.folder), str(clone))
    variables: dict[str, Any] = {"PYTHONPATH": str(clone / "src")}
    said = project.run("exemplarcnn", "log", folder=clone, **variables).stdout
    assert said.count(": sent") == len(STAGES)
    again = project.run("exemplarcnn", "log", folder=clone, **variables).stdout
    assert again.count(": there already") == len(STAGES)
    rows = json.loads(project.run("exemplarcnn", "compare", "--json", folder=clone, **variables).stdout)
    assert {row["variant"] for row in rows} == set(EVALUATED)
    client = mlflow.MlflowClient(f"sqlite:///{clone}/mlflow.db")
    for run_id in runs(f"sqlite:///{clone}/mlflow.db"):
        assert len(client.list_artifacts(run_id)) == 2, (
            "pictures come with the clone, without what they were drawn from"
        )


class Server:
    """An MLflow server that can be killed and started again on the same store."""

    def __init__(self, folder: Path):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.uri, self.folder = f"http://127.0.0.1:{self.port}", folder

    def start(self) -> None:
        words = [sys.executable, "-m", "mlflow", "server", "--workers", "1", "--port", str(self.port)]
        words += ["--backend-store-uri", f"sqlite:///{self.folder}/mlflow.db"]
        environment = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        with (self.folder / "server.log").open("a") as log:
            self.process = subprocess.Popen(
                words, cwd=self.folder, env=environment, stdout=log, stderr=log, start_new_session=True
            )
        self._wait()

    def _wait(self) -> None:
        for _ in range(240):
            try:
                with urllib.request.urlopen(f"{self.uri}/health", timeout=5):
                    return
            except (OSError, urllib.error.URLError):
                time.sleep(0.5)
        pytest.fail((self.folder / "server.log").read_text())

    def kill(self) -> None:
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    made = Server(tmp_path)
    made.start()
    yield made
    made.kill()


def test_a_server_that_dies_during_a_training(project: Project, server: Server) -> None:
    epochs = 60
    project.change(lambda values: values["train"].update(epochs=epochs))
    words = [sys.executable, "-m", "dvc", "repro", "train@baseline"]
    environment = project.environment | {"MLFLOW_TRACKING_URI": server.uri}
    training = subprocess.Popen(
        words, cwd=project.folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    started = time.monotonic()
    while not any(run.data.metrics.get("epoch", 0) > 5 for run in runs(server.uri).values()):
        assert training.poll() is None, training.communicate()[0]
        assert time.monotonic() - started < 300
        time.sleep(0.2)
    server.kill()
    said = training.communicate()[0]
    assert training.returncode == 0, said
    assert "exemplarcnn log" in said
    assert "Traceback" not in said

    server.start()
    (broken,) = runs(server.uri).values()
    assert broken.info.status == "RUNNING"
    assert broken.data.metrics["epoch"] < epochs
    project.run("exemplarcnn", "log", MLFLOW_TRACKING_URI=server.uri)
    whole = [run for run in runs(server.uri).values() if run.data.tags["variant"] == "baseline"]
    (run,) = (each for each in whole if each.data.tags["kind"] == "train")
    assert (run.info.run_id, run.info.status) == (broken.info.run_id, "FINISHED")
    history = mlflow.MlflowClient(server.uri).get_metric_history(run.info.run_id, "valid_loss")
    assert sorted(metric.step for metric in history) == list(range(1, epochs + 1))
