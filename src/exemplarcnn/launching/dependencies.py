"""Find the code that a stage's outs depend on: the modules that it imports, read from their sources.

``python -m exemplarcnn.launching.dependencies`` writes them into the ``deps`` of ``dvc.yaml``; with ``--check``, as in
`make lint`, it fails if they are stale. The same modules are part of the identity of surrogate sets and checkpoints
(:func:`code`), so that changed code does not continue what the old code began.
"""

import argparse
import ast
import re
import sys
from collections.abc import Iterable, Iterator
from functools import cache
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any

from exemplarcnn.files import atomic_write, digest, digest_of

PACKAGE = "exemplarcnn"
SOURCES = Path(__file__).parents[1]

# No out's bytes depend on these, so editing them reruns nothing; tests/launching/test_exemptions.py proves it by
# replacing each. What only they import is left out, too.
EXEMPT = {
    "config": "checks parameters, which the stages track themselves",
    "errors": "ends a stage before it has an out",
    "locks": "refuses a second process at the same work",
    "paths": "says where outs are, as dvc.yaml does",
    "progress": "shows how far a stage is",
    "tracking": "sends to the MLflow store what is in outs",
    "stages.__init__": "prints one line for Ctrl-C, and keeps memory that is freed",
    "launching": "starts a stage, checks parameters and data first, and lists code",
    "planning": "says what a run costs, before it starts",
    "evaluation.probe": "tests a network while it trains, without effect on its weights",
    "patches.online": "drawing.json of its surrogate sets records its hash, and those of what it imports",
}
# Every stage runs under it.
ALWAYS = "determinism"


def modules(module: str) -> list[str]:
    """Return the modules of this package that the outs of a module's work depend on, sorted.

    Parameters
    ----------
    module
        Its name in the package, such as ``stages.train``. The result includes it.
    """
    reached: set[str] = set()
    ahead = [module, ALWAYS]
    while ahead:
        if (name := ahead.pop()) not in reached:
            reached.add(name)
            # For a package on the way to a module, only what runs on its import counts.
            on_the_way = name.endswith("__init__")
            ahead += [each for each in _imported(name, in_functions=not on_the_way) if not _exempt(each)]
    return sorted(reached)


def code(module: str | ModuleType) -> dict[str, str]:
    """Return the hash of each module that a module's work depends on, by name."""
    name = module if isinstance(module, str) else module.__name__.removeprefix(f"{PACKAGE}.")
    return {each: digest(_file(each)) for each in modules(name)}


def packages(*names: str) -> dict[str, str]:
    """Return the installed version of each package, by name."""
    return {name: version(name) for name in names}


def identity(module: str, libraries: Iterable[str], **inputs: Any) -> str:
    """Return a hash of what the bytes of a module's work depend on: its code, libraries' versions, and other inputs."""
    return digest_of({"code": code(module), "packages": packages(*libraries), **inputs})


def files(module: str) -> list[str]:
    """Return the files of `modules`, relative to the repository's root, sorted."""
    return sorted(f"src/{PACKAGE}/{_file(name).relative_to(SOURCES).as_posix()}" for name in modules(module))


def _exempt(module: str) -> bool:
    return any(module == name or module.startswith(f"{name}.") for name in EXEMPT)


def _file(module: str) -> Path:
    return SOURCES.joinpath(*module.split(".")).with_suffix(".py")


@cache
def _imported(module: str, in_functions: bool) -> list[str]:
    """Return the modules that a module imports, and those packages on the way to them that run code.

    With ``in_functions``, imports anywhere count; otherwise only those that run when the module itself is imported.
    """
    tree = ast.parse(_file(module).read_text(encoding="utf-8"))
    found: list[str] = []
    for name in _names(tree, in_functions):
        parts = name.split(".")
        packages = [".".join(parts[:end]) for end in range(1, len(parts) + 1)]
        found += [f"{package}.__init__" for package in packages if _runs(package)]
        if not _is_package(name):
            found.append(name)
        elif len(_body(name)) > 1 and module != f"{name}.__init__":
            # The package itself provides the name, perhaps in a function.
            found += [f"{name}.__init__", *_imported(f"{name}.__init__", in_functions=True)]
    return found


def _names(tree: ast.Module, in_functions: bool) -> Iterator[str]:
    """Yield the names of modules of this package in import statements."""
    for node in _imports(tree, in_functions):
        if isinstance(node, ast.Import):
            yield from (alias.name.removeprefix(f"{PACKAGE}.") for alias in node.names if _ours(alias.name))
        elif node.module and (node.module == PACKAGE or _ours(node.module)):
            above = node.module.removeprefix(PACKAGE).removeprefix(".")
            for alias in node.names:
                inside = f"{above}.{alias.name}".removeprefix(".")
                yield inside if _file(inside).is_file() or _is_package(inside) else above


def _imports(node: ast.AST, in_functions: bool) -> Iterator[ast.Import | ast.ImportFrom]:
    """Yield the import statements in a syntax tree, except those for type checkers, which never run."""
    if isinstance(node, ast.Import | ast.ImportFrom):
        yield node
    elif in_functions or not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        children = node.orelse if isinstance(node, ast.If) and _for_types(node) else ast.iter_child_nodes(node)
        for child in children:
            yield from _imports(child, in_functions)


def _for_types(node: ast.If) -> bool:
    return ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")


def _ours(name: str) -> bool:
    return name.startswith(f"{PACKAGE}.")


def _is_package(name: str) -> bool:
    return SOURCES.joinpath(*name.split(".")).is_dir()


@cache
def _runs(name: str) -> bool:
    """Say whether this is a package whose own file does something when it is imported."""
    return _is_package(name) and any(_acts(statement) for statement in _body(name))


def _body(package: str) -> list[ast.stmt]:
    return ast.parse(_file(f"{package}.__init__").read_text(encoding="utf-8")).body


def _acts(statement: ast.stmt) -> bool:
    match statement:
        case ast.Expr(ast.Constant()) | ast.FunctionDef(decorator_list=[]) | ast.ImportFrom("typing"):
            return False
        case ast.Assign([ast.Name("__all__")]):
            return False
        case ast.If() if _for_types(statement):
            return any(_acts(each) for each in statement.orelse)
    return True


def written(pipeline: str) -> str:
    """Return the text of ``dvc.yaml`` with the code in each stage's ``deps`` brought up to date.

    Other lines stay as they are, including comments.
    """
    lines: list[str] = []
    stage, indent = "", ""  # of the deps that are being read
    for line in pipeline.splitlines(keepends=True):
        if indent and not line.startswith(indent):
            lines += [f"{indent}- {file}\n" for file in files(stage)]
            indent = ""
        if not re.match(rf"\s*- src/{PACKAGE}/", line):
            lines.append(line)
        if found := re.search(rf"-m {PACKAGE}\.(stages\.\w+)", line):
            stage = found[1]
        elif found := re.match(r"( *)deps:", line):
            indent = f"{found[1]}  "
    return "".join(lines)


def main() -> None:
    """Update ``dvc.yaml``; with ``--check``, fail if it is stale."""
    parser = argparse.ArgumentParser(description="Write the code that each stage depends on into dvc.yaml.")
    parser.add_argument("--check", action="store_true", help="write nothing; fail if something would change")
    check, path = parser.parse_args().check, Path("dvc.yaml")
    before = path.read_text(encoding="utf-8")
    after = written(before)
    if before == after:
        return
    if check:
        sys.exit("error: dvc.yaml: the code in deps is not what the stages import; run `make dependencies`")
    with atomic_write(path) as partial:
        partial.write_text(after, encoding="utf-8")


if __name__ == "__main__":
    main()
