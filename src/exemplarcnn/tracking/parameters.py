"""Describe a run: its parameters, the keys of its metrics and tags, and its name."""

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
    """Flatten nested parameters: text by dotted name, cut to `LONGEST_PARAM` characters."""
    flat: dict[str, str] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = str(value)[:LONGEST_PARAM]
    return flat


def key(name: str) -> str:
    """Return the name under which MLflow keeps a metric or tag, whatever characters a class name has.

    A name that MLflow accepts stays as it is. In any other, ``_`` replaces what MLflow refuses, what is too long is
    cut, and eight digits of the name's hash keep it unique. The result is the same in every run, so that runs can be
    compared.
    """
    fit = re.sub(r"[^\w./ -]", "_", name)
    if posixpath.normpath(fit) != fit or fit.startswith(("/", ".")):  # MLflow requires normalised relative paths
        fit = re.sub(r"/|^\.+", "_", fit)
    if fit == name and 0 < len(name) <= LONGEST_KEY:
        return name
    mark = f"-{digest_of(name)[:8]}"
    return fit[: LONGEST_KEY - len(mark)] + mark


def params_of(record: Record, records: dict[str, Record]) -> dict[str, str]:
    """Return all parameters that a result depends on; ``variant.`` stands for its own variant, to compare variants."""
    variant = record.stage.partition("@")[2]
    own = re.compile(rf"^variants\.\w+\.{re.escape(variant)}\.")
    return {own.sub("variant.", key): value for key, value in flatten(lineage.params(record, records)).items()}


def changes(params: dict[str, Any], profile: dict[str, Any]) -> list[str]:
    """List the parameters that differ from a profile's, as ``train.epochs=20``, without seed and machine."""
    base = flatten(profile)
    return [
        f"{key}={value}"
        for key, value in flatten(params).items()
        if key != "seed" and not key.startswith("machine.") and base.get(key) != value
    ]


def name(record: Record, records: dict[str, Record], config: Config) -> str:
    """Return a name by which people tell runs apart: stage, variant, profile, seed, and what was changed."""
    changed = []
    # A user's own profile may be gone or half edited; that must not cost the run.
    with suppress(Exception):
        changed = changes(lineage.params(record, records), profiles.compose(paths.CONF, config.profile))
    kind, _, variant = record.stage.partition("@")
    return " ".join([kind, variant, config.profile, f"seed {config.seed}", *changed])[:LONGEST_NAME]
