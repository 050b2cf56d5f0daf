"""A copy of the repository in which a tiny profile runs for real, through DVC."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]


class Project:
    """A folder with the pipeline, its data and a git repository of its own."""

    def __init__(self, folder: Path):
        self.folder = folder
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

    @property
    def environment(self) -> dict[str, str]:
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW_", "DVC_"))}
        return clean | {"PATH": path, "PYTHONPATH": str(self.folder / "src"), "DVC_NO_ANALYTICS": "1"}

    def run(
        self, *words: str, check: bool = True, folder: Path | None = None, **variables: str
    ) -> subprocess.CompletedProcess[str]:
        """Run a command, in the project's folder unless told otherwise, with more variables in its environment."""
        environment = self.environment | variables
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

    def outs(self) -> dict[str, str]:
        """Return the hash of every out in dvc.lock."""
        lock = yaml.safe_load((self.folder / "dvc.lock").read_text())
        return {out["path"]: out["md5"] for stage in lock["stages"].values() for out in stage["outs"]}


@pytest.fixture(scope="session")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project in which nothing has run: for what must fail before any work."""
    return Project(tmp_path_factory.mktemp("fresh"))


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project in which the pipeline has run once. Tests that change parameters set them back."""
    project = Project(tmp_path_factory.mktemp("finished"))
    project.repro()
    return project
