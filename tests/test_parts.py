"""The parts for other people's code: from a wheel, with few packages, in a folder that holds nothing but a model."""

import ast
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


def lines_of(file: str) -> list[str]:
    lines = [line.partition("#")[0].strip() for line in (ROOT / file).read_text().splitlines()]
    return [line for line in lines if line]


def imported_by(file: Path) -> set[str]:
    """Return what a file imports when it is imported itself: modules, and names from them."""
    found = set()
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def needed(file: str) -> set[str]:
    """Return the names of all packages that come with those in a requirements file."""
    ahead = [(Requirement(line), "") for line in lines_of(file)]
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
import numpy as np
points = np.random.default_rng(0).random((40, 6), np.float32)
print(len(set(exemplarcnn.CompleteLinkage(merged_fraction=0.5).fit(points).labels_)))
print(exemplarcnn.SpanLinearSVCCV(cv=2).fit(points, np.arange(40) % 2).coef_.shape)
try:
    exemplarcnn.Encoder.load("models:/exemplarcnn-encoder@champion")
except exemplarcnn.PipelineError as error:
    print(error)
"""
    said = run(gate + lines + after, folder, wheel)
    assert said.startswith(f"{wheel / 'exemplarcnn' / '__init__.py'} ")
    assert "(16, 32, 32, 3)" in said
    assert said.splitlines()[1:3] == ["30", "(1, 6)"]
    assert "cannot load models:/exemplarcnn-encoder@champion: mlflow is not installed" in said.splitlines()[-1]


@pytest.mark.slow
@pytest.mark.parametrize(("missing", "words"), [("typer", ()), ("hydra", ("profile", "tiny"))])
def test_the_command_says_what_it_lacks(wheel: Path, tmp_path: Path, missing: str, words: tuple[str, ...]) -> None:
    shutil.copytree(ROOT / "conf", tmp_path / "conf")
    code = f"""
CLOSED = {{{missing!r}}}
{GATE}
from exemplarcnn.__main__ import main
sys.argv = ["exemplarcnn", *{words!r}]
try:
    main()
except SystemExit as end:
    print(end)"""
    assert run(code, tmp_path, wheel).strip() == (
        f"error: cannot run this: the package {missing} is not installed; the command belongs to the pipeline: "
        "pip install 'FOLDER[pipeline]', with the folder of your clone"
    )


def test_what_the_parts_import_is_listed() -> None:
    """Not only brought along by another package. What is imported inside a function may be missing."""
    listed = {canonicalize_name(Requirement(line).name) for line in lines_of("requirements.txt")}
    providers = metadata.packages_distributions()
    ahead, seen = [f"exemplarcnn.{home}" for home in exemplarcnn._HOMES.values()], set()  # type: ignore[attr-defined]
    while ahead:
        module = ahead.pop()
        if module in seen or not (file := ROOT / "src" / f"{module.replace('.', '/')}.py").is_file():
            continue
        seen.add(module)
        for imported in imported_by(file):
            if imported.startswith("exemplarcnn"):
                ahead.append(imported)
            elif (top := imported.partition(".")[0]) not in sys.stdlib_module_names:
                assert {canonicalize_name(package) for package in providers[top]} & listed, f"{module}: {imported}"
    assert "exemplarcnn.unfinished" in seen
