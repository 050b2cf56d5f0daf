"""What DVC knows of a stage: what it depends on, what it made, and whether that still stands.

The only module that asks DVC. ``dvc.lock`` tells what finished stages depended on, whatever lies in the folder now:
so a fresh clone with committed metrics knows as much about its results as the machine that computed them.
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
PARAMS = Path("params.yaml")
CODE = "src/"
# Stages of a variant that `variants` of params.yaml names for another one.
VARIANTS_OF = {"surrogate": "train", "embed": "train", "resnet": "label"}


class LineageError(PipelineError):
    """DVC refuses what it is asked."""


@dataclass(frozen=True)
class Record:
    """One execution of a stage.

    Attributes
    ----------
    stage
        Its name, such as ``train@baseline``.
    deps, outs
        Path and DVC's hash of what it read and made. Folders' hashes end in ``.dir``.
    params
        Dotted key and value of the parameters it depends on, as ``dvc.yaml`` lists them.
    """

    stage: str
    deps: dict[str, str]
    params: dict[str, Any]
    outs: dict[str, str]

    @property
    def identity(self) -> str:
        """Hash of all that the result depends on: known before the work starts, the same wherever it is done."""
        return digest_of({"stage": self.stage, "deps": self.deps, "params": self.params})


@contextmanager
def _asked() -> Iterator[None]:
    """Turn what DVC raises in the block into an error that says what to do: it names no line, and no remedy."""
    from dvc.exceptions import DvcException

    try:
        yield
    except DvcException as error:
        for path in (PIPELINE, PARAMS):
            if path.exists():
                read_mapping(path)
        lock_entries()
        advice = ""
        if "is not a git repository" in str(error):
            advice = "; work in a `git clone`, or tell DVC to do without git: `dvc config --local core.no_scm true`"
        raise LineageError(f"DVC: {error}{advice}") from error


def current(stage: str) -> Record:
    """Ask DVC what a stage depends on and has made, as things lie in the folder now.

    Raises
    ------
    LineageError
        If the folder is no DVC repository, has no such stage, or lacks a dependency.
    """
    # Half a second to import; only runs that are tracked need it.
    from dvc.repo import Repo
    from dvc.stage.serialize import to_single_stage_lockfile

    with _asked(), Repo() as repo:
        loaded = repo.stage.load_one("dvc.yaml", stage)
        loaded.save_deps()
        outs = {str(out.def_path): str(out.get_hash().value) for out in loaded.outs if out.exists}
        entry = to_single_stage_lockfile(loaded)
    record = _record(stage, entry)
    return Record(stage, record.deps, record.params, outs)


def cache_folder() -> Path:
    """Return the folder in which DVC keeps the objects of this repository, by their hash."""
    from dvc.repo import Repo

    with _asked(), Repo() as repo:
        return Path(repo.cache.local.path)


def changed_outs(stage: str, records: dict[str, Record]) -> list[str]:
    """Name the outs of a stage that lie in the folder other than ``dvc.lock`` says, or not at all."""
    from dvc.repo import Repo

    with _asked(), Repo() as repo:
        outs = repo.stage.load_one("dvc.yaml", stage).outs
        there = {str(out.def_path): str(out.get_hash().value) for out in outs if out.exists}
    return [path for path, md5 in records[stage].outs.items() if there.get(path) != md5]


def read_lock(lock: Path = LOCK) -> dict[str, Record]:
    """Read the records of all stages in ``dvc.lock``, by name; none if there is no such file.

    Variants that ``params.yaml`` no longer names are left out: DVC keeps their entries for ever.
    """
    if not lock.exists():
        return {}
    values = read_mapping(PARAMS)
    if POINTER.exists():  # read all over; whoever asks for records learns here that it is damaged
        read_mapping(POINTER)
    return {name: _record(name, entry) for name, entry in lock_entries(lock).items() if _named(name, values)}


def lock_entries(lock: Path = LOCK) -> dict[str, dict[str, Any]]:
    """Read what ``dvc.lock`` holds of each stage, nothing if it is not there; `UnreadableError` if it is damaged."""
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

    return Record(stage, hashes("deps"), dict(entry.get("params", {}).get(PARAMS.name, {})), hashes("outs"))


def chain(record: Record, records: dict[str, Record]) -> list[Record]:
    """Return a record and those of all stages before it, each once, the last first."""
    found = {record.stage: record}
    waiting = [record]
    while waiting:
        for producer, _ in _producers(waiting.pop(), records):
            if producer.stage not in found:
                found[producer.stage] = producer
                waiting.append(producer)
    return list(found.values())


def params(record: Record, records: dict[str, Record]) -> dict[str, Any]:
    """Return all parameters that a result depends on, through every stage before it; dotted key and value."""
    return {key: value for each in reversed(chain(record, records)) for key, value in each.params.items()}


class Workspace:
    """What lies in the folder now, for questions about many stages: DVC reads its files once, and hashes once.

    The folder must not change meanwhile. A context manager.
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
        """Return the hash of everything that a stage reads, by its path.

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
    """Say why the result of a stage is not what the parameters, code and data here give; None if it is.

    Parameters
    ----------
    stage
        As DVC calls it, such as ``evaluate@baseline``.
    records
        Those of `read_lock`.
    folder
        One for all questions, if there are several.
    """
    if folder is None:
        with Workspace() as folder:
            return out_of_date(stage, records, folder)
    if stage not in records:
        return "it has not run"
    values = read_mapping(PARAMS)
    for record in chain(records[stage], records):
        for key, value in record.params.items():
            if (here := _lookup(values, key)) != value:
                name, here, there = _first_difference(key, here, value)
                return f"{PARAMS} says {name}: {here}, but {record.stage} ran with {there}"
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
    """Return the hash of what a stage read, as its producer has it now."""
    if path in producer.outs:
        return producer.outs[path]
    # A part of an out, or a folder of several outs: the lock has no hash of it, but what lies there can be asked.
    if Path(path).exists():
        with suppress(Exception):  # something else that the stage reads is not there
            return here.deps(record.stage)[path]
    return record.deps[path]


def _producers(record: Record, records: dict[str, Record]) -> Iterator[tuple[Record, str]]:
    """Stages that made a record's dependencies, wholly or in part, each with the dependency."""
    for path in map(Path, record.deps):
        for other in records.values():
            if other.stage != record.stage and any(
                path.is_relative_to(out) or Path(out).is_relative_to(path) for out in other.outs
            ):
                yield other, str(path)


def _first_difference(key: str, here: Any, there: Any) -> tuple[str, Any, Any]:
    """Go down to the first entry in which two tables differ: its dotted key, and what it is in either."""
    while isinstance(here, dict) and isinstance(there, dict):
        # An entry that is null differs from none at all.
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
