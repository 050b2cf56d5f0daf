"""Serve a packed model with MLflow: the code that a registered model carries along, without any pickle."""

from pathlib import Path

import numpy as np
from mlflow.exceptions import MlflowException
from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel

from exemplarcnn.data.types import Pixels
from exemplarcnn.serving.packed_model import PackedModel, PackedModelError

MOST_IMAGES = 1_000


class ServedModel(PythonModel):
    """A packed model that MLflow serves: features of images, or their classes and decision values."""

    def load_context(self, context):  # type: ignore[no-untyped-def]  # MLflow would take hints for the signature
        """Read the weights. MLflow calls this once."""
        config = context.model_config or {}
        self.most_images = int(config.get("most_images", MOST_IMAGES))
        self.model = PackedModel(Path(context.artifacts["model"]), config.get("device", "auto"))

    def predict(self, context, model_input, params=None):  # type: ignore[no-untyped-def]  # as above
        """Embed or classify a batch.

        Parameters
        ----------
        context
            MLflow's; not used.
        model_input
            (n, side, side, 3) float32, whole numbers from 0 to 255. Not uint8: the server would force whatever comes
            into that type, and answer an image scaled to 0–1 as if it were black.
        params
            Not used.

        Returns
        -------
        ndarray or DataFrame
            (n, features) float32; or the table of `PackedModel.table`, if the model has a classifier.

        Raises
        ------
        MlflowException
            If the input is wrong: clients see a refused request, with what was found and what was expected.
        """
        try:
            features = self.model.embed(as_pixels(model_input, self.model.side, self.most_images), padded=False)
        except PackedModelError as error:
            raise MlflowException.invalid_parameter_value(str(error)) from None
        return self.model.table(self.model.scores(features)) if self.model.classes else features


def as_pixels(batch: object, side: int, most: int) -> Pixels:
    """Check an array that a client sent, and turn it into images.

    Parameters
    ----------
    batch
        (n, side, side, 3) array of whole numbers from 0 to 255, of any type.
    side
        Side of the model's input images, in pixels.
    most
        How many images one request may have.

    Returns
    -------
    ndarray
        (n, side, side, 3) uint8.

    Raises
    ------
    PackedModelError
        If the array is not that; the message says what was found and what was expected.
    """
    expected = f"expected (n, {side}, {side}, 3): images of {side}×{side} RGB pixels"
    if not isinstance(batch, np.ndarray) or not np.issubdtype(batch.dtype, np.number):
        raise PackedModelError(f"found {type(batch).__name__}, {expected}, whole numbers from 0 to 255")
    if batch.shape[1:] != (side, side, 3):
        raise PackedModelError(f"found an array of shape {batch.shape}, {expected}")
    if len(batch) > most:
        raise PackedModelError(f"found {len(batch):,} images, expected {most:,} at most; send them in several requests")
    if batch.dtype == np.uint8:
        return batch
    pixels = np.nan_to_num(batch, nan=-1.0, posinf=-1.0, neginf=-1.0)
    wrong = (pixels < 0) | (pixels > 255) | (pixels != np.floor(pixels))
    if wrong.any():
        place = tuple(int(number) for number in np.argwhere(wrong)[0])
        raise PackedModelError(
            f"found {batch[place]} at {place}, expected whole numbers from 0 to 255; send pixels unscaled"
        )
    return pixels.astype(np.uint8)


set_model(ServedModel())
