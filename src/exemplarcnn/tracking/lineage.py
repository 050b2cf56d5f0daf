"""Ask DVC about stages: what they depend on, what they made, and whether that is up to date.

The only module that calls DVC's library. ``dvc.lock`` records what finished stages depended on, whatever is in the
folder now: so a fresh clone with committed metrics knows as much about its results as the machine that computed them.
"""

from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from graphlib import TopologicalSorter
from itertools import pairwise
from pathlib import Path
from typing import Any

from exemplarcnn import paths
from exemplarcnn.data.stl10 import data_digest
from exemplarcnn.errors import PipelineError
from exemplarcnn.files import UnreadableError, digest_of, md5_of, read_mapping
from exemplarcnn.tracking import repository

PIPELINE = Path("dvc.yaml")
LOCK = Path("dvc.lock")
POINTER = paths.DATA.with_suffix(".dvc")
CODE = "src/"
# States of a stage: its result is here; it is not, but DVC's cache has it; it has to be computed.
DONE, CACHED, TO_RUN = "done", "cached", "to run"
States = dict[str, str]
# Commands of DVC that run stages.
COMMANDS = {"repro", "exp", "experiments"}
# Stages whose variants are those of another stage in `variants` of params.yaml.
VARIANTS_OF = {"surrogate": "train", "embed": "train", "resnet": "label"}


class LineageError(PipelineError):
    """DVC refuses a request."""


@dataclass(frozen=True)
class Record:
    """One execution of a stage.

    Attributes
    ----------
    stage
        Its name, such as ``train@baseline``.
    deps, outs
        What it read and what it made: DVC's hash by path. Hashes of folders end in ``.dir``.
    params
        Parameters that it depends on, as ``dvc.yaml`` lists them: value by dotted key.
    """

    stage: str
    deps: dict[str, str]
    params: dict[str, Any]
    outs: dict[str, str]

    @property
    def identity(self) -> str:
        """Hash of everything the result depends on: known before the work starts, the same on every machine."""
        return digest_of({"stage": self.stage, "deps": self.deps, "params": self.params})


@contextmanager
def _asked() -> Iterator[None]:
    """Turn DVC's errors in the block into one that says what to do: DVC's own name no line and no remedy."""
    from dvc.exceptions import DvcException

    try:
        yield
    except DvcException as error:
        for path in (PIPELINE, paths.PARAMS):
            if path.exists():
                read_mapping(path)
        lock_entries()
        advice = ""
        if "is not a git repository" in str(error):
            advice = "; work in a `git clone`, or tell DVC to work without git: `dvc config --local core.no_scm true`"
        raise LineageError(f"DVC: {error}{advice}") from error


def current(stage: str) -> Record:
    """Return what a stage depends on and has made, as the folder is now.

    Raises
    ------
    LineageError
        If the folder is no DVC repository, has no such stage, or lacks a dependency.
    """
    # The import takes half a second, and only tracked runs need it.
    from dvc.repo import Repo
    from dvc.stage.serialize import to_single_stage_lockfile

    with _asked(), Repo() as repo:
        loaded = repo.stage.load_one("dvc.yaml", stage)
        loaded.save_deps()
        outs = _present(loaded.outs)
        entry = to_single_stage_lockfile(loaded)
    record = _record(stage, entry)
    return Record(stage, record.deps, record.params, outs)


def _present(outs: list[Any]) -> dict[str, str]:
    """Return the hash of each of DVC's outs that exists, by path."""
    return {str(out.def_path): str(out.get_hash().value) for out in outs if out.exists}


def cache_folder() -> Path:
    """Return the folder in which DVC keeps this repository's objects, named by hash."""
    from dvc.repo import Repo

    with _asked(), Repo() as repo:
        return Path(repo.cache.local.path)


def cache_link() -> str:
    """Return how DVC puts results into its cache here: ``copy``, or a kind of link that takes no space."""
    from dvc.repo import Repo
    from dvc_objects.fs.generic import test_links

    with _asked(), Repo() as repo:
        cache = repo.cache.local
        # Where copies are allowed, DVC leaves folders as they are, unless it moves them to the cache the first way.
        links = cache.cache_types
        if "copy" in links:
            links = [kind for kind in links[:1] if kind in ("reflink", "hardlink")]
        found: list[str] = test_links(links, cache.fs, cache.path, repo.fs, str(PIPELINE.absolute()))
    return found[0] if found else "copy"


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
    with _asked(), Repo() as repo:
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
        return [out for out in self._hashes if _overlap(path, out)]

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


def changed_outs(stage: str, records: dict[str, Record]) -> list[str]:
    """Return the outs of a stage that are missing, or differ from what ``dvc.lock`` records."""
    from dvc.repo import Repo

    with _asked(), Repo() as repo:
        there = _present(repo.stage.load_one("dvc.yaml", stage).outs)
    return [path for path, md5 in records[stage].outs.items() if there.get(path) != md5]


def read_lock(lock: Path = LOCK) -> dict[str, Record]:
    """Read the records of all stages in ``dvc.lock``, by name; empty if there is no such file.

    Leaves out stages that ``dvc.yaml`` and variants that ``params.yaml`` no longer names: DVC keeps their entries for
    ever.

    Raises
    ------
    UnreadableError
        If ``dvc.lock``, ``dvc.yaml``, ``params.yaml`` or ``data.dvc`` is damaged.
    """
    if not lock.exists():
        return {}
    values = read_mapping(paths.PARAMS)
    if POINTER.exists():  # many functions read it: if it is damaged, report it here, to all who need records
        read_mapping(POINTER)
    kinds = read_mapping(PIPELINE).get("stages") if PIPELINE.exists() else None
    return {
        name: _record(name, entry)
        for name, entry in lock_entries(lock).items()
        if _named(name, values) and (kinds is None or name.partition("@")[0] in kinds)
    }


def lock_entries(lock: Path = LOCK) -> dict[str, dict[str, Any]]:
    """Read the entry of each stage in ``dvc.lock``; empty if there is no such file.

    Raises
    ------
    UnreadableError
        If the file is damaged.
    """
    stages = read_mapping(lock).get("stages", {}) if lock.exists() else {}
    if not isinstance(stages, dict) or not all(isinstance(entry, dict) for entry in stages.values()):
        raise UnreadableError(lock, "it records no stages")
    return stages


def _named(stage: str, values: dict[str, Any]) -> bool:
    kind, _, variant = stage.partition("@")
    named = values.get("variants", {}).get(VARIANTS_OF.get(kind, kind))
    return named is None or variant in named


def _record(stage: str, entry: dict[str, Any]) -> Record:
    def hashes(key: str) -> dict[str, str]:
        return {item["path"]: item.get("md5", "") for item in entry.get(key, [])}

    return Record(stage, hashes("deps"), dict(entry.get("params", {}).get(paths.PARAMS.name, {})), hashes("outs"))


def chain(record: Record, records: dict[str, Record]) -> list[Record]:
    """Return a record and those of all stages before it, each once, starting with the record itself."""
    found = {record.stage: record}
    waiting = [record]
    while waiting:
        for producer, _ in _producers(waiting.pop(), records):
            if producer.stage not in found:
                found[producer.stage] = producer
                waiting.append(producer)
    return list(found.values())


def params(record: Record, records: dict[str, Record]) -> dict[str, Any]:
    """Return all parameters that a result depends on, through every stage before it: value by dotted key."""
    return {key: value for each in reversed(chain(record, records)) for key, value in each.params.items()}


class Workspace:
    """The folder as it is now, for questions about many stages: DVC reads and hashes its files only once.

    A context manager. The folder must not change while it is open.
    """

    def __init__(self) -> None:
        self._opened = ExitStack()
        self._stages: dict[str, Any] | None = None
        self._deps: dict[str, dict[str, str]] = {}

    def __enter__(self) -> "Workspace":
        return self

    def __exit__(self, *_: object) -> None:
        self._opened.close()

    def deps(self, stage: str) -> dict[str, str]:
        """Return the hash of everything that a stage reads, by path.

        Raises
        ------
        LineageError
            As `current`.
        """
        if stage not in self._deps:
            from dvc.stage.serialize import to_single_stage_lockfile

            with _asked():
                loaded = self._all()[stage]
                loaded.save_deps()
                self._deps[stage] = _record(stage, to_single_stage_lockfile(loaded)).deps
        return self._deps[stage]

    def _all(self) -> dict[str, Any]:
        if self._stages is None:
            from dvc.repo import Repo

            repo = self._opened.enter_context(Repo())
            self._stages = {each.addressing: each for each in repo.index.stages}
        return self._stages


def out_of_date(stage: str, records: dict[str, Record], folder: Workspace | None = None) -> str | None:
    """Say why a stage's result does not match the parameters, code and data here; None if it does.

    Parameters
    ----------
    stage
        Its name in DVC, such as ``evaluate@baseline``.
    records
        As `read_lock` returns them.
    folder
        An open `Workspace` to share between several questions; by default each call opens its own.
    """
    if folder is None:
        with Workspace() as folder:
            return out_of_date(stage, records, folder)
    if stage not in records:
        return "it has not run"
    values = read_mapping(paths.PARAMS)
    for record in chain(records[stage], records):
        for key, value in record.params.items():
            if (here := _lookup(values, key)) != value:
                name, here, there = _first_difference(key, here, value)
                return f"{paths.PARAMS} says {name}: {here}, but {record.stage} ran with {there}"
        for path, md5 in record.deps.items():
            if path == str(paths.DATA) and md5 != data_digest(paths.DATA):
                return f"{record.stage} ran on other data than {paths.DATA}.dvc names"
            if path.startswith(CODE) and not (Path(path).exists() and md5_of(Path(path)) == md5):
                return f"{path} has changed since {record.stage} ran"
        for producer, path in _producers(record, records):
            if _hash(producer, record, path, folder) != record.deps[path]:
                return f"{producer.stage} has run since {record.stage} did"
    return None


def _hash(producer: Record, record: Record, path: str, here: Workspace) -> str:
    """Return the present hash of what a stage read, from its producer."""
    if path in producer.outs:
        return producer.outs[path]
    # A part of an out, or a folder of several outs: the lock has no hash of it, so DVC hashes what is there.
    if Path(path).exists():
        with suppress(Exception):  # another dependency of the stage is missing
            return here.deps(record.stage)[path]
    return record.deps[path]


def _producers(record: Record, records: dict[str, Record]) -> Iterator[tuple[Record, str]]:
    """Yield the stages that made a record's dependencies, wholly or in part, each with the dependency's path."""
    for path in record.deps:
        if path.startswith(CODE):
            continue
        for other in records.values():
            if other.stage != record.stage and any(_overlap(path, out) for out in other.outs):
                yield other, path


def _overlap(path: str, out: str) -> bool:
    """Say whether one path is the other, or in it; as text, since Path takes microseconds, and pairs are many."""
    return path == out or path.startswith(f"{out}/") or out.startswith(f"{path}/")


def _first_difference(key: str, here: Any, there: Any) -> tuple[str, Any, Any]:
    """Return the first entry in which two nested tables differ: its dotted key, and its value in each."""
    while isinstance(here, dict) and isinstance(there, dict):
        # A null entry differs from a missing one.
        name = next(name for name in {**here, **there} if [*_at(here, name)] != [*_at(there, name)])
        key, here, there = f"{key}.{name}", here.get(name), there.get(name)
    return key, here, there


def _at(table: dict[str, Any], name: str) -> Iterator[Any]:
    if name in table:
        yield table[name]


def _lookup(values: Any, key: str) -> Any:
    for part in key.split("."):
        values = values.get(part) if isinstance(values, dict) else None
    return values
