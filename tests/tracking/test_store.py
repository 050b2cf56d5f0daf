"""Where the MLflow store is, for every way in which a stage may be started."""

import contextlib
import shutil
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import unquote

import mlflow
import pytest
from sqlalchemy.engine import make_url

from exemplarcnn import paths
from exemplarcnn.config.params import Config
from exemplarcnn.tracking import runs, sending, store
from tests.conftest import Pipeline
from tests.tracking.test_runs import repository


def test_the_tracking_uri_comes_first(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://somewhere:5000")
    monkeypatch.setenv("DVC_ROOT", "/elsewhere")
    assert store.address() == "http://somewhere:5000"


def test_then_dvcs_root(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    repository(folder)
    root = folder / "main"
    root.mkdir()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")
    monkeypatch.setenv("DVC_ROOT", str(root))
    assert store.address() == f"sqlite:///{root}/mlflow.db"


def test_then_the_root_of_dvcs_repository_which_may_lie_in_a_larger_one_of_git(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository(folder)
    root = folder / "project"
    below = root / "a" / "b"
    below.mkdir(parents=True)
    (root / ".dvc").mkdir()
    for here in (root, below):  # a stage, which runs in the root, has DVC_ROOT; a command has not
        monkeypatch.chdir(here)
        assert store.address() == f"sqlite:///{root.resolve()}/mlflow.db"


def test_the_lock_is_the_same_for_stages_and_commands(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / ".dvc" / "tmp").mkdir(parents=True)
    (folder / "below").mkdir()
    monkeypatch.chdir(folder / "below")
    with store.lock():
        assert (folder / ".dvc" / "tmp" / "tracking.lock").exists()


def test_else_the_working_folder(folder: Path) -> None:
    assert store.address() == f"sqlite:///{folder.resolve()}/mlflow.db"


def test_a_relative_address_is_relative_to_the_root(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///below/mlflow.db")
    monkeypatch.setenv("DVC_ROOT", "/elsewhere")
    assert store.address() == "sqlite:////elsewhere/below/mlflow.db"


def test_under_mlflow_run_a_relative_address_is_relative_to_its_caller(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What `mlflow run` does: it starts the command in the project's folder and passes its own address on.
    caller = folder / "caller"
    caller.mkdir()
    script = folder / "mlflow"
    command = [sys.executable, "-c", "from exemplarcnn.tracking import store; print(store.address())"]
    script.write_text(f"import subprocess, sys\nsubprocess.run({command}, cwd={str(folder)!r}, check=True)\n")
    monkeypatch.setenv("MLFLOW_RUN_ID", "1")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///mlflow.db")
    done = subprocess.run([sys.executable, str(script), "run"], cwd=caller, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == f"sqlite:///{caller.resolve()}/mlflow.db"


# Where pictures go


def test_pictures_lie_beside_the_store_wherever_it_is_made_from(
    store_file: Path, folder: Path, pipeline: Pipeline, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline.train()
    root = folder / "root"
    root.mkdir()
    monkeypatch.setattr(store, "EXPERIMENT", f"exemplarcnn of {folder.name}")
    monkeypatch.setenv("DVC_ROOT", str(root))
    # A new store takes seconds; a new experiment in the shared one is enough.
    (root / "mlflow.db").symlink_to(store_file)
    with runs.run("train", "baseline", config):
        pass
    experiment = mlflow.MlflowClient(store.address()).get_experiment_by_name(store.EXPERIMENT)
    assert experiment is not None
    assert experiment.artifact_location == (store_file.parent / "mlartifacts").as_uri()


@pytest.mark.parametrize(
    "uri",
    [
        "sqlite:////somewhere/a b/mlflow.db",
        "sqlite:///mlflow.db",
        "sqlite:///below/mlflow.db",
        "sqlite:///below/mlflow.db?timeout=30",
        "sqlite:///50%2525 off/q%3Fx/%23/mlflow.db",
    ],
)
def test_every_form_of_a_local_store_gets_a_place_for_pictures(
    folder: Path, monkeypatch: pytest.MonkeyPatch, uri: str
) -> None:
    class Client:
        def get_experiment_by_name(self, name: str) -> None:
            return None

        def create_experiment(self, name: str, artifact_location: str, tags: dict[str, str]) -> str:
            return str(artifact_location)

    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    path = unquote(uri.removeprefix("sqlite:///").partition("?")[0])
    expected = (folder / path).parent / "mlartifacts"
    assert store.experiment_id(Client(), None) == expected.as_uri()


@pytest.mark.parametrize("name", ["50%20off", "100%", "q?x=1", "a#b", "a b", "ü+&=;'", "%3F"])
def test_a_folder_of_any_name_holds_its_own_store(folder: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """SQLAlchemy, which MLflow opens its stores by, and the check before it open the very file."""
    place = folder / name
    place.mkdir()
    monkeypatch.chdir(place)
    opened = make_url(store.address()).database
    assert opened == str(place / "mlflow.db")
    assert store._file(store.address()) == place / "mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store.address())  # as who copies it from `exemplarcnn store`
    assert make_url(store.address()).database == opened


def test_mlflow_in_a_folder_with_a_percent_sign_is_told_at_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would make half a store, and then lack its tables."""
    monkeypatch.setattr(mlflow, "__file__", str(folder / "50%20off" / ".venv" / "mlflow" / "__init__.py"))
    with pytest.raises(store.StoreError, match="cannot read a path with % in it; make the environment elsewhere"):
        store.connect()
    assert not (folder / "mlflow.db").exists()


def test_a_relative_address_in_such_a_folder_keeps_its_options(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "q?x" / ".dvc").mkdir(parents=True)
    monkeypatch.chdir(folder / "q?x")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///a%3Fb.db?timeout=30")
    url = make_url(store.address())
    assert (url.database, dict(url.query)) == (str(folder / "q?x" / "a?b.db"), {"timeout": "30"})


def test_pictures_of_a_folder_with_any_name_are_found_again(
    folder: Path, store_file: Path, pipeline: Pipeline, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    _tables(store_file)
    record = pipeline.train()
    root = folder / "50%20off" / "q?x #1"
    root.mkdir(parents=True)
    shutil.copy(store_file, root / "mlflow.db")  # a new store takes seconds
    monkeypatch.setattr(store, "EXPERIMENT", "at odd places")
    monkeypatch.setenv("DVC_ROOT", str(root))
    sending.send(config)
    run = runs.find(store.connect(), record, pipeline.records)
    assert run.info.status == "FINISHED"
    name = f"{run.info.run_id}/artifacts/patches/baseline.png"
    assert (root / "mlartifacts" / name).is_file()
    fetched = store.connect().download_artifacts(run.info.run_id, "patches/baseline.png", str(folder))
    assert Path(fetched).read_bytes() == paths.patches_picture("baseline").read_bytes()
    assert sorted(each.name for each in folder.iterdir() if each.name.startswith("50")) == ["50%20off"]


def _tables(place: Path) -> None:
    """Let MLflow make its tables, if it has not."""
    mlflow.MlflowClient(f"sqlite:///{place}").search_experiments()


@pytest.mark.parametrize("fault", ["no database", "locked", "no place"])
def test_a_file_that_is_no_store_is_told_at_once(folder: Path, monkeypatch: pytest.MonkeyPatch, fault: str) -> None:
    """MLflow would try again and again, for two minutes."""
    monkeypatch.setattr(store, "LOCKED_FOR", 0.1)
    place = Path("/proc/mlflow.db") if fault == "no place" else folder / "mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{place}")
    with contextlib.ExitStack() as stack:
        if fault == "no database":
            place.write_bytes(b"no database" * 1000)
        if fault == "locked":
            holder = stack.enter_context(contextlib.closing(sqlite3.connect(place, isolation_level=None)))
            holder.execute("create table held (x)")
            holder.execute("begin exclusive")
        begun = time.monotonic()
        with pytest.raises(store.StoreError, match=f"MLflow store sqlite:///{place}: "), store.reached():
            store.connect()
        assert time.monotonic() - begun < 60
