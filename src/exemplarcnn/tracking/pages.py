"""Make MLflow's pages useful as they open: saved views of the run list, the experiment's description, addresses.

By default the run list has no column of a metric, and only a saved view can choose columns. MLflow keeps such a view as
a tag of the experiment; everybody finds it in the menu *Views*, and by its address.
"""

import json
from typing import Any
from urllib.parse import urlencode, urlsplit

from exemplarcnn.tracking import relocation, store

VIEW = "mlflow.sharedViewState."
# Otherwise MLflow opens its pages about language models.
TRAINING = {"workflowType": "machine_learning"}
LOCAL = "http://127.0.0.1:5000"  # where `make ui` serves a store without a server of its own
MOST_COMPARED = 20
FORMER_NOTES = ("Trainings and evaluations of ExemplarCNN. One run a result: see `exemplarcnn compare`.", store.ABOUT)


def _view(name: str, kinds: str, order: str, *columns: str) -> str:
    state = {"searchFilter": kinds, "orderByKey": order, "orderByAsc": False, "selectedColumns": columns}
    # Without a time: every writer writes the same.
    return json.dumps({"name": name, "createdAt": 0, "updatedAt": 0, "state": json.dumps(state)})


VIEWS = {
    "evaluations": _view(
        "Evaluations, best first",
        "tags.kind != 'train'",
        "metrics.`accuracy_mean`",
        *("metrics.`accuracy_mean`", "metrics.`accuracy_std`", "params.`seed`", "tags.`profile`"),
    ),
    "trainings": _view(
        "Trainings",
        "tags.kind != 'evaluate'",
        "attributes.start_time",
        *("metrics.`epoch`", "metrics.`train_loss`", "metrics.`valid_loss`", "metrics.`valid_accuracy`"),
        *("params.`seed`", "tags.`profile`"),
    ),
}


def describe(client: Any) -> None:
    """Describe the experiment that runs go to, and give it the saved views, unless somebody has changed its text.

    A view that was deleted stays deleted.
    """
    found = client.get_experiment_by_name(store.experiment_name())
    if not found or found.lifecycle_stage == "deleted" or found.tags.get(relocation.NOTE) not in FORMER_NOTES:
        return
    for name, view in VIEWS.items():
        client.set_experiment_tag(found.experiment_id, f"{VIEW}{name}", view)
    client.set_experiment_tag(found.experiment_id, relocation.NOTE, _note(found.experiment_id))


def _note(experiment: str) -> str:
    """Write the experiment's description; MLflow shows its first line until somebody unfolds it."""
    best, trained = (_view_address(experiment, name) for name in VIEWS)
    return (
        f"{store.ABOUT} Open [evaluations, best first]({best}) or [trainings]({trained}).\n\n"
        "- Those are the saved views under *Views*, with columns of metrics; the plain list has none.\n"
        "- A run's description has its results and pictures. Its name says the variant, what was changed from the "
        "profile, the seed and the profile.\n"
        "- To compare runs, select them and click *Compare*, or run `exemplarcnn compare`, which prints the address of "
        "that page."
    )


def _view_address(experiment: str, name: str) -> str:
    return f"#/experiments/{experiment}/runs?{urlencode({**TRAINING, 'viewStateShareKey': name})}"


def comparison(runs: list[Any]) -> str | None:
    """Return the address of MLflow's comparison of the first `MOST_COMPARED` of its runs; None if it has no such page.

    Without user and password, if the store's address has them.
    """
    server = _server()
    if server is None or len(runs) < 2:
        return None
    compared = runs[:MOST_COMPARED]
    asked = {
        "runs": _json([run.info.run_id for run in compared]),
        "experiments": _json(sorted({run.info.experiment_id for run in compared})),
    }
    return f"{server}/#/compare-runs?{urlencode(asked | TRAINING)}"


def _json(values: list[str]) -> str:
    return json.dumps(values, separators=(",", ":"))


def invitation(runs: list[Any]) -> str | None:
    """Say where MLflow compares these runs, and what must run for it; None if it does not."""
    if (address := comparison(runs)) is None:
        return None
    which = f"the first {MOST_COMPARED}" if len(runs) > MOST_COMPARED else "these"
    return f"to compare {which} in MLflow{', while `make ui` runs' if _is_local() else ''}: {address}"


def _is_local() -> bool:
    """Say whether the store has no server of its own."""
    return urlsplit(store.address()).scheme not in ("http", "https")


def _server() -> str | None:
    """Return the address of MLflow's pages without user and password; None on Databricks, which has others."""
    address = store.address()
    if address.startswith("databricks"):
        return None
    if _is_local():
        return LOCAL
    parts = urlsplit(address)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path.rstrip('/')}"
