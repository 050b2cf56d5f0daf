"""Do the tests notice? Change one operator or number of the numerical modules at a time, and run the module's tests.

    python benchmarks/mutants.py [--mutants 100] [--seed 0] [--modules evaluation/svm training/trainer] [--workers 2]

Five mutants that the tests once missed come first; the others are drawn at random from all places where an operator, a
comparison, a number or a condition can be changed. A mutant is killed if a test fails, and too slow if its tests take
more than two minutes. The survivors are listed: each is a missing test, or a change that makes no difference. Before
all, the tests must pass with the code as it is.
"""

import argparse
import ast
import contextlib
import copy
import multiprocessing
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = Path("src/exemplarcnn")
KERNELS = (
    "classes/capacity",
    "classes/expansion",
    "classes/grouping",
    "classes/quality",
    "classes/regrouping",
    "classes/seeding",
    "clustering/dendrogram",
    "clustering/linkage",
    "clustering/kept_pairs",
    "clustering/radius_graph",
    "clustering/sample",
    "clustering/sketch",
    "clustering/widths",
    "data/colour_axes",
    "data/near_duplicates",
    "evaluation/classifiers",
    "evaluation/controls",
    "evaluation/intervals",
    "evaluation/kmeans",
    "evaluation/metrics",
    "evaluation/outliers",
    "evaluation/protocols",
    "evaluation/pseudo_labels",
    "evaluation/svm",
    "networks/chunks",
    "networks/exemplar_cnn",
    "networks/features",
    "networks/resnet",
    "patches/allocation",
    "patches/anchors",
    "patches/recipes/arazo",
    "patches/recipes/colours",
    "patches/recipes/dosovitskiy",
    "patches/recipes/geometry",
    "patches/recipes/on_device",
    "patches/recipes/transform",
    "patches/statistics",
    "rng",
    "training/diagnosis",
    "training/labelled_images",
    "training/objectives",
    "training/online",
    "training/running_loss",
    "training/schedule",
    "training/shards",
    "training/trainer",
)
# Modules whose tests are not only in the file of their name.
TESTS = {
    "clustering/kept_pairs": ("clustering/test_radius_graph", "clustering/test_linkage"),
    "clustering/sample": ("clustering/test_radius_graph",),
    "clustering/sketch": ("clustering/test_radius_graph",),
    "clustering/widths": ("clustering/test_radius_graph",),
    "config/params": ("stages/test_stages",),
    "evaluation/classifiers": ("evaluation/test_protocols",),
    "stages/describe": ("stages/test_stages",),
    "stages/evaluate": ("stages/test_stages",),
    "training/shards": ("training/test_shards", "training/test_trainer"),
    "patches/recipes/transform": ("patches/recipes/test_arazo", "patches/recipes/test_transform"),
}
NO_TESTS = (4, 5)  # pytest's status if a file is missing, or holds no test that is asked for
LONGEST = 120.0  # seconds that a mutant's tests may take
COMPARED = {ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq}
COMPUTED = {ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Add}
CALLED = {"argmax": "argmin", "argmin": "argmax", "max": "min", "min": "max", "floor": "ceil", "maximum": "minimum"}
# Texts for people: no mutants there.
SAID = (ast.JoinedStr, ast.Raise, ast.Assert)
NAMED = (
    (
        "training/shards",
        "self._masks.at(epoch, step * self.layout.count + shard)",
        "self._masks.at(0, shard)",
        "one dropout mask for every step",
    ),
    (
        "training/labelled_images",
        "self._stream.at(epoch, row)",
        "self._stream.at(0, row)",
        "the same augmentation in every epoch",
    ),
    ("stages/describe", '"initial.safetensors"', '"weights.safetensors"', "the random network is trained"),
    ("config/params", '"groups": entry.groups', '"groups": None', "own rates ignored"),
    ("stages/evaluate", "labels, folds, test", "labels, folds[:1] * len(folds), test", "ten times the first fold"),
)


@dataclass(frozen=True)
class Mutant:
    """A module's source with one change, and what the change is."""

    module: str
    line: int
    change: str
    source: str


def named() -> Iterator[Mutant]:
    for module, old, new, about in NAMED:
        source = (ROOT / PACKAGE / f"{module}.py").read_text()
        assert source.count(old) == 1, f"{module}: {old!r} is there {source.count(old)} times"
        line = source[: source.index(old)].count("\n") + 1
        yield Mutant(module, line, about, source.replace(old, new))


def unchanged(module: str) -> Mutant:
    """Return a module as it is, which its tests must let pass."""
    return Mutant(module, 0, "nothing", (ROOT / PACKAGE / f"{module}.py").read_text())


def drawn(modules: list[str], count: int, seed: int) -> list[Mutant]:
    """Draw mutants from all places of all modules."""
    places = [(module, number) for module in modules for number in range(len(list(_places(_tree(module)))))]
    chosen = np.random.default_rng(seed).permutation(len(places))[:count]
    return [_mutant(*places[index]) for index in sorted(chosen)]


def _tree(module: str) -> ast.Module:
    return ast.parse((ROOT / PACKAGE / f"{module}.py").read_text())


def _mutant(module: str, number: int) -> Mutant:
    tree = _tree(module)
    node = list(_places(tree))[number]
    before = ast.unparse(copy.deepcopy(node))
    _change(node)
    return Mutant(module, node.lineno, f"{before}  ->  {ast.unparse(node)}", ast.unparse(tree))


def _places(node: ast.AST) -> Iterator[ast.expr]:
    """Yield the expressions that can be changed, outside of messages, annotations and docstrings."""
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns", "decorator_list", "type_params"):
            continue
        for child in value if isinstance(value, list) else [value]:
            if not isinstance(child, ast.AST) or isinstance(child, SAID):
                continue
            if isinstance(child, ast.expr) and _can_change(child):
                yield child
            yield from _places(child)


def _can_change(node: ast.expr) -> bool:
    match node:
        case ast.Compare(ops=[op]):
            return type(op) in COMPARED
        case ast.BinOp(op=op):
            return type(op) in COMPUTED and not isinstance(node.left, ast.Constant | ast.JoinedStr)
        case ast.BoolOp() | ast.UnaryOp(op=ast.Not() | ast.USub()):
            return True
        case ast.Constant(value=value):
            return isinstance(value, bool | int | float)
        case ast.Call(func=ast.Attribute(attr=name) | ast.Name(id=name)):
            return name in CALLED
    return False


def _change(node: ast.expr) -> None:
    match node:
        case ast.Compare(ops=[op]):
            node.ops = [COMPARED[type(op)]()]
        case ast.BinOp(op=op):
            node.op = COMPUTED[type(op)]()
        case ast.BoolOp(op=op):
            node.op = ast.Or() if isinstance(op, ast.And) else ast.And()
        case ast.UnaryOp():
            node.op = ast.UAdd() if isinstance(node.op, ast.USub) else node.op
            if isinstance(node.op, ast.Not):
                node.operand = ast.UnaryOp(ast.Not(), node.operand)
        case ast.Constant(value=bool(value)):
            node.value = not value
        case ast.Constant(value=int(value)):
            node.value = value + 1
        case ast.Constant(value=float(value)):
            node.value = 1.5 * value if value else 0.5
        case ast.Call(func=ast.Attribute() as function):
            function.attr = CALLED[function.attr]
        case ast.Call(func=ast.Name() as function):
            function.id = CALLED[function.id]


def tests_of(module: str) -> list[str]:
    folder, _, name = module.rpartition("/")
    return [f"tests/{file}.py" for file in TESTS.get(module, (f"{folder}/test_{name}",))]


def attack(mutant: Mutant, folder: Path) -> None:
    """Run a mutant's tests in this process, which exits with their status."""
    os.setpgid(0, 0)
    with (folder / "log").open("w") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    shutil.copytree(ROOT / "src", folder / "src", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    (folder / PACKAGE / f"{mutant.module}.py").write_text(mutant.source)
    os.environ["PYTHONPATH"] = str(folder / "src")
    sys.path[:0] = [str(folder / "src"), str(ROOT)]
    os.chdir(ROOT)
    import pytest

    words = ["-x", "-m", "not slow", "-p", "no:cacheprovider", "-p", "no:xdist", f"--basetemp={folder / 'tmp'}"]
    os._exit(pytest.main([*words, *tests_of(mutant.module)]))


def judge(mutants: list[Mutant], workers: int) -> list[str]:
    """Return for each mutant ``killed``, ``survived`` or ``too slow``."""
    verdicts = [""] * len(mutants)
    running: dict[int, tuple[BaseProcess, float, tempfile.TemporaryDirectory[str]]] = {}
    waiting = list(enumerate(mutants))
    context = multiprocessing.get_context("fork")
    with tqdm(total=len(mutants), unit="mutant") as bar:
        while waiting or running:
            while waiting and len(running) < workers:
                number, mutant = waiting.pop(0)
                folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
                process: BaseProcess = context.Process(target=attack, args=(mutant, Path(folder.name)))
                process.start()
                running[number] = process, time.monotonic(), folder
            for number, (process, begun, folder) in list(running.items()):
                late = time.monotonic() - begun > LONGEST
                if process.is_alive() and not late:
                    continue
                with contextlib.suppress(OSError):
                    os.killpg(process.pid or 0, 9)
                process.join()
                if process.exitcode in NO_TESTS:
                    sys.exit(f"error: no test ran for {mutants[number].module}; correct TESTS in this file")
                verdicts[number] = "too slow" if late else "survived" if process.exitcode == 0 else "killed"
                folder.cleanup()
                del running[number]
                bar.update()
            time.sleep(0.02)
    return verdicts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mutants", type=int, default=100, help="how many to draw (default 100)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the draw (default 0)")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes (default: all cores)")
    parser.add_argument("--modules", nargs="+", default=list(KERNELS), choices=KERNELS, help="default: all")
    arguments = parser.parse_args()
    begun = time.monotonic()
    mutants = [*named(), *drawn(arguments.modules, arguments.mutants, arguments.seed)]
    whole = [unchanged(module) for module in dict.fromkeys(each.module for each in mutants)]
    if failing := [
        each.module
        for each, verdict in zip(whole, judge(whole, arguments.workers), strict=True)
        if verdict != "survived"
    ]:
        sys.exit(f"error: tests of {', '.join(failing)} fail, or take too long, with the code as it is")
    verdicts = judge(mutants, arguments.workers)
    rows = [{"module": each.module, verdict: 1} for each, verdict in zip(mutants, verdicts, strict=True)]
    print(pd.DataFrame(rows).groupby("module").sum().astype(int).to_string())
    print(f"\n{len(mutants)} mutants in {time.monotonic() - begun:.0f} s; survivors:")
    for mutant, verdict in zip(mutants, verdicts, strict=True):
        if verdict == "survived":
            print(f"  {PACKAGE / mutant.module}.py:{mutant.line}: {mutant.change}")
    if "survived" in verdicts[: len(NAMED)]:
        sys.exit("error: one of the five known mutants survived; the list above names it")


if __name__ == "__main__":
    # One thread each, which torch reads on its first import. What all need is imported once, before any fork.
    os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    for library in ("torch", "torchvision", "sklearn.svm", "sklearn.cluster", "albumentations", "matplotlib.figure"):
        __import__(library)
    main()
