"""A packed model as MLflow serves it: the code that a registered model carries along, with no pickle in it."""

from pathlib import Path

from mlflow.exceptions import MlflowException
from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel

from exemplarcnn.serving.packed_model import Encoder, EncoderError, as_pixels, as_table

MOST_IMAGES = 1_000


class Served(PythonModel):
    """Features, or class and decision values, of images."""

    def load_context(self, context):  # type: ignore[no-untyped-def]  # MLflow would take hints for the signature
        """Read the weights. Called once."""
        config = context.model_config or {}
        self.most = int(config.get("most_images", MOST_IMAGES))
        self.encoder = Encoder(Path(context.artifacts["model"]), config.get("device", "auto"))

    def predict(self, context, model_input, params=None):  # type: ignore[no-untyped-def]  # as above
        """Describe or classify a batch.

        Parameters
        ----------
        context
            MLflow's.
        model_input
            (n, side, side, 3) float32, whole numbers from 0 to 255. Not uint8, since the server would cut whatever
            comes to fit, and answer an image scaled to 0–1 as if it were black.
        params
            None are known.

        Returns
        -------
        ndarray or DataFrame
            (n, features) float32; or what `as_table` makes of scores.

        Raises
        ------
        MlflowException
            Saying what was expected: to clients that is a refused request.
        """
        try:
            features = self.encoder.embed(as_pixels(model_input, self.encoder.side, self.most), padded=False)
        except EncoderError as error:
            raise MlflowException.invalid_parameter_value(str(error)) from None
        if not self.encoder.classes:
            return features
        scores = self.encoder.scores(features)
        return as_table(scores, self.encoder.classes)


set_model(Served())
