"""benchmarks/mutants.py knows the code and the tests as they are now."""

import ast
from typing import Any

import pytest

from tests.conftest import ROOT


@pytest.fixture
def mutants(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import mutants

    return mutants


def test_the_named_mutants_can_be_made(mutants: Any) -> None:
    found = list(mutants.named())
    assert len(found) == len(mutants.NAMED) == 5
    for each in found:
        ast.parse(each.source)
        assert each.source != mutants.unchanged(each.module).source


def test_every_module_has_tests(mutants: Any) -> None:
    for module in (*mutants.KERNELS, *(each.module for each in mutants.named())):
        assert (ROOT / mutants.PACKAGE / f"{module}.py").is_file()
        files = mutants.tests_of(module)
        assert files, module
        assert all((ROOT / file).is_file() for file in files), module


def test_a_drawn_mutant_is_another_program(mutants: Any) -> None:
    for each in mutants.drawn(["clustering/linkage", "training/shards"], 10, 0):
        assert ast.unparse(ast.parse(each.source)) != ast.unparse(ast.parse(mutants.unchanged(each.module).source))
