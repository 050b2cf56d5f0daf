"""Ask DVC about stages: what they depend on, what they made, and whether that is up to date.

Only this module and :mod:`exemplarcnn.tracking.stage_states` call DVC's library. ``dvc.lock`` records what finished
stages depended on, whatever is in the folder now: so a fresh clone with committed metrics knows as much about its
results as the machine that computed them.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from exemplarcnn import paths
from exemplarcnn.data.stl10 import data_digest
from exemplarcnn.errors import PipelineError
from exemplarcnn.files import UnreadableError, digest_of, md5_of, read_mapping

PIPELINE = Path("dvc.yaml")
LOCK = Path("dvc.lock")
POINTER = paths.DATA.with_suffix(".dvc")
CODE = "src/"
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
def asked() -> Iterator[None]:
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

    with asked(), Repo() as repo:
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

    with asked(), Repo() as repo:
        return Path(repo.cache.local.path)


def cache_link() -> str:
    """Return how DVC puts results into its cache here: ``copy``, or a kind of link that takes no space."""
    from dvc.repo import Repo
    from dvc_objects.fs.generic import test_links

    with asked(), Repo() as repo:
        cache = repo.cache.local
        # Where copies are allowed, DVC leaves folders as they are, unless it moves them to the cache the first way.
        links = cache.cache_types
        if "copy" in links:
            links = [kind for kind in links[:1] if kind in ("reflink", "hardlink")]
        found: list[str] = test_links(links, cache.fs, cache.path, repo.fs, str(PIPELINE.absolute()))
    return found[0] if found else "copy"


def changed_outs(stage: str, records: dict[str, Record]) -> list[str]:
    """Return the outs of a stage that are missing, or differ from what ``dvc.lock`` records."""
    from dvc.repo import Repo

    with asked(), Repo() as repo:
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
    if not isinstance(stages, dict):
        raise UnreadableError(lock, "it records no stages")
    for name, entry in stages.items():
        if not _is_entry(entry):
            raise UnreadableError(lock, f"the entry of {name} is not whole")
    return stages


def _is_entry(entry: Any) -> bool:
    """Tell whether this is a whole entry of a stage; of one that was cut off, lists and values are missing."""
    if not isinstance(entry, dict) or not isinstance(entry.get("params", {}), dict):
        return False
    if not all(isinstance(values, dict) for values in entry.get("params", {}).values()):
        return False
    lists = [entry.get(key, []) for key in ("deps", "outs")]
    return all(isinstance(items, list) and all(map(_is_recorded, items)) for items in lists)


def _is_recorded(item: Any) -> bool:
    # The path is written first. For some remotes DVC lists the files of a folder instead of its md5.
    return isinstance(item, dict) and isinstance(item.get("path"), str) and len(item) > 1


def _named(stage: str, values: dict[str, Any]) -> bool:
    kind, _, variant = stage.partition("@")
    named = values.get("variants", {}).get(VARIANTS_OF.get(kind, kind))
    return named is None or variant in named


def _record(stage: str, entry: dict[str, Any]) -> Record:
    def hashes(key: str) -> dict[str, str]:
        return {item["path"]: item.get("md5") or "" for item in entry.get(key, [])}

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

            with asked():
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
            if (here := lookup(values, key)) != value:
                name, here, there = first_difference(key, here, value)
                return f"{paths.PARAMS} says {name}: {here}, but {record.stage} ran with {there}"
        for path, md5 in record.deps.items():
            if path == str(paths.DATA) and md5 != data_digest(paths.DATA):
                return f"{record.stage} ran on other data than {paths.DATA}.dvc names"
            if path.startswith(CODE) and not (Path(path).exists() and md5_of(Path(path)) == md5):
                return f"{path} has changed since {record.stage} ran"
        if reason := superseded(record, records, folder):
            return reason
    return None


def superseded(record: Record, records: dict[str, Record], folder: Workspace) -> str | None:
    """Say that a stage has made something else since a record's stage read it; None if none has."""
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
            if other.stage != record.stage and any(overlap(path, out) for out in other.outs):
                yield other, path


def overlap(path: str, out: str) -> bool:
    """Say whether one path is the other, or in it; as text, since Path takes microseconds, and pairs are many."""
    return path == out or path.startswith(f"{out}/") or out.startswith(f"{path}/")


def first_difference(key: str, here: Any, there: Any) -> tuple[str, Any, Any]:
    """Return the first entry in which two nested tables differ: its dotted key, and its value in each."""
    while isinstance(here, dict) and isinstance(there, dict):
        # A null entry differs from a missing one.
        name = next(name for name in {**here, **there} if [*_at(here, name)] != [*_at(there, name)])
        key, here, there = f"{key}.{name}", here.get(name), there.get(name)
    return key, here, there


def _at(table: dict[str, Any], name: str) -> Iterator[Any]:
    if name in table:
        yield table[name]


def lookup(values: Any, key: str) -> Any:
    """Return the value at a dotted key of nested tables; None if there is none."""
    for part in key.split("."):
        values = values.get(part) if isinstance(values, dict) else None
    return values
