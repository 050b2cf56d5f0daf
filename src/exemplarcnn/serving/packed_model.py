"""Pack a trained network for use elsewhere: images in, features or class scores out (docs/method.md, section 4).

A packed model is a folder with ``network.json`` and ``weights.safetensors`` as in ``models/``, ``features.json`` (how
maps become features), and, if it is a classifier, ``svm.safetensors`` (weights and intercept of the linear SVM on all
labelled images) and ``classes.json`` (names in the order of the scores). ``network.json`` names the side of its input
images unless it is STL-10's.
"""

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from safetensors.numpy import load_file

from exemplarcnn import paths
from exemplarcnn.config.params import Config
from exemplarcnn.config.sections import Features
from exemplarcnn.data import stl10
from exemplarcnn.data.types import Pixels
from exemplarcnn.errors import PipelineError
from exemplarcnn.files import read_json, write_json
from exemplarcnn.serving.encoder import FEATURES, NETWORK, Encoder

SVM, CLASSES = "svm.safetensors", "classes.json"


class PackedModelError(PipelineError):
    """A packed model that is incomplete, or a request that it cannot answer."""


def pack(folder: Path, model: Path, params: Features, svm: Path | None = None, classes: Sequence[str] = ()) -> None:
    """Put everything that a model needs into one folder.

    Parameters
    ----------
    folder
        The folder to fill; created if it is missing.
    model
        The folder of the trained network.
    params
        How its maps become features.
    svm, classes
        For a model that classifies: the file of its linear classifier, and the names of its classes.

    Raises
    ------
    PackedModelError
        If a file is missing; the message names it.
    """
    wanted = [model / name for name in NETWORK] + ([svm] if svm else [])
    for file in wanted:
        if not file.is_file():
            raise PackedModelError(f"{file} is not there; `dvc repro` makes it, `dvc checkout` restores it")
    folder.mkdir(parents=True, exist_ok=True)
    for file in wanted:
        shutil.copyfile(file, folder / (SVM if file == svm else file.name))
    write_json(folder / FEATURES, params.model_dump(mode="json"))
    if svm:
        write_json(folder / CLASSES, list(classes))


def pack_variant(folder: Path, variant: str, config: Config, svm: Path | None) -> None:
    """Pack a variant that was trained here, with or without a classifier of its features: see `pack`."""
    classes = stl10.read_class_names(paths.CLASS_NAMES) if svm else []
    pack(folder, paths.model(variant), config.features, svm, classes)


def classifier_of(variant: str, config: Config) -> Path | None:
    """Return the file of a variant's linear SVM on all labels; None if the parameters ask for none."""
    asked = any((each.labels, each.classifier) == ("all", "svm") for each in config.evaluate.protocols)
    return paths.classifiers(variant) / "all.safetensors" if asked and variant in config.variants.evaluate else None


class PackedModel:
    """A packed model, ready to use.

    Parameters
    ----------
    folder
        A packed model, as `pack` makes it.
    device
        ``auto``, ``cpu`` or ``cuda``.

    Attributes
    ----------
    batch_size
        How many images go through the network at once.
    classes
        Names of the classes in the order of the scores, if it is a classifier; else empty.
    side
        Side of its input images in pixels: that of the image set it learned from.
    size
        Number of features per image.

    Raises
    ------
    PackedModelError, EncoderError
        If the folder is no packed model, this code cannot read it, or its classifier belongs to another network.
    DataError
        If ``network.json`` names a side that images cannot have.
    """

    def __init__(self, folder: Path, device: str = "auto"):
        for name in (*NETWORK, FEATURES):
            if not (folder / name).is_file():
                raise PackedModelError(f"{folder} is no packed model: it lacks {name}; pack the model again")
        self.encoder = Encoder.load(folder, device)
        self.batch_size, self.side, self.size = self.encoder.features.batch_size, self.encoder.side, self.encoder.size
        self.classes: list[str] = []
        if (folder / SVM).is_file():
            svm = load_file(folder / SVM)
            self.classes = read_json(folder / CLASSES)
            self._weights, self._intercept = svm["weights"].astype(np.float64), svm["intercept"].astype(np.float64)
            if self._weights.shape != (len(self.classes), self.size):
                raise PackedModelError(
                    f"{folder / SVM}: found weights of shape {self._weights.shape}, expected "
                    f"{(len(self.classes), self.size)}: it belongs to another network; pack the model again"
                )

    def embed(self, pixels: Pixels, padded: bool = True) -> NDArray[np.float32]:
        """Turn images, (n, side, side, 3) uint8, into features, (n, size) float32: see `Encoder`."""
        if pixels.shape[1:] != (self.side, self.side, 3):
            raise PackedModelError(f"found images of shape {pixels.shape[1:]}, expected ({self.side}, {self.side}, 3)")
        return self.encoder(pixels, padded)

    def scores(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Turn features into decision values; the largest is that of the predicted class.

        Parameters
        ----------
        features
            (n, size) float32, as `embed` returns them.

        Returns
        -------
        ndarray
            (n, classes) float32.

        Raises
        ------
        PackedModelError
            If the model is no classifier.
        """
        if not self.classes:
            raise PackedModelError("cannot classify: this model has no classifier; use one that has, or take features")
        values: NDArray[np.float32] = (features.astype(np.float64) @ self._weights.T + self._intercept).astype(
            np.float32
        )
        return values

    def table(self, scores: NDArray[np.float32]) -> pd.DataFrame:
        """Put scores into a table: one row per image, with ``class``, the best, and ``score_NAME`` for each class."""
        table = pd.DataFrame(scores, columns=[f"score_{name}" for name in self.classes])
        table.insert(0, "class", np.array(self.classes, object)[scores.argmax(axis=1)])
        return table
