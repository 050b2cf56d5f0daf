"""A small image set, and images of one colour, for the tests of this folder."""

from pathlib import Path

import numpy as np
from PIL import Image

from exemplarcnn.data.stl10 import write_class_names, write_folds, write_images, write_labels

NAMES = [f"class {number}" for number in range(10)]


def pixels(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 96, 96, 3), dtype=np.uint8)


def write_set(folder: Path) -> Path:
    """Write a set of 12 training, 5 test and 7 unlabelled images of noise in ten classes."""
    folder.mkdir()
    for seed, (split, count) in enumerate({"train": 12, "test": 5, "unlabeled": 7}.items()):
        write_images(folder / f"{split}_X.bin", pixels(count, seed))
    write_labels(folder / "train_y.bin", np.arange(12) % 10)
    write_labels(folder / "test_y.bin", [0, 9, 3, 3, 1])
    write_folds(folder / "fold_indices.txt", [[fold, fold + 1, 11] for fold in range(10)])
    write_class_names(folder / "class_names.txt", NAMES)
    return folder


def save(path: Path, size: tuple[int, int], mode: str = "RGB", colour: tuple[int, ...] | int | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, colour).save(path)
