"""Put together what a run will cost: each stage's work, the time it takes here, and whether disk and memory suffice."""

import shutil
import time
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from exemplarcnn import paths
from exemplarcnn.config.params import Config
from exemplarcnn.data.types import DataError
from exemplarcnn.determinism import use_threads
from exemplarcnn.errors import PipelineError
from exemplarcnn.planning.holdings import Holdings, listed
from exemplarcnn.planning.operations import Hash, Operation
from exemplarcnn.planning.works import Work, Works
from exemplarcnn.progress import tqdm
from exemplarcnn.tracking import lineage, stage_states
from exemplarcnn.tracking.stage_states import DONE, TO_RUN, States

# For what is not counted, such as pictures, the MLflow store, unfinished files: bytes, and a share of the results.
RESERVE, SHARE = 50_000_000, 0.05
CGROUP = Path("/sys/fs/cgroup")  # a container's limits


class PlanError(PipelineError):
    """A run cannot be planned, or does not fit on the disk."""


@dataclass(frozen=True)
class Line:
    """One stage of a plan.

    Attributes
    ----------
    work
        What the stage has to do.
    state
        ``done``: its result is here. ``cached``: DVC has it in its cache. ``to run``.
    parts
        Seconds that each kind of operation in it will take, by title; empty unless it has to run.
    here, there
        Bytes that it will add to this folder, and to DVC's cache.
    """

    work: Work
    state: str
    parts: dict[str, float]
    here: int
    there: int

    @property
    def seconds(self) -> float:
        """How long it will take; 0 unless it has to run."""
        return sum(self.parts.values())

    @property
    def mostly(self) -> str:
        """What takes the most of its time; empty if nothing does."""
        return max(self.parts, key=lambda title: self.parts[title], default="")

    @property
    def disk(self) -> int:
        """Bytes that it will add to disks."""
        return self.here + self.there


@dataclass(frozen=True)
class Space:
    """A disk: a folder on it, the bytes that will be added, the bytes that are free."""

    folder: Path
    needed: int
    free: int

    @property
    def missing(self) -> int:
        """Bytes that it lacks; 0 if it has enough."""
        return max(0, round((1 + SHARE) * self.needed) + RESERVE - self.free) if self.needed else 0

    def problem(self, links: str) -> str:
        """Say that it is too small, and what to do."""
        copies = ""
        if links == "copy":
            links_instead = "`dvc config --local cache.type reflink,hardlink`"
            copies = f", or let DVC link instead of copying ({links_instead}), which halves it"
        return (
            f"the results will take {self.needed:,} bytes more, and {self.folder.absolute()} has {self.free:,} free: "
            f"{self.missing:,} bytes are missing; free some space (`dvc gc -w` drops results of other "
            f"parameters){copies}"
        )


@dataclass(frozen=True)
class Plan:
    """What a run will cost.

    Attributes
    ----------
    lines
        One for each stage, in the order in which they run.
    dvc_seconds
        How long DVC will hash results and copy them into its cache.
    links
        The way DVC puts results into its cache: ``copy``, or a link that takes no space.
    spaces
        The disk, or the two disks, that results and DVC's cache are on.
    memory_available
        Bytes that there are.
    """

    lines: list[Line]
    dvc_seconds: float
    links: str
    spaces: list[Space]
    memory_available: int

    @property
    def disk(self) -> int:
        """Bytes that the run will add to the disk."""
        return sum(line.disk for line in self.lines)

    @property
    def memory(self) -> int:
        """The most bytes of memory that a stage will take."""
        return max((line.work.memory for line in self.lines if line.state == TO_RUN), default=0)

    @property
    def seconds(self) -> float:
        """How long the stages and DVC will take, one after the other."""
        return sum(line.seconds for line in self.lines) + self.dvc_seconds

    def problems(self) -> list[str]:
        """Say what is not enough here; empty if all suffices."""
        found = [space.problem(self.links) for space in self.spaces if space.missing]
        if self.memory > self.memory_available:
            most = max((line for line in self.lines if line.state == TO_RUN), key=lambda line: line.work.memory)
            found.append(
                f"{most.work.stage} will take about {self.memory / 1e9:.1f} GB of memory, and "
                f"{self.memory_available / 1e9:.1f} GB are available"
            )
        return found

    def as_json(self) -> dict[str, Any]:
        """Return all figures, with bytes and seconds as units."""
        return {
            "stages": [
                {
                    "stage": line.work.stage,
                    "state": line.state,
                    "images": line.work.images,
                    "patches": line.work.patches,
                    "steps": line.work.steps,
                    "seconds": round(line.seconds, 1),
                    "parts": {title: round(seconds, 1) for title, seconds in line.parts.items()},
                    "outs": line.work.outs,
                    "disk": line.disk,
                    "memory": line.work.memory,
                }
                for line in self.lines
            ],
            "dvc_seconds": round(self.dvc_seconds, 1),
            "seconds": round(self.seconds, 1),
            "disk": self.disk,
            "disks": [
                {"folder": str(space.folder), "needed": space.needed, "free": space.free} for space in self.spaces
            ],
            "links": self.links,
            "memory": self.memory,
            "memory_available": self.memory_available,
            "problems": self.problems(),
        }


def make(config: Config, data: Path = paths.DATA, anew: bool = False) -> Plan:
    """Plan a run of the whole pipeline with the present parameters, data and machine.

    Parameters
    ----------
    config
        The parameters.
    data
        Folder of the image set.
    anew
        Plan as if nothing were done or cached.

    Raises
    ------
    PipelineError
        If data are missing, or DVC cannot say what is done.
    """
    states: States = {} if anew else stage_states.states()
    # The imports take seconds, which the check of the disk, in every stage, must not.
    from exemplarcnn.networks.saved import pick_device
    from exemplarcnn.processor import multiplies_bfloat16

    works = _works(config, data, states, bfloat16=multiplies_bfloat16(pick_device(config.machine.device)))
    to_run = [work for work in works if states.get(work.stage, TO_RUN) == TO_RUN]
    costs = measured_costs({operation for work in to_run for operation, _ in work.parts}, config, data)
    links = lineage.cache_link()
    lines = _lines(works, states, links, costs)
    hashed = sum(line.work.outs for line in lines if line.state == TO_RUN)
    return Plan(lines, hashed * costs[Hash()], links, _spaces(lines, links), memory_available())


def _lines(works: list[Work], states: States, links: str, costs: dict[Operation, float] | None = None) -> list[Line]:
    """Return a line for each stage; without costs, its time is 0."""
    sizes = _sizes_here() if links == "copy" else {}
    lines = []
    for work in works:
        state = states.get(work.stage, TO_RUN)
        parts: dict[str, float] = defaultdict(float)
        if state == TO_RUN and costs is not None:
            for operation, count in work.parts:
                parts[operation.title] += costs[operation] * count
        # DVC removes earlier results, of which the cache keeps its copies; a set that is being drawn has its space.
        copy = max(0, work.outs - sizes.get(work.stage, 0)) if links == "copy" and state != DONE else 0
        stored = work.outs if state == TO_RUN else 0
        begun = min(_begun(work.stage), work.outs) if state == TO_RUN else 0
        here, there = (copy - begun, stored) if copy >= begun else (copy, max(0, stored - begun))
        lines.append(Line(work, state, dict(parts), here, there))
    return lines


def _sizes_here() -> dict[str, int]:
    """Return by stage the bytes of its results in this folder that are in DVC's cache, too."""
    entries = lineage.lock_entries()
    return {
        stage: sum(out.get("size", 0) for out in entry.get("outs", []) if Path(out["path"]).exists())
        for stage, entry in entries.items()
    }


def _begun(stage: str) -> int:
    """Return the bytes that unfinished results have taken already."""
    kind, _, variant = stage.partition("@")
    if kind not in ("surrogate", "embed"):
        return 0
    return sum(file.stat().st_size for file in (paths.WORK / kind / variant).rglob("*") if file.is_file())


def _spaces(lines: list[Line], links: str) -> list[Space]:
    """Return the disks that take the results: one, or two if DVC's cache is on another."""
    scratch = max((line.work.scratch for line in lines if line.state == TO_RUN), default=0)
    here, there = sum(line.here for line in lines) + scratch, sum(line.there for line in lines)
    cache = lineage.cache_folder()
    cache = next(folder for folder in (cache, *cache.parents) if folder.exists())
    folder = Path()
    if links in ("hardlink", "reflink") or cache.stat().st_dev == folder.stat().st_dev:
        return [Space(folder, here + there, shutil.disk_usage(folder).free)]
    return [Space(place, size, shutil.disk_usage(place).free) for place, size in ((folder, here), (cache, there))]


def _works(config: Config, data: Path, states: States, at_once: bool = False, bfloat16: bool = True) -> list[Work]:
    held = Holdings.of(data, config, at_once)
    made = [name for name in config.variants.tables if _makes(name, config, states) == DONE]
    return Works(config, held, listed(config, held, made), bfloat16).all()


def _makes(table: str, config: Config, states: States) -> str:
    """Return the state of the stage that makes a class table."""
    variants = config.variants
    kind = "seed" if table in variants.seed else "group" if table in variants.group else "regroup"
    return states.get(f"{kind}@{table}", TO_RUN)


def measured_costs(operations: Iterable[Operation], config: Config, data: Path) -> dict[Operation, float]:
    """Return the seconds that each operation takes once."""
    from exemplarcnn.networks.saved import pick_device
    from exemplarcnn.planning.measuring import Bench, measure

    use_threads(config.machine.threads * config.machine.processes)
    bench = Bench(config, data, pick_device(config.machine.device))
    found: dict[Operation, float] = {}
    for operation in tqdm([Hash(), *sorted(operations, key=repr)], desc="measuring", unit="operation"):
        found[operation] = measure(operation, bench)
    return found


def memory_available() -> int:
    """Return the bytes of memory that this process can still get, also within a container's limit."""
    found = int(psutil.virtual_memory().available)
    limit, used, parts = (CGROUP / name for name in ("memory.max", "memory.current", "memory.stat"))
    try:
        # Pages of files that nobody uses now are given back when they are needed.
        given_back = int(dict(line.split() for line in parts.read_text().splitlines())["inactive_file"])
        return min(found, int(limit.read_text()) - int(used.read_text()) + given_back)
    except (OSError, ValueError, KeyError):  # no container, or one without a limit, "max"
        return found


def check_disk(config: Config, data: Path = paths.DATA) -> None:
    """Refuse a run whose results cannot fit on the disk.

    Only what `dvc repro` or `dvc exp run` was asked for counts; a stage that somebody starts alone is not checked. This
    takes time only if the disk is nearly too small.

    Raises
    ------
    PlanError
        If bytes are missing; the message says how many.
    """
    try:
        works = _works(config, data, {}, at_once=True)
        whole = 2 * sum(work.outs for work in works) + max(work.scratch for work in works)
    except DataError:  # the stage that needs the data says so
        return
    if (
        not Space(Path(), whole, shutil.disk_usage(Path()).free).missing
        or (targets := stage_states.requested()) is None
    ):
        return
    states, links = stage_states.states(targets), lineage.cache_link()
    works = [work for work in _works(config, data, states) if work.stage in states]
    for space in _spaces(_lines(works, states, links), links):
        if space.missing:
            raise PlanError(f"cannot run the pipeline: {space.problem(links)}")


def timed(plan: Plan) -> str:
    """Return when a run that starts now will end, in local time."""
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(time.time() + plan.seconds))
