"""What is served: images are checked before the network sees them."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from exemplarcnn.data.stl10 import SIDE
from exemplarcnn.serving import registry
from exemplarcnn.serving.packed_model import PackedModelError, pack
from exemplarcnn.serving.pyfunc import ServedModel, as_pixels
from tests.serving.networks import PARAMS, of_side, pixels


def test_images_of_any_type_become_pixels() -> None:
    batch = pixels(2)
    for kind in (np.uint8, np.int64, np.float32, np.float64):
        assert np.array_equal(as_pixels(batch.astype(kind), SIDE, 2), batch)


def with_one(value: float) -> np.ndarray:
    batch = pixels(2).astype(np.float32)
    batch[1, 2, 3, 0] = value
    return batch


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        (pixels(3), "found 3 images, expected 2 at most"),
        (pixels(1)[0], r"found an array of shape \(96, 96, 3\), expected \(n, 96, 96, 3\)"),
        (np.zeros((1, 3, 96, 96)), "found an array of shape"),
        (np.zeros((1, 95, 96, 3)), "found an array of shape"),
        (np.array(7), "found an array of shape"),
        (np.full((1, 96, 96, 3), "x"), "found ndarray, expected"),
        ([1, 2], "found list, expected"),
        (pixels(1) / 255, "expected whole numbers from 0 to 255"),
        (with_one(256), r"found 256.0 at \(1, 2, 3, 0\)"),
        (with_one(-1), r"found -1.0 at \(1, 2, 3, 0\)"),
        (with_one(np.nan), r"found nan at \(1, 2, 3, 0\)"),
        (with_one(np.inf), r"found inf at \(1, 2, 3, 0\)"),
    ],
)
def test_what_are_no_pixels_is_refused(batch: object, message: str) -> None:
    with pytest.raises(PackedModelError, match=message):
        as_pixels(batch, SIDE, 2)


@pytest.mark.parametrize("side", [64, 128])
def test_what_is_served_takes_that_side_and_says_so(model: Path, svm: Path, tmp_path: Path, side: int) -> None:
    from mlflow.exceptions import MlflowException

    of_side(model, side)
    pack(tmp_path / "packed", model, PARAMS)
    served: Any = ServedModel()  # MLflow takes no hints
    served.load_context(SimpleNamespace(artifacts={"model": str(tmp_path / "packed")}, model_config={"device": "cpu"}))
    batch = pixels(3, side)
    found = served.predict(None, batch.astype(np.float32))
    np.testing.assert_allclose(found, served.model.embed(batch), atol=1e-6)
    with pytest.raises(MlflowException, match=rf"shape \(3, 96, 96, 3\), expected \(n, {side}, {side}, 3\): images of"):
        served.predict(None, pixels(3).astype(np.float32))
    signature = registry._signature(served.model)
    assert signature.inputs.inputs[0].shape == (-1, side, side, 3)
    assert signature.outputs.inputs[0].shape == (-1, served.model.size)
