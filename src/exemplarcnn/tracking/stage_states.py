"""Say which stages are done, which results DVC has in its cache, and what has to run; nothing runs for it."""

from collections.abc import Collection
from contextlib import suppress
from graphlib import TopologicalSorter
from itertools import pairwise
from pathlib import Path
from typing import Any

from exemplarcnn.files import UnreadableError, read_mapping
from exemplarcnn.tracking import repository
from exemplarcnn.tracking.lineage import PIPELINE, asked, overlap

# States of a stage: its result is here; it is not, but DVC's cache has it; it has to be computed.
DONE, CACHED, TO_RUN = "done", "cached", "to run"
States = dict[str, str]
# Commands of DVC that run stages.
COMMANDS = {"repro", "exp", "experiments"}


def requested() -> list[str] | None:
    """Return the stages that the `dvc repro` or `dvc exp run` around this process was asked for.

    Returns
    -------
    list of str or None
        Names of stages, without variant for all of a kind; empty for the whole pipeline. None if no such command runs
        around this process, if it was asked for single stages without those before them, or if it takes an experiment
        from a queue, which does not say.
    """
    process = repository.ancestor(lambda words: "dvc" in words[:3] and not COMMANDS.isdisjoint(words))
    if process is None:
        return None
    words = process.cmdline()
    if not {"-s", "--single-item", "exec-run"}.isdisjoint(words):
        return None
    kinds = read_mapping(PIPELINE).get("stages", {})
    # An experiment may be called train. dvc.yaml:train is train, too.
    named = (word for before, word in pairwise(words) if before not in ("-n", "--name"))
    names = (word.rpartition(":")[2] for word in named)
    return [name for name in names if name.partition("@")[0] in kinds]


def states(targets: Collection[str] = ()) -> States:
    """Say for each stage of ``dvc.yaml`` whether its result is here, in DVC's cache, or has to be computed.

    Nothing runs, and nothing is restored. A stage after one that has to run has to run, too, as far as is known now:
    if that one makes what it made before, DVC finds the next in its cache.

    Parameters
    ----------
    targets
        Names of stages, without variant for all of a kind: only these and those before them. By default all.

    Raises
    ------
    LineageError
        As `current`.
    """
    from dvc.repo import Repo

    found: States = {}
    with asked(), Repo() as repo:
        graph = repo.index.graph
        order = list(TopologicalSorter({stage: list(graph.successors(stage)) for stage in graph}).static_order())
        wanted = {stage for stage in order if not targets or _is_one_of(stage, targets)}
        for stage in reversed(order):
            if stage in wanted:
                wanted.update(graph.successors(stage))
        made = _Made(repo)
        for stage in order:
            if stage in wanted and hasattr(stage, "name"):  # data.dvc has no command, and so no name
                found[stage.addressing] = made.state(stage)
    return found


def _is_one_of(stage: Any, targets: Collection[str]) -> bool:
    name = str(stage.addressing)
    return name in targets or name.partition("@")[0] in targets


class _Made:
    """What stages have made, will take from the cache, or have yet to make: looked at in the order of their execution.

    Asks DVC's objects one by one, since what DVC offers for whole stages waits for a pipeline that is running.
    """

    def __init__(self, repo: Any):
        self.repo = repo
        # By path of an out: its hash, and None where the stage has to run.
        self._hashes: dict[str, Any] = {}
        # Outs that are in the folder as they will be.
        self._here: set[str] = set()

    def state(self, stage: Any) -> str:
        """Return the state of a stage, after those of all stages that it depends on."""
        from dvc.stage.serialize import to_single_stage_lockfile

        outs = {str(out.def_path): out for out in stage.outs}
        if not stage.changed_stage() and all(map(self._is_as_recorded, stage.deps)):
            changed = {path for path, out in outs.items() if out.status()}
            # To restore one out, DVC needs all of them in its cache, those that git has, too.
            if not changed or self._restored(stage, to_single_stage_lockfile(stage)) is not None:
                self._hashes |= {path: out.hash_info for path, out in outs.items()}
                self._here |= outs.keys() - changed
                return CACHED if changed else DONE
        entry = self._cached(stage)
        found = {} if entry is None else {str(out.def_path): out.hash_info for out in entry.outs}
        self._hashes |= {path: found.get(path) for path in outs}
        return TO_RUN if entry is None else CACHED

    def _is_as_recorded(self, dep: Any) -> bool:
        """Say whether a dependency is, or will be, what ``dvc.lock`` says that the stage ran with."""
        outs = self._producing(str(dep.def_path))
        if self._here.issuperset(outs):
            return not dep.status()
        known = self._hash(str(dep.def_path), outs)
        return known is not None and known == dep.hash_info

    def _producing(self, path: str) -> list[str]:
        """Return the outs that are at a path, hold it, or are in it."""
        return [out for out in self._hashes if overlap(path, out)]

    def _cached(self, stage: Any) -> Any:
        """Return the stage as DVC's cache has it, with these dependencies; None if it does not."""
        # DVC's own look-up hashes the dependencies that are here now, not those that will be.
        from dvc.stage.cache import _get_cache_hash
        from dvc.stage.serialize import to_single_stage_lockfile
        from dvc_data.hashfile.meta import Meta

        for dep in stage.deps:
            outs = self._producing(str(dep.def_path))
            if self._here.issuperset(outs):
                if not dep.exists:
                    return None
                dep.save()
            elif (known := self._hash(str(dep.def_path), outs)) is None:
                return None
            else:
                # `meta` may name the hash of what is here now, and would prevail.
                dep.hash_info, dep.meta = known, Meta()
        key = _get_cache_hash(to_single_stage_lockfile(stage), key=True)
        entries = list(Path(self.repo.stage_cache._get_cache_dir(key)).glob("*"))
        if not entries:
            return None
        newest = max(entries, key=lambda entry: entry.stat().st_mtime)
        with suppress(UnreadableError):  # DVC's own function would remove a damaged entry
            return self._restored(stage, read_mapping(newest))
        return None

    def _restored(self, stage: Any, entry: dict[str, Any]) -> Any:
        """Return the stage as an entry of DVC's has it; None if DVC's cache lacks a result."""
        if not all("md5" in out for out in entry.get("outs", [])):
            return None
        cached = self.repo.stage_cache._create_stage(entry, wdir=stage.wdir)
        return cached if cached.outs_cached() else None

    def _hash(self, path: str, outs: list[str]) -> Any:
        """Return the hash of a dependency that is an out or a part of one; None if it is not known."""
        if len(outs) != 1 or (whole := self._hashes[outs[0]]) is None:
            return None
        if path == outs[0]:
            return whole
        if outs[0].startswith(f"{path}/"):  # one of several outs in a folder
            return None
        from dvc_data.hashfile.tree import Tree

        tree = Tree.load(self.repo.cache.local, whole)
        inner: Any = Path(path).relative_to(outs[0]).parts
        if (file := tree.get(inner)) is not None:
            return file[1]
        part = tree.get_obj(self.repo.cache.local, inner)
        return None if part is None else part.hash_info
