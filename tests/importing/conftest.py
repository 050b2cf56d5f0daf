"""A project whose data DVC tracks."""

import shutil
from pathlib import Path

import pytest
import yaml

from tests.importing.projects import add_other, image_set, run


def use(monkeypatch: pytest.MonkeyPatch, site: Path) -> None:
    """Let DVC keep what it keeps for all projects in a folder of the tests'."""
    monkeypatch.setenv("DVC_NO_ANALYTICS", "1")
    monkeypatch.setenv("DVC_SITE_CACHE_DIR", str(site))
    monkeypatch.setenv("no_proxy", "127.0.0.1")


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("site")


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory, site: Path) -> Path:
    """A repository whose data comes from a remote inside it, as the project's sample does."""
    root = tmp_path_factory.mktemp("template")
    with pytest.MonkeyPatch.context() as environment:
        use(environment, site)
        run(root, "git", "init", "--quiet")
        run(root, "dvc", "init", "--quiet")
        run(root, "dvc", "remote", "add", "--quiet", "embedded", "embedded")
        add_other(image_set(root / "data", 5), "a.png")
        run(root, "dvc", "add", "--quiet", "data")
        pointer = yaml.safe_load((root / "data.dvc").read_text())
        pointer["outs"][0]["remote"] = "embedded"
        (root / "data.dvc").write_text(yaml.safe_dump(pointer))
        run(root, "dvc", "push", "--quiet", "data.dvc")
    return root


@pytest.fixture
def project(template: Path, site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    use(monkeypatch, site)
    return Path(shutil.copytree(template, tmp_path / "root"))
