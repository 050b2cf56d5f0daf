"""A trained network as a function from images to features, for use in your own code (docs/method.md, section 4)."""

import tempfile
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import ValidationError

from exemplarcnn.config import profiles
from exemplarcnn.config.sections import Features
from exemplarcnn.data import decoding, pools, stl10
from exemplarcnn.data.file_names import readable
from exemplarcnn.data.types import Pixels
from exemplarcnn.errors import PipelineError
from exemplarcnn.files import read_json
from exemplarcnn.networks import saved
from exemplarcnn.networks.exemplar_cnn import ExemplarCNN
from exemplarcnn.networks.features import eval_features

NETWORK = ("network.json", "weights.safetensors")
FEATURES = "features.json"
# Former names of entries in features.json, which models packed by earlier code still have.
FORMER_NAMES = {"chunk": "batch_size"}


class EncoderError(PipelineError):
    """A model that is incomplete, or images that it cannot take."""


class Encoder:
    """A network that turns images into features.

    Parameters
    ----------
    network
        A trained network.
    features
        How its maps become features: section ``features`` of ``params.yaml``.
    side
        Side of the images in pixels that it learned from.
    device
        ``auto`` (a GPU if there is one), ``cpu`` or ``cuda``.

    Attributes
    ----------
    network, features, side
        As given.
    size
        Number of features of an image.

    Raises
    ------
    ModelError
        If the device is missing.

    Examples
    --------
    >>> encoder = Encoder.load("models/clustered")  # doctest: +SKIP
    >>> encoder(images).shape  # doctest: +SKIP
    (5000, 71536)
    """

    def __init__(self, network: ExemplarCNN, features: Features, side: int = stl10.SIDE, device: str = "auto"):
        self.network, self.features, self.side = network, features, side
        self._extract = eval_features(network, features, saved.pick_device(device))
        self.size: int = self._extract(np.zeros((1, side, side, 3), np.uint8)).shape[1]

    @classmethod
    def load(cls, source: str | Path, device: str = "auto", **features: Any) -> Self:
        """Load a network from a folder, or from MLflow's registry.

        Parameters
        ----------
        source
            The folder of a model: ``models/VARIANT`` of a pipeline, or a copy of it; or the address of a registered
            model, such as ``models:/exemplarcnn-encoder@champion`` (needs MLflow, and its store).
        device
            ``auto`` (a GPU if there is one), ``cpu`` or ``cuda``.
        **features
            Other values for keys of section ``features``: ``layers``, ``pool``, ``dense_stride``, ``normalise``,
            ``batch_size``, ``precision``, ``mirror``, ``power``. A registered model brings its own values. A folder
            ``models/VARIANT`` has none, and gets the paper's in float32, whatever the ``params.yaml`` of its pipeline
            says.

        Returns
        -------
        Encoder
            The network, ready to be called with images.

        Raises
        ------
        EncoderError, DataError
            If the folder holds no model, or a key or value is wrong.
        ModelError
            If the weights do not fit the network, or the device is missing.
        RegistryError, StoreError
            If there is no such registered model, or its store cannot be reached.
        """
        if str(source).startswith(("models:/", "runs:/")):
            # The registry needs the pipeline's packages, a folder does not.
            try:
                from exemplarcnn.serving import registry

                with tempfile.TemporaryDirectory() as place:
                    return cls.load(registry.fetch(str(source), Path(place)), device, **features)
            except ModuleNotFoundError as error:
                raise EncoderError(
                    f"cannot load {source}: {error.name} is not installed; load a model's folder, or install the "
                    "pipeline's packages: pip install 'FOLDER[pipeline]', with the folder of your clone"
                ) from None
        folder = Path(source)
        for name in NETWORK:
            if not (folder / name).is_file():
                raise EncoderError(
                    f"{folder} holds no model: it lacks {name}; name a folder with {' and '.join(NETWORK)}"
                )
        about = folder / NETWORK[0]
        side = stl10.read_side(read_json(about), str(about))
        return cls(saved.load(folder), _features(folder, features), side, device)

    def __call__(self, images: Iterable[Any], padded: bool = True) -> NDArray[np.float32]:
        """Turn images into features.

        Parameters
        ----------
        images
            (n, height, width, 3) uint8, RGB; or a sequence of such images, of Pillow's or of paths of image files, of
            any size. Files and Pillow's images are turned upright, and transparent parts are white. Images of another
            size than ``side`` by ``side`` are cut to their middle square and resized.
        padded
            Fill up the last batch, as the pipeline does: features are then the pipeline's, to the last bit if torch
            uses one thread on the same kind of processor. Without, which is faster for a few images, they agree to
            about 1e-6; to 0.01 with ``precision: bf16``.

        Returns
        -------
        ndarray
            (n, size) float32. Each layer's block has length one, unless ``normalise`` is false or
            ``mirror`` is true.

        Raises
        ------
        EncoderError
            If these are no such images.
        """
        rows = [np.empty((0, self.size), np.float32)]
        for batch in _batches(images, self.side, self.features.batch_size):
            count = len(batch)
            if padded and count < self.features.batch_size:
                batch = batch[np.minimum(np.arange(self.features.batch_size), count - 1)]
            rows.append(self._extract(batch)[:count])
        return np.concatenate(rows)


def _batches(images: Iterable[Any], side: int, size: int) -> Iterator[Pixels]:
    """Yield (up to size, side, side, 3) uint8, reading no more images than these; `EncoderError` if they are none."""
    if isinstance(images, (str, Path, Image.Image)) or (
        isinstance(images, np.ndarray) and images.ndim == 3 == images.shape[2]
    ):
        raise EncoderError("found one image, expected several; put it into a list: encoder([image])")
    if isinstance(images, np.ndarray) and images.shape[1:] == (side, side, 3) and images.dtype == np.uint8:
        for start in range(0, len(images), size):
            yield np.ascontiguousarray(images[start : start + size])
        return
    left = iter(images)
    while some := list(islice(left, size)):
        yield np.stack([pools.centre_square(_pixels(image), side) for image in some])


def _pixels(image: Any) -> Pixels:
    try:
        if isinstance(image, (str, Path)):
            return decoding.read(Path(image))[0]
        if isinstance(image, Image.Image):
            return decoding.pixels_of(image)
    except decoding.DecodingError as error:
        raise EncoderError(f"cannot read {readable(str(image))}: {error}") from None
    pixels = np.asarray(image)
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or not pixels.size:
        raise EncoderError(
            f"found an image of shape {pixels.shape} and type {pixels.dtype}, expected (height, width, 3) and uint8; "
            "convert it to RGB with values from 0 to 255"
        )
    return pixels


def _features(folder: Path, changed: dict[str, Any]) -> Features:
    """Return how maps become features: as the model says, or in the paper's way; with changes."""
    if (path := folder / FEATURES).is_file():
        said = _read_features(path).model_dump()
    else:
        said = profiles.section(profiles.PACKAGED, "paper", "features") | {"precision": "fp32"}
    try:
        return Features.model_validate(said | changed)
    except ValidationError as error:
        raise EncoderError(
            f"cannot use {_keys(error)} with these values: there are {', '.join(Features.model_fields)}, and section "
            "`features` of a profile has an example of each"
        ) from None


def _read_features(path: Path) -> Features:
    """Read how maps become features, even for a model that earlier code packed."""
    # All that there was before these were parameters.
    found = {"precision": "fp32", "mirror": False, "power": 1.0} | read_json(path)
    try:
        return Features(**{FORMER_NAMES.get(name, name): value for name, value in found.items()})
    except ValidationError as error:
        raise EncoderError(
            f"{path}: found {_keys(error)}, which this code cannot read; train and register the model again, or use "
            "the code that packed it (tag mlflow.source.git.commit of its run)"
        ) from None


def _keys(error: ValidationError) -> str:
    return ", ".join(sorted({str(each["loc"][0]) for each in error.errors()}))
