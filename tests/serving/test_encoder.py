"""Encoders: the pipeline's features, from a folder alone, for images as people have them."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from exemplarcnn.config import profiles
from exemplarcnn.config.sections import Features
from exemplarcnn.data.pools import ImageFolder, centre_square
from exemplarcnn.networks.features import eval_features
from exemplarcnn.networks.saved import load
from exemplarcnn.serving import registry
from exemplarcnn.serving.encoder import Encoder, EncoderError
from exemplarcnn.serving.packed_model import pack
from tests.serving.networks import PARAMS, of_side, pixels


def test_a_copied_model_has_the_papers_features(model: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(model, tmp_path / "elsewhere")
    shutil.rmtree(model)
    encoder = Encoder.load(copy, "cpu")
    paper = Features.model_validate(profiles.section(profiles.PACKAGED, "paper", "features") | {"precision": "fp32"})
    batch = pixels(3)
    rows = np.minimum(np.arange(paper.batch_size), 2)
    expected = eval_features(load(copy), paper, torch.device("cpu"))(batch[rows])[:3]
    assert np.array_equal(encoder(batch), expected)
    assert encoder.size == (4 + 5 + 6 + 9 + 7) * 4
    assert encoder(batch[:0]).shape == (0, encoder.size)


def test_what_a_packed_model_says_counts_and_can_be_changed(model: Path, tmp_path: Path) -> None:
    pack(tmp_path / "packed", model, PARAMS)
    assert Encoder.load(tmp_path / "packed").features == PARAMS
    changed = Encoder.load(tmp_path / "packed", layers=["conv1"], pool=3, normalise=False)
    assert (changed.features.layers, changed.size) == (("conv1",), 4 * 9)
    assert changed.features.batch_size == PARAMS.batch_size


def test_images_of_any_size_and_kind(model: Path) -> None:
    encoder = Encoder.load(str(model), "cpu", batch_size=4)
    tall = np.random.default_rng(0).integers(0, 256, (150, 100, 3), dtype=np.uint8)
    grey = np.random.default_rng(1).integers(0, 256, (96, 96), dtype=np.uint8)
    expected = encoder(np.stack([centre_square(tall), np.repeat(grey[:, :, None], 3, axis=2)]))
    assert np.array_equal(encoder([tall, Image.fromarray(grey)]), expected)
    assert np.array_equal(encoder(image for image in (Image.fromarray(tall), Image.fromarray(grey))), expected)
    flipped = np.asfortranarray(pixels(3)[:, ::-1])
    assert np.array_equal(encoder(flipped), encoder(np.ascontiguousarray(flipped)))


def test_files_and_pillows_images_are_read_as_the_pipeline_does(model: Path, tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    colours = Image.fromarray(draw.integers(0, 256, (120, 96, 3), dtype=np.uint8))
    sideways = Image.Exif()
    sideways[0x0112] = 6
    folder = tmp_path / "photos"
    folder.mkdir()
    colours.save(folder / "a.png", exif=sideways)
    clear = colours.copy()
    clear.putalpha(Image.fromarray(draw.integers(0, 256, (120, 96), dtype=np.uint8)))
    clear.save(folder / "b.png")
    Image.fromarray(draw.integers(0, 2**16, (96, 96), dtype=np.uint16)).save(folder / "c.png")
    files = sorted(folder.iterdir())
    pool = ImageFolder(folder)
    encoder = Encoder.load(model, "cpu", batch_size=4)
    expected = encoder(np.stack([centre_square(pool[index]) for index in range(3)]))
    assert np.array_equal(encoder(files), expected)
    assert np.array_equal(encoder([Image.open(file) for file in files]), expected)
    assert not np.array_equal(encoder([image.convert("RGB") for image in map(Image.open, files)])[:2], expected[:2])


def test_images_are_read_as_they_are_needed(model: Path) -> None:
    """A folder of a hundred thousand files does not fit into memory."""
    encoder, read, most = Encoder.load(model, "cpu", batch_size=2), [], []
    extract = encoder._extract

    def photos() -> Iterator[np.ndarray]:
        for image in pixels(5):
            read.append(image)
            yield image

    def counted(batch: np.ndarray) -> np.ndarray:
        most.append(len(read))
        return extract(batch)

    encoder._extract = counted
    found = encoder(photos())
    assert most == [2, 4, 5]
    assert np.array_equal(found, encoder(pixels(5)))


def test_the_side_is_that_of_the_models_images(model: Path) -> None:
    of_side(model, 64)
    encoder = Encoder.load(model, "cpu")
    assert encoder.side == 64
    assert encoder(pixels(2, 64)).shape == encoder(pixels(2, 96)).shape == (2, encoder.size)


@pytest.mark.parametrize(
    ("images", "said"),
    [
        (np.zeros((96, 96, 3), np.uint8), r"one image, expected several; put it into a list: encoder\(\[image\]\)"),
        (Image.new("RGB", (96, 96)), "one image, expected several"),
        ("photo.jpg", "one image, expected several"),
        (np.zeros((5, 96, 96), np.uint8), r"shape \(96, 96\) and type uint8"),
        ([Image.new("F", (96, 96))], "cannot read .*: values of mode F have no known range"),
        (np.zeros((2, 96, 96, 3), np.float32), r"shape \(96, 96, 3\) and type float32, expected .* uint8"),
        (np.zeros((2, 3, 96, 96), np.uint8), r"shape \(3, 96, 96\) and type uint8, expected \(height, width, 3\)"),
        ([np.zeros((0, 4, 3), np.uint8)], r"shape \(0, 4, 3\)"),
        (["photo.jpg"], r"cannot read photo\.jpg: No such file or directory"),
        ([os.fsdecode(b"caf\xe9\n.jpg")], r"cannot read caf\\xe9\\n\.jpg: No such file or directory"),
    ],
)
def test_what_is_no_image_is_refused(model: Path, images: Any, said: str) -> None:
    with pytest.raises(EncoderError, match=said):
        Encoder.load(model, "cpu")(images)


def test_a_folder_without_a_model_and_wrong_values_are_named(model: Path, tmp_path: Path) -> None:
    with pytest.raises(EncoderError, match=r"nowhere holds no model: it lacks network\.json"):
        Encoder.load(tmp_path / "nowhere")
    with pytest.raises(EncoderError, match=r"cannot use pooled, precision with these values: there are layers, pool,"):
        Encoder.load(model, pooled=3, precision="fp16")


def test_an_address_is_looked_up_in_the_registry(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def fetch(uri: str, folder: Path) -> Path:
        asked.append(uri)
        pack(folder / "packed", model, PARAMS)
        return folder / "packed"

    monkeypatch.setattr(registry, "fetch", fetch)
    encoder = Encoder.load("models:/exemplarcnn-encoder@champion", "cpu")
    assert asked == ["models:/exemplarcnn-encoder@champion"]
    assert np.array_equal(encoder(pixels(2)), Encoder.load(model, "cpu", **PARAMS.model_dump())(pixels(2)))
