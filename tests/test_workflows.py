"""What GitHub runs: on which Pythons, with which packages, from which caches; and that `.ci/run` runs it too."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

ROOT = Path(__file__).parents[1]
WORKFLOWS = {path.stem: yaml.safe_load(path.read_text()) for path in (ROOT / ".github" / "workflows").iterdir()}
STEPS: list[tuple[str, dict[str, Any]]] = [
    (f"{name}: {step.get('run') or step['uses']}", step)
    for name, workflow in WORKFLOWS.items()
    for job in workflow["jobs"].values()
    for step in job["steps"]
]


def requirements(file: str) -> list[Requirement]:
    """Lines of a file, without comments and without other files that it names."""
    lines = [line.partition("#")[0].strip() for line in (ROOT / file).read_text().splitlines()]
    return [Requirement(line) for line in lines if line and not line.startswith("-r ")]


# Workflows


@pytest.mark.parametrize("step", [pytest.param(step, id=name) for name, step in STEPS])
def test_a_cache_holds_downloads_of_the_lock_and_nothing_else(step: dict[str, Any]) -> None:
    """An environment or results from a cache would hide a step that is missing."""
    assert "actions/cache" not in step.get("uses", "")
    given = step.get("with", {})
    assert (given.get("cache"), given.get("cache-dependency-path")) in [(None, None), ("pip", "requirements.lock")]


def test_the_weekly_run_has_no_cache_and_not_the_lock() -> None:
    text = (ROOT / ".github" / "workflows" / "weekly.yml").read_text()
    assert "cache:" not in text
    assert "requirements.lock" not in re.sub("#.*", "", text)
    assert {"schedule", "workflow_dispatch"} == set(WORKFLOWS["weekly"][True])
    (job,) = WORKFLOWS["weekly"]["jobs"].values()
    runs = [step["run"] for step in job["steps"] if "run" in step]
    assert runs[0] == "make newest"
    assert {"make demo", "make test"} <= set(runs)


@pytest.mark.parametrize("name", WORKFLOWS)
def test_every_python_is_one_that_the_package_admits(name: str) -> None:
    admitted = SpecifierSet(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"])
    for job in WORKFLOWS[name]["jobs"].values():
        pythons = job.get("strategy", {}).get("matrix", {}).get("python")
        (chosen,) = [
            step["with"]["python-version"] for step in job["steps"] if step.get("uses", "").startswith("actions/setup-")
        ]
        if pythons is None:
            pythons = [chosen]
        else:
            assert chosen == "${{ matrix.python }}"
            assert job["env"]["PYTHON"] == "python${{ matrix.python }}", "what make takes"
        for python in pythons:
            assert isinstance(python, str), "3.10 as a number is 3.1"
            assert f"{python}.0" in admitted


def test_what_github_runs_is_what_anyone_can_run() -> None:
    """`.ci/run` takes every workflow's `run:` but those that it names, with the variables that it sets."""
    text = (ROOT / ".ci" / "run").read_text()
    assert 'glob("*.yml")' in text
    assert {path.suffix for path in (ROOT / ".github" / "workflows").iterdir()} == {".yml"}
    names = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.M)
    for _, step in STEPS:
        for variable in step.get("env", {}):
            assert f"export {variable}=" in text
        for target in re.findall(r"^make (\w+)$", step.get("run", "")):
            assert target in names


# Packages


@pytest.mark.parametrize(
    "file",
    [
        "requirements.txt",
        "requirements-pipeline.txt",
        "requirements-onnx.txt",
        "requirements-objectives.txt",
        "requirements-dev.txt",
    ],
)
def test_the_lock_has_versions_that_the_ranges_allow(file: str) -> None:
    locked = {each.name.lower(): each.specifier for each in requirements("requirements.lock")}
    for each in requirements(file):
        (pin,) = locked[each.name.lower()]
        assert pin.operator == "=="
        assert pin.version in each.specifier, each
        kinds = {one.operator for one in each.specifier}
        assert kinds in ({"=="}, {">=", "<"}), f"{each}: exact, or from a version tried to one that may break"
