"""Send what the MLflow store lacks: runs of the results in this folder, their pictures, and a parent run's figures.

Needed in a fresh clone, after the store was down, if DVC took a result from its cache, and at the end of each pipeline.
"""

from pathlib import Path
from typing import Any

from exemplarcnn import paths
from exemplarcnn.config.params import Config
from exemplarcnn.data.stl10 import data_digest
from exemplarcnn.files import md5_of, read_json
from exemplarcnn.tracking import descriptions, lineage, pages, parameters, pictures, runs, store
from exemplarcnn.tracking.lineage import Record
from exemplarcnn.tracking.pictures import Sources
from exemplarcnn.tracking.runs import Run

SENT, THERE, PICTURES_SENT = "sent", "there already", "there already; sent pictures that it lacked"
IN_STORE = (SENT, THERE, PICTURES_SENT)
BROKEN = "the store failed halfway; rerun to continue"


def send(config: Config) -> dict[str, str]:
    """Send the results in ``metrics/`` that the store lacks, and fill in the run that `mlflow run` opened.

    Safe to repeat: what the store has stays as it is. A finished run gets the pictures that it lacks, if they were
    drawn from exactly its result, and its description is renewed, unless somebody has edited it.

    Returns
    -------
    dict
        What became of each stage, by its name: `SENT`, `THERE`, `PICTURES_SENT`, `BROKEN`, or why it was left out.

    Raises
    ------
    StoreError
        If the store cannot be reached.
    UnreadableError
        If ``dvc.lock``, ``params.yaml`` or ``data.dvc`` is damaged.
    """
    with store.reached(), lineage.Workspace() as here:
        return _send(store.connect(), lineage.read_lock(), config, here)


def _send(client: Any, records: dict[str, Record], config: Config, here: lineage.Workspace) -> dict[str, str]:
    variants = config.variants
    stages = [f"train@{name}" for name in variants.train]
    stages += [f"evaluate@{name}" for name in variants.evaluate] + [f"resnet@{name}" for name in variants.label]
    said: dict[str, str] = {}
    ids: dict[str, str] = {}
    drawn = pictures.sources()
    profile = parameters.profile_of(config)
    describes = True
    for stage in stages:
        said[stage] = _missing(stage, records, here) or ""
        if said[stage]:
            continue
        tracked = runs.open_run(client, records[stage], records, config)
        said[stage] = THERE if tracked.finished else SENT
        of_this = tracked.complete(records[stage])
        if of_this and tracked.attach(pictures.of(records[stage], records, drawn)) and said[stage] == THERE:
            said[stage] = PICTURES_SENT
        if of_this and describes and tracked.folders is not None:
            with runs.only_warn():
                changed = parameters.changed(records[stage], records, profile)
                attached = pictures.in_folders(stage, tracked.folders)
                text = descriptions.of(records[stage], config, changed, tracked.place, attached)
                describes = tracked.describe(text)  # what refuses one description refuses all
        if tracked.failed:
            said[stage] = BROKEN
        ids[stage] = tracked.run_id
    if parent := store.parent_run(client):
        _fill_parent(client, parent, config, ids, drawn)
    with runs.only_warn():
        pages.describe(client)
    return said


def send_if_possible(config: Config) -> None:
    """Do what `send` does; if the store cannot be reached, warn and continue."""
    with runs.only_warn():
        send(config)


def _missing(stage: str, records: dict[str, Record], here: lineage.Workspace) -> str | None:
    """Say why the result of a stage cannot be sent; None if it can."""
    if reason := lineage.out_of_date(stage, records, here):
        return reason
    for path, md5 in records[stage].outs.items():
        if path.startswith(f"{paths.METRICS}/") and not (Path(path).exists() and md5_of(Path(path)) == md5):
            return f"{path} is not what {stage} wrote"
    return None


def _fill_parent(client: Any, parent: Any, config: Config, ids: dict[str, str], drawn: Sources) -> None:
    """Give the run that `mlflow run` opened the figures of all variants, whether computed under it or before."""
    whole = Run(client, parent)
    values: dict[str, float] = {}
    for stage in ids:
        kind, _, variant = stage.partition("@")
        if kind in ("evaluate", "resnet"):
            summary = read_json(paths.evaluation(variant))
            values |= {f"{variant}/{name}": summary[name] for name in ("accuracy_mean", "accuracy_std")}
    whole.metrics({name: value for name, value in values.items() if parent.data.metrics.get(name) != value})
    tags = {"kind": "pipeline", "profile": config.profile, "seed": str(config.seed)}
    tags |= {"data.md5": data_digest(paths.DATA)}
    tags |= {f"run.{stage.replace('@', '.')}": run_id for stage, run_id in ids.items()}
    whole.tags(tags)
    if shown := [row for row in config.rows if f"{row}/accuracy_mean" in values]:
        whole.describe(descriptions.of_all(shown, config))
    if paths.RESULTS_JSON.exists() and _results_stand(config, ids):
        for path in (paths.RESULTS_MD, paths.RESULTS_JSON):
            whole.artifact(path)
        for path in (paths.RESULTS_PICTURE, paths.DIFFERENCES_PICTURE):
            if pictures.shows(path, drawn, {md5_of(paths.RESULTS_JSON)}):
                whole.artifact(path)


def _results_stand(config: Config, ids: dict[str, str]) -> bool:
    """Say whether the report was made from the present data and evaluations."""
    results = read_json(paths.RESULTS_JSON)
    reported = {row["variant"]: row["fold_accuracies"] for row in results["rows"]}
    logged = {stage.partition("@")[2] for stage in ids if not stage.startswith("train@")}
    if results["dataset"]["hash"] != data_digest(paths.DATA) or not logged.issuperset(reported):
        return False
    return reported == {name: read_json(paths.evaluation(name))["fold_accuracies"] for name in config.rows}
