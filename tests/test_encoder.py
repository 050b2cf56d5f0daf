"""Packed models: the same numbers as the pipeline, and errors for what does not fit."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.numpy import load_file, save_file

from exemplarcnn import inference
from exemplarcnn.config import Config, Features, Network, compose
from exemplarcnn.encoder import Encoder, EncoderError, Squares, as_pixels, as_table, pack
from exemplarcnn.features import eval_features
from exemplarcnn.images import SIDE, ImageFolder, square
from exemplarcnn.models import describe, load, save_weights
from exemplarcnn.network import initialise

CONF = Path(__file__).parents[1] / "conf"
PARAMS = Features(
    layers=("conv1", "conv2", "conv3", "dense1", "dense2"), pool=2, dense_stride=7, normalise=True, chunk=4
)
NAMES = ["cat", "dog", "ship"]


def pixels(count: int) -> np.ndarray:
    return np.random.default_rng(5).integers(0, 256, (count, SIDE, SIDE, 3), dtype=np.uint8)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "models"
    params = Network(widths=(4, 5, 6), dense=9, dropout_conv=0.25, dropout_dense=0.5)
    about = {"classes": 7, "patch": 32, "mean": [0.4, 0.5, 0.6], "std": [0.2, 0.3, 0.2]}
    folder.mkdir()
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
        assert np.array_equal(as_pixels(batch.astype(kind), 2), batch)


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
        as_pixels(batch, 2)


def test_squares_are_the_middle_of_the_images_that_were_chosen(tmp_path: Path) -> None:
    wide = np.zeros((SIDE, 3 * SIDE, 3), np.uint8)
    wide[:, SIDE : 2 * SIDE] = pixels(1)[0]
    for name, image in [
        ("a", np.zeros((10, 10, 3), np.uint8)),
        ("b", wide),
        ("c", np.full((300, 200, 3), 77, np.uint8)),
    ]:
        Image.fromarray(image).save(tmp_path / f"{name}.png")
    pool = Squares(ImageFolder(tmp_path), np.array([1, 2]))
    assert [pool.name(index) for index in range(len(pool))] == ["b.png", "c.png"]
    assert np.array_equal(pool.batch([0, 1]), np.stack([wide[:, SIDE : 2 * SIDE], np.full((SIDE, SIDE, 3), 77)]))
    assert np.array_equal(square(pixels(1)[0]), pixels(1)[0])


def test_what_is_left_out_or_read_in_a_special_way_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    Image.new("RGB", (40, 40), "red").save(tmp_path / "a.png")
    Image.new("RGBA", (40, 40), (0, 0, 0, 0)).save(tmp_path / "logo.png")
    (tmp_path / "broken.png").write_bytes(b"no image")
    pool = inference._pool(tmp_path, Config.model_validate(compose(CONF, "tiny_bench")))
    assert [pool.name(index) for index in range(len(pool))] == ["a.png", "logo.png"]
    assert (pool[1] == 255).all()
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == 2
    assert told[0].startswith("broken.png left out: cannot be read: ")
    assert told[1] == "logo.png: transparent, put on white"
