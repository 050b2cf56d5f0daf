"""Changing nested parameters, and reading what is said of them."""

import re
from collections.abc import Iterator
from typing import Any

import pytest

from exemplarcnn.config.base import ConfigError
from exemplarcnn.config.params import parse

Key = tuple[str, ...]
# Names that a person chooses, which therefore have no fixed set of keys.
FREE = ("seed", "group", "regroup", "train", "control", "describe", "label", "evaluate")


def put(values: dict[str, Any], key: str, value: Any) -> dict[str, Any]:
    *path, last = key.split(".")
    section = values
    for name in path:
        section = section[name]
    section[last] = value
    return values


def complaints(values: dict[str, Any]) -> list[str]:
    """Return the lines below the first, each a problem."""
    with pytest.raises(ConfigError) as error:
        parse(values, "some.yaml")
    first, *problems = str(error.value).split("\n")
    assert first == f"some.yaml: {len(problems)} problem(s) with the parameters; correct them"
    return [problem.removeprefix("  ") for problem in problems]


def assert_named(problems: list[str], key: str) -> None:
    for problem in problems:
        # A value inside a list is named by its position too.
        assert re.match(rf"{re.escape(key)}(\.[\d.]+)?: ", problem), problem


def leaves(values: Any, path: Key = ()) -> Iterator[Key]:
    if isinstance(values, dict):
        for name, inner in values.items():
            yield from leaves(inner, (*path, name))
    else:
        yield path


def sections(values: Any, path: Key = ()) -> Iterator[Key]:
    if isinstance(values, dict):
        yield path
        for name, inner in values.items():
            yield from sections(inner, (*path, name))
