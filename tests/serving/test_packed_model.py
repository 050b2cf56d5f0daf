"""Packed models: the same numbers as the pipeline, and errors for what does not fit."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from exemplarcnn.config.params import Config
from exemplarcnn.data.types import DataError
from exemplarcnn.networks.features import eval_features
from exemplarcnn.networks.saved import load
from exemplarcnn.serving import packed_model
from exemplarcnn.serving.encoder import EncoderError
from exemplarcnn.serving.packed_model import PackedModel, PackedModelError, pack
from tests.conftest import profile_values
from tests.serving.networks import NAMES, PARAMS, of_side, pixels

# On a processor without bfloat16, too: slowly, but networks are small here.
pytestmark = pytest.mark.usefixtures("bfloat16")


@pytest.mark.parametrize(("precision", "apart"), [("fp32", 1e-6), ("bf16", 0.01)])
def test_features_are_those_of_the_pipeline(model: Path, tmp_path: Path, precision: str, apart: float) -> None:
    params = PARAMS.model_copy(update={"precision": precision})
    pack(tmp_path / "packed", model, params)
    ready = PackedModel(tmp_path / "packed", "cpu")
    describe = eval_features(load(model), params, torch.device("cpu"))
    batch = pixels(6)
    expected = np.concatenate([describe(batch[:4]), describe(batch[[4, 5, 5, 5]])[:2]])
    assert np.array_equal(ready.embed(batch), expected)
    np.testing.assert_allclose(ready.embed(batch, padded=False), expected, atol=apart)
    assert ready.embed(batch[:0]).shape == (0, ready.size)
    assert ready.classes == []
    with pytest.raises(PackedModelError, match="no classifier"):
        ready.scores(expected)


def test_scores_are_those_of_the_svm(model: Path, svm: Path, tmp_path: Path) -> None:
    pack(tmp_path / "packed", model, PARAMS, svm, NAMES)
    ready = PackedModel(tmp_path / "packed", "cpu")
    features = ready.embed(pixels(3))
    scores = ready.scores(features)
    table = ready.table(scores)
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
    with pytest.raises(PackedModelError, match=f"lacks {missing}"):
        PackedModel(tmp_path / "packed")
    (model / missing).unlink()
    with pytest.raises(PackedModelError, match=rf"{missing} is not there; `dvc repro` makes it"):
        pack(tmp_path / "again", model, PARAMS)


def test_a_classifier_of_another_network_is_refused(model: Path, svm: Path, tmp_path: Path) -> None:
    pack(tmp_path / "packed", model, PARAMS, svm, NAMES)
    about = json.loads((tmp_path / "packed" / "features.json").read_text())
    (tmp_path / "packed" / "features.json").write_text(json.dumps(about | {"pool": 1}))
    with pytest.raises(PackedModelError, match="belongs to another network"):
        PackedModel(tmp_path / "packed")


# Images of another side


@pytest.mark.parametrize("side", [32, 64, 128])
def test_a_packed_model_brings_the_side_of_its_images(model: Path, tmp_path: Path, side: int) -> None:
    of_side(model, side)
    pack(tmp_path / "packed", model, PARAMS)
    ready = PackedModel(tmp_path / "packed", "cpu")
    batch = pixels(4, side)
    expected = eval_features(load(model), PARAMS, torch.device("cpu"))(batch)
    assert (ready.side, ready.size) == (side, expected.shape[1])
    assert np.array_equal(ready.embed(batch), expected)


def test_one_of_before_there_was_another_side_takes_stl10s(model: Path, tmp_path: Path) -> None:
    pack(tmp_path / "packed", model, PARAMS)
    assert "side" not in (tmp_path / "packed" / "network.json").read_text()
    assert PackedModel(tmp_path / "packed", "cpu").side == 96


@pytest.mark.parametrize("side", [31, 257, "x"])
def test_a_packed_model_of_no_side_is_refused(model: Path, tmp_path: Path, side: object) -> None:
    of_side(model, side)
    pack(tmp_path / "packed", model, PARAMS)
    with pytest.raises(DataError, match=r"network\.json: found .* for the side of images"):
        PackedModel(tmp_path / "packed", "cpu")


# Models that former code has packed


def former(model: Path, folder: Path, **changes: object) -> Path:
    """Pack a model as code did in which ``batch_size`` was called ``chunk``, and ``precision`` was none."""
    pack(folder, model, PARAMS)
    about = json.loads((folder / "features.json").read_text())
    about["chunk"] = about.pop("batch_size")
    del about["precision"]
    (folder / "features.json").write_text(json.dumps(about | changes))
    return folder


def test_a_model_of_before_a_parameter_had_its_name_is_read(model: Path, tmp_path: Path) -> None:
    pack(tmp_path / "packed", model, PARAMS)
    now, before = PackedModel(tmp_path / "packed", "cpu"), PackedModel(former(model, tmp_path / "former"), "cpu")
    assert before.batch_size == now.batch_size == 4
    assert np.array_equal(before.embed(pixels(6)), now.embed(pixels(6)))


@pytest.mark.parametrize(("changes", "names"), [({"grid": 2}, "grid"), ({"pool": 0, "odd": 1}, "odd, pool")])
def test_parameters_that_this_code_cannot_read_are_named_with_what_to_do(
    model: Path, tmp_path: Path, changes: dict[str, int], names: str
) -> None:
    folder = former(model, tmp_path / "former", **changes)
    with pytest.raises(EncoderError, match=rf"features\.json: found {names}, which this code cannot read; train"):
        PackedModel(folder, "cpu")


# The classifier of a variant


def test_a_variant_has_a_classifier_where_it_is_evaluated_with_all_labels() -> None:
    values = profile_values("tiny_bench")
    config = Config.model_validate(values)
    assert packed_model.classifier_of("baseline", config) == Path("classifiers/baseline/all.safetensors")
    assert packed_model.classifier_of("nobody", config) is None
    values["evaluate"]["protocols"] = [each for each in values["evaluate"]["protocols"] if each["labels"] != "all"]
    assert packed_model.classifier_of("baseline", Config.model_validate(values)) is None
