"""Open pools of images: folders of image files, and any pool of a data folder (docs/method.md, section 1)."""

import copy
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from exemplarcnn.data import decoding, stl10
from exemplarcnn.data.decoding import IMAGE_SUFFIXES, DecodingError
from exemplarcnn.data.file_names import readable
from exemplarcnn.data.folder_walk import PassedOver, not_an_image, summary_lines, walk
from exemplarcnn.data.types import DataError, Indices, Pixels, Pool
from exemplarcnn.files import digest_of

OTHER = "other"  # the second pool


class ImageFolder:
    """A folder of image files of any size, at any depth, in the order of their relative paths.

    :mod:`exemplarcnn.data.decoding` reads the files.

    Parameters
    ----------
    path : Path
        The folder, listed by `exemplarcnn.data.folder_walk`. Files without a known image suffix are skipped.

    Attributes
    ----------
    files : list[Path]
        The image files; ``files[i]`` is image `i`.
    passed_over : list[PassedOver]
        Everything that was skipped, sorted by path.

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
                f"`exemplarcnn data other PATH`, or {stl10.FETCH}."
            )
        found = walk(self.path)
        paths = {name: self.path / name for name in found.files}
        self.files = [file for file in paths.values() if _is_image(file)]
        others = [not_an_image(name) for name, file in paths.items() if not _is_image(file)]
        self.passed_over = sorted(found.passed_over + others, key=lambda each: each.path)
        if not self.files:
            there = "; ".join(summary_lines(self.passed_over)[:3])
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
        """Return image `index`, too, with `decoding.TRANSPARENT` if it has transparent parts, else an empty string."""
        try:
            return decoding.read(self.files[index])
        except DecodingError as error:
            raise self._unreadable(index, error) from error

    def size(self, index: int) -> tuple[int, int]:
        """Return an image's height and width from its file's header; DataError if that cannot be read."""
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
        """Return an image's file, relative to the folder, as `exemplarcnn.data.file_names.readable` spells it."""
        return readable(self._relative(self.files[index]))

    def subset(self, start: int, stop: int) -> "ImageFolder":
        """Return images `start` to `stop` − 1 as a folder of their own: little to send to another process."""
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
    if name == OTHER:
        file = data / stl10.OTHER_FILE
        return open_path(file if file.is_file() else data / OTHER)
    if name in stl10.SPLITS:
        return stl10.open_pool(data, name)
    known = ", ".join((*stl10.SPLITS, OTHER))
    raise DataError(f"{data}: found no pool {name!r}, expected one of {known}; correct the name.")


def open_path(path: Path) -> Pool:
    """Open a file in STL-10's format, or a folder of image files; DataError if it is neither."""
    return stl10.open_file(path) if path.is_file() else ImageFolder(path)


def has_other(data: Path) -> bool:
    """Tell whether a data folder has a second pool."""
    return (data / stl10.OTHER_FILE).is_file() or (data / OTHER).is_dir()


def passed_over(pool: Pool) -> Sequence[PassedOver]:
    """Return what was skipped among a pool's image files."""
    return pool.passed_over if isinstance(pool, ImageFolder) else ()


def fingerprint(pool: Pool) -> str:
    """Return a digest of the names, sizes and times of change of a pool's files: it changes if they may have."""
    files = pool.files if isinstance(pool, ImageFolder) else [pool.path]
    return digest_of([[str(file), (about := file.stat()).st_size, about.st_mtime_ns] for file in files])


def centre_square(image: Pixels, side: int = stl10.SIDE) -> Pixels:
    """Crop an image to its middle square and resize it.

    Parameters
    ----------
    image
        (height, width, 3) uint8.
    side
        Side of the result in pixels. A square of that side is not resampled.

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


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")


def _pixels(image: Pixels) -> str:
    return f"{image.shape[0]}×{image.shape[1]}"
