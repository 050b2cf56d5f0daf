"""Packed models: the same numbers as the pipeline, and errors for what does not fit."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from exemplarcnn.data.pools import ImageFolder, centre_square
from exemplarcnn.data.stl10 import SIDE, write_images
from exemplarcnn.data.types import DataError
from PIL import Image
from safetensors.numpy import load_file, save_file

from exemplarcnn.config import Config, Features, Network, compose
from exemplarcnn.networks.exemplar_cnn import initialise
from exemplarcnn.networks.features import eval_features
from exemplarcnn.networks.saved import describe, load, save_weights
from exemplarcnn.serving import batch as inference
from exemplarcnn.serving import registry
from exemplarcnn.serving.packed_model import Encoder, EncoderError, Squares, as_pixels, as_table, pack
from tests.conftest import CONF

PARAMS = Features(
    layers=("conv1", "conv2", "conv3", "dense1", "dense2"), pool=2, dense_stride=7, normalise=True, batch_size=4
)
NAMES = ["cat", "dog", "ship"]


def pixels(count: int, side: int = SIDE) -> np.ndarray:
    return np.random.default_rng(5).integers(0, 256, (count, side, side, 3), dtype=np.uint8)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "models" / "baseline"
    params = Network(widths=(4, 5, 6), dense=9, dropout_conv=0.25, dropout_dense=0.5)
    about = {"classes": 7, "patch": 32, "mean": [0.4, 0.5, 0.6], "std": [0.2, 0.3, 0.2]}
    folder.mkdir(parents=True)
    describe(folder / "network.json", params, about)
    save_weights(folder / "weights.safetensors", initialise(params, 7, 32, 0, about["mean"], about["std"]))
    return folder


@pytest.fixture
def svm(model: Path, tmp_path: Path) -> Path:
    size = eval_features(load(model), PARAMS, torch.device("cpu"))(pixels(1)).shape[1]
    draw = np.random.default_rng(6)
    tensors = {"weights": draw.normal(size=(len(NAMES), size)), "intercept": draw.normal(size=len(NAMES))}
    save_file({name: value.astype(np.float32) for name, value in tensors.items()}, tmp_path / "all.safetensors")
    return tmp_path / "all.safetensors"


def test_features_are_those_of_the_pipeline(model: Path, tmp_path: Path) -> None:
    pack(tmp_path / "packed", model, PARAMS)
    ready = Encoder(tmp_path / "packed", "cpu")
    describe = eval_features(load(model), PARAMS, torch.device("cpu"))
    batch = pixels(6)
    expected = np.concatenate([describe(batch[:4]), describe(batch[[4, 5, 5, 5]])[:2]])
    assert np.array_equal(ready.embed(batch), expected)
    np.testing.assert_allclose(ready.embed(batch, padded=False), expected, atol=1e-6)
    assert ready.embed(batch[:0]).shape == (0, ready.size)
    assert ready.classes == []
    with pytest.raises(EncoderError, match="no classifier"):
        ready.scores(expected)


def test_scores_are_those_of_the_svm(model: Path, svm: Path, tmp_path: Path) -> None:
    pack(tmp_path / "packed", model, PARAMS, svm, NAMES)
    ready = Encoder(tmp_path / "packed", "cpu")
    features = ready.embed(pixels(3))
    scores = ready.scores(features)
    table = as_table(scores, ready.classes)
    weights, intercept = load_file(svm)["weights"], load_file(svm)["intercept"]
    for row in range(3):
        by_hand = [float(np.dot(weights[c].astype(float), features[row]) + intercept[c]) for c in range(3)]
        np.testing.assert_allclose(scores[row], by_hand, rtol=1e-5, atol=1e-6)
        assert table.loc[row, "class"] == NAMES[int(np.argmax(by_hand))]
        assert table.loc[row, "score_dog"] == scores[row, 1]


@pytest.mark.parametrize("missing", ["network.json", "weights.safetensors"])
def test_what_lacks_is_named(model: Path, tmp_path: Path, missing: str) -> None:
    pack(tmp_path / "packed", model, PARAMS)
    (tmp_path / "packed" / missing).unlink()
    with pytest.raises(EncoderError, match=f"lacks {missing}"):
        Encoder(tmp_path / "packed")
    (model / missing).unlink()
    with pytest.raises(EncoderError, match=rf"{missing} is not there; `dvc repro` makes it"):
        pack(tmp_path / "again", model, PARAMS)


def test_a_classifier_of_another_network_is_refused(model: Path, svm: Path, tmp_path: Path) -> None:
    pack(tmp_path / "packed", model, PARAMS, svm, NAMES)
    about = json.loads((tmp_path / "packed" / "features.json").read_text())
    (tmp_path / "packed" / "features.json").write_text(json.dumps(about | {"pool": 1}))
    with pytest.raises(EncoderError, match="belongs to another network"):
        Encoder(tmp_path / "packed")


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
        (pixels(3), "found 3 images, 2 are taken at once"),
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
    with pytest.raises(EncoderError, match=message):
        as_pixels(batch, SIDE, 2)


def test_squares_are_the_middle_of_the_images_that_were_chosen(tmp_path: Path) -> None:
    wide = np.zeros((SIDE, 3 * SIDE, 3), np.uint8)
    wide[:, SIDE : 2 * SIDE] = pixels(1)[0]
    for name, image in [
        ("a", np.zeros((10, 10, 3), np.uint8)),
        ("b", wide),
        ("c", np.full((300, 200, 3), 77, np.uint8)),
    ]:
        Image.fromarray(image).save(tmp_path / f"{name}.png")
    pool = Squares(ImageFolder(tmp_path), np.array([1, 2]), SIDE)
    assert [pool.name(index) for index in range(len(pool))] == ["b.png", "c.png"]
    assert np.array_equal(pool.batch([0, 1]), np.stack([wide[:, SIDE : 2 * SIDE], np.full((SIDE, SIDE, 3), 77)]))
    assert np.array_equal(square(pixels(1)[0]), pixels(1)[0])


def test_what_is_left_out_or_read_in_a_special_way_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    Image.new("RGB", (40, 40), "red").save(tmp_path / "a.png")
    Image.new("RGBA", (40, 40), (0, 0, 0, 0)).save(tmp_path / "logo.png")
    (tmp_path / "broken.png").write_bytes(b"no image")
    pool = inference._pool(tmp_path, Config.model_validate(compose(CONF, "tiny_bench")), 96)
    assert [pool.name(index) for index in range(len(pool))] == ["a.png", "logo.png"]
    assert (pool[1] == 255).all()
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == 2
    assert told[0].startswith("broken.png left out: cannot be read: ")
    assert told[1] == "logo.png: transparent, put on white"


# Images of another side


def of_side(model: Path, side: object) -> None:
    """Make the network one of a set whose images have a side."""
    about = json.loads((model / "network.json").read_text())
    (model / "network.json").write_text(json.dumps(about | {"side": side}))


@pytest.mark.parametrize("side", [32, 64, 128])
def test_a_packed_model_brings_the_side_of_its_images(model: Path, tmp_path: Path, side: int) -> None:
    of_side(model, side)
    pack(tmp_path / "packed", model, PARAMS)
    ready = Encoder(tmp_path / "packed", "cpu")
    batch = pixels(4, side)
    expected = eval_features(load(model), PARAMS, torch.device("cpu"))(batch)
    assert (ready.side, ready.size) == (side, expected.shape[1])
    assert np.array_equal(ready.embed(batch), expected)


def test_one_of_before_there_was_another_side_takes_stl10s(model: Path, tmp_path: Path) -> None:
    pack(tmp_path / "packed", model, PARAMS)
    assert "side" not in (tmp_path / "packed" / "network.json").read_text()
    assert Encoder(tmp_path / "packed", "cpu").side == 96


@pytest.mark.parametrize("side", [31, 257, "x"])
def test_a_packed_model_of_no_side_is_refused(model: Path, tmp_path: Path, side: object) -> None:
    of_side(model, side)
    pack(tmp_path / "packed", model, PARAMS)
    with pytest.raises(DataError, match=r"network\.json: found .* for the side of images"):
        Encoder(tmp_path / "packed", "cpu")


@pytest.mark.parametrize("side", [64, 128])
def test_what_is_served_takes_that_side_and_says_so(model: Path, svm: Path, tmp_path: Path, side: int) -> None:
    from mlflow.exceptions import MlflowException

    from exemplarcnn.serving.pyfunc import Served

    of_side(model, side)
    pack(tmp_path / "packed", model, PARAMS)
    served = Served()
    served.load_context(SimpleNamespace(artifacts={"model": str(tmp_path / "packed")}, model_config={"device": "cpu"}))
    batch = pixels(3, side)
    found = served.predict(None, batch.astype(np.float32))
    np.testing.assert_allclose(found, served.encoder.embed(batch), atol=1e-6)
    with pytest.raises(MlflowException, match=rf"shape \(3, 96, 96, 3\), expected \(n, {side}, {side}, 3\): images of"):
        served.predict(None, pixels(3).astype(np.float32))
    signature = registry._signature(served.encoder)
    assert signature.inputs.inputs[0].shape == (-1, side, side, 3)
    assert signature.outputs.inputs[0].shape == (-1, served.encoder.size)


def test_squares_have_the_side_that_is_asked_for(tmp_path: Path) -> None:
    wide = np.zeros((150, 400, 3), np.uint8)
    wide[:, 125:275] = pixels(1, 150)[0]
    Image.fromarray(wide).save(tmp_path / "wide.png")
    pool = Squares(ImageFolder(tmp_path), np.array([0]), 128)
    assert pool.size(0) == (128, 128)
    assert np.array_equal(pool.batch([0])[0], square(pixels(1, 150)[0], 128))
    assert np.array_equal(Squares(ImageFolder(tmp_path), np.array([0]), 150)[0], pixels(1, 150)[0])


def test_embed_resizes_to_the_side_of_the_model_whatever_lies_in_data(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    of_side(model, 128)
    (tmp_path / "data").mkdir()
    (tmp_path / "data/import.json").write_text('{"name": "other images by now", "side": 64}')
    (tmp_path / "photos").mkdir()
    for number in range(3):
        photo = np.random.default_rng(number).integers(0, 256, (200 + number, 300, 3), dtype=np.uint8)
        Image.fromarray(photo).save(tmp_path / f"photos/{number}.png")
    values = compose(CONF, "own_unlabelled")
    values["features"] = PARAMS.model_dump(mode="json")
    values["machine"]["device"] = "cpu"
    said = inference.embed(tmp_path / "photos", tmp_path / "out.npy", "baseline", Config.model_validate(values))
    assert "of 3 images" in said
    folder = ImageFolder(tmp_path / "photos")
    squares = np.stack([square(folder[number], 128) for number in (0, 1, 2, 2)])
    expected = eval_features(load(model), PARAMS, torch.device("cpu"))(squares)[:3]
    assert np.array_equal(np.load(tmp_path / "out.npy"), expected)
    # A file is of the side that its own set says.
    batch = pixels(9, 64)
    write_images(tmp_path / "data/unlabeled_X.bin", batch, 64)
    config = Config.model_validate(values)
    inference.embed(tmp_path / "data/unlabeled_X.bin", tmp_path / "file.npy", "baseline", config)
    squares = np.stack([square(image, 128) for image in batch])
    expected = Encoder(model_packed(model, tmp_path), "cpu").embed(squares)
    assert np.array_equal(np.load(tmp_path / "file.npy"), expected)


def model_packed(model: Path, tmp_path: Path) -> Path:
    pack(tmp_path / "packed", model, PARAMS)
    return tmp_path / "packed"
