"""Put together what a run will cost: each stage's work, the time it takes here, and whether disk and memory suffice."""

import shutil
import time
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
from exemplarcnn.tracking import lineage
from exemplarcnn.tracking.lineage import CACHED, DONE, TO_RUN, States

# For what is not counted, such as pictures, the MLflow store, unfinished files: bytes, and a share of the results.
RESERVE, SHARE = 50_000_000, 0.05


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
    seconds
        How long it will take; 0 unless it has to run.
    disk
        Bytes that it will add to the disk: its results, and their copies in DVC's cache if that is no link.
    """

    work: Work
    state: str
    seconds: float
    disk: int


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
    disk_free, memory_available
        Bytes that there are.
    """

    lines: list[Line]
    dvc_seconds: float
    links: str
    disk_free: int
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
        found = []
        if missing := missing_bytes(self.disk, self.disk_free):
            found.append(_too_small(self.disk, self.disk_free, missing, self.links))
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
                    "outs": line.work.outs,
                    "disk": line.disk,
                    "memory": line.work.memory,
                }
                for line in self.lines
            ],
            "dvc_seconds": round(self.dvc_seconds, 1),
            "seconds": round(self.seconds, 1),
            "disk": self.disk,
            "disk_free": self.disk_free,
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
    states: States = {} if anew else lineage.states()
    works = _works(config, data, states)
    to_run = [work for work in works if states.get(work.stage, TO_RUN) == TO_RUN]
    costs = measured_costs({operation for work in to_run for operation, _ in work.parts}, config, data)
    links = lineage.cache_link()
    lines = []
    for work in works:
        state = states.get(work.stage, TO_RUN)
        seconds = sum(costs[operation] * count for operation, count in work.parts) if state == TO_RUN else 0.0
        lines.append(Line(work, state, seconds, _disk(work, state, links)))
    hashed = sum(line.work.outs for line in lines if line.state == TO_RUN)
    return Plan(lines, hashed * costs[Hash()], links, shutil.disk_usage(Path()).free, memory_available())


def _works(config: Config, data: Path, states: States) -> list[Work]:
    held = Holdings.of(data, config)
    made = [name for name in config.variants.tables if _makes(name, config, states) == DONE]
    return Works(config, held, listed(config, held, made)).all()


def _makes(table: str, config: Config, states: States) -> str:
    """Return the state of the stage that makes a class table."""
    variants = config.variants
    kind = "seed" if table in variants.seed else "group" if table in variants.group else "regroup"
    return states.get(f"{kind}@{table}", TO_RUN)


def _disk(work: Work, state: str, links: str) -> int:
    """Return how many bytes a stage will add to the disk."""
    here = {DONE: 0, CACHED: 0, TO_RUN: 1}[state]
    if links == "copy":
        here += state != DONE
    return here * work.outs


def measured_costs(operations: Iterable[Operation], config: Config, data: Path) -> dict[Operation, float]:
    """Return the seconds that each operation takes once."""
    # The imports take seconds, which the check of the disk, in every stage, must not.
    from exemplarcnn.networks.saved import pick_device
    from exemplarcnn.planning.measuring import Bench, measure

    use_threads(config.machine.threads)
    bench = Bench(config, data, pick_device(config.machine.device))
    found: dict[Operation, float] = {}
    for operation in tqdm([Hash(), *sorted(operations, key=repr)], desc="measuring", unit="operation"):
        found[operation] = measure(operation, bench)
    return found


def memory_available() -> int:
    """Return the bytes of memory that this process can still get, also within a container's limit."""
    found = int(psutil.virtual_memory().available)
    limit, used = Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")
    try:
        return min(found, int(limit.read_text()) - int(used.read_text()))
    except (OSError, ValueError):  # none, or "max"
        return found


def missing_bytes(needed: int, free: int) -> int:
    """Return how many bytes a disk lacks; 0 if it has enough."""
    return max(0, round((1 + SHARE) * needed) + RESERVE - free) if needed else 0


def _too_small(needed: int, free: int, missing: int, links: str) -> str:
    copies = ""
    if links == "copy":
        copies = ", or let DVC link instead of copying (`dvc config cache.type hardlink,symlink`), which halves it"
    return (
        f"the results will take {needed:,} bytes, and {Path().absolute()} has {free:,} free: {missing:,} bytes are "
        f"missing; free some space (`dvc gc -w` drops results of other parameters){copies}"
    )


def check_disk(config: Config, data: Path = paths.DATA) -> None:
    """Refuse a run whose results cannot fit on the disk.

    Only what `dvc repro` or `dvc exp run` was asked for counts; a stage that somebody starts alone is not checked. This
    takes time only if the disk is nearly too small.

    Raises
    ------
    PlanError
        If bytes are missing; the message says how many.
    """
    free = shutil.disk_usage(Path()).free
    try:
        whole = 2 * sum(work.outs for work in _works(config, data, {}))
    except DataError:  # the stage that needs the data says so
        return
    if not missing_bytes(whole, free) or (targets := lineage.requested()) is None:
        return
    states, links = lineage.states(targets), lineage.cache_link()
    works = [work for work in _works(config, data, states) if work.stage in states]
    needed = sum(_disk(work, states[work.stage], links) for work in works)
    if missing := missing_bytes(needed, free):
        raise PlanError(f"cannot run the pipeline: {_too_small(needed, free, missing, links)}")


def timed(plan: Plan) -> str:
    """Return when a run that starts now will end, in local time."""
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(time.time() + plan.seconds))
