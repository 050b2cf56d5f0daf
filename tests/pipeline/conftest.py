"""A copy of the repository in which a tiny profile runs for real, through DVC."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from filelock import FileLock

from . import warm

ROOT = Path(__file__).resolve().parents[2]


class Project:
    """A folder with the pipeline, its data and a git repository of its own."""

    def __init__(self, folder: Path, commands: Path):
        self.folder, self.commands = folder, commands
        folder.mkdir()
        for name in ("src", "conf"):
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
        shutil.copytree(ROOT / "data", folder / "data")
        for name in ("dvc.yaml", "MLproject", "python_env.yaml", ".gitignore"):
            shutil.copy(ROOT / name, folder)
        self.reset()
        self.git("init", "-q")
        self.dvc("init", "-q")
        shutil.copytree(ROOT / ".dvc" / "plots", folder / ".dvc" / "plots")
        self.dvc("config", "hydra.enabled", "true")
        self.dvc("add", "-q", "data")
        self.git("add", "-A")
        self.git("-c", "user.name=test", "-c", "user.email=test@localhost", "commit", "-qm", "tiny")

    def copy(self, folder: Path) -> "Project":
        """Copy the project as it stands, with its history and its store, to a folder that does not exist yet."""
        made = object.__new__(Project)
        made.folder, made.commands = folder, self.commands
        shutil.copytree(self.folder, folder, symlinks=True)
        return made

    @property
    def environment(self) -> dict[str, str]:
        """For processes that start in a moment: see warm.py."""
        return self._environment(self.commands, Path(sys.executable).parent)

    @property
    def cold_environment(self) -> dict[str, str]:
        """For processes that import everything themselves."""
        return self._environment(Path(sys.executable).parent)

    def _environment(self, *places: Path) -> dict[str, str]:
        path = os.pathsep.join([*map(str, places), os.environ["PATH"]])
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW_", "DVC_", "PYTEST_"))}
        return clean | {"PATH": path, "PYTHONPATH": str(self.folder / "src"), "DVC_NO_ANALYTICS": "1"}

    def run(
        self, *words: str, check: bool = True, folder: Path | None = None, cold: bool = False, **variables: str
    ) -> subprocess.CompletedProcess[str]:
        """Run a command, in the project's folder unless told otherwise, with more variables in its environment.

        `cold`: where it matters which process has started which, or what happens while libraries are imported.
        """
        environment = (self.cold_environment if cold else self.environment) | variables
        done = subprocess.run(words, cwd=folder or self.folder, env=environment, capture_output=True, text=True)
        assert not check or done.returncode == 0, f"{' '.join(words)}\n{done.stdout}\n{done.stderr}"
        return done

    def reset(self) -> None:
        """Write params.yaml as profile `tiny` has it."""
        self.run("exemplarcnn", "profile", "tiny")

    def git(self, *words: str) -> None:
        self.run("git", *words)

    def dvc(self, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        return self.run("dvc", *words, check=check)

    def repro(self, *words: str) -> list[str]:
        """Run `dvc repro` and return the names of the stages that ran."""
        output = self.dvc("repro", *words).stdout
        return [line.split("'")[1] for line in output.splitlines() if line.startswith("Running stage")]

    def change(self, edit: Callable[[dict[str, Any]], None]) -> None:
        """Edit params.yaml."""
        path = self.folder / "params.yaml"
        values = yaml.safe_load(path.read_text())
        edit(values)
        path.write_text(yaml.safe_dump(values, sort_keys=False))

    def edit(self, path: str, old: str, new: str) -> None:
        """Replace a text that a file has once."""
        file = self.folder / path
        text = file.read_text()
        assert text.count(old) == 1
        file.write_text(text.replace(old, new))

    def outs(self) -> dict[str, str]:
        """Return the hash of every out in dvc.lock."""
        lock = yaml.safe_load((self.folder / "dvc.lock").read_text())
        return {out["path"]: out["md5"] for stage in lock["stages"].values() for out in stage["outs"]}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """No test here is for those in a hurry. They come first, as they take longest."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker("slow")
    # While one process makes the template, a second has slow tests that do without. Nothing long comes last.
    names = ("pipeline/test_dependencies.py", "training/test_several_processes.py", "stages/test_stages.py")
    first = {here.parent / name: place for place, name in enumerate(names)}
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(
        key=lambda item: (first.get(item.path, len(names)), here not in item.path.parents, item.path not in slow)
    )


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """A folder that all processes of pytest-xdist share."""
    here = tmp_path_factory.getbasetemp()
    return here if worker_id == "master" else here.parent


@pytest.fixture(scope="session")
def commands(shared: Path, worker_id: str) -> Path:
    """A folder with `python`, `dvc`, `exemplarcnn` and `mlflow` that start in a moment."""
    folder = shared / "warm"
    with FileLock(shared / "warm.lock"):
        if not folder.exists():
            warm.start(folder, ROOT / "src", os.getpid() if worker_id == "master" else os.getppid())
    return folder


@pytest.fixture(scope="session")
def template(shared: Path, commands: Path) -> Project:
    """A project in which the pipeline has run once, for all processes of pytest-xdist: nobody changes it."""
    made, finished = shared / "template", shared / "template.finished"
    with FileLock(shared / "template.lock"):
        if not finished.exists():
            project = Project(made, commands)
            project.repro()
            finished.touch()
    project = object.__new__(Project)
    project.folder, project.commands = made, commands
    return project


@pytest.fixture(scope="module")
def finished(template: Project, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """A copy of the finished project for the tests of one file, which leave it as it was."""
    folder = tmp_path_factory.mktemp("finished")
    yield template.copy(folder / "project")
    shutil.rmtree(folder)


@pytest.fixture
def scratch(template: Project, tmp_path: Path) -> Project:
    """A copy of the finished project for one test, which may do anything to it."""
    return template.copy(tmp_path / "project")


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory, commands: Path) -> Iterator[Project]:
    """A project in which nothing has run: for what must fail before any work."""
    folder = tmp_path_factory.mktemp("fresh")
    yield Project(folder / "project", commands)
    shutil.rmtree(folder)
