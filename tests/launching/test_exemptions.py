"""Outs keep their bytes without the modules that dvc.yaml leaves out, and for any number of threads and workers."""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from exemplarcnn.launching.dependencies import EXEMPT, SOURCES, modules
from tests.conftest import ROOT

# Runs all stages as tests/stages does, and prints the hash of every out.
RUN = """
import hashlib, json, os, sys, threadpoolctl
from importlib import import_module
from pathlib import Path
from tests.stages import test_stages as t
from exemplarcnn import determinism, paths

values = t.values()
values["machine"]["workers"] = int(sys.argv[3])
config = t.Config.model_validate(values)
os.chdir(sys.argv[1])
import torch  # or its number of threads could not be set
determinism.use_threads(int(sys.argv[2]))
t.write_data(paths.DATA)
for line in t.ORDER:
    stage, _, variant = line.partition(" ")
    import_module(f"exemplarcnn.stages.{stage}").run(variant, config)
inside = {each["num_threads"] for each in threadpoolctl.threadpool_info()} | {torch.get_num_threads()}
assert inside == {1}, threadpoolctl.threadpool_info()
skipped = (paths.DATA.parts[0], paths.WORK.parts[0], "data.dvc", "mlflow.db", "mlartifacts")
files = [path for path in sorted(Path().rglob("*")) if path.is_file() and path.parts[0] not in skipped]
print("HASHES", json.dumps({path.as_posix(): hashlib.md5(path.read_bytes()).hexdigest() for path in files}))
"""
# Whatever is asked of it, it does nothing.
NOTHING = """
class Nothing:
    def __call__(self, *args, **kwargs): return self
    def __getattr__(self, name): return self
    def __enter__(self): return self
    def __exit__(self, *error): return None
    def __mro_entries__(self, bases): return ()
    def __iter__(self): return iter(())
    def __bool__(self): return False


def __getattr__(name):
    if name.startswith("__"):
        raise AttributeError(name)
    return Nothing()
"""
SILENT = """
class tqdm:
    def __init__(self, items=(), *args, **kwargs): self.items = items
    def __iter__(self): return iter(self.items)
    def __enter__(self): return self
    def __exit__(self, *error): return None
    def __getattr__(self, name): return lambda *args, **kwargs: None
"""
MUTE = """
INTERRUPTED = ""
class PipelineError(Exception): pass
class FailedElsewhereError(PipelineError): pass
def reason(error): return ""
"""


class Unchecked(ast.NodeTransformer):
    """Takes out of models what refuses values: validators, and the bounds of types."""

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST | None:
        """Drop validators."""
        names = {ast.unparse(decorator).partition("(")[0] for decorator in node.decorator_list}
        return None if names & {"model_validator", "field_validator"} else self.generic_visit(node)

    def visit_Subscript(self, node: ast.Subscript) -> ast.AST:
        """Leave of ``Annotated[type, bound]`` the type."""
        self.generic_visit(node)
        if isinstance(node.value, ast.Name) and node.value.id == "Annotated":
            assert isinstance(node.slice, ast.Tuple)
            return node.slice.elts[0]
        return node


def without(package: Path) -> None:
    """Put in place of each exempt module of a copy of the package what has nothing of its doing."""
    for name in EXEMPT:
        place = package.joinpath(*name.split("."))
        for path in place.rglob("*.py") if place.is_dir() else [place.with_suffix(".py")]:
            if path.name != "__init__.py" or name.endswith("__init__"):
                path.write_text(replaced(name, path))


def replaced(name: str, path: Path) -> str:
    text = path.read_text()
    if name == "config":
        return ast.unparse(Unchecked().visit(ast.parse(text)))
    if name == "paths":  # everything but the data lies elsewhere
        return re.sub(r'Path\("(?!data)(\w+)"\)', r'Path("other_\1")', text)
    if path.stem == "dependencies":  # hashes of other code
        return text.replace("digest(_file(each))", '"0"')
    if name == "patches.online":  # the one variant that is drawn online needs it: its next test
        return f"{text}\n# edited\n"
    return {"errors": MUTE, "progress": SILENT}.get(name, NOTHING)


def outs(folder: Path, package: Path, threads: int, workers: int) -> dict[str, str]:
    folder.mkdir()
    environment = os.environ | {"PYTHONPATH": f"{package.parent}{os.pathsep}{ROOT}"}
    words = [sys.executable, "-c", RUN, str(folder), str(threads), str(workers)]
    done = subprocess.run(words, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found: dict[str, str] = json.loads(done.stdout.partition("HASHES ")[2])
    return {path.removeprefix("other_"): md5 for path, md5 in found.items()}


@pytest.mark.slow
def test_outs_keep_their_bytes_without_what_is_exempt_and_with_other_threads_and_workers(tmp_path: Path) -> None:
    for name in ("whole", "without"):
        shutil.copytree(SOURCES, tmp_path / name / "exemplarcnn", ignore=shutil.ignore_patterns("__pycache__"))
    without(tmp_path / "without" / "exemplarcnn")
    expected = outs(tmp_path / "a", tmp_path / "whole" / "exemplarcnn", threads=1, workers=1)
    found = outs(tmp_path / "b", tmp_path / "without" / "exemplarcnn", threads=3, workers=2)
    differing = {path for path in expected.keys() | found.keys() if expected.get(path) != found.get(path)}
    # Where patches are drawn online, the set has the hashes of the code that draws them, so that `train` runs again.
    # What pictures were drawn from has the hash of that set.
    assert differing == {"surrogates/random/drawing.json", "reports/pictures/sources.json"}
    assert len(expected) > 150


def test_the_code_that_draws_online_is_in_the_sets_that_need_it() -> None:
    drawing = modules("patches.online")
    assert {"patches.online", "patches.recipes.on_device", "rng", "data.pools"} <= set(drawing)
    assert "patches.online" not in modules("stages.train")
