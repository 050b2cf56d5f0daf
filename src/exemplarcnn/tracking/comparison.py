"""Compare all evaluations of the MLflow store in one table."""

from typing import Any

import pandas as pd

from exemplarcnn.config import renamed
from exemplarcnn.tracking import store
from exemplarcnn.tracking.runs import profile_mark

FIRST_COLUMNS = ("variant", "accuracy_mean", "accuracy_std", "profile", "seed")
# Decides which files are written; it changes no result.
NO_COLUMN = "variant.cluster_features"
LAST_COLUMNS = ("experiment", "commit", "data", "started", "run")


def found(variants: list[str] | None = None, profile: str | None = None) -> list[Any]:
    """Return the evaluation runs of the store, the best first, as MLflow's client gives them.

    Parameters
    ----------
    variants, profile
        Keep only runs of these variants, or of this profile; all if not given.

    Raises
    ------
    StoreError
        If the store cannot be reached.
    """
    # Every finished run has an accuracy, except trainings on surrogate classes.
    wanted = "tags.kind != 'train' and tags.identity != '' and attributes.status = 'FINISHED'"
    with store.reached():
        runs = store.search(store.connect(), wanted)
    runs = [run for run in runs if not variants or run.data.tags["variant"] in variants]
    runs = [run for run in runs if not profile or _is_of(profile, run.data.tags)]
    return sorted(runs, key=_rank, reverse=True)


def _is_of(profile: str, tags: dict[str, str]) -> bool:
    return tags.get("profile") == profile or profile_mark(profile) in tags


def _rank(run: Any) -> tuple[float, int]:
    return run.data.metrics.get("accuracy_mean", -1.0), run.info.start_time


def evaluations(variants: list[str] | None = None, profile: str | None = None) -> pd.DataFrame:
    """Return the runs that :func:`found` returns as a table, as :func:`table_of` does."""
    return table_of(found(variants, profile))


def table_of(runs: list[Any]) -> pd.DataFrame:
    """Return evaluation runs as a table, in their order.

    Parameters
    ----------
    runs
        As :func:`found` returns them.

    Returns
    -------
    pandas.DataFrame
        One row per run: what was measured, the parameters in which the runs differ, and where the run comes from.
        Accuracies in percent.
    """
    rows = [_row_of(run) for run in runs]
    table = pd.DataFrame(rows, columns=None if rows else [*FIRST_COLUMNS, *LAST_COLUMNS])
    params = [name for name in table if name not in (*FIRST_COLUMNS, *LAST_COLUMNS, NO_COLUMN)]
    # Runs do not differ by a parameter that some of them lack.
    differing = [name for name in params if table[name].dropna().nunique() > 1]
    return table[[*FIRST_COLUMNS, *differing, *LAST_COLUMNS]]


def for_people(table: pd.DataFrame) -> pd.DataFrame:
    """Shorten the table that `table_of` returns to fit a screen."""
    short = table.copy()
    for name in ("commit", "data", "run"):
        short[name] = short[name].str[:7]
    return short.round({"accuracy_mean": 2, "accuracy_std": 2})


def _row_of(run: Any) -> dict[str, Any]:
    tags, metrics = run.data.tags, run.data.metrics
    return {
        "variant": tags["variant"],
        "accuracy_mean": metrics.get("accuracy_mean"),
        "accuracy_std": metrics.get("accuracy_std"),
        "profile": tags.get("profile", ""),
        # Runs logged under former names of parameters go into the same columns.
        **{renamed.current(name): value for name, value in run.data.params.items()},
        "experiment": " ".join(name.removeprefix("experiment.") for name in tags if name.startswith("experiment.")),
        "commit": tags.get("mlflow.source.git.commit", ""),
        "data": tags.get("data.md5", ""),
        "started": pd.Timestamp(run.info.start_time, unit="ms").floor("s"),
        "run": run.info.run_id,
    }
