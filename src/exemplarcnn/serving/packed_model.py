"""A trained network to take along: images in, features or class scores out (docs/method.md, section 4).

A packed model is a folder of ``network.json`` and ``weights.safetensors`` as in ``models/``, ``features.json`` (how
maps become features), and, if it is a classifier, ``svm.safetensors`` (weights and intercept of the linear SVM on all
labelled images) and ``classes.json`` (names in the order of the scores). ``network.json`` says the side of the images
that it takes, where that is not STL-10's.
"""

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from safetensors.numpy import load_file

from exemplarcnn.config import Features
from exemplarcnn.data import pools, stl10
from exemplarcnn.data.types import Indices, Pixels, Pool
from exemplarcnn.errors import PipelineError
from exemplarcnn.files import read_json, write_json
from exemplarcnn.networks import saved
from exemplarcnn.networks.features import eval_features

NETWORK = ("network.json", "weights.safetensors")
FEATURES, SVM, CLASSES = "features.json", "svm.safetensors", "classes.json"


class EncoderError(PipelineError):
    """A packed model that is incomplete, or images that it cannot take."""


def pack(folder: Path, model: Path, params: Features, svm: Path | None = None, classes: Sequence[str] = ()) -> None:
    """Put all that a model needs into one folder.

    Parameters
    ----------
    folder
        Where to; made if it is not there.
    model
        The folder of the trained network.
    params
        How its maps become features.
    svm, classes
        File of the linear classifier and the names of its classes, for a model that classifies.

    Raises
    ------
    EncoderError
        Naming the file that is missing.
    """
    wanted = [model / name for name in NETWORK] + ([svm] if svm else [])
    for file in wanted:
        if not file.is_file():
            raise EncoderError(f"{file} is not there; `dvc repro` makes it, `dvc checkout` brings it back")
    folder.mkdir(parents=True, exist_ok=True)
    for file in wanted:
        shutil.copyfile(file, folder / (SVM if file == svm else file.name))
    write_json(folder / FEATURES, params.model_dump(mode="json"))
    if svm:
        write_json(folder / CLASSES, list(classes))


class Encoder:
    """A packed model, ready to use.

    Parameters
    ----------
    folder
        As `pack` made it.
    device
        ``auto``, ``cpu`` or ``cuda``.

    Attributes
    ----------
    classes
        Names of the classes, if it is a classifier; else empty.
    side
        Of the images that it takes, in pixels: that of the images of the set it learned from.
    size
        Features an image.

    Raises
    ------
    EncoderError
        If the folder is no packed model.
    DataError
        If it says a side that images cannot have.
    """

    def __init__(self, folder: Path, device: str = "auto"):
        for name in (*NETWORK, FEATURES):
            if not (folder / name).is_file():
                raise EncoderError(f"{folder} is no packed model: it lacks {name}")
        self.params = Features(**read_json(folder / FEATURES))
        self.side = stl10.read_side(read_json(folder / NETWORK[0]), str(folder / NETWORK[0]))
        self._describe = eval_features(saved.load(folder), self.params, saved.pick_device(device))
        self.size = self._describe(np.zeros((1, self.side, self.side, 3), np.uint8)).shape[1]
        self.classes: list[str] = []
        if (folder / SVM).is_file():
            svm = load_file(folder / SVM)
            self.classes = read_json(folder / CLASSES)
            self._weights, self._intercept = svm["weights"].astype(np.float64), svm["intercept"].astype(np.float64)
            if self._weights.shape != (len(self.classes), self.size):
                raise EncoderError(
                    f"{folder / SVM} has weights of shape {self._weights.shape}, expected "
                    f"{(len(self.classes), self.size)}: it belongs to another network"
                )

    def embed(self, pixels: Pixels, padded: bool = True) -> NDArray[np.float32]:
        """Turn images into features.

        Parameters
        ----------
        pixels
            (n, side, side, 3) uint8.
        padded
            Fill the last chunk up, as the pipeline does: to the last bit its features. Without, which is faster for a
            few images, they agree to about 1e-6.

        Returns
        -------
        ndarray
            (n, size) float32.
        """
        chunk, count = self.params.batch_size, len(pixels)
        result = np.empty((count, self.size), np.float32)
        for start in range(0, count, chunk):
            stop = min(start + chunk, count)
            rows = np.minimum(np.arange(start, start + chunk if padded else stop), count - 1)
            result[start:stop] = self._describe(pixels[rows])[: stop - start]
        return result

    def scores(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Turn features into decision values, (n, classes) float32; the largest is the class.

        Raises
        ------
        EncoderError
            If the model is no classifier.
        """
        if not self.classes:
            raise EncoderError("this model has no classifier; take one that has, or ask for features")
        values: NDArray[np.float32] = (features.astype(np.float64) @ self._weights.T + self._intercept).astype(
            np.float32
        )
        return values


class Squares:
    """Some images of a pool, each cut to its middle square and resized.

    Parameters
    ----------
    pool
        Images of any size.
    chosen
        Which of them.
    side
        That they are resized to, in pixels.
    """

    def __init__(self, pool: Pool, chosen: NDArray[np.int64], side: int):
        self.pool, self.chosen, self.side, self.path = pool, chosen, side, pool.path
        self.passed_over = pool.passed_over

    def __len__(self) -> int:
        return len(self.chosen)

    def __getitem__(self, index: int) -> Pixels:
        """Return one image, (side, side, 3) uint8."""
        return self.read(index)[0]

    def read(self, index: int) -> tuple[Pixels, str]:
        """Return one image, and what is to be said of how it was read."""
        image, note = self.pool.read(int(self.chosen[index]))
        return pools.centre_square(image, self.side), note

    def size(self, index: int) -> tuple[int, int]:
        """Return the side twice."""
        return self.side, self.side

    def name(self, index: int) -> str:
        """Return the file of an image, or its number where all have one file."""
        place = int(self.chosen[index])
        return self.pool.name(place) or str(place)

    def batch(self, indices: Indices) -> Pixels:
        """Return several images, (n, side, side, 3) uint8."""
        return np.stack([self[int(index)] for index in indices])


def as_table(scores: NDArray[np.float32], classes: list[str]) -> pd.DataFrame:
    """Name what scores say: one row an image with ``class``, the best one, and ``score_NAME`` for each class."""
    table = pd.DataFrame(scores, columns=[f"score_{name}" for name in classes])
    table.insert(0, "class", np.array(classes, object)[scores.argmax(axis=1)])
    return table


def as_pixels(batch: object, side: int, most: int) -> Pixels:
    """Check what somebody sent, and turn it into images.

    Parameters
    ----------
    batch
        (n, side, side, 3) array of whole numbers from 0 to 255, of any type.
    side
        Of the images that the model takes.
    most
        Images that are taken at once.

    Returns
    -------
    ndarray
        (n, side, side, 3) uint8.

    Raises
    ------
    EncoderError
        Saying what was expected.
    """
    expected = f"expected (n, {side}, {side}, 3): images of {side}×{side} RGB pixels"
    if not isinstance(batch, np.ndarray) or not np.issubdtype(batch.dtype, np.number):
        raise EncoderError(f"found {type(batch).__name__}, {expected}, whole numbers from 0 to 255")
    if batch.shape[1:] != (side, side, 3):
        raise EncoderError(f"found an array of shape {batch.shape}, {expected}")
    if len(batch) > most:
        raise EncoderError(f"found {len(batch):,} images, {most:,} are taken at once; send them in several requests")
    if batch.dtype == np.uint8:
        return batch
    pixels = np.nan_to_num(batch, nan=-1.0, posinf=-1.0, neginf=-1.0)
    wrong = (pixels < 0) | (pixels > 255) | (pixels != np.floor(pixels))
    if wrong.any():
        place = tuple(int(number) for number in np.argwhere(wrong)[0])
        raise EncoderError(f"found {batch[place]} at {place}, expected whole numbers from 0 to 255: pixels as they are")
    return pixels.astype(np.uint8)
