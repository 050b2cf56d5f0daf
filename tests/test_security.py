"""What must never happen: code in data, paths that lead out of the repository, workflows that may too much."""

import ast
import copy
import os
import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from safetensors import SafetensorError

from exemplarcnn import files
from exemplarcnn.config.base import ConfigError
from exemplarcnn.config.params import load, parse
from exemplarcnn.config.profiles import compose
from exemplarcnn.files import read_array, write_json
from exemplarcnn.networks import saved
from exemplarcnn.training.checkpoint import Checkpoint, CheckpointError
from tests.conftest import profile_values

ROOT = Path(__file__).parents[1]
SOURCES = sorted((ROOT / "src").rglob("*.py")) + sorted((ROOT / "benchmarks").glob("*.py"))
FORBIDDEN_MODULES = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "shelve", "marshal"}
FORBIDDEN_CALLS = {
    ("torch", "load"),
    ("torch", "save"),
    ("joblib", "load"),
    ("pd", "read_pickle"),
    ("yaml", "load"),
    ("yaml", "unsafe_load"),
    ("yaml", "full_load"),
}
WORKFLOWS = sorted((ROOT / ".github" / "workflows").iterdir())


class Bomb:
    """An object that does something when it is unpickled."""

    def __init__(self, place: Path):
        self.place = place

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, (str(self.place),)


# Pickles


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_no_module_reads_or_writes_pickles(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            assert not FORBIDDEN_MODULES & {name.name.partition(".")[0] for name in node.names}
        if isinstance(node, ast.ImportFrom):
            assert (node.module or "").partition(".")[0] not in FORBIDDEN_MODULES
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and isinstance(node.func.value, ast.Name)
        ):
            called = (node.func.value.id, node.func.attr)
            if called == ("yaml", "load") and [ast.unparse(each) for each in node.args[1:]] == ["Loader"]:
                continue  # the one below
            assert called not in FORBIDDEN_CALLS, f"line {node.lineno}"
            if called == ("np", "load"):
                given = {each.arg: getattr(each.value, "value", None) for each in node.keywords}
                assert given.get("allow_pickle") is False, f"line {node.lineno}"


def test_the_loader_of_yaml_is_a_safe_one() -> None:
    (base,) = files.Loader.__bases__
    assert base in (yaml.SafeLoader, yaml.CSafeLoader)
    # It makes no more kinds of objects than its base.
    assert set(files.Loader.yaml_constructors) == set(base.yaml_constructors)
    assert set(files.Loader.yaml_multi_constructors) == set(base.yaml_multi_constructors)
    with pytest.raises(yaml.YAMLError, match="could not determine a constructor"):
        yaml.load("!!python/object/apply:os.getcwd []", files.Loader)
    assert [path.name for path in SOURCES if "yaml.load(" in path.read_text()] == ["files.py"]


def test_an_array_that_is_a_pickle_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "features.npy", np.array([Bomb(tmp_path / "exploded")], object), allow_pickle=True)
    with pytest.raises(ValueError, match="Python objects"):
        read_array(tmp_path / "features.npy")
    assert not (tmp_path / "exploded").exists()


def test_weights_that_are_a_pickle_are_refused(tmp_path: Path) -> None:
    write_json(
        tmp_path / "network.json",
        {
            "network": {"widths": [2, 3, 4], "dense": 5, "dropout_conv": 0.0, "dropout_dense": 0.0},
            "classes": 3,
            "patch": 32,
            "mean": [0.5] * 3,
            "std": [0.5] * 3,
        },
    )
    (tmp_path / "weights.safetensors").write_bytes(pickle.dumps(Bomb(tmp_path / "exploded")))
    with pytest.raises(SafetensorError):
        saved.load(tmp_path)
    with pytest.raises(CheckpointError):
        Checkpoint(tmp_path / "weights.safetensors", {}).load()
    assert not (tmp_path / "exploded").exists()


def test_parameters_that_build_objects_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    place = tmp_path / "exploded"
    Path("params.yaml").write_text(f"profile: !!python/object/apply:os.mkdir ['{place}']\n")
    with pytest.raises(ConfigError):
        load()
    assert not place.exists()


# Paths

BAD_NAMES = ["../outside", "/etc/passwd", "a/b", "..", ".", "", "a\\b", "a\n", "~", "a b", "$HOME"]


@pytest.fixture(scope="module")
def values() -> dict[str, Any]:
    return profile_values("tiny_bench")


@pytest.mark.parametrize("name", BAD_NAMES)
@pytest.mark.parametrize("stage", ["seed", "group", "regroup", "train", "describe", "label", "evaluate"])
def test_a_variant_whose_name_could_lead_elsewhere_is_refused(values: dict[str, Any], stage: str, name: str) -> None:
    changed = copy.deepcopy(values)
    entries = changed["variants"][stage]
    entries[name] = copy.deepcopy(next(iter(entries.values())))
    with pytest.raises(
        ConfigError, match=rf"variants\.{stage}\.{re.escape(name)}(\.\[key\])?: String should match pattern"
    ):
        parse(changed, "params.yaml")


@pytest.mark.parametrize("name", BAD_NAMES)
@pytest.mark.parametrize(
    "key",
    [
        "variants.train.baseline.table",
        "variants.train.baseline.pool",
        "variants.group.clustered.from",
        "variants.label.semi_supervised.of",
    ],
)
def test_a_reference_that_could_lead_elsewhere_is_refused(values: dict[str, Any], key: str, name: str) -> None:
    changed = copy.deepcopy(values)
    *parents, last = key.split(".")
    place = changed
    for parent in parents:
        place = place[parent]
    place[last] = name
    with pytest.raises(ConfigError, match=re.escape(key)):
        parse(changed, "params.yaml")


def test_a_profile_of_another_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no profile"):
        compose(ROOT / "conf", "../config")


# Workflows


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_workflows_have_least_permissions_and_pinned_actions(path: Path) -> None:
    text = path.read_text()
    workflow = yaml.safe_load(text)
    triggers = workflow[True]  # YAML reads the key `on` as a truth value
    assert workflow["permissions"] == {"contents": "read"}
    assert "pull_request_target" not in triggers
    assert "workflow_run" not in triggers
    assert "secrets" not in text, "a pull request could get at them"
    for job in workflow["jobs"].values():
        assert job.get("permissions", {"contents": "read"}) == {"contents": "read"}
        for step in job["steps"]:
            if "uses" in step:
                assert re.fullmatch(r"[\w./-]+@[0-9a-f]{40}", step["uses"]), step["uses"]
            if step.get("uses", "").startswith("actions/checkout@"):
                assert step["with"]["persist-credentials"] is False
            # What a stranger's pull request is called is not pasted into a shell.
            assert "${{" not in step.get("run", ""), step
