"""Which stages run again after an edit of each module, asked of DVC."""

import grimp
from dvc.repo import Repo

from exemplarcnn.launching.dependencies import ALWAYS, EXEMPT

from .conftest import Project


def expected(graph: grimp.ImportGraph, module: str, stages: list[str]) -> set[str]:
    """Return the stages whose imports reach a module, once those that no out depends on are taken out."""
    if module not in graph.modules:
        return set()
    reached = {module, *graph.find_downstream_modules(module)}
    if f"exemplarcnn.{ALWAYS}" in reached:
        return set(stages)
    return {stage for stage in stages if f"exemplarcnn.stages.{stage.partition('@')[0]}" in reached}


def test_dvc_runs_exactly_the_stages_whose_imports_reach_an_edited_module(scratch: Project) -> None:
    graph = grimp.build_graph("exemplarcnn", exclude_type_checking_imports=True, cache_dir=None)
    for name in sorted(graph.modules):
        if any(name == f"exemplarcnn.{exempt}" or name.startswith(f"exemplarcnn.{exempt}.") for exempt in EXEMPT):
            graph.remove_module(name)
    source = scratch.folder / "src"
    files = [path for path in sorted(source.rglob("*.py")) if path.name != "__init__.py"]
    with Repo(scratch.folder) as repo:
        assert repo.status() == {}
    codes = {".".join(path.relative_to(source).with_suffix("").parts): path for path in files}
    for path in files:
        path.write_text(f"{path.read_text()}\n# edited\n")
    with Repo(scratch.folder) as repo:
        stages = [stage.name for stage in repo.index.stages if hasattr(stage, "name")]
        # For each stage, which of its dependencies have changed: one question for all modules.
        changed = {stage.rpartition(":")[2]: str(reasons) for stage, reasons in repo.status().items()}
    found = {
        module: {
            stage for stage, reasons in changed.items() if f"'src/{path.relative_to(source).as_posix()}'" in reasons
        }
        for module, path in codes.items()
    }
    assert found == {module: expected(graph, module, stages) for module in codes}
