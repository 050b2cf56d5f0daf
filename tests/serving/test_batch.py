"""A trained network on a folder of images: which files are read, and how the tables name them."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from exemplarcnn.config.params import Config
from exemplarcnn.data import stl10
from exemplarcnn.data.pools import ImageFolder, centre_square
from exemplarcnn.data.stl10 import SIDE, write_images
from exemplarcnn.networks.features import eval_features
from exemplarcnn.networks.saved import load
from exemplarcnn.serving import batch
from exemplarcnn.serving.batch import CentreCrops
from exemplarcnn.serving.packed_model import PackedModel, PackedModelError, pack
from exemplarcnn.tracking import lineage
from exemplarcnn.tracking.lineage import Record
from tests.conftest import profile_values
from tests.serving.networks import PARAMS, of_side, pixels


@contextmanager
def loaded(*_: Any) -> Iterator[Any]:
    """A network whose one feature is the mean of the red channel."""

    def embed(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        means: NDArray[np.float32] = pixels[..., 0].mean(axis=(1, 2), dtype=np.float32)[:, None]
        return means

    yield SimpleNamespace(embed=embed, batch_size=4, side=96, size=1)


@pytest.mark.parametrize("out", ["features.csv", "features.npy"])
def test_j_embed_names_files_that_are_not_utf8_and_leaves_out_odd_ones_by_name(
    tmp_path: Path, config: Config, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, out: str
) -> None:
    monkeypatch.setattr(batch, "loaded", loaded)
    source = tmp_path / "photos"
    for red, name in enumerate((b"1.png", b"caf\xe9.png", b"deep/line\nend.png", b".thumbnails/1.png")):
        file = source / os.fsdecode(name)
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 40), (10 * red, 0, 0)).save(file)
    (source / os.fsdecode(b"broken\xe9.png")).write_bytes(b"no image")
    said = batch.embed(source, tmp_path / out, "any", config)
    assert said.endswith("1 features of 3 images")
    table = pd.read_csv(tmp_path / "features.csv")
    assert table["file"].tolist() == ["1.png", r"caf\xe9.png", r"deep/line\nend.png"]
    values = table["feature_0"] if out.endswith("csv") else np.load(tmp_path / out, allow_pickle=False)[:, 0]
    assert list(values) == [0, 10, 20]
    assert "passed over: .thumbnails: hidden or a tool's, not entered, 1 files inside" in caplog.text
    assert r"broken\xe9.png left out: cannot be read" in caplog.text
    caplog.text.encode()


# The images that a network is given


def test_crops_are_the_middle_of_the_images_that_were_chosen(tmp_path: Path) -> None:
    wide = np.zeros((SIDE, 3 * SIDE, 3), np.uint8)
    wide[:, SIDE : 2 * SIDE] = pixels(1)[0]
    for name, image in [
        ("a", np.zeros((10, 10, 3), np.uint8)),
        ("b", wide),
        ("c", np.full((300, 200, 3), 77, np.uint8)),
    ]:
        Image.fromarray(image).save(tmp_path / f"{name}.png")
    pool = CentreCrops(ImageFolder(tmp_path), np.array([1, 2]), SIDE)
    assert [pool.name(index) for index in range(len(pool))] == ["b.png", "c.png"]
    assert np.array_equal(pool.batch([0, 1]), np.stack([wide[:, SIDE : 2 * SIDE], np.full((SIDE, SIDE, 3), 77)]))
    assert np.array_equal(centre_square(pixels(1)[0]), pixels(1)[0])


def test_crops_have_the_side_that_is_asked_for(tmp_path: Path) -> None:
    wide = np.zeros((150, 400, 3), np.uint8)
    wide[:, 125:275] = pixels(1, 150)[0]
    Image.fromarray(wide).save(tmp_path / "wide.png")
    pool = CentreCrops(ImageFolder(tmp_path), np.array([0]), 128)
    assert pool.size(0) == (128, 128)
    assert np.array_equal(pool.batch([0])[0], centre_square(pixels(1, 150)[0], 128))
    assert np.array_equal(CentreCrops(ImageFolder(tmp_path), np.array([0]), 150)[0], pixels(1, 150)[0])


def test_what_is_left_out_or_read_in_a_special_way_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    Image.new("RGB", (40, 40), "red").save(tmp_path / "a.png")
    Image.new("RGBA", (40, 40), (0, 0, 0, 0)).save(tmp_path / "logo.png")
    (tmp_path / "broken.png").write_bytes(b"no image")
    pool = batch._usable_images(tmp_path, Config.model_validate(profile_values("tiny_bench")), 96)
    assert [pool.name(index) for index in range(len(pool))] == ["a.png", "logo.png"]
    assert (pool[1] == 255).all()
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == 2
    assert told[0].startswith("broken.png left out: cannot be read: ")
    assert told[1] == "logo.png: transparent, put on white"


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
    values = profile_values("own_unlabelled")
    values["features"] = PARAMS.model_dump(mode="json")
    values["machine"]["device"] = "cpu"
    said = batch.embed(tmp_path / "photos", tmp_path / "out.npy", "baseline", Config.model_validate(values))
    assert "of 3 images" in said
    folder = ImageFolder(tmp_path / "photos")
    squares = np.stack([centre_square(folder[number], 128) for number in (0, 1, 2, 2)])
    expected = eval_features(load(model), PARAMS, torch.device("cpu"))(squares)[:3]
    assert np.array_equal(np.load(tmp_path / "out.npy"), expected)
    # A file is of the side that its own set says.
    stored = pixels(9, 64)
    write_images(tmp_path / "data/unlabeled_X.bin", stored, 64)
    config = Config.model_validate(values)
    batch.embed(tmp_path / "data/unlabeled_X.bin", tmp_path / "file.npy", "baseline", config)
    squares = np.stack([centre_square(image, 128) for image in stored])
    expected = PackedModel(model_packed(model, tmp_path), "cpu").embed(squares)
    assert np.array_equal(np.load(tmp_path / "file.npy"), expected)


def model_packed(model: Path, tmp_path: Path) -> Path:
    pack(tmp_path / "packed", model, PARAMS)
    return tmp_path / "packed"


# A variant's classifier


def with_classes(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    means = pixels.mean(axis=(1, 2), dtype=np.float32)
    return np.stack([means[:, 0] - means[:, 2], means[:, 2] - means[:, 0]], axis=1)


@contextmanager
def loaded_with_classes(*_: Any) -> Iterator[Any]:
    def table(scores: NDArray[np.float32]) -> pd.DataFrame:
        return pd.DataFrame({"class": np.array(["red", "blue"], object)[scores.argmax(axis=1)]})

    batch_size = 4
    yield SimpleNamespace(
        embed=with_classes,
        scores=lambda rows: rows,
        table=table,
        batch_size=batch_size,
        side=96,
        classes=["red", "blue"],
    )


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Eleven images, more than two batches; no pipeline around them."""
    monkeypatch.setattr(batch, "loaded", loaded_with_classes)
    monkeypatch.chdir(tmp_path)
    for number in range(11):
        path = tmp_path / "photos" / f"{number:02}.png"
        path.parent.mkdir(exist_ok=True)
        Image.new("RGB", (40, 40), (200, 0, 100) if number % 3 else (0, 0, 10 * number)).save(path)
    return tmp_path / "photos"


def test_classes_are_predicted_a_batch_at_a_time(photos: Path, config: Config) -> None:
    assert batch.predict(photos, Path("out.npy"), "baseline", config) == "out.npy: classes of 11 images"
    table = pd.read_csv("out.csv")
    assert table["class"].tolist() == ["red" if number % 3 or not number else "blue" for number in range(11)]
    scores = np.load("out.npy", allow_pickle=False)
    expected = with_classes(CentreCrops(ImageFolder(photos), np.arange(11), 96).batch(range(11)))
    np.testing.assert_array_equal(scores, expected)


def test_a_classifier_that_does_not_belong_to_what_is_here_is_refused(
    photos: Path, config: Config, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Features of another kind give wrong classes, and nothing shows it."""
    Path("dvc.lock").touch()
    why: dict[str, str | None] = {"mismatch": "features are others", "date": "the same"}
    monkeypatch.setattr(lineage, "read_lock", dict)
    monkeypatch.setattr(lineage, "out_of_date", lambda stage, records: why["date"])
    monkeypatch.setattr(batch, "_mismatch", lambda *_: why["mismatch"])
    said = r"classifier of baseline does not belong to what is here: features are others; `dvc repro evaluate@baseline`"
    with pytest.raises(PackedModelError, match=said):
        batch.predict(photos, Path("out.csv"), "baseline", config)
    assert not Path("out.csv").exists()
    batch.predict(photos, Path("out.csv"), "models:/exemplarcnn-classifier/1", config)  # it brings what it needs
    why |= {"mismatch": None, "date": "params.yaml says train.epochs: 9, but train@baseline ran with 5"}
    batch.predict(photos, Path("out.csv"), "baseline", config)
    assert "train.epochs: 9" in caplog.text


def records_of(config: Config) -> dict[str, Record]:
    """The stages from a network to its classifier, as dvc.lock records them."""
    weights = "models/b/weights.safetensors"
    features = {"features": config.features.model_dump(mode="json")}
    return {
        "train@b": Record("train@b", {}, {"train": 1}, {"models/b": "m.dir"}),
        "embed@b": Record("embed@b", {weights: "w", "data": "d"}, features, {"features/b": "f.dir"}),
        "evaluate@b": Record("evaluate@b", {"data": "d", "features/b/eval": "e"}, {}, {"classifiers/b": "c.dir"}),
    }


def test_what_a_classifier_belongs_to(photos: Path, config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    altered: list[str] = []
    monkeypatch.setattr(stl10, "data_digest", lambda path: "d")
    monkeypatch.setattr(lineage, "changed_outs", lambda stage, records: altered)
    records = records_of(config)
    assert batch._mismatch("b", config, records) is None
    altered[:] = ["metrics/b/eval.json"]
    assert batch._mismatch("b", config, records) is None, "figures do not classify"
    for name in ("models/b", "classifiers/b"):
        altered[:] = [name]
        assert batch._mismatch("b", config, records) == f"{name} is not what `dvc repro` made"
    altered.clear()
    other = config.model_copy(update={"features": config.features.model_copy(update={"mirror": True})})
    assert batch._mismatch("b", other, records) == "params.yaml says features.mirror: True, but embed@b ran with False"
    longer = config.model_copy(update={"train": config.train.model_copy(update={"epochs": 99})})
    assert batch._mismatch("b", longer, records) is None, "a parameter of the next training"
    assert batch._mismatch("b", config, {"train@b": records["train@b"]}) == "embed@b has not run"
    monkeypatch.setattr(stl10, "data_digest", lambda path: "others")
    assert batch._mismatch("b", config, records) == "evaluate@b ran on other data than data.dvc names"
