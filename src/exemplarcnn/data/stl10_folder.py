"""STL-10's binary files as arrays, for use in your own code."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from exemplarcnn.data import stl10
from exemplarcnn.data.types import DataError, Pixels

BINARY_FOLDER = "stl10_binary"  # what the official archive unpacks to
REQUIRED = (*stl10.LABELLED_FILES, "unlabeled_X.bin")


@dataclass(frozen=True, eq=False)
class STL10:
    """An image set in STL-10's layout.

    Images are views of memory-mapped files: (n, side, side, 3) uint8, read-only, read from the disk when they are
    used. STL-10 has 5,000 training, 8,000 test and 100,000 unlabelled images of 96×96, ten folds of 1,000 and ten
    classes.

    Attributes
    ----------
    train_images, test_images, unlabeled_images
        The images.
    train_labels, test_labels
        (n,) int64, from 0.
    folds
        Ten arrays of indices into the training images, int64.
    class_names
        In the order of the labels.
    """

    train_images: Pixels
    train_labels: NDArray[np.int64]
    test_images: Pixels
    test_labels: NDArray[np.int64]
    unlabeled_images: Pixels
    folds: tuple[NDArray[np.int64], ...]
    class_names: tuple[str, ...]


def binary_folder(folder: Path) -> Path:
    """Return the folder with the binary files, this one or its ``stl10_binary``; DataError if neither has them."""
    for candidate in (folder, folder / BINARY_FOLDER):
        if any((candidate / name).is_file() for name in ("train_X.bin", "unlabeled_X.bin")):
            return candidate
    raise DataError(
        f"{folder}: found no {REQUIRED[0]} there or in {BINARY_FOLDER}/, expected a folder with "
        f"{', '.join(REQUIRED)}; name the folder that holds them."
    )


def read_stl10(folder: str | Path) -> STL10:
    """Read STL-10, or a set in its layout, from its binary files (docs/method.md, section 1).

    Parameters
    ----------
    folder
        The folder with ``train_X.bin`` and its companions, or the one with ``stl10_binary`` in it.

    Returns
    -------
    STL10
        Images (n, side, side, 3) uint8, labels, folds and names of classes.

    Raises
    ------
    DataError
        If a file is missing or disagrees with another; the message says which.

    Examples
    --------
    >>> stl10 = read_stl10("data")  # doctest: +SKIP
    >>> stl10.train_images[stl10.folds[0]].shape  # doctest: +SKIP
    (1000, 96, 96, 3)
    """
    found = binary_folder(Path(folder))
    train, test, unlabeled = (stl10.open_pool(found, name).images for name in ("train", "test", "unlabeled"))
    return STL10(
        train,
        stl10.read_labels(found / "train_y.bin", len(train)),
        test,
        stl10.read_labels(found / "test_y.bin", len(test)),
        unlabeled,
        tuple(stl10.read_folds(found / "fold_indices.txt", len(train))),
        tuple(stl10.read_class_names(found / "class_names.txt")),
    )
