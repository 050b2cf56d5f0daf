"""Describe a run: its parameters, the keys of its metrics and tags, and its name."""

import posixpath
import re
from contextlib import suppress
from typing import Any

from exemplarcnn import paths, text
from exemplarcnn.config import profiles
from exemplarcnn.config.params import Config
from exemplarcnn.files import digest_of
from exemplarcnn.tracking import lineage
from exemplarcnn.tracking.lineage import Record

LONGEST_PARAM = 500
LONGEST_NAME = 200
SEPARATOR = " · "
MOST_CHANGES, LONGEST_CHANGE = 3, 30
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


def changed(record: Record, records: dict[str, Record], profile: dict[str, Any] | None) -> list[str]:
    """List what of all that a result depends on differs from a profile; its own variant's parameters by short names.

    Parameters
    ----------
    record, records
        The record of the stage, and those of all stages.
    profile
        As :func:`profile_of` returns it.
    """
    variant = record.stage.partition("@")[2]

    def short(found: re.Match[str]) -> str:
        return "" if found[1] == variant else f"{found[1]}."

    every = changes(lineage.params(record, records), profile) if profile is not None else []
    return [re.sub(r"^variants\.\w+\.(\w+)\.", short, each) for each in every]


def profile_of(config: Config) -> dict[str, Any] | None:
    """Return the values of the profile that parameters were made from; None if they cannot be composed."""
    # A user's own profile may be gone or half edited; that must not cost the run.
    with suppress(Exception):
        return profiles.compose(paths.CONF, config.profile)
    return None


def name(record: Record, config: Config, changed: list[str]) -> str:
    """Return a name by which people tell runs apart, with what differs most first: MLflow's list shows the beginning.

    Parameters
    ----------
    record
        The record of the stage.
    config
        The parameters.
    changed
        As :func:`changed` returns it.
    """
    kind, _, variant = record.stage.partition("@")
    shown = [text.plain(each, LONGEST_CHANGE) for each in changed[:MOST_CHANGES]]
    if len(changed) > MOST_CHANGES:
        shown.append(f"{len(changed) - MOST_CHANGES} more changes")
    first = f"{variant} training" if kind == "train" else variant
    return SEPARATOR.join([first, *shown, f"seed {config.seed}", config.profile])[:LONGEST_NAME]
