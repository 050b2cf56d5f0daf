"""What a run says about itself: its parameters, the keys of its metrics and tags, and its name."""

import posixpath
import re
from contextlib import suppress
from typing import Any

from exemplarcnn import paths
from exemplarcnn.config import profiles
from exemplarcnn.config.params import Config
from exemplarcnn.files import digest_of
from exemplarcnn.tracking import lineage
from exemplarcnn.tracking.lineage import Record

LONGEST_PARAM = 500
LONGEST_NAME = 200
LONGEST_KEY = 250  # MLflow's limit for names of metrics and tags


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


def name(record: Record, records: dict[str, Record], config: Config) -> str:
    """Return a name by which a person tells runs apart: what, on which scale, which seed, and what was changed."""
    changed = []
    # A profile of the user's own making may no longer be there, or be half edited: a name is not worth a run.
    with suppress(Exception):
        changed = changes(lineage.params(record, records), profiles.compose(paths.CONF, config.profile))
    kind, _, variant = record.stage.partition("@")
    return " ".join([kind, variant, config.profile, f"seed {config.seed}", *changed])[:LONGEST_NAME]
