"""Images on disk: STL-10's binary layout and plain folders of image files (docs/method.md, section 1)."""

import copy
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypedDict

import numpy as np
import numpy.typing as npt
import yaml
from PIL import Image

from exemplarcnn.data import decoding
from exemplarcnn.data.decoding import IMAGE_SUFFIXES, DecodingError
from exemplarcnn.data.folder_walk import Passed, lines, no_image, readable, walk
from exemplarcnn.errors import PipelineError
from exemplarcnn.files import atomic_write, digest_of, read_json
from exemplarcnn.progress import tqdm

SIDE = 96  # of STL-10's images, and of those of every set that does not say another
LEAST_SIDE, MOST_SIDE = 32, 256
CLASSES = 10  # of STL-10; another set has as many as its class_names.txt names
MAX_CLASSES = 255  # a label is one byte, and 0 is none
FOLDS = 10
SPLITS = ("train", "test", "unlabeled")
LABELLED_FILES = ("train_X.bin", "train_y.bin", "test_X.bin", "test_y.bin", "class_names.txt", "fold_indices.txt")
OTHER_FILE = "other_X.bin"
IMPORT_FILE = "import.json"  # what `exemplarcnn data import` says of a set

STL10_COUNTS = {"train": 5_000, "test": 8_000, "unlabeled": 100_000}
STL10_MD5 = {  # smallest first, so that a foreign set is recognised before the large files are read
    "train_y.bin": "5a34089d4802c674881badbb80307741",
    "test_y.bin": "36f9794fa4beb8a2c72628de14fa638e",
    "train_X.bin": "918c2871b30a85fa023e0c44e0bee87f",
    "test_X.bin": "7f263ba9f9e0b06b93213547f721ac82",
    "unlabeled_X.bin": "5242ba1fed5e4be9e1e742405eb56ca4",
}
STL10_FOLDS_MD5 = "4bbf8cd098ab9f87fe03fbcb37c06b28"

FETCH = "fetch the data with `dvc pull data.dvc`, or install a complete set"
NO_LABELS = (
    "data/ has no labelled images, so that nothing can be tested: take profile `own_unlabelled`, which stops after "
    "features and clusters, or import a folder with a subfolder for each class"
)
_CHUNK = 1 << 22
_LARGE = 1 << 28

Pixels = npt.NDArray[np.uint8]
Integers = npt.NDArray[np.int64]
Indices = Sequence[int] | npt.NDArray[np.integer]


class DataError(PipelineError):
    """The data on disk is missing or inconsistent; the message says what to do about it."""


class Pool(Protocol):
    """A fixed, ordered collection of RGB images; the position of an image is its ``image_id``."""

    path: Path

    @property
    def passed_over(self) -> Sequence[Passed]:
        """What lies among the images and is none."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Pixels:
        """Return one image, (height, width, 3) uint8, C-contiguous."""
        ...

    def read(self, index: int) -> tuple[Pixels, str]:
        """Return one image, and what is to be said of how it was read; mostly nothing."""
        ...

    def size(self, index: int) -> tuple[int, int]:
        """Return an image's height and width, without reading its pixels."""
        ...

    def name(self, index: int) -> str:
        """Return the file of an image that has one to itself, relative to the pool, readable; else an empty string."""
        ...

    def batch(self, indices: Indices) -> Pixels:
        """Return several images of one size, (n, height, width, 3) uint8, C-contiguous."""
        ...


class Summary(TypedDict):
    """What `check` found: the set's name and side, images in each pool, and folds; no labels, no folds and names."""

    dataset: str
    side: int
    train: int
    test: int
    unlabeled: int
    other: int | None
    fold_sizes: list[int]
    folds_official: bool
    class_names: list[str]


class ImageFile:
    """An STL-10 ``*_X.bin`` file, memory-mapped (docs/method.md, section 1).

    Every image takes 3×side×side bytes, column-major inside each channel, so reading swaps its last two axes.

    Parameters
    ----------
    path : Path
        The binary file.
    side : int
        Of its images in pixels. Nothing in the file says it: `open_file` looks it up.

    Raises
    ------
    DataError
        If the file is missing, empty, or not a whole number of images.
    """

    passed_over: Sequence[Passed] = ()

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

    def __len__(self) -> int:
        return len(self._raw)

    def __getitem__(self, index: int) -> Pixels:
        """Return image `index`, (side, side, 3) uint8, C-contiguous; IndexError outside the file."""
        return np.array(self._raw[index].transpose(2, 1, 0), order="C")

    def read(self, index: int) -> tuple[Pixels, str]:
        """Return image `index`, of which there is nothing to say."""
        return self[index], ""

    def size(self, index: int) -> tuple[int, int]:
        """Return the side twice: all images of a file are of one size."""
        return self.side, self.side

    def name(self, index: int) -> str:
        """Return an empty string: the file has all images."""
        return ""

    def batch(self, indices: Indices) -> Pixels:
        """Return the images at `indices`, (n, side, side, 3) uint8, C-contiguous; IndexError outside the file."""
        chosen = self._raw[np.asarray(indices, dtype=np.int64)]
        return np.array(chosen.transpose(0, 3, 2, 1), order="C")


class ImageFolder:
    """A folder of image files of any size, at any depth, in the order of their relative paths.

    How a file is read: :mod:`exemplarcnn.data.decoding`.

    Parameters
    ----------
    path : Path
        The folder, walked as `exemplarcnn.data.walking` says. Files without a known image suffix are passed over.

    Attributes
    ----------
    files : list[Path]
        The image files; ``files[i]`` is image `i`.
    passed_over : list[Passed]
        What else is there, in the order of paths.

    Raises
    ------
    DataError
        If the folder is missing or holds no image.
    """

    def __init__(self, path: Path):
        self.path = Path(path)
        if not self.path.is_dir():
            raise DataError(
                f"{self.path}: found no such folder, expected one of image files; put some there with "
                f"`exemplarcnn data other PATH`, or {FETCH}."
            )
        found = walk(self.path)
        paths = {name: self.path / name for name in found.files}
        self.files = [file for file in paths.values() if _is_image(file)]
        others = [no_image(name) for name, file in paths.items() if not _is_image(file)]
        self.passed_over = sorted(found.passed_over + others, key=lambda each: each.path)
        if not self.files:
            there = "; ".join(lines(self.passed_over)[:3])
            raise DataError(
                f"{self.path}: found no image{there and f' ({there})'}, expected files ending in "
                f"{', '.join(sorted(IMAGE_SUFFIXES))}; put the images there, or remove the folder."
            )

    def _relative(self, file: Path) -> str:
        return file.relative_to(self.path).as_posix()

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> Pixels:
        """Return image `index` as RGB, (height, width, 3) uint8; DataError if it cannot be decoded."""
        return self.read(index)[0]

    def read(self, index: int) -> tuple[Pixels, str]:
        """Return image `index` likewise, and `decoding.TRANSPARENT` if parts of it were."""
        try:
            return decoding.read(self.files[index])
        except DecodingError as error:
            raise self._unreadable(index, error) from error

    def size(self, index: int) -> tuple[int, int]:
        """Return an image's height and width from its file's head; DataError if it has none."""
        try:
            return decoding.size(self.files[index])
        except DecodingError as error:
            raise self._unreadable(index, error) from error

    def _unreadable(self, index: int, error: DecodingError) -> DataError:
        return DataError(
            f"{self.files[index]}: expected a readable image, found one that fails to decode ({error}); "
            "replace the file or take it out of the folder."
        )

    def name(self, index: int) -> str:
        """Return an image's file, relative to the folder, as `exemplarcnn.data.folder_walk.readable` spells it."""
        return readable(self._relative(self.files[index]))

    def part(self, start: int, stop: int) -> "ImageFolder":
        """Return some of the images as a folder of their own: little to send to another process."""
        some = copy.copy(self)
        some.files, some.passed_over = self.files[start:stop], []
        return some

    def batch(self, indices: Indices) -> Pixels:
        """Return the images at `indices`, (n, height, width, 3) uint8; DataError if their sizes differ."""
        numbers = [int(index) for index in indices]
        images = [self[number] for number in numbers]
        for number, image in zip(numbers, images, strict=True):
            if image.shape != images[0].shape:
                raise DataError(
                    f"{self.files[number]}: found {_pixels(image)} pixels, expected {_pixels(images[0])} "
                    f"like {self.files[numbers[0]]}; bring the images of {self.path} to one size."
                )
        return np.stack(images) if images else np.zeros((0, 0, 0, 3), np.uint8)


def square(image: Pixels, side: int = SIDE) -> Pixels:
    """Cut the middle square of an image and resize it.

    Parameters
    ----------
    image
        (height, width, 3) uint8.
    side
        In pixels. An image of that size is returned as it is.

    Returns
    -------
    ndarray
        (side, side, 3) uint8.
    """
    height, width = image.shape[:2]
    shorter = min(height, width)
    top, left = (height - shorter) // 2, (width - shorter) // 2
    middle = image[top : top + shorter, left : left + shorter]
    if shorter == side:
        return np.ascontiguousarray(middle)
    return np.asarray(Image.fromarray(middle).resize((side, side), Image.Resampling.LANCZOS))


def open_pool(data: Path, name: str) -> Pool:
    """Open one pool of the data folder.

    Parameters
    ----------
    data : Path
        Folder in the layout of docs/method.md, section 1.
    name : str
        ``unlabeled``, ``train`` or ``test`` for ``<name>_X.bin``; ``other`` for ``other_X.bin`` or the folder
        ``other/``.

    Raises
    ------
    DataError
        If the name is unknown, or the file or folder is missing or damaged.
    """
    if name == "other":
        file = data / OTHER_FILE
        return open_file(file) if file.is_file() else ImageFolder(data / "other")
    if name in SPLITS:
        file = data / f"{name}_X.bin"
        if name != "unlabeled" and not file.exists() and not has_labels(data):
            raise DataError(NO_LABELS)
        return open_file(file)
    raise DataError(f"{data}: found no pool {name!r}, expected one of {', '.join(SPLITS)}, other; correct the name.")


def open_file(path: Path) -> ImageFile:
    """Open a ``*_X.bin`` file with the side of the set that it lies in; a second pool's file has STL-10's."""
    return ImageFile(path, SIDE if path.name == OTHER_FILE else side_of(path.parent))


def side_of(data: Path) -> int:
    """Return the side in pixels of a set's images; DataError if ``import.json`` says one that cannot be."""
    return read_side(_imported(data), str(data / IMPORT_FILE))


def read_side(about: Mapping[str, Any], origin: str) -> int:
    """Return the side that an entry of `side_entry` says; DataError, naming the origin, if it cannot be."""
    return check_side(about.get("side", SIDE), origin)


def side_entry(side: int) -> dict[str, int]:
    """Return what says the side where it has to be known: nothing of STL-10's, as before there was another."""
    return {} if side == SIDE else {"side": side}


def check_side(side: object, origin: str) -> int:
    """Return a side if images may have it; DataError, naming its origin, if not."""
    if isinstance(side, bool) or not isinstance(side, int) or not LEAST_SIDE <= side <= MOST_SIDE:
        raise DataError(
            f"{origin}: found {side!r} for the side of images, expected a whole number of pixels from {LEAST_SIDE} to "
            f"{MOST_SIDE}; give one of these."
        )
    return side


def _imported(data: Path) -> dict[str, Any]:
    """Return what `exemplarcnn data import` said of a set; nothing of a set that was not imported."""
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
    """Tell whether a data folder has labelled images; of an empty one say so too, for what is missing is told then."""
    return any((data / name).exists() for name in LABELLED_FILES) or not (data / "unlabeled_X.bin").exists()


def has_other(data: Path) -> bool:
    """Tell whether a data folder has a second pool."""
    return (data / OTHER_FILE).is_file() or (data / "other").is_dir()


def read_labels(path: Path, count: int) -> Integers:
    """Read a ``*_y.bin`` file: one byte an image, on disk 1 to the number of names in ``class_names.txt`` beside it.

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
        raise DataError(f"{path}: found {len(lines)} lines, expected {FOLDS}, one a fold; restore the file.")
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


def folds_are_official(path: Path) -> bool:
    """Tell whether a fold file is STL-10's own, by its md5."""
    return md5_of(path) == STL10_FOLDS_MD5


def read_class_names(path: Path) -> list[str]:
    """Read the class names, one a line; DataError if they are not at least two, all different."""
    names = [name for line in _text(path).splitlines() if (name := line.strip())]
    if not 2 <= len(names) <= MAX_CLASSES or len(set(names)) != len(names):
        raise DataError(
            f"{path}: found {len(names)} names, {len(set(names))} of them different, expected 2 to {MAX_CLASSES} "
            "different names, one a line; correct the file."
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
    """Write images, each (side, side, 3) uint8, as an STL-10 ``*_X.bin`` file, one after the other as they come."""
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
    """Write folds, each a sequence of indices into ``train``, one fold a line."""
    with atomic_write(path) as partial, partial.open("wb") as file:
        file.writelines((" ".join(str(int(index)) for index in fold) + "\n").encode() for fold in folds)


def write_class_names(path: Path, names: Sequence[str]) -> None:
    """Write class names, one a line, in the order of their labels; DataError for one that takes no line of its own."""
    if odd := [name for name in names if not name.strip() or name.splitlines() != [name.strip()]]:
        raise DataError(
            f"{path}: found the name {odd[0]!r}, expected one on a line, without blanks around it; rename it."
        )
    with atomic_write(path) as partial, partial.open("wb") as file:
        file.writelines(f"{name}\n".encode() for name in names)


def check(data: Path) -> Summary:
    """Check a whole data folder and say what it holds (docs/method.md, section 1).

    Only a set with the sizes of STL-10 is hashed, to tell the original from something of the same size.

    Parameters
    ----------
    data : Path
        Folder in STL-10's layout, with or without ``other/``; or with unlabelled images alone.

    Returns
    -------
    Summary
        ``dataset`` is ``STL-10`` if train, test and unlabelled files have the published md5s, the name that an
        imported set has, ``sample`` if ``sample.json`` lies beside the files, else ``custom``.

    Raises
    ------
    DataError
        If any file is missing or disagrees with another.
    """
    labelled = has_labels(data)
    counts = {split: len(open_file(data / f"{split}_X.bin")) for split in (SPLITS if labelled else SPLITS[-1:])}
    summary = Summary(
        dataset=_dataset(data, counts),
        side=side_of(data),
        train=counts.get("train", 0),
        test=counts.get("test", 0),
        unlabeled=counts["unlabeled"],
        other=len(open_pool(data, "other")) if has_other(data) else None,
        fold_sizes=[],
        folds_official=False,
        class_names=[],
    )
    if labelled:
        for split in ("train", "test"):
            read_labels(data / f"{split}_y.bin", counts[split])
        folds = data / "fold_indices.txt"
        summary["fold_sizes"] = [len(fold) for fold in read_folds(folds, counts["train"])]
        summary["folds_official"] = folds_are_official(folds)
        summary["class_names"] = read_class_names(data / "class_names.txt")
    return summary


def _dataset(data: Path, counts: dict[str, int]) -> str:
    if counts == STL10_COUNTS and all(md5_of(data / name) == md5 for name, md5 in STL10_MD5.items()):
        return "STL-10"
    if name := _imported(data).get("name"):
        return str(name)
    return "sample" if (data / "sample.json").is_file() else "custom"


def data_digest(data: Path) -> str:
    """Return the data's hash as ``data.dvc`` records it, or an empty string where DVC does not track it."""
    pointer = data.with_suffix(".dvc")
    if not pointer.exists():
        return ""
    return str(yaml.safe_load(pointer.read_text())["outs"][0]["md5"])


def fingerprint(pool: Pool) -> str:
    """Tell whether a pool's files are the same as before, without reading them: by name, size and time of change."""
    files = pool.files if isinstance(pool, ImageFolder) else [pool.path]
    return digest_of([[str(file), (about := file.stat()).st_size, about.st_mtime_ns] for file in files])


def md5_of(path: Path) -> str:
    """Return a file's md5 as 32 hexadecimal digits, with a progress bar from 256 MiB on."""
    digest = hashlib.md5(usedforsecurity=False)
    size = _size(path)
    with (
        path.open("rb") as file,
        tqdm(total=size, desc=f"md5 {path.name}", unit="B", unit_scale=True, disable=size < _LARGE) as bar,
    ):
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
            bar.update(len(chunk))
    return digest.hexdigest()


def _size(path: Path) -> int:
    if not path.is_file():
        raise DataError(f"{path}: found no such file, expected one of STL-10's layout; {FETCH}.")
    return path.stat().st_size


def _text(path: Path) -> str:
    _size(path)
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: expected plain text, found other bytes ({error}); restore the file.") from error


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")


def _pixels(image: Pixels) -> str:
    return f"{image.shape[0]}×{image.shape[1]}"
