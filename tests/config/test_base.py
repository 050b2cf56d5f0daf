"""What every section refuses and allows: keys, ends of ranges, changes."""

import copy
from typing import Any

import pytest

from exemplarcnn.config.base import ConfigError
from exemplarcnn.config.params import parse
from exemplarcnn.config.variants import ClusterEntry
from tests.config.parameters import FREE, complaints, put, sections


def test_unknown_keys_are_named_in_every_section(composed: dict[str, Any]) -> None:
    for path in sections(composed):
        if path in {("variants", name) for name in FREE}:
            continue
        key = ".".join((*path, "surprise"))
        assert complaints(put(copy.deepcopy(composed), key, 1)) == [f"{key}: unknown parameter"]


def test_a_reversed_range_shows_both_ends(values: dict[str, Any]) -> None:
    assert complaints(put(values, "surrogate.hsv.power", [4, 0.25])) == [
        "surrogate.hsv.power: the lower end 4.0 is above the upper end 0.25 (got [4, 0.25])"
    ]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("evaluate.C", [10.0, 1.0]),  # a list of two, not a range
        ("surrogate.scale", [1.0, 1.0]),
        ("surrogate.hsv.shift", [0.0, 0.0]),
        ("surrogate.rotate", 180),
        ("surrogate.flip", 1),
        ("train.schedule.drops", []),
        ("train.groups.conv1.l2", 0),
        ("seed", 2**63 - 1),
        ("variants.evaluate.baseline.paper", None),
        ("variants.evaluate.baseline.paper.std", None),
    ],
)
def test_values_at_the_ends_are_allowed(values: dict[str, Any], key: str, value: Any) -> None:
    parse(put(values, key, value), "some.yaml")


def test_parameters_cannot_be_changed_afterwards(values: dict[str, Any]) -> None:
    parsed = parse(values, "some.yaml")
    with pytest.raises(ValueError, match="frozen"):
        parsed.network.dense = 3  # type: ignore[misc]  # what is refused
    grouped = parsed.variants.group["clustered"]
    assert isinstance(grouped, ClusterEntry)
    with pytest.raises(ValueError, match="frozen"):
        grouped.neighbours = 3  # type: ignore[misc]  # what is refused


def test_a_copy_with_an_unknown_name_is_refused(values: dict[str, Any]) -> None:
    train = parse(values, "params.yaml").train
    assert train.model_copy(update={"epochs": 3}).epochs == 3
    with pytest.raises(ConfigError, match="cannot copy Train: found no patches in it"):
        train.model_copy(update={"epochs": 3, "patches": 10})
