"""Reading runs back from the MLflow store."""

import logging
from typing import Any

import pytest

from exemplarcnn.tracking import runs as tracking
from exemplarcnn.tracking import store as store_module
from exemplarcnn.tracking.lineage import Record
from exemplarcnn.tracking.relocation import NOTE


def runs(store: Any, record: Record) -> list[Any]:
    everywhere = [experiment.experiment_id for experiment in store.search_experiments()]
    return list(store.search_runs(everywhere, f"tags.identity = '{record.identity}'"))


def only(store: Any, record: Record) -> Any:
    (found,) = runs(store, record)
    return found


def steps(store: Any, run: Any, metric: str) -> list[tuple[int, float]]:
    return sorted((m.step, m.value) for m in store.get_metric_history(run.info.run_id, metric))


def artifacts(store: Any, run: Any) -> list[str]:
    """Name all files that are attached to a run."""
    listed, found = [""], list[str]()
    while listed:
        for each in store.list_artifacts(run.info.run_id, listed.pop() or None):
            (listed if each.is_dir else found).append(each.path)
    return sorted(found)


def without_description(run: Any) -> dict[str, Any]:
    """Return a run's data without its description, which names its own pictures."""
    found: dict[str, Any] = run.data.to_dictionary()
    found["tags"] = {name: text for name, text in found["tags"].items() if name not in (NOTE, tracking.DESCRIBED)}
    return found


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    ours = (tracking.log.name, store_module.log.name)
    return [r.getMessage() for r in caplog.records if r.name in ours and r.levelno == logging.WARNING]
