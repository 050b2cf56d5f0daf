"""Read damaged image files: each must be read or refused with a reason, and nothing may be executed.

    python benchmarks/fuzz_images.py            # 20,000 files, some minutes on two cores
    python benchmarks/fuzz_images.py -n 1000 --seed 7

Sound files of every supported format, and files of others, are cut, changed in single bytes, or spliced from two.
Warnings count as errors. Ends with exit code 1 if any file made `exemplarcnn.data.decoding` raise anything but its own
error, gave pixels of another size than its header says, or made Python start a program.
"""

import argparse
import json
import random
import sys
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
from joblib import Parallel, cpu_count, delayed

from _common import ROOT, finish
from exemplarcnn.data import decoding

sys.path.append(str(ROOT))
from tests.picture_files import cut, flipped, foreign, sound, spliced

A_TASK = 250
STARTS = ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork", "os.forkpty", "pty.spawn")


def damaged(draw: random.Random, files: dict[str, bytes]) -> tuple[str, bytes]:
    """Draw a file and its damage; return the file's name and the damaged bytes."""
    name = draw.choice(sorted(files))
    content = files[name]
    for _ in range(draw.choice((1, 1, 1, 2, 3))):
        # Headers are short and matter most: half of all changes are near the beginning.
        near = draw.choice((1.0, min(1.0, 200 / max(1, len(content)))))
        match draw.choice(("cut", "flipped", "flipped", "spliced")):
            case "cut":
                content = cut(content, draw.random())
            case "flipped":
                count = draw.choice((1, 1, 2, 5, 20))
                content = flipped(content, [(near * draw.random(), draw.randrange(256)) for _ in range(count)])
            case "spliced":
                other = files[draw.choice(sorted(files))]
                content = spliced(content, other, near * draw.random(), draw.random())
    return name, content


def task(number: int, seed: int, count: int) -> list[dict[str, object]]:
    """Read some damaged files; return for each its kind, what became of it, and seconds."""
    draw = random.Random(f"{seed} {number}")
    files = sound() | foreign()
    started: list[str] = []
    reading = False
    sys.addaudithook(lambda event, _: started.append(event) if reading and event in STARTS else None)
    rows: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings(action="error"):
        file = Path(folder) / "damaged.jpg"
        for place in range(count):
            name, content = damaged(draw, files)
            file.write_bytes(content)
            row: dict[str, object] = {"kind": name.split()[0], "became": "read", "what": ""}
            began, reading = time.perf_counter(), True
            try:
                size = decoding.size(file)
                pixels, _ = decoding.read(file)
                if pixels.shape != (*size, 3) or pixels.dtype != np.uint8:
                    row |= {"became": "wrong", "what": f"{pixels.dtype} {pixels.shape}, its head says {size}"}
            except decoding.DecodingError:
                row["became"] = "named"
            except Exception as error:
                row |= {"became": "wrong", "what": repr(error)}
            reading = False
            if started:
                row |= {"became": "wrong", "what": f"started a program: {started.pop()}"}
            if row["what"]:
                row["what"] = f"task {number}, file {place}, {name}: {row['what']}"
            rows.append(row | {"seconds": time.perf_counter() - began})
    return rows


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-n", type=int, default=20_000, help="number of files (default 20,000)")
    parser.add_argument("--seed", type=int, default=0, help="seed of all draws (default 0)")
    arguments = parser.parse_args()
    counts = [min(A_TASK, arguments.n - first) for first in range(0, arguments.n, A_TASK)]
    began = time.perf_counter()
    # In worker processes: if a decoder crashes one, the run ends with an error that says so.
    found = Parallel(n_jobs=cpu_count())(
        delayed(task)(number, arguments.seed, count) for number, count in enumerate(counts)
    )
    table = pd.DataFrame([row for rows in found for row in rows])
    wrong = table.loc[table["became"] == "wrong", "what"].tolist()
    counted = pd.crosstab(table["kind"], table["became"]).reindex(columns=["read", "named", "wrong"], fill_value=0)
    counted.loc["all"] = counted.sum()
    finish(
        counted.reset_index(),
        "fuzz_images",
        seed=arguments.seed,
        files=len(table),
        wrong=len(wrong),
        seconds=round(time.perf_counter() - began, 1),
        slowest_file_s=round(float(table["seconds"].max()), 2),
    )
    if wrong:
        sys.exit("error: " + json.dumps(wrong[:20], indent=1))


if __name__ == "__main__":
    main()
