"""`params.yaml` as a whole: nothing is missing, every refusal names the key, and files that are no parameters."""

import copy
import re
import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel

from exemplarcnn.config.base import LAYERS, ConfigError
from exemplarcnn.config.params import Config, load, parse
from exemplarcnn.errors import PipelineError
from tests.config.parameters import complaints, leaves, put
from tests.conftest import ROOT, profile_values


def test_every_leaf_of_a_profile_is_needed(composed: dict[str, Any]) -> None:
    """Each has a place in the model and none has a default: what params.yaml shows is all there is."""
    names = list(leaves(composed))
    assert len(names) > 80
    for path in names:
        less = copy.deepcopy(composed)
        section = less
        for name in path[:-1]:
            section = section[name]
        del section[path[-1]]
        assert complaints(less) == [f"{'.'.join(path)}: missing"]


def models(kind: Any) -> Iterator[type[BaseModel]]:
    if isinstance(kind, type) and not isinstance(kind, types.GenericAlias) and issubclass(kind, BaseModel):
        yield kind
        for field in kind.model_fields.values():
            yield from models(field.annotation)
    for inner in typing.get_args(kind):
        yield from models(inner)


def test_every_parameter_is_used_by_the_software() -> None:
    sources = [path for path in (ROOT / "src").rglob("*.py") if path.parent.name != "config"]
    text = "\n".join(path.read_text() for path in sources)
    # Groups are read through their names; `method` decides which model an entry is read as; what is published is read
    # by its keys, as the report has it.
    elsewhere = {*LAYERS, "bias", "others", "accuracy", "method"}
    unused = {
        f"{model.__name__}.{name}"
        for model in models(Config)
        for name in model.model_fields
        if name not in elsewhere and not re.search(rf"\.{name}\b", text)
    }
    assert unused == set()


def test_the_value_found_is_shown(values: dict[str, Any]) -> None:
    assert complaints(put(values, "network.dense", 0)) == [
        "network.dense: Input should be greater than or equal to 1 (got 0)"
    ]


def test_all_problems_are_told_at_once(values: dict[str, Any]) -> None:
    put(values, "network.dense", 0)
    put(values, "surrogate.scale", [2, 1])
    put(values, "extra", 1)
    assert sorted(problem.split(":")[0] for problem in complaints(values)) == [
        "extra",
        "network.dense",
        "surrogate.scale",
    ]


def test_the_pool_of_a_trained_variant_is_measured(values: dict[str, Any]) -> None:
    assert complaints(put(values, "pools", ["train"])) == [
        "pools: unlabeled is missing; variants.train.baseline uses it, so add it"
    ]


def test_features_are_audited_where_they_are_kept(values: dict[str, Any]) -> None:
    (problem,) = complaints(put(copy.deepcopy(values), "outliers.of", "nobody"))
    assert "outliers.of: nobody is not in variants.train" in problem
    (problem,) = complaints(put(values, "outliers.of", "clustered"))
    assert problem.endswith("outliers.of: clustered needs pool: unlabeled and cluster_features: true")


def test_where_nothing_is_evaluated_clustering_features_are_all_there_is() -> None:
    values = profile_values("own_unlabelled")
    assert parse(copy.deepcopy(values), "").rows == {}
    (problem,) = complaints(put(copy.deepcopy(values), "variants.train.clustered.cluster_features", False))
    assert "variants.train.clustered.cluster_features must be true: nothing is evaluated" in problem
    (problem,) = complaints(put(values, "neighbours.of", ["raw_pixels"]))
    assert (
        "neighbours.of: raw_pixels is not in variants.train, with cluster_features: true (baseline, clustered)"
        in problem
    )


def test_load_reads_what_was_written(values: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump(values, sort_keys=False))
    loaded = load(path)
    assert loaded == parse(values, "")
    assert loaded.surrogate.scale == (0.7, 1.4)
    assert loaded.variants.group["clustered"].source == "baseline"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "params.yaml: not found; 'exemplarcnn profile sample' writes it"),
        (
            "",
            "params.yaml: found nothing, expected a mapping; fix it, or let `exemplarcnn profile NAME` write it again",
        ),
        ("- 1\n", "params.yaml: found list, expected a mapping"),
        ("a: [1\n", "params.yaml: not valid YAML: did not find expected ',' or ']', line 2; fix it"),
        ("a: \0\n", "params.yaml: not valid YAML: "),
        ("title: Zürich\n".encode("latin-1"), "params.yaml: byte 9 is not UTF-8; fix it"),
        ("<<<<<<< HEAD\na: 1\n=======\na: 2\n>>>>>>> x\n", "params.yaml: git left a conflict in it, at line 1; take"),
        ("surprise: 1\n", "\n  surprise: unknown parameter"),
        ("{}\n", "\n  profile: missing"),
    ],
)
def test_load_names_the_file_and_the_trouble(tmp_path: Path, text: str | bytes | None, message: str) -> None:
    if text is not None:
        (tmp_path / "params.yaml").write_bytes(text.encode() if isinstance(text, str) else text)
    with pytest.raises(ConfigError) as error:
        load(tmp_path / "params.yaml")
    assert isinstance(error.value, PipelineError)
    assert str(error.value).startswith(str(tmp_path / "params.yaml"))
    assert message in str(error.value)


def test_params_yaml_can_be_written_again(values: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"^params.yaml: 1 problem.* correct them, or let `exemplarcnn profile NAME`"):
        parse(put(values, "seed", -1), "params.yaml")


def test_a_network_can_have_steps_and_rates_of_its_own(values: dict[str, Any]) -> None:
    entries = values["variants"]["train"]
    slower = {name: {"lr": 0.5, "l2": 0.0} for name in values["train"]["groups"]}
    entries["longer"] = entries["baseline"] | {"steps": 77}
    entries["slower"] = entries["baseline"] | {"groups": slower}
    config = parse(values, "params.yaml")
    assert config.training("baseline") == config.train
    assert config.training("longer") == config.train.model_copy(update={"steps": 77})
    found = config.training("slower")
    assert (found.steps, found.groups.model_dump()) == (None, slower)
