"""The only module that talks to MLflow.

A run is a projection of results: its identity (kind, variant, hash of what the result depends on) is known before
the work starts and kept as a tag. The same work again finds the same run: a finished one is left as it is but for
the commit, an unfinished one is continued. No run id enters a result, and a store that fails never stops a stage:
it is said once, and the work goes on.
"""

import logging
import os
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from exemplarcnn import paths
from exemplarcnn.config import Config
from exemplarcnn.files import read_json
from exemplarcnn.images import data_digest

if TYPE_CHECKING:  # importing torch takes seconds
    from exemplarcnn.training import Epoch

EXPERIMENT = "exemplarcnn"
LONGEST_PARAM = 500
PARAMS_A_CALL = 100

log = logging.getLogger(__name__)


def store_uri() -> str:
    """Return where runs are kept.

    ``MLFLOW_TRACKING_URI`` if set, else ``mlflow.db`` in the repository's root. ``DVC_ROOT`` tells the main root
    inside ``dvc exp run --temp`` and queues, where the working folder is a temporary one.
    """
    if uri := os.environ.get("MLFLOW_TRACKING_URI"):
        return uri
    root = os.environ.get("DVC_ROOT") or _git("rev-parse", "--show-toplevel") or str(Path.cwd())
    return f"sqlite:///{Path(root).resolve()}/mlflow.db"


def _warn(error: Exception) -> None:
    """Say once that the store failed; a user name and password in its address stay unsaid."""
    said = (str(error).splitlines() or [type(error).__name__])[0]
    text = re.sub(r"//[^/@\s]*@", "//", f"MLflow store {store_uri()}: {said}")
    log.warning("%s. The stage goes on without it.", text)


def _git(*words: str) -> str:
    try:
        answer = subprocess.run(["git", *words], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return ""
    return answer.stdout.strip()


def flatten(values: dict[str, Any], prefix: str = "") -> dict[str, str]:
    """Turn nested parameters into dotted names and texts."""
    flat: dict[str, str] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = str(value)[:LONGEST_PARAM]
    return flat


def params_of(config: Config, variant: str) -> dict[str, str]:
    """All parameters that bear on a variant: the shared ones, and its own entries under ``variant.``."""
    values = config.model_dump(mode="json", by_alias=True)
    own: dict[str, Any] = {}
    for section in ("seeded", "grouped", "trained", "controls", "evaluated"):
        entry = values.pop(section).get(variant)
        if entry is not None and section != "evaluated":
            own |= entry
    return flatten(values) | flatten(own, "variant.")


class Run:
    """One run in the store. Every method is safe to call: a store that fails is reported once and then left alone."""

    def __init__(self, client: Any = None, run_id: str = "", logged_epochs: int = 0):
        self._client, self._run_id, self._logged_epochs = client, run_id, logged_epochs

    def safely(self, action: Callable[[Any], object]) -> None:
        """Do something with the store's client, unless it has failed before; say so if it fails now."""
        if self._client is None:
            return
        try:
            action(self._client)
        except Exception as error:  # MLflow raises its own, SQLAlchemy's and requests' errors
            _warn(error)
            self._client = None

    def metrics(self, values: dict[str, float], step: int = 0) -> None:
        """Log several metrics in one call."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        # MLflow takes letters, digits and these; class names of other data sets may hold more.
        names = {name: re.sub(r"[^\w./ -]", "_", name) for name in values}
        batch = [Metric(names[name], float(value), now, step) for name, value in values.items()]
        self.safely(lambda client: client.log_batch(self._run_id, metrics=batch))

    def epoch(self, row: "Epoch") -> None:
        """Log one row of the learning curve, unless the run has it from before an interruption."""
        if row.epoch > self._logged_epochs:
            names = ("learning_rate", "train_loss", "train_accuracy", "valid_loss", "valid_accuracy")
            self.metrics({"epoch": row.epoch} | {name: getattr(row, name) for name in names}, step=row.epoch)

    def evaluation(self, summary: dict[str, Any]) -> None:
        """Log the accuracies of ``eval.json``, in percent."""
        values = {"accuracy_mean": summary["accuracy_mean"], "accuracy_std": summary["accuracy_std"]}
        values |= {f"fold_{i}_accuracy": x for i, x in enumerate(summary["fold_accuracies"])}
        values |= {f"fold_{i}_C": x for i, x in enumerate(summary["C"])}
        values |= {f"class_{name}_accuracy": x for name, x in summary["class_accuracies"].items()}
        self.metrics(values)

    def picture(self, path: Path) -> None:
        """Attach a picture."""
        if path.exists():
            self.safely(lambda client: client.log_artifact(self._run_id, str(path)))

    def finish(self, status: str) -> None:
        """Close the run as ``FINISHED`` or ``FAILED``."""
        self.safely(lambda client: client.set_terminated(self._run_id, status))


@contextmanager
def run(kind: str, variant: str, identity: str, config: Config) -> Iterator[Run]:
    """Open the run of some work, log parameters and tags, close it at the end.

    Parameters
    ----------
    kind
        ``train`` or ``evaluate``.
    variant
        What it is about.
    identity
        Hash of all that the result depends on.
    config
        The parameters.

    Yields
    ------
    Run
        To log to. It swallows what is logged if the same work is finished in the store already, or if the store
        cannot be reached.
    """
    tracked = _open(kind, variant, identity, config)
    try:
        yield tracked
    except BaseException:
        tracked.finish("FAILED")
        raise
    tracked.safely(lambda client: _describe_evaluation(tracked, kind, variant))
    tracked.finish("FINISHED")


def _describe_evaluation(tracked: Run, kind: str, variant: str) -> None:
    """Make an evaluation run stand alone in the comparison view."""
    if kind != "evaluate":
        return
    if (curve := paths.learning_curve(variant)).exists():
        last = pd.read_csv(curve).iloc[-1]
        tracked.metrics({f"final_{name}": last[name] for name in ("train_loss", "valid_loss", "valid_accuracy")})
    if (clusters := paths.cluster_statistics(variant)).exists():
        statistics = read_json(clusters)
        names = ("clusters", "images_in_clusters", "merged_fraction", "threshold", "single_classes")
        tracked.metrics({name: statistics[name] for name in names})


def _open(kind: str, variant: str, identity: str, config: Config) -> Run:
    # A server that is down must not hold a stage up for minutes, which mlflow's own defaults would.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "15")
    # Importing mlflow takes seconds; stages that log nothing do without.
    import mlflow

    logging.getLogger("alembic").setLevel(logging.WARNING)
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.WARNING)
    try:
        client = mlflow.MlflowClient(store_uri())
        experiment = client.get_experiment_by_name(EXPERIMENT)
        experiment_id = experiment.experiment_id if experiment else _create_experiment(client)
        found = client.search_runs(
            [experiment_id],
            f"tags.identity = '{identity}' and tags.kind = '{kind}' and tags.variant = '{variant}'",
        )
        commit = _git("rev-parse", "HEAD")
        if found and found[0].info.status == "FINISHED":
            if commit:
                client.set_tag(found[0].info.run_id, f"commit.{commit}", "true")
            return Run()
        if found:
            client.update_run(found[0].info.run_id, status="RUNNING")
            return Run(client, found[0].info.run_id, int(found[0].data.metrics.get("epoch", 0)))
        tags = {"kind": kind, "variant": variant, "identity": identity, "profile": config.profile}
        tags |= {"mlflow.source.git.commit": commit, "data.md5": data_digest(paths.DATA)}
        tags |= {f"commit.{commit}": "true"} if commit else {}
        # Under `mlflow run` the project's run is the parent.
        if parent := os.environ.get("MLFLOW_RUN_ID"):
            tags["mlflow.parentRunId"] = parent
        name = f"{kind} {variant} {config.profile} seed {config.seed}"
        run_id = client.create_run(experiment_id, tags=tags, run_name=name).info.run_id
        _log_params(client, run_id, params_of(config, variant))
        return Run(client, run_id)
    except Exception as error:  # see Run.safely
        _warn(error)
        return Run()


def _create_experiment(client: Any) -> str:
    """Create the experiment; pictures of a local store lie beside it, not below whatever folder a stage runs in."""
    place = None
    if (uri := store_uri()).startswith("sqlite:///"):
        place = (Path(uri.removeprefix("sqlite:///")).resolve().parent / "mlartifacts").as_uri()
    return str(client.create_experiment(EXPERIMENT, artifact_location=place))


def _log_params(client: Any, run_id: str, params: dict[str, str]) -> None:
    from mlflow.entities import Param

    entries = [Param(name, value) for name, value in params.items()]
    for start in range(0, len(entries), PARAMS_A_CALL):
        client.log_batch(run_id, params=entries[start : start + PARAMS_A_CALL])
