"""Find and reach the MLflow store, for everything that reads or writes runs."""

import logging
import os
import re
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from exemplarcnn.errors import PipelineError
from exemplarcnn.tracking import relocation, repository

EXPERIMENT = "exemplarcnn"
LOCKED_FOR = 10.0  # seconds to wait for a locked store: making the tables of a new one takes some
# How the description of an experiment that this project makes begins, in every version.
ABOUT = "Trainings and evaluations of ExemplarCNN."
# Of a new experiment. The kind makes MLflow's pages show what belongs to training, not to language models.
TAGS = {relocation.NOTE: ABOUT, "mlflow.experimentKind": "custom_model_development"}

log = logging.getLogger(__name__)


class StoreError(PipelineError):
    """The MLflow store cannot be reached, or refuses what is sent."""


def address() -> str:
    """Return where runs are kept: ``MLFLOW_TRACKING_URI`` if set, else ``mlflow.db`` in the root of DVC's repository.

    A relative path starts there; under `mlflow run`, in the folder where you typed that. Characters that have a
    meaning in an address are quoted, as SQLAlchemy and MLflow expect.
    """
    uri = os.environ.get("MLFLOW_TRACKING_URI")
    if not uri:
        return _sqlite(repository.root() / "mlflow.db")
    path, query = _parts(uri)
    if path is None or path.startswith(("/", ":memory:", "file:")):
        return uri
    place = _sqlite(((_caller() or repository.root()) / unquote(path)).resolve())
    return f"{place}?{query}" if query else place


def _sqlite(place: Path) -> str:
    """Return the address of a SQLite file."""
    quoted = re.sub("[%?#]", lambda found: quote(found[0]), str(place))
    # For the short form MLflow makes the folder itself, and takes its quoted name for the real one.
    return f"sqlite:///{quoted}" if quoted == str(place) else f"sqlite+pysqlite:///{quoted}"


def _parts(uri: str) -> tuple[str | None, str]:
    """Return a local store's path, still quoted, and the options in its address; the path of any other is None."""
    form, separator, rest = uri.partition(":///")
    path, _, query = rest.partition("?")
    return path if separator and form in ("sqlite", "sqlite+pysqlite") else None, query


def _file(uri: str) -> Path | None:
    """Return the file that SQLAlchemy opens for an address; None if it is a server, or not a plain file."""
    path, query = _parts(uri)
    return Path(unquote(path)) if path and path != ":memory:" and "uri=" not in query else None


def _caller() -> Path | None:
    """Return the folder where `mlflow run` was typed: a relative address that it passes on starts there."""
    if "MLFLOW_RUN_ID" not in os.environ:
        return None
    import psutil

    with suppress(psutil.Error, OSError):  # this user may not see the folder
        if process := repository.ancestor(lambda words: "mlflow" in words and "run" in words):
            return Path(process.cwd())
    return None


def connect() -> Any:
    """Return MLflow's client of the store."""
    # A server that is down must not hold up a stage for minutes, as it would with mlflow's defaults.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "15")
    # Importing mlflow takes seconds; stages that log nothing do without.
    import mlflow

    if place := _file(address()):
        _check_packages(Path(mlflow.__file__).parent)
        _check_file(place)
        _correct_addresses(place)
    for name in ("alembic", "mlflow.store.db.utils"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # A failing store is reported once, in our words.
    logging.getLogger("mlflow.system_metrics").setLevel(logging.CRITICAL)
    return mlflow.MlflowClient(address())


def connect_to_existing() -> Any:
    """Return MLflow's client of the store, for those who only look something up.

    Raises
    ------
    StoreError
        If the store is a file that is not there: MLflow would make an empty one.
    """
    if (place := _file(address())) and not place.exists():
        raise StoreError(
            f"cannot look into the MLflow store: {place} is missing; work in the folder that has the store, or name it "
            "with MLFLOW_TRACKING_URI"
        )
    return connect()


def _check_packages(folder: Path) -> None:
    """Raise if MLflow cannot read its own database scripts, before it makes half a store."""
    if "%" in str(folder):
        raise StoreError(
            f"MLflow cannot work from {folder}: it cannot read a path with % in it; make the environment elsewhere: "
            "`make demo VENV=FOLDER`"
        )


def _check_file(place: Path) -> None:
    """Open a store that is a file, and raise at once if that fails: MLflow would retry for two minutes."""
    place.parent.mkdir(parents=True, exist_ok=True)  # as MLflow does
    with closing(sqlite3.connect(place, timeout=LOCKED_FOR)) as database:
        database.execute("select count(*) from sqlite_master")


def corrected_address() -> str:
    """Return `address` for programs that open the store themselves; corrects a local store that was moved.

    Raises
    ------
    StoreError
        If the store is no database, or is locked.
    """
    if (place := _file(address())) and place.exists():
        with reached():
            _correct_addresses(place)
    return address()


def _correct_addresses(place: Path) -> None:
    relocation.correct_addresses(place, ABOUT, LOCKED_FOR)


def experiment_name() -> str:
    """Return the name of the experiment that runs go to: ``MLFLOW_EXPERIMENT_NAME``, else our own."""
    return os.environ.get("MLFLOW_EXPERIMENT_NAME") or EXPERIMENT


def experiment_id(client: Any, parent: Any) -> str:
    """Return the experiment's id: the parent's under `mlflow run`, else that of `experiment_name`.

    Raises
    ------
    StoreError
        If the experiment is deleted.
    """
    if parent:
        return str(parent.info.experiment_id)
    name = experiment_name()
    if found := client.get_experiment_by_name(name):
        if found.lifecycle_stage == "deleted":
            raise StoreError(
                f"experiment {name!r} is deleted; `mlflow experiments restore -x {found.experiment_id}` restores it, "
                "or name another with MLFLOW_EXPERIMENT_NAME"
            )
        return str(found.experiment_id)
    place = relocation.artifact_folder(file).as_uri() if (file := _file(address())) else None
    return str(client.create_experiment(name, artifact_location=place, tags=TAGS))


def parent_run(client: Any) -> Any:
    """Return the run that `mlflow run` opened around this process, or None."""
    if not (run_id := os.environ.get("MLFLOW_RUN_ID")):
        return None
    from mlflow.exceptions import MlflowException

    try:
        return client.get_run(run_id)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        _say_once(_anonymous(f"The run {run_id} of `mlflow run` is not in the store {address()}: ours get no parent."))
        return None


@cache
def _say_once(text: str) -> None:
    log.warning(text)


def _anonymous(text: str) -> str:
    """Take user names and passwords out of addresses."""
    return re.sub(r"//[^/@\s]*@", "//", text)


@contextmanager
def lock() -> Iterator[None]:
    """Let one process at a time look for a run and open it: two at once would open two runs."""
    from filelock import FileLock

    folder = repository.root() / ".dvc" / "tmp"
    if not folder.is_dir():
        yield
        return
    with FileLock(folder / "tracking.lock", timeout=60):
        yield


def search(client: Any, wanted: str) -> list[Any]:
    """Return all runs that match, in all experiments."""
    experiments = _pages(client.search_experiments)
    everywhere = [experiment.experiment_id for experiment in experiments]
    return _pages(lambda page_token: client.search_runs(everywhere, wanted, page_token=page_token))


def _pages(fetch: Callable[..., Any]) -> list[Any]:
    page = fetch(page_token=None)
    found = list(page)
    while page.token:
        page = fetch(page_token=page.token)
        found += page
    return found


def problem(error: Exception) -> str:
    """Say in one line what is wrong with the store."""
    if isinstance(error, PipelineError):  # about DVC's files, for example, not about the store
        return str(error)
    said = (str(error).splitlines() or [type(error).__name__])[0]
    return _anonymous(f"MLflow store {address()}: {said}")


@contextmanager
def reached() -> Iterator[None]:
    """Turn any failure of the store in the block into a `StoreError`."""
    try:
        yield
    except PipelineError:
        raise
    except Exception as error:  # MLflow raises its own, SQLAlchemy's and requests' errors
        raise StoreError(problem(error)) from error
