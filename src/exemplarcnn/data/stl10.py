"""Read and write STL-10's binary layout: images, labels, folds, class names (docs/method.md, section 1).

Each pool is one file of raw pixels. :mod:`exemplarcnn.data.pools` reads folders of image files.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from exemplarcnn.data.types import DataError, Indices, Pixels
from exemplarcnn.files import atomic_write, read_json, read_mapping

SIDE = 96  # of STL-10's images, and of every set whose import.json gives no other
MIN_SIDE, MAX_SIDE = 32, 256
CLASSES = 10  # of STL-10; another set has as many as its class_names.txt names
MAX_CLASSES = 255  # a label is one byte, and 0 is none
FOLDS = 10
SPLITS = ("train", "test", "unlabeled")
LABELLED_FILES = ("train_X.bin", "train_y.bin", "test_X.bin", "test_y.bin", "class_names.txt", "fold_indices.txt")
OTHER_FILE = "other_X.bin"
IMPORT_FILE = "import.json"  # what `exemplarcnn data import` records about a set

FETCH = "fetch the data with `dvc pull data.dvc`, or install a complete set"
NO_LABELS = (
    "data/ has no labelled images, so nothing can be tested: run `exemplarcnn profile own_unlabelled`, which stops "
    "after features and clusters, or import a folder with a subfolder for each class"
)

Integers = npt.NDArray[np.int64]


class ImageFile:
    """An STL-10 ``*_X.bin`` file, memory-mapped (docs/method.md, section 1).

    Every image takes 3×side×side bytes, column-major inside each channel, so reading transposes it.

    Parameters
    ----------
    path : Path
        The binary file.
    side : int
        Side of its images in pixels. The file does not record it: `open_file` looks it up.

    Raises
    ------
    DataError
        If the file is missing, empty, or not a whole number of images.
    """

    def __init__(self, path: Path, side: int = SIDE):
        self.path, self.side = Path(path), side
        size, each = _size(self.path), 3 * side * side
        if size == 0 or size % each:
            raise DataError(
                f"{self.path}: found {size:,} bytes, expected a positive multiple of {each:,} "
                f"(one 3×{side}×{side} image); the file is damaged or not in STL-10's layout: {FETCH}."
            )
        shape = (size // each, 3, side, side)
        self._raw: Pixels = np.memmap(self.path, dtype=np.uint8, mode="r", shape=shape)

    def __reduce__(self) -> tuple[type["ImageFile"], tuple[Path, int]]:
        # A pickled memory map carries all of its pixels; worker processes map the file again instead.
        return ImageFile, (self.path, self.side)

    @property
    def images(self) -> Pixels:
        """All images, (n, side, side, 3) uint8: a view of the file, read-only, not C-contiguous."""
        return self._raw.transpose(0, 3, 2, 1)

    def __len__(self) -> int:
        return len(self._raw)

    def __getitem__(self, index: int) -> Pixels:
        """Return image `index`, (side, side, 3) uint8, C-contiguous; IndexError outside the file."""
        return np.array(self._raw[index].transpose(2, 1, 0), order="C")

    def read(self, index: int) -> tuple[Pixels, str]:
        """Return image `index`, and an empty remark."""
        return self[index], ""

    def size(self, index: int) -> tuple[int, int]:
        """Return the side twice: all images of a file have the same size."""
        return self.side, self.side

    def name(self, index: int) -> str:
        """Return an empty string: no image has a file of its own."""
        return ""

    def batch(self, indices: Indices) -> Pixels:
        """Return the images at `indices`, (n, side, side, 3) uint8, C-contiguous; IndexError outside the file."""
        chosen = self._raw[np.asarray(indices, dtype=np.int64)]
        return np.array(chosen.transpose(0, 3, 2, 1), order="C")


def open_pool(data: Path, name: str) -> ImageFile:
    """Open one of the three pools of STL-10's layout.

    Parameters
    ----------
    data : Path
        Folder in the layout of docs/method.md, section 1.
    name : str
        ``unlabeled``, ``train`` or ``test``. `exemplarcnn.data.pools.open_pool` opens the second pool, too.

    Raises
    ------
    DataError
        If there is no such pool, or its file is missing or damaged.
    """
    if name not in SPLITS:
        raise DataError(f"{data}: found no pool {name!r}, expected one of {', '.join(SPLITS)}; correct the name.")
    file = data / f"{name}_X.bin"
    if name != "unlabeled" and not file.exists() and not has_labels(data):
        raise DataError(NO_LABELS)
    return open_file(file)


def open_file(path: Path) -> ImageFile:
    """Open a ``*_X.bin`` file with the side of its set; a second pool's file has STL-10's side."""
    return ImageFile(path, SIDE if path.name == OTHER_FILE else side_of(path.parent))


def side_of(data: Path) -> int:
    """Return the side in pixels of a set's images; DataError if ``import.json`` gives an impossible one."""
    return read_side(read_import(data), str(data / IMPORT_FILE))


def read_side(about: Mapping[str, Any], origin: str) -> int:
    """Return the side that `side_entry` recorded in ``about``; DataError, naming the origin, if it is impossible."""
    return check_side(about.get("side", SIDE), origin)


def side_entry(side: int) -> dict[str, int]:
    """Return the entry that records a side; none for STL-10's, as before there were other sides."""
    return {} if side == SIDE else {"side": side}


def check_side(side: object, origin: str) -> int:
    """Return a side that images may have; DataError, naming its origin, for any other."""
    if isinstance(side, bool) or not isinstance(side, int) or not MIN_SIDE <= side <= MAX_SIDE:
        raise DataError(
            f"{origin}: found {side!r} for the side of images, expected a whole number of pixels from {MIN_SIDE} to "
            f"{MAX_SIDE}; give one of these."
        )
    return side


def read_import(data: Path) -> dict[str, Any]:
    """Return what `exemplarcnn data import` recorded about a set; an empty dict if it was not imported."""
    path = data / IMPORT_FILE
    if not path.is_file():
        return {}
    try:
        about = read_json(path)
    except ValueError as error:
        raise DataError(f"{path}: expected JSON, found something else ({error}); import the images again.") from error
    if not isinstance(about, dict):
        raise DataError(f"{path}: found {type(about).__name__}, expected an object; import the images again.")
    return about


def has_labels(data: Path) -> bool:
    """Tell whether a data folder has labelled images.

    True also for an empty folder, so that whoever opens it names the missing files.
    """
    return any((data / name).exists() for name in LABELLED_FILES) or not (data / "unlabeled_X.bin").exists()


def read_labels(path: Path, count: int) -> Integers:
    """Read a ``*_y.bin`` file: one byte per image, from 1 to the number of names in ``class_names.txt`` beside it.

    Parameters
    ----------
    path : Path
        The label file.
    count : int
        Number of images the labels belong to.

    Returns
    -------
    (count,) int64
        Labels from 0.

    Raises
    ------
    DataError
        If the file is missing, of another length, or has a label that belongs to no class.
    """
    size = _size(path)
    if size != count:
        raise DataError(
            f"{path}: found {size:,} labels, expected {count:,}, one byte for each image "
            "of the X file beside it; take both files from the same set."
        )
    labels = np.fromfile(path, dtype=np.uint8)
    names = path.with_name("class_names.txt")
    classes = len(read_class_names(names)) if names.exists() else CLASSES
    wrong = np.flatnonzero((labels < 1) | (labels > classes))
    if wrong.size:
        raise DataError(
            f"{path}: found label {labels[wrong[0]]} at index {wrong[0]} ({wrong.size} such labels), "
            f"expected 1..{classes}; number the classes from 1."
        )
    return labels.astype(np.int64) - 1


def read_folds(path: Path, train_count: int) -> list[Integers]:
    """Read the predefined folds: ten lines of zero-based indices into ``train``.

    Parameters
    ----------
    path : Path
        The file ``fold_indices.txt``.
    train_count : int
        Number of images in ``train``.

    Returns
    -------
    list of (fold_size,) int64
        The ten folds in file order; 1,000 indices each in STL-10, fewer in a smaller set.

    Raises
    ------
    DataError
        If there are not ten lines, or a line is empty, repeats an index, or has one outside ``train``.
    """
    lines = _text(path).rstrip().splitlines()
    if len(lines) != FOLDS:
        raise DataError(f"{path}: found {len(lines)} lines, expected {FOLDS}, one per fold; restore the file.")
    return [_fold(f"{path}, line {number}", line, train_count) for number, line in enumerate(lines, start=1)]


def _fold(place: str, line: str, train_count: int) -> Integers:
    expected = f"expected distinct indices from 0 to {train_count - 1}"
    advice = "correct the line, or take the file that belongs to this train_X.bin"
    words = line.split()
    if not words:
        raise DataError(f"{place}: found an empty fold, {expected}; {advice}.")
    seen: set[int] = set()
    for word in words:
        if not (word.isascii() and word.isdigit() and int(word) < train_count):
            raise DataError(f"{place}: found {word!r}, {expected}; {advice}.")
        if int(word) in seen:
            raise DataError(f"{place}: found index {int(word)} twice, {expected}; {advice}.")
        seen.add(int(word))
    return np.array([int(word) for word in words], dtype=np.int64)


def read_class_names(path: Path) -> list[str]:
    """Read the class names, one per line; DataError unless there are 2 to 255, all different."""
    names = [name for line in _text(path).splitlines() if (name := line.strip())]
    if not 2 <= len(names) <= MAX_CLASSES or len(set(names)) != len(names):
        raise DataError(
            f"{path}: found {len(names)} names, {len(set(names))} of them different, expected 2 to {MAX_CLASSES} "
            "different names, one per line; correct the file."
        )
    return names


def write_images(path: Path, images: Pixels, side: int = SIDE) -> None:
    """Write images, (n, side, side, 3) uint8 with n > 0, as an STL-10 ``*_X.bin`` file."""
    if images.dtype != np.uint8 or images.shape[1:] != (side, side, 3) or len(images) == 0:
        raise DataError(
            f"{path}: found images of shape {images.shape} and type {images.dtype}, "
            f"expected (n, {side}, {side}, 3) and uint8 with n > 0; convert them before writing."
        )
    stream_images(path, images)


def stream_images(path: Path, images: Iterable[Pixels]) -> None:
    """Write images, each (side, side, 3) uint8, one by one into an STL-10 ``*_X.bin`` file."""
    with atomic_write(path) as partial, partial.open("wb") as file:
        for image in images:
            file.write(image.transpose(2, 1, 0).tobytes())


def write_labels(path: Path, labels: Sequence[int] | npt.NDArray[np.integer]) -> None:
    """Write labels, (n,) integers from 0 to 254, as an STL-10 ``*_y.bin`` file (one more on disk)."""
    values = np.asarray(labels, dtype=np.int64)
    wrong = values[(values < 0) | (values >= MAX_CLASSES)]
    if wrong.size:
        raise DataError(f"{path}: found label {wrong[0]}, expected 0..{MAX_CLASSES - 1}; number the classes from 0.")
    with atomic_write(path) as partial, partial.open("wb") as file:
        file.write((values + 1).astype(np.uint8).tobytes())


def write_folds(path: Path, folds: Sequence[Indices]) -> None:
    """Write folds, each a sequence of indices into ``train``, one per line."""
    with atomic_write(path) as partial, partial.open("wb") as file:
        file.writelines((" ".join(str(int(index)) for index in fold) + "\n").encode() for fold in folds)


def write_class_names(path: Path, names: Sequence[str]) -> None:
    """Write class names, one per line, in the order of their labels; DataError for one that does not fit on a line."""
    if odd := [name for name in names if not name.strip() or name.splitlines() != [name.strip()]]:
        raise DataError(
            f"{path}: found the name {odd[0]!r}, expected a name on one line, without blanks at its ends; rename it."
        )
    with atomic_write(path) as partial, partial.open("wb") as file:
        file.writelines(f"{name}\n".encode() for name in names)


def data_digest(data: Path) -> str:
    """Return the data's hash from ``data.dvc``, or an empty string if DVC does not track the data."""
    pointer = data.with_suffix(".dvc")
    if not pointer.exists():
        return ""
    return str(read_mapping(pointer)["outs"][0]["md5"])


def _size(path: Path) -> int:
    if not path.is_file():
        raise DataError(f"{path}: found no such file, expected one of STL-10's layout; {FETCH}.")
    return path.stat().st_size


def _text(path: Path) -> str:
    _size(path)
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path}: found bytes that are not UTF-8 ({error}), expected text; restore the file."
        ) from error
