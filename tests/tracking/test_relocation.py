"""A local store that was moved or copied: pictures and models follow it, and nothing is written where it was."""

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import mlflow
import pytest

from exemplarcnn import paths
from exemplarcnn.config.params import Config
from exemplarcnn.tracking import relocation, runs, sending, store
from tests.conftest import Pipeline, one_fast


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store in which nothing is yet: MLflow takes seconds to make one."""
    place = tmp_path_factory.mktemp("tables") / "mlflow.db"
    mlflow.MlflowClient(f"sqlite:///{place}").search_experiments()
    return place


@pytest.fixture
def old(
    tables: Path, folder: Path, pipeline: Pipeline, config: Config, monkeypatch: pytest.MonkeyPatch
) -> tuple[Path, str]:
    """A project with a finished run, its picture and a model of it; and the run's id."""
    root = folder / "the old one"
    root.mkdir()
    shutil.copy(tables, root / "mlflow.db")
    monkeypatch.setenv("DVC_ROOT", str(root))
    record = pipeline.train()
    sending.send(config)
    client = store.connect()
    run = runs.find(client, record, pipeline.records)
    client.create_registered_model("encoder")
    (folder / "model.txt").write_text("a model")
    client.log_artifact(run.info.run_id, str(folder / "model.txt"), "encoder")
    client.create_model_version("encoder", f"{run.info.artifact_uri}/encoder", run_id=run.info.run_id)
    assert (root / "mlartifacts" / run.info.run_id / "artifacts" / "patches" / "baseline.png").is_file()
    return root, run.info.run_id


def everything(root: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [each.getMessage() for each in caplog.records if each.name == relocation.__name__]


def addresses(place: Path) -> str:
    """Return every address that a store holds."""
    with closing(sqlite3.connect(place)) as database:
        columns = relocation.ADDRESSES
        return repr([database.execute(f"select {column} from {table}").fetchall() for table, column in columns])


@pytest.mark.parametrize("how", one_fast(["moved", "copied"]))
def test_everything_is_found_and_written_beside_the_store(
    how: str,
    old: tuple[Path, str],
    folder: Path,
    pipeline: Pipeline,
    config: Config,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    before, first = old
    after = folder / "new" / "50%20off #1"
    after.parent.mkdir()
    if how == "moved":
        before.rename(after)
    else:
        shutil.copytree(before, after)
    untouched = everything(before)
    monkeypatch.setenv("DVC_ROOT", str(after))
    record = pipeline.evaluate("baseline")
    sending.send(config)
    client = store.connect()
    run = runs.find(client, record, pipeline.records)
    assert (after / "mlartifacts" / run.info.run_id / "artifacts" / "confusion" / "baseline.png").is_file()
    picture = client.download_artifacts(first, "patches/baseline.png", str(folder))
    assert Path(picture).read_bytes() == paths.patches_picture("baseline").read_bytes()
    version = client.get_model_version("encoder", "1")
    assert version.source == f"{(after / 'mlartifacts').as_uri()}/{first}/artifacts/encoder"
    mlflow.set_tracking_uri(store.address())
    fetched = mlflow.artifacts.download_artifacts(artifact_uri="models:/encoder/1", dst_path=str(folder / "fetched"))
    assert (Path(fetched) / "model.txt").read_text() == "a model"
    assert "the%20old%20one/mlartifacts" not in addresses(after / "mlflow.db")
    assert everything(before) == untouched
    assert before.exists() == (how == "copied")
    (line,) = said(caplog)  # and not again by each of the connections
    assert line == (
        f"The MLflow store {after}/mlflow.db was moved or copied: pictures and models are now kept in "
        f"{after}/mlartifacts, no longer in {before}/mlartifacts"
    )


def test_a_store_that_was_copied_without_its_pictures_says_where_they_are(
    old: tuple[Path, str], folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    after = folder / "new"
    after.mkdir()
    shutil.copy(old[0] / "mlflow.db", after)
    monkeypatch.setenv("DVC_ROOT", str(after))
    assert store.corrected_address() == f"sqlite:///{after}/mlflow.db"
    (line,) = said(caplog)
    assert line.endswith(f"no longer in {old[0]}/mlartifacts; copy the earlier ones, which are still there")
    assert f"{after.as_uri()}/mlartifacts" in addresses(after / "mlflow.db")


def test_a_store_at_its_place_is_left_as_it_is(
    old: tuple[Path, str], folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    before = (old[0] / "mlflow.db").read_bytes()
    (folder / "link").symlink_to(old[0])
    for root in (old[0], folder / "link"):
        monkeypatch.setenv("DVC_ROOT", str(root))
        store.corrected_address()
    assert (old[0] / "mlflow.db").read_bytes() == before
    assert said(caplog) == []


def moved_with(client: Any, root: Path, after: Path, location: Path | str) -> str:
    """Return where an experiment's pictures lie after the store has moved, of one that lay at ``location`` before."""
    client.create_experiment("mine", artifact_location=str(location))
    root.rename(after)
    relocation.correct_addresses(after / "mlflow.db", store.ABOUT, 1.0)
    with closing(sqlite3.connect(after / "mlflow.db")) as database:
        found = database.execute("select artifact_location from experiments where name = 'mine'").fetchone()
    return str(found[0])


@pytest.mark.parametrize("place", ["s3://bucket/mlartifacts", "file:///large/disk/pictures"])
def test_a_place_that_somebody_chose_stays(place: str, old: tuple[Path, str], folder: Path) -> None:
    assert moved_with(store.connect(), old[0], folder / "new", place) == place


@pytest.mark.parametrize("form", ["address", "path"])
def test_pictures_of_mlflow_run_follow(form: str, old: tuple[Path, str], folder: Path) -> None:
    """It makes experiments by itself, and puts theirs into `mlruns` of the folder that it was typed in."""
    before, after = old[0] / "mlruns" / "7", folder / "new"
    now = after / "mlruns" / "7"
    client = store.connect()
    if form == "path":  # as MLflow writes that of its first experiment
        with closing(sqlite3.connect(old[0] / "mlflow.db")) as database, database:
            database.execute("update experiments set artifact_location = ? where experiment_id = 0", (str(before),))
    moved = moved_with(client, old[0], after, before.as_uri())
    assert moved == now.as_uri()
    with closing(sqlite3.connect(after / "mlflow.db")) as database:
        (first,) = database.execute("select artifact_location from experiments where experiment_id = 0").fetchone()
    assert form == "address" or first == str(now)


@pytest.mark.parametrize("found", [True, False])
def test_without_an_experiment_of_ours_they_follow_where_they_are_found(
    found: bool, tables: Path, folder: Path
) -> None:
    shutil.copy(tables, folder / "mlflow.db")
    if found:
        (folder / "mlruns" / "0").mkdir(parents=True)
    with closing(sqlite3.connect(folder / "mlflow.db")) as database:
        with database:
            database.execute("update experiments set artifact_location = '/somewhere/mlruns/0'")
        relocation.correct_addresses(folder / "mlflow.db", store.ABOUT, 1.0)
        (place,) = database.execute("select artifact_location from experiments").fetchone()
    assert place == (str(folder / "mlruns" / "0") if found else "/somewhere/mlruns/0")


def test_those_that_are_not_found_stay(old: tuple[Path, str], folder: Path) -> None:
    place = folder / "another project" / "mlruns" / "7"
    assert moved_with(store.connect(), old[0], folder / "new", place.as_uri()) == place.as_uri()


def test_who_may_only_read_the_store_can_read_it(
    old: tuple[Path, str], folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    after = folder / "new"
    old[0].rename(after)
    monkeypatch.setattr("os.access", lambda path, mode: False)  # root may write everything
    before = (after / "mlflow.db").read_bytes()
    relocation.correct_addresses(after / "mlflow.db", store.ABOUT, 1.0)
    assert (after / "mlflow.db").read_bytes() == before
    assert said(caplog) == []


def test_a_file_without_tables_is_no_error(folder: Path) -> None:
    (folder / "mlflow.db").touch()
    relocation.correct_addresses(folder / "mlflow.db", "", 1.0)
    assert (folder / "mlflow.db").stat().st_size == 0
