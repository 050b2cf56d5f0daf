"""Trainings and evaluations as runs in the MLflow store.

A run is a projection of results. Its identity is the hash of what the work depends on, known before the work starts and
kept as a tag. The same work again finds the same run: a finished one only gains a tag for the commit, an unfinished one
is completed. A result that is there finds the run that has it under another identity, too: of other code that made the
same of the same parameters. What a run shows is read from the files that the stage wrote, so it makes no difference
whether it was logged while the stage ran, or afterwards by `send`: where DVC skipped the stage, in a fresh clone, or
after the server had been down. No run id enters a result, and a store that fails never stops a stage.
"""

import getpass
import json
import logging
import math
import os
import posixpath
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from exemplarcnn import config as configuration
from exemplarcnn import paths, renamed
from exemplarcnn.config import Config
from exemplarcnn.data.stl10 import data_digest
from exemplarcnn.files import digest_of, md5_of, read_json, read_table, rounded
from exemplarcnn.tracking import lineage, repository, store
from exemplarcnn.tracking.lineage import Record

if TYPE_CHECKING:  # importing torch takes seconds
    from exemplarcnn.training.learning_curve import Epoch

LONGEST_PARAM = 500
LONGEST_NAME = 200
LONGEST_KEY = 250  # MLflow's limit for names of metrics and tags
PARAMS_A_CALL = 100
CURVE = ("learning_rate", "train_loss", "train_accuracy", "valid_loss", "valid_accuracy", "probe_accuracy")
SENT, THERE = "sent", "there already"
BROKEN = "the store failed halfway; rerun to continue"
# What is tagged with its hash once it is made.
MADE = {
    "train": {"model": paths.model, "curve": paths.learning_curve},
    "evaluate": {"eval": paths.evaluation, "classifiers": paths.classifiers},
    "resnet": {
        "model": paths.model,
        "curve": paths.learning_curve,
        "eval": paths.evaluation,
        "classifiers": paths.classifiers,
    },
}

log = logging.getLogger(__name__)


# What a run says about itself


def flatten(values: dict[str, Any], prefix: str = "") -> dict[str, str]:
    """Turn nested parameters into dotted names and texts."""
    flat: dict[str, str] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = str(value)[:LONGEST_PARAM]
    return flat


def key(name: str) -> str:
    """Return the name under which MLflow keeps a metric or tag: class names of other data sets may hold anything.

    One that MLflow takes stays as it is. In any other what it refuses becomes ``_``, what is too long is cut, and
    eight digits of the name's hash tell it from others: the same in every run, so that runs can be compared.
    """
    fit = re.sub(r"[^\w./ -]", "_", name)
    if posixpath.normpath(fit) != fit or fit.startswith(("/", ".")):  # MLflow wants names to be proper paths
        fit = re.sub(r"/|^\.+", "_", fit)
    if fit == name and 0 < len(name) <= LONGEST_KEY:
        return name
    mark = f"-{digest_of(name)[:8]}"
    return fit[: LONGEST_KEY - len(mark)] + mark


def params_of(record: Record, records: dict[str, Record]) -> dict[str, str]:
    """All parameters that a result depends on; those of its own variant as ``variant.``, to compare across variants."""
    variant = record.stage.partition("@")[2]
    own = re.compile(rf"^variants\.\w+\.{re.escape(variant)}\.")
    return {own.sub("variant.", key): value for key, value in flatten(lineage.params(record, records)).items()}


def changes(params: dict[str, Any], profile: dict[str, Any]) -> list[str]:
    """Say where parameters are other than a profile's, as ``train.epochs=20``; seed and machine are not changes."""
    base = flatten(profile)
    return [
        f"{key}={value}"
        for key, value in flatten(params).items()
        if key != "seed" and not key.startswith("machine.") and base.get(key) != value
    ]


def _name(record: Record, records: dict[str, Record], config: Config) -> str:
    """Return a name by which a person tells runs apart: what, on which scale, which seed, and what was changed."""
    changed = []
    # A profile of the user's own making may no longer be there, or be half edited: a name is not worth a run.
    with suppress(Exception):
        changed = changes(lineage.params(record, records), configuration.compose(Path("conf"), config.profile))
    kind, _, variant = record.stage.partition("@")
    return " ".join([kind, variant, config.profile, f"seed {config.seed}", *changed])[:LONGEST_NAME]


# One run


class Run:
    """One run in the store. Every method is safe to call: a store that fails is reported once and then left alone."""

    def __init__(self, client: Any = None, found: Any = None):
        self._client = client
        self.failed = client is None
        self.run_id = found.info.run_id if found else ""
        self.finished = bool(found) and found.info.status == "FINISHED"
        self._epochs = int(found.data.metrics.get("epoch", 0)) if found else 0
        self._tags = dict(found.data.tags) if found else {}

    def safely(self, action: Callable[[Any], object]) -> None:
        """Do something with the store's client, unless it has failed before; say so if it fails now."""
        if self.failed or self.finished:
            return
        try:
            action(self._client)
        except Exception as error:  # as in _only_warn
            _warn(error)
            self.failed = True

    def metrics(self, values: dict[str, float], step: int = 0) -> None:
        """Log several metrics in one call."""
        if self.failed or self.finished:
            return
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        batch = [Metric(key(name), float(value), now, step) for name, value in values.items()]
        self.safely(lambda client: client.log_batch(self.run_id, metrics=batch))

    def tags(self, values: dict[str, str]) -> None:
        """Set several tags in one call."""
        if self.failed or self.finished:
            return
        from mlflow.entities import RunTag

        batch = [RunTag(name, value) for name, value in values.items()]
        self.safely(lambda client: client.log_batch(self.run_id, tags=batch))

    def epoch(self, row: "Epoch") -> None:
        """Log one row of the learning curve as it comes, unless the run has it from before an interruption."""
        self._row(row.epoch, rounded({name: getattr(row, name) for name in CURVE}))  # as it stands in the file

    def _row(self, epoch: int, values: dict[str, float | None]) -> None:
        if epoch > self._epochs:
            # The probe is not asked in every epoch.
            known = {name: value for name, value in values.items() if value is not None and not math.isnan(value)}
            self.metrics({"epoch": epoch} | known, step=epoch)
            self._epochs = epoch if not self.failed else self._epochs

    def artifact(self, path: Path) -> None:
        """Attach a file of the reports, in its folder there (pictures of a variant have one name), if it exists."""
        if path.exists():
            folder = path.relative_to(paths.REPORTS).parent.name or None
            self.safely(lambda client: client.log_artifact(self.run_id, str(path), folder))

    def complete(self, record: Record) -> None:
        """Log all that a stage has made, as far as the run lacks it, and close the run as finished."""
        kind, _, variant = record.stage.partition("@")
        made = _made(record)
        if self.finished:
            other = [name for name, md5 in made.items() if self._tags.get(name, md5) != md5]
            if other:
                text = "%s gave another result than run %s in the store, which is left as it is: %s differ"
                log.warning(text, record.stage, self.run_id, ", ".join(other))
            return
        if kind in ("train", "resnet"):
            self._training(variant)
        if kind in ("evaluate", "resnet"):
            self._evaluation(variant)
        self.tags(made)
        self.finish("FINISHED")

    def _training(self, variant: str) -> None:
        for row in _curve(paths.learning_curve(variant)).to_dict("records"):
            self._row(int(row["epoch"]), {name: row.get(name) for name in CURVE})
        self.artifact(paths.patches_picture(variant))
        self.artifact(paths.filters_picture(variant))

    def _evaluation(self, variant: str) -> None:
        """Log accuracies in percent, and what else makes an evaluation stand alone in the comparison view."""
        summary = read_json(paths.evaluation(variant))
        values = {"accuracy_mean": summary["accuracy_mean"], "accuracy_std": summary["accuracy_std"]}
        values |= {f"fold_{i}_accuracy": x for i, x in enumerate(summary["fold_accuracies"])}
        values |= {f"fold_{i}_C": x for i, x in enumerate(summary["chosen"])}
        if summary["leaky"] is not None:
            values["leaky_accuracy_mean"] = summary["leaky"]["accuracy_mean"]
        values |= {f"{name}_accuracy_mean": other["accuracy_mean"] for name, other in summary["others"].items()}
        values |= {f"class_{name}_accuracy": x for name, x in summary["class_accuracies"].items()}
        if (curve := paths.learning_curve(variant)).exists():
            last = _curve(curve).iloc[-1]
            values |= {f"final_{name}": last[name] for name in ("train_loss", "valid_loss", "valid_accuracy")}
        if (clusters := paths.cluster_statistics(variant)).exists():
            statistics = read_json(clusters)
            names = ("clusters", "images_in_clusters", "merged_fraction", "threshold", "single_classes")
            values |= {name: statistics[name] for name in names}
            if (judged := statistics.get("cluster_purity")) is not None:
                values["cluster_purity"] = judged["purity"]
        self.metrics(values)
        self.artifact(paths.confusion_picture(variant))
        self.artifact(paths.mistakes_picture(variant))

    def finish(self, status: str) -> None:
        """Close the run as ``FINISHED`` or ``FAILED``; what another process has finished meanwhile stays so."""

        def close(client: Any) -> None:
            if client.get_run(self.run_id).info.status != "FINISHED":
                client.set_terminated(self.run_id, status)

        self.safely(close)

    @contextmanager
    def system_metrics(self) -> Iterator[None]:
        """Log what processor, memory, disk and GPU do while the block runs, every ten seconds."""
        monitor: Any = None
        if not (self.failed or self.finished):
            with _only_warn():
                from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

                monitor = SystemMetricsMonitor(self.run_id, resume_logging=True, tracking_uri=store.address())
                monitor.start()
        try:
            yield
        finally:
            if monitor is not None:
                monitor.finish()


def _curve(path: Path) -> pd.DataFrame:
    """Read a learning curve."""
    return read_table(path, integers=["epoch"], floats=CURVE)


def _warn(error: Exception) -> None:
    log.warning("%s. The work continues; `exemplarcnn log` sends later what the store lacks.", store.problem(error))


@contextmanager
def _only_warn() -> Iterator[None]:
    try:
        yield
    except Exception as error:  # MLflow raises its own, SQLAlchemy's and requests' errors; DVC its own
        _warn(error)


@contextmanager
def run(kind: str, variant: str, config: Config) -> Iterator[Run]:
    """Track the work of a stage: open its run, close it at the end with all that the stage has made.

    Parameters
    ----------
    kind
        ``train``, ``evaluate`` or ``resnet``, the stage's name.
    variant
        What it is about.
    config
        The parameters.

    Yields
    ------
    Run
        To log to while the work continues. It swallows what is logged if the same work is finished in the store
        already, or if the store cannot be reached.
    """
    stage = f"{kind}@{variant}"
    tracked = Run()
    with _only_warn():
        # What an earlier code or command left in the folder is not what this work will make.
        ahead = replace(lineage.current(stage), outs={})
        tracked = _open(store.connect(), ahead, lineage.read_lock(), config)
    try:
        with tracked.system_metrics():
            yield tracked
    except BaseException:
        tracked.finish("FAILED")
        raise
    if not tracked.failed:
        with _only_warn():
            tracked.complete(lineage.current(stage))


def _open(client: Any, record: Record, records: dict[str, Record], config: Config) -> Run:
    """Find the run of some work, or open one."""
    marks = _marks()
    with store.lock():
        found = find(client, record, records) or _create(client, record, records, config)
        tracked = Run(client, found)
        for name, value in marks.items():
            client.set_tag(tracked.run_id, name, value)
        if not tracked.finished:
            client.update_run(tracked.run_id, status="RUNNING")
            # In the lock too: of two processes that name a data set for the first time, MLflow refuses one.
            _describe(client, tracked.run_id, record, records)
    return tracked


def find(client: Any, record: Record, records: dict[str, Record]) -> Any:
    """Return the run of some work; None if there is none.

    One of the same identity; else a finished one that had the same parameters, whatever they were called then, and
    made the same files. The hash of the code is part of the identity, so that the new names alone give all results
    another one.
    """
    if found := _first(client, f"tags.identity = '{record.identity}'"):
        return found
    if not (made := _made(record)):
        return None
    kind, _, variant = record.stage.partition("@")
    wanted = {"kind": kind, "variant": variant, "data.md5": data_digest(paths.DATA)} | made
    same = " and ".join(f"tags.`{name}` = '{value}'" for name, value in wanted.items())
    params = params_of(record, records)
    return _first(
        client,
        f"{same} and attributes.status = 'FINISHED'",
        lambda run: {renamed.current(name): value for name, value in run.data.params.items()} == params,
    )


def _made(record: Record) -> dict[str, str]:
    """Return the tags with the hash of what a stage has made; none before it has made everything."""
    kind, _, variant = record.stage.partition("@")
    places = {f"md5.{name}": str(place(variant)) for name, place in MADE[kind].items()}
    return {tag: record.outs[path] for tag, path in places.items()} if record.outs.keys() >= {*places.values()} else {}


def _first(client: Any, wanted: str, suits: Callable[[Any], bool] = lambda run: True) -> Any:
    """Return one of the runs that match: a finished one, then the oldest; None if there is none."""
    found = [run for run in store.search(client, wanted) if suits(run)]
    order = [(each.info.status != "FINISHED", each.info.start_time, each.info.run_id) for each in found]
    return found[order.index(min(order))] if found else None


def _create(client: Any, record: Record, records: dict[str, Record], config: Config) -> Any:
    """Open a run of some work, and return the one to go on with: somebody else may have opened one meanwhile."""
    kind, _, variant = record.stage.partition("@")
    parent = store.parent_run(client)
    tags = {"kind": kind, "variant": variant, "identity": record.identity, "profile": config.profile}
    tags |= {"data.md5": data_digest(paths.DATA)}
    if commit := repository.commit():
        tags["mlflow.source.git.commit"] = commit
    tags |= {"mlflow.source.name": f"dvc repro {record.stage}", "mlflow.source.type": "LOCAL"}
    with suppress(KeyError, OSError):  # a user without a name, as in some containers
        tags["mlflow.user"] = getpass.getuser()
    if parent:
        tags["mlflow.parentRunId"] = parent.info.run_id
    name = _name(record, records, config)
    made = client.create_run(store.experiment_id(client, parent), tags=tags, run_name=name)
    # The lock is this machine's. All who look again find the same one, and each takes back only its own.
    kept = find(client, record, records)
    if kept is None or kept.info.run_id == made.info.run_id:
        return made
    client.delete_run(made.info.run_id)
    return kept


def _marks() -> dict[str, str]:
    """Tags for every commit and every DVC experiment that has this result."""
    if experiment := os.environ.get("DVC_EXP_NAME"):
        return {key(f"experiment.{experiment}"): "true"}
    commit = repository.commit()
    return {f"commit.{commit}": "true"} if commit and repository.clean() else {}


def _describe(client: Any, run_id: str, record: Record, records: dict[str, Record]) -> None:
    """Log parameters that the run lacks, and the data sets that the work reads with their hashes."""
    from mlflow.entities import Dataset, DatasetInput, InputTag, Param

    # A parameter of a stage before may be another now and have made no difference: MLflow takes each name once.
    there = client.get_run(run_id).data.params
    entries = [Param(name, value) for name, value in params_of(record, records).items() if name not in there]
    for start in range(0, len(entries), PARAMS_A_CALL):
        client.log_batch(run_id, params=entries[start : start + PARAMS_A_CALL])
    read = {path: md5 for path, md5 in record.deps.items() if not path.startswith(lineage.CODE)}
    read |= {str(paths.DATA): data_digest(paths.DATA)}
    context = [InputTag("mlflow.data.context", "evaluation" if record.stage.startswith("evaluate") else "training")]
    sets = [Dataset(path, md5, "dvc", json.dumps({"path": path, "md5": md5})) for path, md5 in read.items()]
    client.log_inputs(run_id, datasets=[DatasetInput(each, context) for each in sets])


# All runs


def send(config: Config) -> dict[str, str]:
    """Send whatever results stand in ``metrics/`` and the store lacks, and fill in the run of `mlflow run`.

    Safe to repeat: what the store has is left as it is.

    Returns
    -------
    dict
        Stage and what became of it: ``sent``, ``there already``, or why it was left out.

    Raises
    ------
    StoreError
        If the store cannot be reached.
    """
    with store.reached(), lineage.Workspace() as here:
        return _send(store.connect(), lineage.read_lock(), config, here)


def _send(client: Any, records: dict[str, Record], config: Config, here: lineage.Workspace) -> dict[str, str]:
    stages = [f"train@{name}" for name in config.variants.train]
    stages += [f"evaluate@{name}" for name in config.variants.evaluate] + [
        f"resnet@{name}" for name in config.variants.label
    ]
    said: dict[str, str] = {}
    runs: dict[str, str] = {}
    for stage in stages:
        said[stage] = _missing(stage, records, here) or ""
        if said[stage]:
            continue
        tracked = _open(client, records[stage], records, config)
        said[stage] = THERE if tracked.finished else SENT
        tracked.complete(records[stage])
        if tracked.failed:
            said[stage] = BROKEN
        runs[stage] = tracked.run_id
    if parent := store.parent_run(client):
        _fill_parent(client, parent, config, runs)
    return said


def send_if_possible(config: Config) -> None:
    """Do what `send` does; if the store cannot be reached, say so and go on."""
    with _only_warn():
        send(config)


def _missing(stage: str, records: dict[str, Record], here: lineage.Workspace) -> str | None:
    """Say why the result of a stage cannot be sent."""
    if reason := lineage.out_of_date(stage, records, here):
        return reason
    for path, md5 in records[stage].outs.items():
        if path.startswith(f"{paths.METRICS}/") and not (Path(path).exists() and md5_of(Path(path)) == md5):
            return f"{path} is not what {stage} wrote"
    return None


def _fill_parent(client: Any, parent: Any, config: Config, runs: dict[str, str]) -> None:
    """Give the run that `mlflow run` opened the figures of all variants, whether computed under it or before."""
    whole = Run(client, parent)
    values: dict[str, float] = {}
    for stage in runs:
        kind, _, variant = stage.partition("@")
        if kind in ("evaluate", "resnet"):
            summary = read_json(paths.evaluation(variant))
            values |= {f"{variant}/{name}": summary[name] for name in ("accuracy_mean", "accuracy_std")}
    whole.metrics({name: value for name, value in values.items() if parent.data.metrics.get(name) != value})
    tags = {"kind": "pipeline", "profile": config.profile, "seed": str(config.seed)}
    tags |= {"data.md5": data_digest(paths.DATA)}
    tags |= {f"run.{stage.replace('@', '.')}": run_id for stage, run_id in runs.items()}
    whole.tags(tags)
    if paths.RESULTS_JSON.exists() and _results_stand(config, runs):
        for path in (paths.RESULTS_MD, paths.RESULTS_PNG, paths.RESULTS_JSON):
            whole.artifact(path)


def _results_stand(config: Config, runs: dict[str, str]) -> bool:
    """Say whether the report is of the evaluations that stand."""
    results = read_json(paths.RESULTS_JSON)
    reported = {row["variant"]: row["fold_accuracies"] for row in results["rows"]}
    logged = {stage.partition("@")[2] for stage in runs if not stage.startswith("train@")}
    if results["dataset"]["hash"] != data_digest(paths.DATA) or not logged.issuperset(reported):
        return False
    return reported == {name: read_json(paths.evaluation(name))["fold_accuracies"] for name in config.rows}
