"""Measure by how much ExemplarCNN beats its controls on the embedded sample, for several seeds.

    python benchmarks/sample.py            # three seeds, some minutes each
    python benchmarks/sample.py --quick    # one seed, profile tiny

For each seed only the baseline is trained again, with everything drawn from that seed. It is compared with raw pixels
and with the same network before training. Intervals: 95 %, percentile bootstrap over test images of the mean difference
over the folds.
"""

import argparse
import shutil
from pathlib import Path

import numpy as np
import pandas as pd

from _common import ROOT, Workspace, bootstrap_difference, finish
from exemplarcnn import paths
from exemplarcnn.data import image_set, stl10
from exemplarcnn.evaluation.metrics import correct

CONTROLS = ("raw_pixels", "random_network")


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="default 0 1 2")
    parser.add_argument("--data", type=Path, default=ROOT / "data", help="image set tracked by DVC (default: data/)")
    parser.add_argument("--quick", action="store_true", help="one seed, profile tiny")
    parser.add_argument("--work", type=Path, help="where to run (default work/benchmark-sample-PROFILE)")
    arguments = parser.parse_args()
    profile, seeds = ("tiny", arguments.seeds[:1]) if arguments.quick else ("sample", arguments.seeds)
    workspace = Workspace(
        arguments.work or ROOT / "work" / f"benchmark-sample-{profile}",
        {"data": stl10.data_digest(arguments.data)},
        lambda data: shutil.copytree(arguments.data, data, dirs_exist_ok=True),
    )

    rows = []
    for seed in seeds:
        workspace.use(profile, seed)
        workspace.dvc("repro", "-q", *(f"evaluate@{name}" for name in ("baseline", *CONTROLS)))
        labels = stl10.read_labels(
            workspace.folder / paths.TEST_LABELS, image_set.check(workspace.folder / "data")["test"]
        )
        right = {
            name: correct(
                np.load(workspace.folder / paths.classifiers(name) / "predictions.npy", allow_pickle=False), labels
            )
            for name in ("baseline", *CONTROLS)
        }
        row: dict[str, float] = {"seed": seed, "baseline": 100 * float(right["baseline"].mean())}
        for control in CONTROLS:
            difference, low, high = bootstrap_difference(right["baseline"], right[control], seed)
            row |= {control: 100 * float(right[control].mean()), f"gain over {control}": difference}
            row |= {f"{control} low": low, f"{control} high": high}
        rows.append(row)
    finish(pd.DataFrame(rows).round(2), "sample", profile=profile, data=stl10.data_digest(arguments.data), rows=rows)


if __name__ == "__main__":
    main()
