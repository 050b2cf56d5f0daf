"""Measure time and memory of `exemplarcnn data import` on many small photographs.

    python benchmarks/import_folder.py                   # 100,000 JPEGs of 64×64 in ten folders, some minutes
    python benchmarks/import_folder.py --images 5000

The images are crops of the embedded sample, each moved, mirrored and made brighter or darker by a generator that is
seeded with its number. They are imported into a temporary project with git and DVC. Reading time is what the bar `read`
shows. Import time and processor time are of the whole command, including `dvc add` of some gigabytes; other work on the
machine hardly changes processor time. Memory is the peak of the anonymous memory of all processes together. Linux only.
"""

import argparse
import contextlib
import os
import pty
import re
import resource
import subprocess
import sys
import tempfile
import termios
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import yaml
from PIL import Image
from tqdm import tqdm

from _common import ROOT, finish, peak_anonymous
from exemplarcnn.config import profiles
from exemplarcnn.data import stl10
from exemplarcnn.data.types import Pool

SIDE, CLASSES = 64, 10


def draw(folder: Path, count: int, pool: Pool) -> None:
    """Write JPEG files into ten folders."""
    for name in range(CLASSES):
        (folder / f"class {name}").mkdir(parents=True)
    for number in tqdm(range(count), desc="draw", unit="image"):
        draws = np.random.default_rng(number)
        top, left = draws.integers(0, stl10.SIDE - SIDE, 2)
        pixels = pool[int(draws.integers(len(pool)))][top : top + SIDE, left : left + SIDE]
        pixels = pixels[:, ::-1] if draws.random() < 0.5 else pixels
        lit = np.clip(pixels * draws.uniform(0.6, 1.2) + draws.uniform(-20, 20), 0, 255).astype(np.uint8)
        Image.fromarray(lit).save(folder / f"class {number % CLASSES}" / f"{number}.jpg", quality=90)


def _all(terminal: int) -> str:
    """Read what comes from a terminal until its other end is closed."""
    parts = []
    with contextlib.suppress(OSError), os.fdopen(terminal, "rb", buffering=0) as file:
        while part := file.read(1 << 16):
            parts.append(part)
    return b"".join(parts).decode()


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=100_000, help="number of images (default 100,000)")
    parser.add_argument("--workers", type=int, default=2, help="processes (machine.workers)")
    parser.add_argument("--work", type=Path, help="where the temporary folder goes (10 GB for 100,000 images)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.work) as temporary:
        project, source = Path(temporary, "project"), Path(temporary, "photographs")
        draw(source, arguments.images, stl10.open_pool(ROOT / "data", "unlabeled"))
        project.mkdir()
        for command in (["git", "init", "-q"], [sys.executable, "-m", "dvc", "init", "-q"]):
            subprocess.run(command, cwd=project, check=True)
        values = profiles.compose(ROOT / "conf", "own")
        values["machine"]["workers"] = arguments.workers
        (project / "params.yaml").write_text(yaml.safe_dump(values, sort_keys=False))
        words = [sys.executable, "-m", "exemplarcnn.cli", "data", "import", str(source)]
        begin, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
        # Progress bars are drawn only on a terminal.
        terminal, end = pty.openpty()
        termios.tcsetwinsize(end, (24, 120))
        with ThreadPoolExecutor(1) as reader, subprocess.Popen(words, cwd=project, stderr=end, text=True) as process:
            os.close(end)
            bars = reader.submit(_all, terminal)
            peak = peak_anonymous(process, 0.1)
            seconds, after = time.monotonic() - begin, resource.getrusage(resource.RUSAGE_CHILDREN)
            said = bars.result()
        if process.returncode:
            sys.exit(f"error: the import failed: {said[-2000:]}")
        (minutes, rest) = re.findall(r"read photographs: 100%.*?\[(\d+):(\d+)<", said)[-1]
    reading = max(1, 60 * int(minutes) + int(rest))
    rate = arguments.images / reading
    row = {
        "images": arguments.images,
        "workers": arguments.workers,
        "reading_seconds": reading,
        "images_a_second": round(rate),
        "a_process": round(rate / arguments.workers),
        "import_seconds": round(seconds, 1),
        "processor_seconds": round(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, 1),
        "peak_anonymous_mib": round(peak / 2**20),
    }
    finish(pd.DataFrame([row]), "import_folder", **row)


if __name__ == "__main__":
    main()
