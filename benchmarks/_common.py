"""Share among benchmarks: a table for people, one line of JSON with every figure, and the machine it ran on."""

import json
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import psutil
import torch
import yaml
from numpy.typing import NDArray

from _locks import lock
from exemplarcnn import paths
from exemplarcnn.config import profiles
from exemplarcnn.data import image_set, stl10
from exemplarcnn.evaluation.intervals import bootstrap, gain
from exemplarcnn.evaluation.metrics import correct
from exemplarcnn.files import atomic_write, digest, digest_of, read_table
from exemplarcnn.launching.memory import anonymous
from exemplarcnn.processor import multiplies_bfloat16
from exemplarcnn.tracking import timings

ROOT = Path(__file__).resolve().parents[1]


def machine() -> dict[str, Any]:
    """Describe the machine: processor, cores, memory, whether it has instructions for bfloat16."""
    model = platform.processor()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line.split(":", 1)[1].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        model = names[0] if names else model
    pages = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    found = {"cpu": model, "cores": os.cpu_count(), "memory_gib": round(pages / 2**30, 1)}
    return found | {"bfloat16": multiplies_bfloat16(torch.device("cpu"))}


def arithmetic() -> list[Any]:
    """Return what else decides the last bits of results, and where bfloat16 is missing, more than those."""
    return [torch.__version__, multiplies_bfloat16(torch.device("cpu"))]


def peak_anonymous(process: subprocess.Popen[str], interval: float) -> int:
    """Watch a process and its descendants to its end; return the peak of their `anonymous` memory in bytes.

    ``interval`` is the time between looks, in seconds.
    """
    peak = 0
    while process.poll() is None:
        try:
            started = psutil.Process(process.pid)
            peak = max(peak, sum(map(anonymous, [started, *started.children(recursive=True)])))
        except psutil.NoSuchProcess:  # it has just ended
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


def finish(table: pd.DataFrame, name: str, failed: Sequence[str] = (), /, **figures: Any) -> None:
    """Print the table, then one line of JSON; exit with status 1 and say what is wrong, if something is."""
    print(table.to_string(index=False))
    print(json.dumps({"benchmark": name, "machine": machine(), **figures}))
    if failed:
        sys.exit(f"error: {'; '.join(failed)}")


class Workspace:
    """A separate folder in which `dvc repro` runs this checkout's pipeline on some data.

    The project's own data, results and MLflow store stay as they are. Work in an existing folder continues. One process
    at a time works in it.

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
        self._lock = lock(self.folder)
        record = self.folder / "origin.json"
        if record.exists() and (found := json.loads(record.read_text())) != origin:
            sys.exit(f"error: {self.folder} was made from {found}, not from {origin}; remove it, or change --work")
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
        self.dvc("config", "cache.type", "hardlink,symlink")
        record.write_text(json.dumps(origin))  # before `data.dvc`, which says that the folder is filled
        self.dvc("add", "-q", "data")

    def use(self, profile: str, seed: int) -> None:
        """Write params.yaml."""
        values = profiles.compose(self.folder / "conf", profile) | {"seed": seed}
        (self.folder / "params.yaml").write_text(yaml.safe_dump(values, sort_keys=False))

    def edit(self, change: Callable[[dict[str, Any]], None]) -> None:
        """Change params.yaml."""
        path = self.folder / "params.yaml"
        values = yaml.safe_load(path.read_text())
        change(values)
        path.write_text(yaml.safe_dump(values, sort_keys=False))

    def identity(self) -> str:
        """Return the hash of what results in the folder depend on: data, parameters, pipeline, code, arithmetic."""
        files = [self.folder / name for name in ("data.dvc", "params.yaml", "dvc.yaml")]
        found = digest(*files, *sorted((self.folder / "src").rglob("*.py")))
        return digest_of([found, arithmetic()])[:16]

    def code(self) -> str:
        """Return the hash of what results depend on besides params.yaml: data, pipeline, profiles, code, arithmetic."""
        folders = (("src", "*.py"), ("conf", "*.yaml"))
        files = [path for name, ending in folders for path in sorted((self.folder / name).rglob(ending))]
        found = digest(self.folder / "data.dvc", self.folder / "dvc.yaml", *files)
        return digest_of([found, arithmetic()])[:16]

    def dvc(self, *words: str) -> None:
        """Run a DVC command in the folder."""
        started = self.start(*words)
        if started.wait() != 0:
            raise subprocess.CalledProcessError(started.returncode, started.args)

    def start(self, *words: str) -> subprocess.Popen[bytes]:
        """Start a DVC command in the folder. It holds the folder's lock, too: it may outlive the benchmark."""
        # DVC's own lock names processes by their numbers, which others may have by now: by this folder's, none works.
        (self.folder / ".dvc/tmp/rwlock").unlink(missing_ok=True)
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
        environment = os.environ | {"PATH": path, "DVC_NO_ANALYTICS": "1"}
        environment |= {"MLFLOW_TRACKING_URI": f"sqlite:///{self.folder}/mlflow.db"}
        command = [sys.executable, "-m", "dvc", *words]
        return subprocess.Popen(command, cwd=self.folder, env=environment, pass_fds=[self._lock])

    def planned(self) -> dict[str, Any]:
        """Return what `exemplarcnn plan --anew --json` said before anything ran here with these parameters and data."""
        file = self.folder / f"plan-{digest(self.folder / 'data.dvc', self.folder / 'params.yaml')[:16]}.json"
        if not file.exists():
            words = [sys.executable, "-m", "exemplarcnn.cli", "plan", "--anew", "--json"]
            environment = os.environ | {"PYTHONPATH": "src"}
            done = subprocess.run(words, cwd=self.folder, env=environment, stdout=subprocess.PIPE, text=True)
            if not done.stdout:
                sys.exit("error: cannot plan the run; the reason is above")
            file.write_text(done.stdout)
        found: dict[str, Any] = json.loads(file.read_text())
        return found

    def took(self) -> dict[str, dict[str, Any]]:
        """Return what each stage took when it last ran in the folder: seconds, bytes of memory, bytes of results."""
        lock = yaml.safe_load((self.folder / "dvc.lock").read_text())["stages"]
        sizes = {stage: sum(out.get("size", 0) for out in entry["outs"]) for stage, entry in lock.items()}
        return {stage: entry | {"outs": sizes[stage]} for stage, entry in self.json(timings.PLACE).items()}

    def json(self, path: Path) -> Any:
        """Read a JSON file of the folder."""
        return json.loads((self.folder / path).read_text())


def result_file(workspace: Workspace, identity: str, name: str) -> Path:
    """Return where `evaluated` keeps what it finds."""
    return workspace.folder / "found" / identity / f"{name}.npz"


def evaluated(workspace: Workspace, name: str) -> dict[str, Any]:
    """Run the pipeline up to the evaluation of a row, with the parameters in the folder.

    What is found is kept apart from the pipeline's results, which the next parameters' results replace.

    Returns
    -------
    dict
        ``right``, (folds, test images) bool: what the row's classifiers get right. ``classes`` and ``images``
        that its network was trained on, and its ``steps``; 0 for a row without training.
    """
    file = result_file(workspace, workspace.identity(), name)
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
