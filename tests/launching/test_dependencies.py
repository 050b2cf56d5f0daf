"""The code that stages depend on, against a second reader of imports (grimp), and against what runs again."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import grimp
import pytest
import yaml

from exemplarcnn.launching import dependencies
from exemplarcnn.launching.dependencies import ALWAYS, EXEMPT, files, modules, written
from exemplarcnn.stages import surrogate
from tests.conftest import ROOT, one_fast

PIPELINE = ROOT / "dvc.yaml"
STAGES = sorted(f"stages.{path.stem}" for path in (ROOT / "src/exemplarcnn/stages").glob("[a-z]*.py"))


@pytest.fixture(scope="module")
def graph() -> grimp.ImportGraph:
    """What each module imports, those that no out depends on taken out."""
    made = grimp.build_graph("exemplarcnn", exclude_type_checking_imports=True, cache_dir=None)
    for name in sorted(made.modules):
        if any(name == f"exemplarcnn.{exempt}" or name.startswith(f"exemplarcnn.{exempt}.") for exempt in EXEMPT):
            made.remove_module(name)
    return made


@pytest.mark.parametrize("stage", STAGES)
def test_each_stage_depends_on_all_that_it_imports_and_nothing_else(graph: grimp.ImportGraph, stage: str) -> None:
    reached = {stage, ALWAYS}
    for start in (stage, ALWAYS):
        reached |= {name.removeprefix("exemplarcnn.") for name in graph.find_upstream_modules(f"exemplarcnn.{start}")}
    assert set(modules(stage)) == {
        name for name in reached if not (dependencies.SOURCES / name.replace(".", "/")).is_dir()
    }


def test_dvc_yaml_says_so() -> None:
    assert written(PIPELINE.read_text()) == PIPELINE.read_text()


def test_every_stage_has_its_own_module_in_dvc_yaml() -> None:
    text = PIPELINE.read_text()
    assert all(f"- src/exemplarcnn/{stage.replace('.', '/')}.py\n" in text for stage in STAGES)


@pytest.fixture
def copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of the package, which is the one that is read."""
    shutil.copytree(dependencies.SOURCES, tmp_path / "exemplarcnn", ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(dependencies, "SOURCES", tmp_path / "exemplarcnn")
    _forget()
    yield tmp_path / "exemplarcnn"
    monkeypatch.undo()
    _forget()


def _forget() -> None:
    dependencies._imported.cache_clear()
    dependencies._runs.cache_clear()


@pytest.mark.parametrize(
    "line",
    one_fast(
        [
            "from exemplarcnn.clustering import linkage",
            "from exemplarcnn.clustering.linkage import anything",
            "import exemplarcnn.clustering.linkage",
            "def later():\n    from exemplarcnn.clustering import linkage",
            "from exemplarcnn.clustering import (\n    linkage as other,\n)",
        ]
    ),
)
@pytest.mark.parametrize("module", ["stages/seed.py", "data/audit_tables.py"])
def test_an_import_that_dvc_yaml_does_not_cover_is_seen(copied: Path, module: str, line: str) -> None:
    before = PIPELINE.read_text()
    assert "src/exemplarcnn/clustering/linkage.py" not in files("stages.seed")
    _forget()
    (copied / module).write_text((copied / module).read_text() + f"\n\n{line}\n")
    assert written(before) != before
    assert "src/exemplarcnn/clustering/linkage.py" in files("stages.seed")


def test_a_module_that_is_no_longer_imported_is_seen(copied: Path) -> None:
    source = copied / "stages/colours.py"
    source.write_text("\n".join(line for line in source.read_text().splitlines() if "colour_axes" not in line))
    assert "src/exemplarcnn/data/colour_axes.py" not in files("stages.colours")
    assert written(PIPELINE.read_text()) != PIPELINE.read_text()


def test_nothing_else_of_dvc_yaml_is_touched(copied: Path) -> None:
    (copied / "stages/seed.py").write_text('"""Nothing."""\n')
    before, after = (text.splitlines() for text in (PIPELINE.read_text(), written(PIPELINE.read_text())))
    assert [line for line in before if "- src/" not in line] == [line for line in after if "- src/" not in line]


def test_every_exemption_is_a_module_or_package() -> None:
    for name in EXEMPT:
        place = dependencies.SOURCES.joinpath(*name.split("."))
        assert place.is_dir() or place.with_suffix(".py").is_file(), name


@pytest.mark.parametrize(
    ("module", "stages"),
    [
        ("importing/image_folder", set()),
        ("clustering/linkage", {"group"}),
        ("training/trainer", {"train", "resnet"}),
        ("evaluation/svm", {"evaluate", "outliers"}),
    ],
)
def test_who_reads_what(module: str, stages: set[str]) -> None:
    """What a person would expect to run again after an edit; what follows from its outs is DVC's."""
    found = {stage for stage in STAGES if f"src/exemplarcnn/{module}.py" in files(stage)}
    assert found == {f"stages.{stage}" for stage in stages}


def test_patches_drawn_online_depend_on_the_entries_that_dvc_yaml_lists() -> None:
    """`surrogate` writes them into an out, drawing.json."""
    listed = yaml.safe_load(PIPELINE.read_text())["stages"]["surrogate"]["do"]["params"]
    entries = {key.rpartition(".")[2] for key in listed if key.startswith("variants.train.")}
    assert entries == {*surrogate.DRAWN, "mode", "table"}
