"""Small image sets and projects with DVC, for the tests of this folder."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import yaml
from PIL import Image

from exemplarcnn.data.stl10 import write_class_names, write_folds, write_images, write_labels


def image_set(folder: Path, seed: int) -> Path:
    """Write a complete small set with 10 train, 4 test and `seed` unlabelled images."""
    folder.mkdir(parents=True)
    for split, count in {"train": 10, "test": 4, "unlabeled": seed}.items():
        pixels = np.random.default_rng(seed).integers(0, 256, (count, 96, 96, 3), dtype=np.uint8)
        write_images(folder / f"{split}_X.bin", pixels)
    write_labels(folder / "train_y.bin", range(10))
    write_labels(folder / "test_y.bin", [0, 1, 2, 3])
    write_folds(folder / "fold_indices.txt", [[fold, (fold + 1) % 10] for fold in range(10)])
    write_class_names(folder / "class_names.txt", list("abcdefghij"))
    return folder


def add_other(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / "other" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 3), (len(name), 0, 0)).save(path)


def snapshot(folder: Path) -> dict[str, bytes]:
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def run(root: Path, *command: str) -> str:
    if command[0] == "dvc":
        command = (sys.executable, "-m", *command)
    return subprocess.run(command, cwd=root, check=True, capture_output=True, text=True).stdout


def out(root: Path) -> dict[str, object]:
    (only,) = yaml.safe_load((root / "data.dvc").read_text())["outs"]
    assert isinstance(only, dict)
    return only
