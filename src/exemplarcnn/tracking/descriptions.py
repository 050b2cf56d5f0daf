"""Write what MLflow shows as a run's description: in a line what came out, then what it is, a table and pictures.

Markdown, made from the same files as the run. MLflow's page renders pictures from the address of the run's own
artifacts, relative to the page, whatever the server's address is.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pandas as pd

from exemplarcnn import paths
from exemplarcnn.config.params import Config
from exemplarcnn.files import read_json
from exemplarcnn.text import markdown, plain
from exemplarcnn.tracking import measures
from exemplarcnn.tracking.lineage import Record

LONGEST_NAME = 60  # of a class; keeps a description below 5000 characters, the limit of former versions of MLflow
MOST_CHANGES = 10
NARROW = ("confusion",)  # pictures that fit beside the page's side bars
Row = tuple[str, str]
Place = tuple[str, str]  # ids of a run's experiment and of the run


def of(record: Record, config: Config, changed: list[str], run: Place, attached: Iterable[Path] = ()) -> str:
    """Describe a finished run.

    Parameters
    ----------
    record
        The record of the stage that made the result.
    config
        The parameters.
    changed
        What differs from the profile, as ``train.epochs=20``.
    run, attached
        Where the run is, and the pictures among its artifacts, by their paths there.
    """
    kind, _, variant = record.stage.partition("@")
    parts = [_evaluated(variant, config)] if kind != "train" else [_trained(variant, config)]
    parts.append(_what(kind, variant, config, changed))
    rows = [] if kind == "train" else _accuracies(variant)
    parts.append(_table(rows + ([] if kind == "evaluate" else _epochs(variant))))
    if kind != "train" and (chosen := read_json(paths.evaluation(variant))["chosen"]):
        parts.append(f"C chosen for each fold: {', '.join(f'{value:g}' for value in chosen)}.")
    parts += [_picture(run, path) for path in attached]
    return "\n\n".join(parts)


def of_all(variants: Iterable[str], config: Config) -> str:
    """Describe the run that `mlflow run` opened around those of several evaluations, which exist."""
    found = {name: read_json(paths.evaluation(name)) for name in variants}
    best = sorted(found, key=lambda name: found[name]["accuracy_mean"], reverse=True)
    rows = [(_named(config.rows[name].title), _percent(found[name])) for name in best]
    return f"Profile {markdown(config.profile)}, seed {config.seed}.\n\n{_table(rows)}"


def _evaluated(variant: str, config: Config) -> str:
    summary = read_json(paths.evaluation(variant))
    folds = len(summary["fold_accuracies"])
    over = f", mean and standard deviation over {folds} folds" if folds > 1 else ", of one fold"
    return f"{_named(config.rows[variant].title)}: **{_percent(summary)} %** accuracy{over}."


TOLD = {"exemplar": "in the right surrogate class", "rotation": "with their turn told right"}


def _trained(variant: str, config: Config) -> str:
    curve = measures.curve(variant)
    last = curve.iloc[-1]
    right = f"{100 * last['valid_accuracy']:.2f} %"
    told = TOLD.get(config.variants.train[variant].objective, "nearest to their partner in a batch")
    return f"**{right}** of the validation patches {told} after {_epoch(last)} epochs."


def _what(kind: str, variant: str, config: Config, changed: list[str]) -> str:
    work = {"train": "Training", "evaluate": "Evaluation", "resnet": "Training on labels and evaluation"}[kind]
    said = f"{work}: variant `{variant}`, profile {markdown(config.profile)}, seed {config.seed}."
    if own := _unlike_the_first(variant, config):
        said += f" Unlike `{next(iter(config.variants.train))}`: {_listed(own)}."
    return said + (f" Changed from the profile: {_listed(changed)}." if changed else "")


def _unlike_the_first(variant: str, config: Config) -> list[str]:
    """List in what a trained variant differs from the first one, which is the baseline in the project's profiles."""
    trained = {name: entry.model_dump(mode="json") for name, entry in config.variants.train.items()}
    if variant not in trained:
        return []
    first = next(iter(trained.values()))
    # Which files are written changes no result.
    own = {key: value for key, value in trained[variant].items() if key != "cluster_features"}
    return [f"{key}={value}" for key, value in own.items() if value != first.get(key)]


def _accuracies(variant: str) -> list[Row]:
    summary = read_json(paths.evaluation(variant))
    folds, classes = summary["fold_accuracies"], summary["class_accuracies"]
    rows = [("accuracy in %", f"**{_percent(summary)}**")]
    if len(folds) > 1:
        rows.append(("best and worst fold", f"{max(folds):.2f}, {min(folds):.2f}"))
    if classes:
        best, worst = (pick(classes, key=classes.get) for pick in (max, min))
        rows.append(
            ("best and worst class", ", ".join(f"{_named(name)} {classes[name]:.2f}" for name in (best, worst)))
        )
    rows += [(f"protocol {_named(name)}", _percent(other)) for name, other in summary["others"].items()]
    if summary["leaky"] is not None:
        rows.append(("C chosen on the test images", _percent(summary["leaky"])))
    if measures.is_entry(variant, "group") and (clusters := paths.cluster_statistics(variant)).exists():
        found = read_json(clusters)
        rows.append(("clusters, images in them", f"{found['clusters']:,}, {found['images_in_clusters']:,}"))
    return rows


def _epochs(variant: str) -> list[Row]:
    curve = measures.curve(variant)
    first, last = curve.iloc[0], curve.iloc[-1]
    names = {"train_loss": "training loss", "valid_loss": "validation loss", "valid_accuracy": "validation accuracy"}
    rows = [("epoch", f"{_epoch(first)} → {_epoch(last)}")]
    return rows + [(said, f"{first[name]:.4g} → {last[name]:.4g}") for name, said in names.items()]


def _epoch(row: "pd.Series[Any]") -> int:
    return int(row["epoch"])


def _percent(summary: dict[str, Any]) -> str:
    """Write an accuracy, with its standard deviation over folds; it is 0 for a single one."""
    mean, std = summary["accuracy_mean"], summary["accuracy_std"]
    return f"{mean:.2f} ± {std:.2f}" if std else f"{mean:.2f}"


def _named(name: str) -> str:
    return markdown(plain(name, LONGEST_NAME))


def _listed(values: list[str]) -> str:
    shown = ", ".join(f"`{plain(value, LONGEST_NAME)}`" for value in values[:MOST_CHANGES])
    return shown + (f" and {len(values) - MOST_CHANGES} more" if len(values) > MOST_CHANGES else "")


def _table(rows: list[Row]) -> str:
    return "\n".join(["| | |", "|:---|---:|", *(f"| {name} | {value} |" for name, value in rows)])


def _picture(run: Place, path: Path) -> str:
    """Show a narrow picture, and link to any other: it would push the rest of the page out of the window."""
    experiment, run_id = run
    if path.parent.name in NARROW:
        return f"![{path.parent}](get-artifact?{urlencode({'path': path.as_posix(), 'run_uuid': run_id})})"
    return f"Picture: [{path.parent}](#/experiments/{experiment}/runs/{run_id}/artifacts/{path.as_posix()})"
