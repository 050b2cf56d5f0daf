"""Where the pictures of a local store lie, also after the store was moved or copied.

MLflow keeps their places as absolute paths: a project that was moved, or copied, would go on writing into the old
folder. What this project has put beside its store is looked for beside it, wherever that is now.
"""

import logging
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import unquote, urlsplit

FOLDER = "mlartifacts"
NOTE = "mlflow.note.content"
# Every place in which MLflow keeps the address of a file; a store of another version may lack some.
ADDRESSES = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
    ("logged_models", "artifact_location"),
)

log = logging.getLogger(__name__)


def pictures(store: Path) -> Path:
    """Return the folder of a local store's pictures and models: beside the file, not below where a stage runs."""
    return store.resolve().parent / FOLDER


def follow(store: Path, note: str, timeout: float) -> None:
    """Correct the addresses of a local store that was moved or copied, and say so.

    Parameters
    ----------
    store
        The SQLite file.
    note
        The note of experiments that this project makes: it puts their pictures beside the store. Pictures of other
        experiments count as moved where their folder is found beside the store.
    timeout
        Seconds to wait for a file that is locked.

    Raises
    ------
    sqlite3.Error
        If the file is no database, or is locked.
    """
    with closing(sqlite3.connect(store, timeout=timeout)) as database:
        if not _has(database, "experiments", "artifact_location"):
            return  # MLflow has not made its tables yet
        found = list(_moved(database, store.resolve().parent, note))
        # Who may only read the store puts nothing anywhere.
        if not found or not os.access(store, os.W_OK):
            return
        with database:
            for address, _, now in found:
                _replace(database, address, now.as_uri() if address.startswith("file:") else str(now))
    for _, before, now in found:
        alone = before.is_dir() and not now.is_dir()
        log.warning(
            "The MLflow store %s was moved or copied: pictures and models are in %s from now on, not in %s%s",
            *(store, now, before, "; earlier ones are there still: copy them" if alone else ""),
        )


def _has(database: sqlite3.Connection, table: str, column: str) -> bool:
    return column in {row[1] for row in database.execute(f"pragma table_info({table})")}


def _moved(database: sqlite3.Connection, here: Path, note: str) -> Iterator[tuple[str, Path, Path]]:
    """Addresses of experiments beside the place where the store was, each with its folder then and now."""
    rows = database.execute(
        "select distinct artifact_location, exists(select 1 from experiment_tags as tags where "
        "tags.experiment_id = experiments.experiment_id and key = ? and value = ?) from experiments",
        (NOTE, note),
    )
    for address, ours in rows.fetchall():
        if address is None or (place := _path(address)) is None:
            continue
        parts = (FOLDER,) if place.name == FOLDER else place.parts[-2:]
        if parts[0] not in (FOLDER, "mlruns") or place.resolve() == (now := here.joinpath(*parts)):
            continue
        if (ours and parts == (FOLDER,)) or now.is_dir():
            yield address, place, now


def _path(address: str) -> Path | None:
    """Return the folder that an address names, or None where it is no file's."""
    if address.startswith("/"):
        return Path(address)
    parts = urlsplit(address)
    return Path(unquote(parts.path)) if parts.scheme == "file" and not parts.netloc else None


def _replace(database: sqlite3.Connection, old: str, new: str) -> None:
    for table, column in ADDRESSES:
        if _has(database, table, column):
            database.execute(
                f"update {table} set {column} = ? || substr({column}, length(?) + 1) "
                f"where {column} = ? or substr({column}, 1, length(?) + 1) = ? || '/'",
                (new, old, old, old, old),
            )
