"""Where the MLflow store is, and how to reach it: what `tracking` and `comparison` share."""

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
LOCKED_FOR = 10.0  # seconds; making the tables of a new store takes some
ABOUT = {
    relocation.NOTE: "Trainings and evaluations of ExemplarCNN. One run a result: see `exemplarcnn compare`.",
    # MLflow's pages then show what belongs to training, not to language models.
    "mlflow.experimentKind": "custom_model_development",
}

log = logging.getLogger(__name__)


class StoreError(PipelineError):
    """The MLflow store cannot be reached, or refuses what is sent."""


def address() -> str:
    """Return where runs are kept: ``MLFLOW_TRACKING_URI`` if set, else ``mlflow.db`` in the root of DVC's repository.

    A relative path is one from there. Characters that mean something in an address are quoted, as SQLAlchemy and
    MLflow read it.
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
    """Return the address of a local store."""
    quoted = re.sub("[%?#]", lambda found: quote(found[0]), str(place))
    # Of the short form MLflow makes the folder as well, and takes the quoted name for the real one.
    return f"sqlite:///{quoted}" if quoted == str(place) else f"sqlite+pysqlite:///{quoted}"


def _parts(uri: str) -> tuple[str | None, str]:
    """Return path, still quoted, and options of a local store's address; None for the path of any other."""
    form, separator, rest = uri.partition(":///")
    path, _, query = rest.partition("?")
    return path if separator and form in ("sqlite", "sqlite+pysqlite") else None, query


def _file(uri: str) -> Path | None:
    """Return the file that SQLAlchemy opens for an address, or None where it is a server, or no plain file."""
    path, query = _parts(uri)
    return Path(unquote(path)) if path and path != ":memory:" and "uri=" not in query else None


def _caller() -> Path | None:
    """Return the folder that `mlflow run` was typed in: what a relative address that it passes on is relative to."""
    if "MLFLOW_RUN_ID" not in os.environ:
        return None
    import psutil

    with suppress(psutil.Error, OSError):  # a folder that this user may not see
        if process := repository.ancestor(lambda words: "mlflow" in words and "run" in words):
            return Path(process.cwd())
    return None


def connect() -> Any:
    """Return MLflow's client of the store."""
    # A server that is down must not hold a stage up for minutes, which mlflow's own defaults would.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "15")
    # Importing mlflow takes seconds; stages that log nothing do without.
    import mlflow

    if place := _file(address()):
        _check_packages(Path(mlflow.__file__).parent)
        _check_file(place)
        relocation.follow(place, ABOUT[relocation.NOTE], LOCKED_FOR)
    for name in ("alembic", "mlflow.store.db.utils"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # A store that fails is said once, in our words.
    logging.getLogger("mlflow.system_metrics").setLevel(logging.CRITICAL)
    return mlflow.MlflowClient(address())


def _check_packages(folder: Path) -> None:
    """Raise where MLflow cannot read its own database scripts, before it makes half a store."""
    if "%" in str(folder):
        raise StoreError(
            f"MLflow cannot work from {folder}: it does not read a path with % in it; make the environment elsewhere, "
            "as with `make demo VENV=FOLDER`"
        )


def _check_file(place: Path) -> None:
    """Open a store that is a file, and raise at once where that fails: MLflow would try for two minutes."""
    place.parent.mkdir(parents=True, exist_ok=True)  # as MLflow does
    with closing(sqlite3.connect(place, timeout=LOCKED_FOR)) as database:
        database.execute("select count(*) from sqlite_master")


def corrected_address() -> str:
    """Return `address`, for programs that open the store by themselves: a local one that was moved is corrected."""
    if (place := _file(address())) and place.exists():
        with reached():
            relocation.follow(place, ABOUT[relocation.NOTE], LOCKED_FOR)
    return address()


def experiment_id(client: Any, parent: Any) -> str:
    """Return the experiment's id: that of the parent under `mlflow run`, ``MLFLOW_EXPERIMENT_NAME``, or our own."""
    if parent:
        return str(parent.info.experiment_id)
    name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or EXPERIMENT
    if found := client.get_experiment_by_name(name):
        if found.lifecycle_stage == "deleted":
            raise StoreError(
                f"experiment {name!r} is deleted; `mlflow experiments restore -x {found.experiment_id}` brings it "
                "back, MLFLOW_EXPERIMENT_NAME names another"
            )
        return str(found.experiment_id)
    place = relocation.pictures(file).as_uri() if (file := _file(address())) else None
    return str(client.create_experiment(name, artifact_location=place, tags=ABOUT))


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
        _say_once(_anonymous(f"The run {run_id} of `mlflow run` is not in the store {address()}: no parent for ours."))
        return None


@cache
def _say_once(text: str) -> None:
    log.warning(text)


def _anonymous(text: str) -> str:
    """Take user names and passwords out of addresses."""
    return re.sub(r"//[^/@\s]*@", "//", text)


@contextmanager
def lock() -> Iterator[None]:
    """Let one process at a time look for a run and open it: two at once would open two."""
    from filelock import FileLock

    folder = repository.root() / ".dvc" / "tmp"
    if not folder.is_dir():
        yield
        return
    with FileLock(folder / "tracking.lock", timeout=60):
        yield


def search(client: Any, wanted: str) -> list[Any]:
    """Return all runs that match, whichever experiment they are in."""
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
    if isinstance(error, PipelineError):  # of DVC's files, for one, which the store has no part in
        return str(error)
    said = (str(error).splitlines() or [type(error).__name__])[0]
    return _anonymous(f"MLflow store {address()}: {said}")


@contextmanager
def reached() -> Iterator[None]:
    """Turn whatever goes wrong with the store in the block into a `StoreError`."""
    try:
        yield
    except PipelineError:
        raise
    except Exception as error:  # MLflow raises its own, SQLAlchemy's and requests' errors
        raise StoreError(problem(error)) from error
