"""Kill stages in the middle, run them again, and compare what they make with what they made before.

    python benchmarks/killed.py FOLDER                   # FOLDER is the --work of stl10.py, which has run there
    python benchmarks/killed.py FOLDER --only STAGE ...
    python benchmarks/killed.py FOLDER --seconds 60      # leaves shorter stages out (default 10)

Each stage runs once more on the results of the others, without DVC's cache of runs. Somewhere between a third and two
thirds of the time that it took, it is killed with SIGKILL, with the processes that it started, and DVC. Then it runs
again, and may go on with what the killed one had finished. Its results must have the hashes that they had before.
"took" and "again" are the seconds of the whole run, and of the run after the kill.

What a stage has shown is kept in FOLDER: the same command goes on after an interruption. A stage that was interrupted
between the two runs is not killed again.
"""

import argparse
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

import pandas as pd
import psutil

import _times
from _common import Workspace, finish
from exemplarcnn.files import read_json, write_json
from exemplarcnn.tracking import timings

FILE = "killed.json"
COLUMNS = ("took", "killed after", "left work", "again", "same")


def hashes(workspace: Workspace) -> dict[str, dict[str, str]]:
    """Return the hash of each result of each stage, from dvc.lock."""
    stages = _times.locked(workspace)
    return {stage: {out["path"]: out["md5"] for out in entry["outs"]} for stage, entry in stages.items()}


def begun(started: subprocess.Popen[bytes]) -> bool:
    """Wait until DVC has started the stage; say whether it has, before it ended."""
    while started.poll() is None:
        for child in family(started)[1:]:
            with suppress(psutil.NoSuchProcess):  # it has just ended
                if "exemplarcnn.stages" in " ".join(child.cmdline()):
                    return True
        time.sleep(0.05)
    return False


def family(started: subprocess.Popen[bytes]) -> list[psutil.Process]:
    """Return a process and its descendants."""
    first = psutil.Process(started.pid)
    return [first, *first.children(recursive=True)]


def kill(started: subprocess.Popen[bytes], seconds: float) -> bool:
    """Kill a process and its descendants after some seconds; say whether it still ran."""
    try:
        started.wait(seconds)
    except subprocess.TimeoutExpired:
        stopped: list[psutil.Process] = []
        # Stopped first: none may see another one end, or start new ones.
        while new := [process for process in family(started) if process not in stopped]:
            for process in new:
                send(process, signal.SIGSTOP)
            stopped += new
        for process in stopped:
            send(process, signal.SIGKILL)
        started.wait()
        while any(map(lives, stopped)):
            time.sleep(0.01)
        return True
    return False


def send(process: psutil.Process, number: signal.Signals) -> None:
    """Send a signal to a process, which may have ended."""
    with suppress(psutil.NoSuchProcess):
        process.send_signal(number)


def lives(process: psutil.Process) -> bool:
    """Say whether a process has not ended; one that no parent has asked for has, too."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def check(workspace: Workspace, stage: str, state: dict[str, dict[str, Any]]) -> None:
    """Kill a stage, run it again, and note whether its results are as before."""
    notes = read_json(workspace.folder / timings.PLACE)
    words = ("repro", "-q", "--force", "--single-item", "--no-run-cache", stage)
    line = state[stage]
    if "killed after" not in line:
        after = round(line["took"] * random.Random(stage).uniform(1 / 3, 2 / 3), 1)
        started = workspace.start(*words)
        if not (begun(started) and kill(started, after)):
            sys.exit(f"error: {stage} ended with status {started.returncode} within {after} s, before it was killed")
        line |= {"killed after": after, "left work": stage in _times.unfinished(workspace)}
        write_json(workspace.folder / FILE, state)
    workspace.dvc(*words)
    line |= {"again": workspace.took()[stage]["seconds"], "same": hashes(workspace)[stage] == line["hashes"]}
    write_json(workspace.folder / FILE, state)
    write_json(workspace.folder / timings.PLACE, notes)  # of whole runs


def never(data: Path) -> NoReturn:
    """Refuse to fill a folder in which nothing has run."""
    sys.exit(f"error: nothing has run in {data.parent}; run stl10.py with --work {data.parent} first")


def main() -> None:
    """Run the check."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="folder in which stl10.py has run")
    parser.add_argument("--only", nargs="+", metavar="STAGE", help="only these stages")
    parser.add_argument("--seconds", type=float, default=10, help="leave out stages that took less (default 10)")
    arguments = parser.parse_args()
    record = arguments.folder / "origin.json"
    if not record.exists():
        never(arguments.folder.resolve() / "data")
    workspace = Workspace(arguments.folder, read_json(record), never)
    file = workspace.folder / FILE
    state: dict[str, dict[str, Any]] = read_json(file) if file.exists() else {}
    took = {stage: entry["seconds"] for stage, entry in _times.whole(workspace).items()}
    if unknown := set(arguments.only or []) - set(took):
        parser.error(f"no {', '.join(sorted(unknown))} has run in {arguments.folder}; it has {', '.join(took)}")
    names = arguments.only or [stage for stage, seconds in took.items() if seconds >= arguments.seconds]
    expected = hashes(workspace)
    for stage in names:
        if "same" not in state.setdefault(stage, {"took": took[stage], "hashes": expected[stage]}):
            print(f"{stage}, which took {took[stage]:.0f} s", flush=True)
            check(workspace, stage, state)
    lines = [{"stage": stage} | {key: state[stage][key] for key in COLUMNS} for stage in names]
    failed = [f"{line['stage']} made something else" for line in lines if not line["same"]]
    finish(
        pd.DataFrame(lines),
        "killed",
        failed,
        stages=[line | {"hashes": state[line["stage"]]["hashes"]} for line in lines],
    )


if __name__ == "__main__":
    main()
