"""A project whose data DVC tracks."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.importing.projects import add_other, image_set, run


@pytest.fixture(scope="package")
def template(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A repository whose data comes from a remote inside it, as the project's sample does."""
    root = tmp_path_factory.mktemp("template")
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("DVC_NO_ANALYTICS", "1")
        environment.setenv("DVC_SITE_CACHE_DIR", str(tmp_path_factory.mktemp("site")))
        environment.setenv("no_proxy", "127.0.0.1")
        run(root, "git", "init", "--quiet")
        run(root, "dvc", "init", "--quiet")
        run(root, "dvc", "remote", "add", "--quiet", "embedded", "embedded")
        add_other(image_set(root / "data", 5), "a.png")
        run(root, "dvc", "add", "--quiet", "data")
        pointer = yaml.safe_load((root / "data.dvc").read_text())
        pointer["outs"][0]["remote"] = "embedded"
        (root / "data.dvc").write_text(yaml.safe_dump(pointer))
        run(root, "dvc", "push", "--quiet", "data.dvc")
        yield root


@pytest.fixture
def project(template: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(template, tmp_path / "root"))
