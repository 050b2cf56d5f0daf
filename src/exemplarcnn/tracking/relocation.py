"""Find the artifacts of a local store (pictures and models), even after the store was moved or copied.

MLflow keeps absolute paths: a project that was moved or copied would go on writing into the old folder. What this
project has put beside its store is looked for beside the store, wherever it is now.
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
# All columns in which MLflow keeps addresses of files; a store of another version may lack some.
ADDRESSES = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
    ("logged_models", "artifact_location"),
)

log = logging.getLogger(__name__)


def artifact_folder(store: Path) -> Path:
    """Return the folder of a local store's pictures and models: beside the file, wherever the stage runs."""
    return store.resolve().parent / FOLDER


def correct_addresses(store: Path, about: str, timeout: float) -> None:
    """Correct the addresses of a local store that was moved or copied, and say so.

    Parameters
    ----------
    store
        The SQLite file.
    about
        How the description of experiments that this project makes begins; it puts their pictures beside the store.
        Pictures of other experiments, which MLflow makes, count as moved from a folder if those of one of ours were
        there, or if they are found beside the store.
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
        found = list(_moved(database, store.resolve().parent, about))
        # Without write access nothing can be corrected, and nothing new is stored.
        if not found or not os.access(store, os.W_OK):
            return
        with database:
            for address, _, now in found:
                _replace(database, address, now.as_uri() if address.startswith("file:") else str(now))
    for _, before, now in found:
        alone = before.is_dir() and not now.is_dir()
        log.warning(
            "The MLflow store %s was moved or copied: pictures and models are now kept in %s, no longer in %s%s",
            *(store, now, before, "; copy the earlier ones, which are still there" if alone else ""),
        )


def _has(database: sqlite3.Connection, table: str, column: str) -> bool:
    return column in {row[1] for row in database.execute(f"pragma table_info({table})")}


def _moved(database: sqlite3.Connection, here: Path, about: str) -> Iterator[tuple[str, Path, Path]]:
    """Yield the addresses of experiments beside the store's former place, each with its folder then and now."""
    rows = database.execute(
        "select artifact_location, max(exists(select 1 from experiment_tags as tags where tags.experiment_id = "
        "experiments.experiment_id and key = ? and substr(value, 1, ?) = ?)) from experiments "
        "group by artifact_location",
        (NOTE, len(about), about),
    )
    known = [
        (address, place, root, ours)
        for address, ours in rows.fetchall()
        if address and (place := _path(address)) and (root := _root(place)) and root.resolve() != here
    ]
    # If one experiment has moved from a folder, so have the others.
    left = {root for _, place, root, ours in known if ours or (here / place.relative_to(root)).is_dir()}
    for address, place, root, _ in known:
        if root in left:
            yield address, place, here / place.relative_to(root)


def _root(place: Path) -> Path | None:
    """Return the store's folder when it gave an experiment this place; None if the place does not tell."""
    if place.name == FOLDER:
        return place.parent
    return place.parents[1] if place.parent.name in (FOLDER, "mlruns") else None


def _path(address: str) -> Path | None:
    """Return the folder that an address names; None if it is no local file."""
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
