"""The parts for other people's code: from a wheel, with few packages, in a folder that holds nothing but a model."""

import os
import re
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from zipfile import ZipFile

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import exemplarcnn
from tests.conftest import ROOT
from tests.serving.conftest import model

__all__ = ["model"]  # a fixture

# Lets only some top-level modules of the environment be imported.
GATE = """
import sys
class Gate:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in CLOSED:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Gate())
"""


def run(code: str, folder: Path, *paths: Path) -> str:
    """Run code in a folder, with modules from these places before those of the environment; return what it prints."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "COV"))}
    environment["PYTHONPATH"] = os.pathsep.join(map(str, paths))
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def needed(file: str) -> set[str]:
    """Return the names of all packages that come with those in a requirements file."""
    lines = [line.partition("#")[0].strip() for line in (ROOT / file).read_text().splitlines()]
    ahead = [(Requirement(line), "") for line in lines if line]
    found: set[tuple[str, str]] = set()
    while ahead:
        requirement, extra = ahead.pop()
        if requirement.marker and not requirement.marker.evaluate({"extra": extra}):
            continue
        for wanted in ("", *requirement.extras):
            if (key := (canonicalize_name(requirement.name), wanted)) not in found:
                found.add(key)
                ahead += [(Requirement(each), wanted) for each in metadata.requires(requirement.name) or []]
    return {name for name, _ in found}


def closed() -> set[str]:
    """Return the top-level modules that are not there if only ``requirements.txt`` is installed."""
    there = needed("requirements.txt")
    providers = metadata.packages_distributions()
    return {
        module
        for module, packages in providers.items()
        if not {canonicalize_name(package) for package in packages} & there and module != "exemplarcnn"
    }


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package as a wheel has it, unpacked."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE", *(path.name for path in ROOT.glob("requirements*.txt"))):
        shutil.copy(ROOT / name, source)
    for name in ("src", "conf"):
        shutil.copytree(ROOT / name, source / name, symlinks=True, ignore=shutil.ignore_patterns("*.egg-info"))
    words = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "-q",
        "--no-deps",
        "--no-build-isolation",
        "-w",
        str(folder),
        str(source),
    ]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (built,) = folder.glob("*.whl")
    with ZipFile(built) as archive:
        archive.extractall(folder / "installed")
    return folder / "installed"


def test_every_public_name_is_there() -> None:
    for name in exemplarcnn.__all__:
        assert getattr(exemplarcnn, name).__doc__
        assert name in dir(exemplarcnn)
    with pytest.raises(AttributeError, match="no attribute 'Decoder'"):
        _ = exemplarcnn.Decoder  # type: ignore[attr-defined]


@pytest.mark.slow
def test_nothing_is_imported_before_it_is_needed() -> None:
    code = "import sys, exemplarcnn; print(*sys.modules)"
    assert not {"numpy", "pandas", "torch", "yaml"} & set(run(code, ROOT, ROOT / "src").split())
    code = "import sys; from exemplarcnn import SpanLinearSVC, read_stl10; print(*sys.modules)"
    assert "torch" not in run(code, ROOT, ROOT / "src").split()


def test_the_gate_is_closed_to_what_only_the_pipeline_needs() -> None:
    assert {"dvc", "mlflow", "hydra", "torchvision", "matplotlib", "typer", "psutil", "onnx"} <= closed()
    assert not {"torch", "numpy", "sklearn", "albumentations", "cv2", "pydantic", "yaml"} & closed()


@pytest.mark.slow
def test_the_readmes_lines_run_from_the_wheel_beside_a_copied_model(wheel: Path, model: Path, tmp_path: Path) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (lines,) = re.findall(r"```python\n(from exemplarcnn import .*?)```", readme, re.S)
    folder = tmp_path / "theirs"
    shutil.copytree(model, folder / "models" / "clustered")
    shutil.copytree(ROOT / "data", folder / "data")
    gate = f"CLOSED = {closed()!r}\n{GATE}"
    after = """
import exemplarcnn
print(exemplarcnn.__file__, features.shape, patches.shape)
for name in exemplarcnn.__all__:
    getattr(exemplarcnn, name)
"""
    said = run(gate + lines + after, folder, wheel)
    assert said.split()[0] == str(wheel / "exemplarcnn" / "__init__.py")
    assert "(16, 32, 32, 3)" in said


@pytest.mark.slow
def test_the_command_says_what_it_lacks(wheel: Path, tmp_path: Path) -> None:
    gate = f"CLOSED = {closed()!r}\n{GATE}"
    code = gate + "from exemplarcnn.__main__ import main\ntry:\n    main()\nexcept SystemExit as end:\n    print(end)"
    said = run(code, tmp_path, wheel)
    assert said.strip() == (
        "error: cannot start exemplarcnn: typer is not installed; the command belongs to the pipeline: "
        "pip install 'exemplarcnn[pipeline]'"
    )
