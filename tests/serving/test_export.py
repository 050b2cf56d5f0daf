"""Exported files: the same features without this package, for any number of images."""

import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from torch.nn import functional as F

from exemplarcnn.config.sections import Network
from exemplarcnn.networks.exemplar_cnn import initialise
from exemplarcnn.serving.encoder import Encoder, EncoderError
from exemplarcnn.serving.export import _adaptive_max_pool, default_file, export
from tests.serving.networks import PARAMS, pixels


def encoder(patch: int = 32, side: int = 96, **features: object) -> Encoder:
    batch_norm = bool(features.get("mirror"))  # both are further choices, tried together
    params = Network(widths=(4, 5, 6), dense=9, dropout_conv=0.25, dropout_dense=0.5, batch_norm=batch_norm)
    network = initialise(params, 7, patch, 0, [0.4, 0.5, 0.6], [0.2, 0.3, 0.2])
    if batch_norm:
        network.train()(network.normalise(torch.from_numpy(pixels(8, patch))))  # else statistics are 0 and 1
    return Encoder(network.eval(), PARAMS.model_copy(update=features), side, "cpu")


def onnx_features(path: Path, images: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (given,), (made,) = session.get_inputs(), session.get_outputs()
    assert (given.name, given.shape[1:], given.type) == ("images", [*images.shape[1:]], "tensor(uint8)")
    assert (made.name, made.type) == ("features", "tensor(float)")
    (found,) = session.run(None, {"images": images})
    assert isinstance(found, np.ndarray)
    return found


@pytest.mark.slow
@pytest.mark.parametrize(
    ("patch", "side", "features"),
    [
        (32, 96, {}),
        (96, 96, {"pool": 3}),
        (32, 64, {"normalise": False, "layers": ("conv2", "dense2")}),
        (32, 64, {"mirror": True}),
    ],
)
def test_onnx_has_the_same_features(tmp_path: Path, patch: int, side: int, features: dict[str, object]) -> None:
    made = encoder(patch, side, **features)
    export(made, tmp_path / "encoder.onnx")
    for count in (0, 1, 5):
        images = pixels(count, side)
        np.testing.assert_allclose(onnx_features(tmp_path / "encoder.onnx", images), made(images), rtol=0, atol=1e-5)
    assert [path.name for path in tmp_path.iterdir()] == ["encoder.onnx"], "weights are inside"


def test_a_torch_program_has_the_same_features(tmp_path: Path) -> None:
    made = encoder()
    export(made, tmp_path / "encoder.pt2")
    program = torch.export.load(tmp_path / "encoder.pt2").module()
    for count in (0, 1, 5):
        found = program(torch.from_numpy(pixels(count))).detach().numpy()
        np.testing.assert_allclose(found, made(pixels(count)), rtol=0, atol=1e-6)


def test_it_computes_in_float32_whatever_the_pipeline_does(tmp_path: Path) -> None:
    export(encoder(precision="bf16"), tmp_path / "encoder.pt2")
    program = torch.export.load(tmp_path / "encoder.pt2").module()
    found = program(torch.from_numpy(pixels(3))).detach().numpy()
    np.testing.assert_allclose(found, encoder()(pixels(3)), rtol=0, atol=1e-6)


@pytest.mark.parametrize("shape", [(47, 47), (23, 31), (7, 7), (3, 2)])
@pytest.mark.parametrize("size", [[1, 1], [2, 2], [2, 3], [7, 7]])
def test_windows_are_torchs(shape: tuple[int, int], size: list[int]) -> None:
    maps = torch.randn(2, 3, *shape, generator=torch.Generator().manual_seed(0))
    assert torch.equal(_adaptive_max_pool(maps, size)[0], F.adaptive_max_pool2d(maps, size))


def test_an_unknown_kind_and_a_missing_package_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(EncoderError, match=r"encoder\.tflite: found ending '\.tflite'; name .* in \.onnx or \.pt2"):
        export(encoder(), tmp_path / "encoder.tflite")
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(EncoderError, match=r"onnxscript is not installed; pip install onnx onnxscript"):
        export(encoder(), tmp_path / "encoder.onnx")
    assert not list(tmp_path.iterdir())


def test_default_files_have_names_for_any_system() -> None:
    assert default_file("clustered", "onnx") == Path("exports/clustered.onnx")
    assert default_file("models:/exemplarcnn-encoder@champion", "torch") == Path(
        "exports/exemplarcnn-encoder-champion.pt2"
    )
