"""Which stages run again after an edit of each module, asked of DVC."""

import grimp
from dvc.repo import Repo

from exemplarcnn.launching.dependencies import ALWAYS, EXEMPT

from .conftest import Project


def expected(graph: grimp.ImportGraph, module: str, stages: list[str]) -> set[str]:
    """Return the stages whose imports reach a module, once those that no out depends on are taken out."""
    if module not in graph.modules:
        return set()
    if module == f"exemplarcnn.{ALWAYS}":
        return set(stages)
    reached = {module, *graph.find_downstream_modules(module)}
    return {stage for stage in stages if f"exemplarcnn.stages.{stage.partition('@')[0]}" in reached}


def test_dvc_runs_exactly_the_stages_whose_imports_reach_an_edited_module(scratch: Project) -> None:
    graph = grimp.build_graph("exemplarcnn", exclude_type_checking_imports=True, cache_dir=None)
    for name in sorted(graph.modules):
        if any(name == f"exemplarcnn.{exempt}" or name.startswith(f"exemplarcnn.{exempt}.") for exempt in EXEMPT):
            graph.remove_module(name)
    source = scratch.folder / "src"
    files = [path for path in sorted(source.rglob("*.py")) if path.name != "__init__.py"]
    found, wanted = {}, {}
    with Repo(scratch.folder) as repo:
        stages = [stage.name for stage in repo.index.stages if hasattr(stage, "name")]
        assert repo.status() == {}
        for path in files:
            module = ".".join(path.relative_to(source).with_suffix("").parts)
            before = path.read_text()
            path.write_text(f"{before}\n# edited\n")
            code = f"src/{path.relative_to(source).as_posix()}"
            changed = repo.status()
            path.write_text(before)
            assert all(code in str(reasons) for reasons in changed.values()), (module, changed)
            found[module] = {stage.rpartition(":")[2] for stage in changed}
            wanted[module] = expected(graph, module, stages)
    assert found == wanted
