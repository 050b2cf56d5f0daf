"""Measure what it is worth that freed memory stays with the process, where glibc would give it back to the system.

    python benchmarks/freed_memory.py            # about ten minutes
    python benchmarks/freed_memory.py --quick    # the two smallest, in half a minute

Each kind of work is done in processes of its own, in turns, once as stages do it (`threads.keep_freed_memory` before
anything is imported) and once without, on images of the embedded sample. Seconds are for one thing of its kind: a
patch, in one thread; an image or a step, in as many as there are cores. The better of two processes counts. Pages are
what the system gave for it, of 4 KiB. Memory is the largest that any process had of its own (anonymous memory).
"""

import argparse
import json
import os
import resource
import sys
from pathlib import Path
from typing import Any

import pandas as pd

from exemplarcnn import threads

ROUNDS, SECONDS = 2, 8.0
# What is done: the profile whose sizes it has, the operation of `exemplarcnn plan`, and its arguments.
WORK: dict[str, tuple[str, str, dict[str, Any]]] = {
    "patches of 32×32": ("core", "DrawPatch", {"pool": "unlabeled", "patch": 32}),
    "features, core": ("core", "Describe", {"patch": 32, "classes": 2_000}),
    "patches of 64×64": ("core", "DrawPatch", {"pool": "unlabeled", "patch": 64}),
    "patches of 96×96": ("core", "DrawPatch", {"pool": "unlabeled", "patch": 96}),
    "features, paper": ("paper", "Describe", {"patch": 32, "classes": 16_000}),
    "steps, core": ("core", "Step", {"patch": 32, "classes": 2_000}),
    "steps, paper": ("paper", "Step", {"patch": 32, "classes": 16_000}),
    "steps, paper, 96×96": ("paper", "Step", {"patch": 96, "classes": 2_000}),
    "steps, ResNet-50": ("bench", "ResNetStep", {}),
}


def child(name: str, kept: bool) -> None:
    """Do a kind of work and print its figures."""
    if kept:
        threads.keep_freed_memory()
    import torch

    from exemplarcnn.config import profiles
    from exemplarcnn.config.params import parse
    from exemplarcnn.determinism import use_threads
    from exemplarcnn.planning import measuring, operations

    profile, kind, arguments = WORK[name]
    config = parse(profiles.compose(profiles.PACKAGED, profile), f"profile {profile}")
    if kind == "Describe":
        arguments = arguments | {"params": config.features}
    use_threads(os.cpu_count() or 1)
    data = Path(__file__).resolve().parents[1] / "data"
    bench = measuring.Bench(config, data, torch.device("cpu"))
    measuring.SECONDS = SECONDS
    seconds_of = measuring._seconds

    def counted(work: Any, count: int = 1) -> float:
        calls = 0

        def again() -> None:
            nonlocal calls
            work()
            calls += 1

        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        found: float = seconds_of(again, count)
        pages = (resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) / calls / count
        print(json.dumps({"seconds": found, "pages": pages}))
        return found

    measuring._seconds = counted
    measuring.measure(getattr(operations, kind)(**arguments), bench)


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="the two smallest, once")
    parser.add_argument("--only", nargs="+", choices=WORK, help="these kinds of work")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        child(arguments.child[0], arguments.child[1] == "kept")
        return
    from _common import finish, watched

    lines = []
    for name in arguments.only or list(WORK)[: 2 if arguments.quick else None]:
        found: dict[str, list[dict[str, Any]]] = {"kept": [], "given back": []}
        for _ in range(1 if arguments.quick else ROUNDS):
            for way, runs in found.items():
                runs.append(watched(__file__, name, way))
        line: dict[str, Any] = {"work": name}
        for way, runs in found.items():
            best = min(runs, key=lambda run: run["seconds"])
            line |= {f"ms, {way}": 1000 * best["seconds"], f"pages, {way}": round(best["pages"])}
            line |= {f"MiB, {way}": round(max(run["peak_mib"] for run in runs))}
        line["times as fast"] = line["ms, given back"] / line["ms, kept"]
        print(f"{name}: {line['times as fast']:.2f} times as fast", file=sys.stderr, flush=True)
        lines.append(line)
    finish(pd.DataFrame(lines).round(3), "freed_memory", rows=lines)


if __name__ == "__main__":
    main()
