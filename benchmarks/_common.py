"""Share among benchmarks: a table for people, one line of JSON with every figure, and the machine it ran on."""

import json
import os
import platform
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import psutil
import yaml
from numpy.typing import NDArray

from exemplarcnn import paths
from exemplarcnn.config import profiles
from exemplarcnn.data import image_set, stl10
from exemplarcnn.evaluation.intervals import bootstrap, gain
from exemplarcnn.evaluation.metrics import correct
from exemplarcnn.files import atomic_write, digest, read_table

ROOT = Path(__file__).resolve().parents[1]


def machine() -> dict[str, Any]:
    """Describe the machine: processor, cores, memory."""
    model = platform.processor()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line.split(":", 1)[1].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        model = names[0] if names else model
    pages = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {"cpu": model, "cores": os.cpu_count(), "memory_gib": round(pages / 2**30, 1)}


def anonymous(pid: int) -> int:
    """Return a process's anonymous memory (not pages of files) in bytes; 0 if it has just ended. Linux only."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon")), 0)


def peak_anonymous(process: subprocess.Popen[str], interval: float) -> int:
    """Watch a process and its descendants to its end; return the peak of their `anonymous` memory in bytes.

    ``interval`` is the time between looks, in seconds.
    """
    peak = 0
    while process.poll() is None:
        try:
            family = [process.pid, *(child.pid for child in psutil.Process(process.pid).children(recursive=True))]
            peak = max(peak, sum(anonymous(pid) for pid in family))
        except (OSError, psutil.NoSuchProcess):  # one has just ended
            pass
        time.sleep(interval)
    return peak


def watched(script: str, *words: str) -> dict[str, Any]:
    """Run ``script --child words`` in a process of its own; return the JSON of its last line, and ``peak_mib``."""
    with subprocess.Popen([sys.executable, script, "--child", *words], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        peak = peak_anonymous(process, 0.05)
        answer = process.stdout.read()
        if process.wait() != 0:
            sys.exit(f"error: {Path(script).name} failed in a process of its own; its error is above")
    figures: dict[str, Any] = json.loads(answer.splitlines()[-1])
    return figures | {"peak_mib": peak / 2**20}


def finish(table: pd.DataFrame, name: str, **figures: Any) -> None:
    """Print the table, then one line of JSON."""
    print(table.to_string(index=False))
    print(json.dumps({"benchmark": name, "machine": machine(), **figures}))


class Workspace:
    """A separate folder in which `dvc repro` runs this checkout's pipeline on some data.

    The project's own data, results and MLflow store stay as they are. Work in an existing folder continues.

    Parameters
    ----------
    folder
        The folder.
    origin
        What the image set is made from. A folder made from anything else is refused.
    fill
        Puts the image set into the folder that it gets; called once.
    """

    def __init__(self, folder: Path, origin: dict[str, Any], fill: Callable[[Path], object]):
        self.folder = folder.resolve()
        record = self.folder / "origin.json"
        if record.exists() and (found := json.loads(record.read_text())) != origin:
            sys.exit(f"error: {self.folder} was made from {found}, not from {origin}; remove it, or change --work")
        self.folder.mkdir(parents=True, exist_ok=True)
        ignore = shutil.ignore_patterns("__pycache__", "*.egg-info")
        for name in ("src", "conf"):
            shutil.copytree(ROOT / name, self.folder / name, dirs_exist_ok=True, ignore=ignore)
        shutil.copy(ROOT / "dvc.yaml", self.folder)
        if (self.folder / "data.dvc").exists():
            return
        # Every DVC command reads dvc.yaml, which needs parameters; any profile will do.
        self.use("tiny", 0)
        data = self.folder / "data"
        shutil.rmtree(data, ignore_errors=True)
        data.mkdir()
        fill(data)
        self.dvc("init", "--no-scm", "-q", "-f")
        self.dvc("config", "cache.type", "reflink,hardlink,copy")
        self.dvc("add", "-q", "data")
        record.write_text(json.dumps(origin))

    def use(self, profile: str, seed: int) -> None:
        """Write params.yaml."""
        values = profiles.compose(ROOT / "conf", profile) | {"seed": seed}
        (self.folder / "params.yaml").write_text(yaml.safe_dump(values, sort_keys=False))

    def edit(self, change: Callable[[dict[str, Any]], None]) -> None:
        """Change params.yaml."""
        path = self.folder / "params.yaml"
        values = yaml.safe_load(path.read_text())
        change(values)
        path.write_text(yaml.safe_dump(values, sort_keys=False))

    def identity(self) -> str:
        """Return the hash of what results in the folder depend on: data, parameters, pipeline, code."""
        files = [self.folder / name for name in ("data.dvc", "params.yaml", "dvc.yaml")]
        return digest(*files, *sorted((self.folder / "src").rglob("*.py")))[:16]

    def dvc(self, *words: str) -> None:
        """Run a DVC command in the folder."""
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
        environment = os.environ | {"PATH": path, "DVC_NO_ANALYTICS": "1"}
        environment |= {"MLFLOW_TRACKING_URI": f"sqlite:///{self.folder}/mlflow.db"}
        subprocess.run([sys.executable, "-m", "dvc", *words], cwd=self.folder, check=True, env=environment)

    def json(self, path: Path) -> Any:
        """Read a JSON file of the folder."""
        return json.loads((self.folder / path).read_text())


def evaluated(workspace: Workspace, name: str) -> dict[str, Any]:
    """Run the pipeline up to the evaluation of a row, with the parameters in the folder.

    What is found is kept apart from the pipeline's results, which the next parameters' results replace.

    Returns
    -------
    dict
        ``right``, (folds, test images) bool: what the row's classifiers get right. ``classes`` and ``images``
        that its network was trained on, and its ``steps``; 0 for a row without training.
    """
    file = workspace.folder / "found" / workspace.identity() / f"{name}.npz"
    if not file.exists():
        labels = stl10.read_labels(
            workspace.folder / paths.TEST_LABELS, image_set.check(workspace.folder / "data")["test"]
        )
        workspace.dvc("repro", "-q", f"evaluate@{name}")
        predictions = np.load(workspace.folder / paths.classifiers(name) / "predictions.npy", allow_pickle=False)
        kept: dict[str, Any] = {"classes": 0, "images": 0, "steps": 0}
        if (workspace.folder / (about := paths.surrogate_set(name) / "set.json")).exists():
            kept |= {key: workspace.json(about)[key] for key in ("classes", "images")}
            curve = read_table(workspace.folder / paths.learning_curve(name), integers=["step"])
            kept["steps"] = int(curve["step"].iloc[-1])
        file.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(file) as partial:
            np.savez(partial, right=correct(predictions, labels), **kept)
    with np.load(file, allow_pickle=False) as found:
        return dict(found)


class Watcher:
    """Watch the stages of a pipeline from outside: wall time and peak anonymous memory of each.

    A stage is a process whose command line contains ``exemplarcnn.stages.NAME [VARIANT]``, with its descendants.
    Linux only: elsewhere nothing is recorded.

    Parameters
    ----------
    interval
        Time between looks, in seconds.
    """

    def __init__(self, interval: float = 0.25):
        self.interval = interval
        self.stages: dict[str, dict[str, float]] = {}
        self._stop = threading.Event()

    @contextmanager
    def watching(self) -> Iterator["Watcher"]:
        """Watch while the block runs."""
        thread = threading.Thread(target=self._loop, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self._stop.set()
            thread.join()

    def _loop(self) -> None:
        while not self._stop.wait(self.interval):
            parents, anonymous, stage_of = _processes()
            totals: dict[str, float] = {}
            for pid, size in anonymous.items():
                # Only what this process started counts: another pipeline may be running.
                stage, ancestor = "", pid
                while ancestor in parents and ancestor != os.getpid():
                    stage = stage or stage_of.get(ancestor, "")
                    ancestor = parents[ancestor]
                if stage and ancestor == os.getpid():
                    totals[stage] = totals.get(stage, 0.0) + size
            now = time.monotonic()
            for stage, total in totals.items():
                seen = self.stages.setdefault(stage, {"first": now, "last": now, "peak_anonymous_mib": 0.0})
                seen["last"] = now
                seen["peak_anonymous_mib"] = max(seen["peak_anonymous_mib"], total)

    def report(self) -> dict[str, dict[str, float]]:
        """Return seconds and peak anonymous MiB of each stage, in the order in which they started."""
        return {
            stage: {
                "seconds": round(seen["last"] - seen["first"] + self.interval, 1),
                "peak_anonymous_mib": round(seen["peak_anonymous_mib"], 1),
            }
            for stage, seen in sorted(self.stages.items(), key=lambda item: item[1]["first"])
        }


def _processes() -> tuple[dict[int, int], dict[int, float], dict[int, str]]:
    """Return by process id: the parent, anonymous MiB, and (only for stages) the stage's name."""
    parents: dict[int, int] = {}
    anonymous: dict[int, float] = {}
    stage_of: dict[int, str] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            status = (folder / "status").read_text()
            words = (folder / "cmdline").read_bytes().decode(errors="replace").split("\0")
        except OSError:  # the process has ended meanwhile
            continue
        fields = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
        pid = int(folder.name)
        parents[pid] = int(fields["PPid"])
        anonymous[pid] = int(fields.get("RssAnon", "0 kB").split()[0]) / 1024
        if len(words) > 2 and words[1] == "-m" and words[2].startswith("exemplarcnn.stages."):
            stage_of[pid] = " ".join([words[2].removeprefix("exemplarcnn.stages."), *words[3:]]).strip()
    return parents, anonymous, stage_of


def bootstrap_difference(first: NDArray[np.bool_], second: NDArray[np.bool_], seed: int) -> tuple[float, float, float]:
    """Return by how many points the first variant beats the second, and the ends of the bootstrap interval."""
    gains = gain(first, second)[None]
    low, high = bootstrap(gains, seed)
    return float(gains.mean()), float(low[0]), float(high[0])


def bootstrap_seeds(gains: NDArray[np.float64], seed: int, rounds: int = 10_000) -> tuple[float, float]:
    """Return the ends of the 95 % percentile interval of a mean; the bootstrap resamples seeds and test images.

    Parameters
    ----------
    gains
        (seeds, test images), each row as `exemplarcnn.evaluation.intervals.gain` returns it.
    seed, rounds
        Seed of the bootstrap, and how often it draws.
    """
    draws = np.random.default_rng(seed)
    seeds, count = gains.shape
    means = [
        gains[draws.integers(seeds, size=seeds)].mean(axis=0)[draws.integers(count, size=count)].mean()
        for _ in range(rounds)
    ]
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)
