"""The examples of the documentation, which `make docs` runs: their form, and that they use public names only."""

import ast
from importlib import import_module
from pathlib import Path

import pytest

EXAMPLES = sorted((Path(__file__).parents[1] / "docs" / "examples").glob("*.py"))


def test_there_are_examples() -> None:
    assert all(path.name.startswith("plot_") for path in EXAMPLES), "sphinx-gallery runs no others"
    assert EXAMPLES


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_has_a_title_cells_and_public_names(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text)
    title, underline, *_ = (ast.get_docstring(tree) or "").splitlines()
    assert underline == "=" * len(title)
    assert text.count("\n# %%\n") >= 3
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            assert not [each.name for each in node.names if each.name.startswith("exemplarcnn.")]
        elif isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "exemplarcnn":
            public = getattr(import_module(node.module or ""), "__all__", ())
            assert {each.name for each in node.names} <= {*public}, f"{node.module} makes these names not public"
