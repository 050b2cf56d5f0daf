"""Log trainings and evaluations as runs in the MLflow store.

A run is a projection of results. Its identity is the hash of what the work depends on, known before the work starts and
kept as a tag. Repeated work finds the same run: a finished run only gains a tag for the commit, an unfinished one is
completed. An existing result also finds a finished run of another identity, if other code made the same result from the
same parameters. What a run shows is read from the files that the stage wrote. So it makes no difference whether it was
logged while the stage ran or later (:mod:`exemplarcnn.tracking.sending`): because DVC skipped the stage, in a fresh
clone, or after the server was down. No run id enters a result, and a failing store never stops a stage.
"""

import getpass
import json
import logging
import math
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from exemplarcnn import paths
from exemplarcnn.config import renamed
from exemplarcnn.config.params import Config
from exemplarcnn.data.stl10 import data_digest
from exemplarcnn.files import digest_of, rounded
from exemplarcnn.tracking import descriptions, lineage, measures, parameters, relocation, repository, store
from exemplarcnn.tracking.lineage import Record
from exemplarcnn.tracking.measures import CURVE

if TYPE_CHECKING:  # importing torch takes seconds
    from exemplarcnn.training.learning_curve import Epoch

PARAMS_A_CALL = 100
# Hash of the description that we wrote last: another text is somebody's own.
DESCRIBED = "described"
# Outs whose hashes become tags once they are made.
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


class Run:
    """One run in the store. Every method is safe to call: a failing store is reported once, then left alone."""

    def __init__(self, client: Any = None, found: Any = None):
        self._client = client
        self.failed = client is None
        self.run_id = found.info.run_id if found else ""
        self.place = (found.info.experiment_id if found else "", self.run_id)
        self.finished = bool(found) and found.info.status == "FINISHED"
        self._epochs = int(found.data.metrics.get("epoch", 0)) if found else 0
        self._tags = dict(found.data.tags) if found else {}
        self.folders: set[str] | None = None  # of its artifacts, once `attach` has listed them

    def safely(self, action: Callable[[Any], object], finished: bool = False) -> None:
        """Call an action with the store's client, unless the store has failed before; warn if it fails now.

        A finished run stays as it is, unless the action is for `finished` runs, too.
        """
        if self.failed or (self.finished and not finished):
            return
        try:
            action(self._client)
        except Exception as error:  # as in only_warn
            _warn(error)
            self.failed = True

    def metrics(self, values: dict[str, float], step: int = 0) -> None:
        """Log several metrics in one call."""
        if self.failed or self.finished:
            return
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        batch = [Metric(parameters.key(name), float(value), now, step) for name, value in values.items()]
        self.safely(lambda client: client.log_batch(self.run_id, metrics=batch))

    def tags(self, values: dict[str, str]) -> None:
        """Set several tags in one call."""
        if self.failed or self.finished:
            return
        from mlflow.entities import RunTag

        batch = [RunTag(name, value) for name, value in values.items()]
        self.safely(lambda client: client.log_batch(self.run_id, tags=batch))

    def epoch(self, row: "Epoch") -> None:
        """Log one row of the learning curve, unless the run has it from before an interruption."""
        self._row(row.epoch, rounded({name: getattr(row, name) for name in CURVE}))  # as in the file

    def _row(self, epoch: int, values: dict[str, float | None]) -> None:
        if epoch > self._epochs:
            # The probe does not run in every epoch.
            known = {name: value for name, value in values.items() if value is not None and not math.isnan(value)}
            self.metrics({"epoch": epoch} | known, step=epoch)
            self._epochs = epoch if not self.failed else self._epochs

    def artifact(self, path: Path) -> None:
        """Attach a file, if it exists."""
        if path.exists():
            self.safely(lambda client: client.log_artifact(self.run_id, str(path)))

    def attach(self, found: list[Path]) -> bool:
        """Attach the pictures that the run lacks, even if it is finished; say whether there were any."""
        attached: list[Path] = []

        def attach(client: Any) -> None:
            # A run has one picture per folder, named after its variant.
            there = {artifact.path for artifact in client.list_artifacts(self.run_id)}
            for path in found:
                if (folder := path.relative_to(paths.PICTURES).parent.as_posix()) not in there:
                    client.log_artifact(self.run_id, str(path), folder)
                    there.add(folder)
                    attached.append(path)
            self.folders = there

        if found:
            self.safely(attach, finished=True)
        elif not self.failed:
            with only_warn():  # a place of artifacts that cannot be reached, where nothing is to go there
                attach(self._client)
        return bool(attached)

    def describe(self, text: str) -> bool:
        """Set the description, even of a finished run, unless somebody has written another.

        Returns
        -------
        bool
            False if the store refuses it, which is no reason to leave the store alone.
        """
        there, ours = self._tags.get(relocation.NOTE, ""), self._tags.get(DESCRIBED, digest_of(""))
        if self.failed or there == text or digest_of(there) != ours:
            return True
        from mlflow.entities import RunTag

        values = {relocation.NOTE: text, DESCRIBED: digest_of(text)}
        with only_warn():
            self._client.log_batch(self.run_id, tags=[RunTag(name, value) for name, value in values.items()])
            self._tags |= values
            return True
        return False

    def complete(self, record: Record) -> bool:
        """Log whatever the stage has made and the run lacks, and close the run as finished.

        Returns
        -------
        bool
            Whether the run records exactly this result. A run that was finished before may record another, such as
            that of another CPU.
        """
        kind, _, variant = record.stage.partition("@")
        made = _made(record)
        if self.finished:
            other = [name for name, md5 in made.items() if self._tags.get(name, md5) != md5]
            if other:
                text = "%s gave another result than run %s in the store, which stays as it is: %s differ"
                log.warning(text, record.stage, self.run_id, ", ".join(other))
            return not other
        if kind in ("train", "resnet"):
            for row in measures.curve(variant).to_dict("records"):
                self._row(int(row["epoch"]), {name: row.get(name) for name in CURVE})
        if kind in ("evaluate", "resnet"):
            self.metrics(measures.evaluation(variant))
        self.tags(made)
        self.finish("FINISHED")
        return True

    def finish(self, status: str) -> None:
        """Close the run as ``FINISHED`` or ``FAILED``, unless another process has finished it meanwhile."""

        def close(client: Any) -> None:
            if client.get_run(self.run_id).info.status != "FINISHED":
                client.set_terminated(self.run_id, status)

        self.safely(close)

    @contextmanager
    def system_metrics(self) -> Iterator[None]:
        """Log the load of processor, memory, disk and GPU every ten seconds while the block runs."""
        monitor: Any = None
        if not (self.failed or self.finished):
            with only_warn():
                from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

                monitor = SystemMetricsMonitor(self.run_id, resume_logging=True, tracking_uri=store.address())
                monitor.start()
        try:
            yield
        finally:
            if monitor is not None:
                monitor.finish()


def _warn(error: Exception) -> None:
    log.warning("%s. The work continues; later, `exemplarcnn log` sends what the store lacks.", store.problem(error))


@contextmanager
def only_warn() -> Iterator[None]:
    """Turn any failure of the store in the block into a warning."""
    try:
        yield
    except Exception as error:  # MLflow raises its own, SQLAlchemy's and requests' errors; DVC its own
        _warn(error)


@contextmanager
def run(kind: str, variant: str, config: Config) -> Iterator[Run]:
    """Track the work of a stage: open its run, and close it at the end with everything that the stage has made.

    Parameters
    ----------
    kind
        The stage's name: ``train``, ``evaluate`` or ``resnet``.
    variant
        The stage's variant.
    config
        The parameters.

    Yields
    ------
    Run
        To log to while the stage works. It ignores what is logged if the store has a finished run of the same work,
        or cannot be reached.
    """
    stage = f"{kind}@{variant}"
    tracked, ahead = Run(), None
    with only_warn():
        # Outs that earlier code or commands left in the folder are not what this work will make.
        ahead = replace(lineage.current(stage), outs={})
        tracked = open_run(store.connect(), ahead, lineage.read_lock(), config)
    try:
        with tracked.system_metrics():
            yield tracked
    except BaseException:
        tracked.finish("FAILED")
        raise
    if not tracked.failed:
        with only_warn():
            record = lineage.current(stage)
            if ahead is not None:  # parameters and code may have been edited meanwhile
                record = replace(ahead, outs=record.outs)
            if tracked.complete(record) and not tracked.finished:
                changed = parameters.changed(record, lineage.read_lock(), parameters.profile_of(config))
                tracked.describe(descriptions.of(record, config, changed, tracked.place))


def open_run(client: Any, record: Record, records: dict[str, Record], config: Config) -> Run:
    """Find the run of a record's work, or open one."""
    marks = _marks() | {profile_mark(config.profile): "true"}
    with store.lock():
        found = find(client, record, records) or _create(client, record, records, config)
        tracked = Run(client, found)
        for name, value in marks.items():
            client.set_tag(tracked.run_id, name, value)
        if not tracked.finished:
            client.update_run(tracked.run_id, status="RUNNING")
            # Under the lock, too: if two processes name a data set for the first time, MLflow refuses one.
            _describe(client, tracked.run_id, record, records)
    return tracked


def find(client: Any, record: Record, records: dict[str, Record]) -> Any:
    """Return the run of a record's work; None if there is none.

    A run of the same identity; otherwise a finished run on the same data with the same parameters, whatever their
    names were then, that made the same files. Identities contain the hash of the code, so that renaming parameters
    alone changes those of all results.
    """
    if found := _first(client, f"tags.identity = '{record.identity}'"):
        return found
    if not (made := _made(record)):
        return None
    kind, _, variant = record.stage.partition("@")
    wanted = {"kind": kind, "variant": variant, "data.md5": data_digest(paths.DATA)} | made
    same = " and ".join(f"tags.`{name}` = '{value}'" for name, value in wanted.items())
    wanted_params = parameters.params_of(record, records)
    return _first(
        client,
        f"{same} and attributes.status = 'FINISHED'",
        lambda run: {renamed.current(name): value for name, value in run.data.params.items()} == wanted_params,
    )


def holds(found: Any, record: Record) -> bool:
    """Tell whether a run is finished and has a record's very results: another kind of CPU may have made others."""
    made = _made(record)
    tags = found.data.tags
    return bool(made) and found.info.status == "FINISHED" and all(tags.get(tag) == md5 for tag, md5 in made.items())


def _made(record: Record) -> dict[str, str]:
    """Return tags with the hashes of what a stage has made; empty until it has made everything."""
    kind, _, variant = record.stage.partition("@")
    places = {f"md5.{name}": str(place(variant)) for name, place in MADE[kind].items()}
    return {tag: record.outs[path] for tag, path in places.items()} if record.outs.keys() >= {*places.values()} else {}


def _first(client: Any, wanted: str, suits: Callable[[Any], bool] = lambda run: True) -> Any:
    """Return the oldest of the runs that match, of the finished ones if there are any; None if none matches."""
    found = [run for run in store.search(client, wanted) if suits(run)]
    order = [(each.info.status != "FINISHED", each.info.start_time, each.info.run_id) for each in found]
    return found[order.index(min(order))] if found else None


def _create(client: Any, record: Record, records: dict[str, Record], config: Config) -> Any:
    """Open a run of a record's work; return the one to continue with, since others may have opened one meanwhile."""
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
    changed = parameters.changed(record, records, parameters.profile_of(config))
    named = parameters.name(record, config, changed)
    made = client.create_run(store.experiment_id(client, parent), tags=tags, run_name=named)
    # The lock covers this machine only. All who look again find the same run, and each deletes only its own.
    kept = find(client, record, records)
    if kept is None or kept.info.run_id == made.info.run_id:
        return made
    client.delete_run(made.info.run_id)
    return kept


def profile_mark(profile: str) -> str:
    """Return the name of the tag of a profile's runs: of profiles that share work, one run has the tags of all."""
    return parameters.key(f"profile.{profile}")


def _marks() -> dict[str, str]:
    """Return the tag that says which DVC experiment or commit has this result; empty if neither is known."""
    if experiment := os.environ.get("DVC_EXP_NAME"):
        return {parameters.key(f"experiment.{experiment}"): "true"}
    commit = repository.commit()
    return {f"commit.{commit}": "true"} if commit and repository.clean() else {}


def _describe(client: Any, run_id: str, record: Record, records: dict[str, Record]) -> None:
    """Log the parameters that the run lacks, and the data sets that the work reads, with their hashes."""
    from mlflow.entities import Dataset, DatasetInput, InputTag, Param

    # A parameter of an earlier stage may have changed without effect on this one; MLflow takes each name only once.
    there = client.get_run(run_id).data.params
    entries = [Param(name, value) for name, value in parameters.params_of(record, records).items() if name not in there]
    for start in range(0, len(entries), PARAMS_A_CALL):
        client.log_batch(run_id, params=entries[start : start + PARAMS_A_CALL])
    read = {path: md5 for path, md5 in record.deps.items() if not path.startswith(lineage.CODE)}
    read |= {str(paths.DATA): data_digest(paths.DATA)}
    context = [InputTag("mlflow.data.context", "evaluation" if record.stage.startswith("evaluate") else "training")]
    sets = [Dataset(path, md5, "dvc", json.dumps({"path": path, "md5": md5})) for path, md5 in read.items()]
    client.log_inputs(run_id, datasets=[DatasetInput(each, context) for each in sets])
