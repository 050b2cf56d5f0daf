"""Names of parameters from before."""

import copy
from functools import reduce
from operator import getitem
from typing import Any

import pytest

from exemplarcnn.config import renamed
from exemplarcnn.config.params import parse
from tests.config.parameters import complaints, put


@pytest.mark.parametrize(
    ("old", "now"),
    [
        ("machine.memory", "memory_gib"),
        ("audit.borders.share", "fraction"),
        ("features.chunk", "batch_size"),
        ("outliers.features.chunk", "batch_size"),
        ("variants.describe.random_network.features.chunk", "batch_size"),
        ("variants.group.clustered.clustered_share", "clustered_fraction"),
        ("variants.group.pruned.size", "mean_cluster_size"),
        ("variants.group.pruned.dropped", "drop_fraction"),
        ("variants.group.pruned.merged_below", "merge_distance"),
        ("variants.train.baseline.patches", "total_patches"),
        ("variants.label.supervised.share", "fraction"),
        ("seeded", "variants.seed"),
        ("grouped", "variants.group"),
        ("derived", "variants.regroup"),
        ("trained", "variants.train"),
        ("controls", "variants.control"),
        ("described", "variants.describe"),
        ("labelled", "variants.label"),
        ("evaluated", "variants.evaluate"),
        ("audit_features", "outliers"),
    ],
)
def test_an_old_name_is_refused_with_the_new_one(values: dict[str, Any], old: str, now: str) -> None:
    pruned = {"from": "baseline", "method": "pruned", "clustered_fraction": 0.5}
    pruned |= {"mean_cluster_size": 10.0, "drop_fraction": 0.5, "merge_distance": 0.05}
    put(values, "variants.group.pruned", pruned)
    put(values, "variants.describe.random_network.features", copy.deepcopy(values["features"]))
    parse(copy.deepcopy(values), "some.yaml")
    *sections, name = f"{old.rpartition('.')[0]}.{now}".removeprefix(".").split(".")
    value = reduce(getitem, sections, values).pop(name)
    # That the new one is missing is not said as well.
    assert complaints(put(values, old, value)) == [f"{old}: is now called {now}"]


def test_parameters_from_before_the_renaming_are_refused_line_by_line(values: dict[str, Any]) -> None:
    for old, new in renamed.SECTIONS.items():
        values[old] = reduce(getitem, new.split("."), values)
    del values["variants"], values["outliers"]
    assert complaints(values) == [f"{old}: is now called {new}" for old, new in renamed.SECTIONS.items()]
