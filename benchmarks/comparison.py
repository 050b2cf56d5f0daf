"""Repeat the paper's comparison on real images with several seeds, with intervals over seeds.

    python benchmarks/comparison.py FOLDER --stand-in --images OTHER                # three seeds; hours on two cores
    python benchmarks/comparison.py FOLDER --stand-in --images OTHER --quick        # profile `tiny_bench`, some minutes

Runs profile `bench`, without its residual networks, once per seed (FOLDER, --stand-in and --images are those of
stl10.py). Each seed draws everything anew: images, patches, weights, order. Each row has its accuracy, the mean over
the seeds and that of each; and its gain over ExemplarCNN of the same seed, with a 95 % percentile interval from a
bootstrap over seeds and test images together. Run the same command again to continue where it stopped.
"""

import argparse
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from _common import ROOT, Workspace, bootstrap_seeds, evaluated, finish
from exemplarcnn.config import profiles
from exemplarcnn.config.params import parse
from exemplarcnn.data import stl10
from exemplarcnn.data.stl10_folder import binary_folder
from exemplarcnn.evaluation.intervals import gain
from stl10 import fill, suit

BASELINE = "baseline"


def suited(values: dict[str, Any], pool_size: int, changed: list[str]) -> None:
    """Suit a profile to a pool, and note what that changed."""
    changed.extend(suit(values, pool_size))


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="STL-10's binary files")
    parser.add_argument("--stand-in", action="store_true", help="make a pool and folds from fixed seeds")
    parser.add_argument("--images", type=Path, required=True, help="folder of other images")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="default 0 1 2")
    parser.add_argument("--threads", type=int, default=2, help="machine.threads (default 2; 1 if other work runs)")
    parser.add_argument("--quick", action="store_true", help="profile tiny_bench, a tenth of the images")
    parser.add_argument("--work", type=Path, help="where to run (default work/benchmark-comparison)")
    arguments = parser.parse_args()
    profile = "tiny_bench" if arguments.quick else "bench"
    values = parse(profiles.compose(ROOT / "conf", profile), f"profile {profile}")
    folder = binary_folder(arguments.folder).resolve()
    workspace = Workspace(
        arguments.work or ROOT / "work" / f"benchmark-comparison{'-quick' if arguments.quick else ''}",
        {
            "folder": str(folder),
            "stand_in": arguments.stand_in,
            "images": arguments.images and str(arguments.images.resolve()),
            "quick": arguments.quick,
        },
        lambda data: fill(data, folder, arguments.stand_in, arguments.images, arguments.quick),
    )
    pool_size = len(stl10.open_pool(workspace.folder / "data", "unlabeled"))
    found = {}
    for seed in arguments.seeds:
        workspace.use(profile, seed)
        changed: list[str] = []
        workspace.edit(partial(suited, pool_size=pool_size, changed=changed))
        workspace.edit(lambda values: values["machine"].update(threads=arguments.threads))
        begin = time.monotonic()
        for name in values.variants.evaluate:
            found[name, seed] = evaluated(workspace, name)
            print(f"seed {seed}, {name}: {(time.monotonic() - begin) / 60:.1f} minutes", flush=True)
    print("\n".join(changed))
    lines = []
    for name in values.variants.evaluate:
        mine, start = ([found[row, seed]["right"] for seed in arguments.seeds] for row in (name, BASELINE))
        gains = np.stack([gain(one, other) for one, other in zip(mine, start, strict=True)])
        low, high = bootstrap_seeds(gains, 0)
        accuracies = [100 * float(one.mean()) for one in mine]
        line = {"row": name, "accuracy": np.mean(accuracies)}
        line |= {f"seed {seed}": accuracy for seed, accuracy in zip(arguments.seeds, accuracies, strict=True)}
        line |= {"gain": gains.mean(), "low": low, "high": high}
        lines.append(line | {key: int(found[name, arguments.seeds[0]][key]) for key in ("images", "steps")})
    table = pd.DataFrame(lines).round(2)
    options = {"profile": profile, "threads": arguments.threads, "changed": changed, "stand_in": arguments.stand_in}
    finish(table, "comparison", **options, seeds=arguments.seeds, rows=table.to_dict("records"))


if __name__ == "__main__":
    main()
