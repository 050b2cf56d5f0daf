"""Trained networks on disk."""

import json
import re
from pathlib import Path

import pytest
import torch

from exemplarcnn.config.sections import Network
from exemplarcnn.networks.exemplar_cnn import ExemplarCNN, initialise
from exemplarcnn.networks.saved import ModelError, describe, load, pick_device, save_weights, start_from

PARAMS = Network(widths=(4, 5, 6), dense=9, dropout_conv=0.25, dropout_dense=0.5, batch_norm=False)
MEAN, STD = [0.1, 0.2, 0.3], [0.4, 0.5, 0.6]
SUMMARY = {
    "classes": 7,
    "patch": 64,
    "mean": MEAN,
    "std": STD,
    "train_patches": 12,
    "sha256": "0",
}


def built(seed: int = 0, classes: int = 7) -> ExemplarCNN:
    return initialise(PARAMS, classes, 64, seed, MEAN, STD)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    describe(tmp_path / "network.json", PARAMS, SUMMARY)
    save_weights(tmp_path / "weights.safetensors", built(0))
    save_weights(tmp_path / "initial.safetensors", built(1))
    return tmp_path


@pytest.mark.parametrize(("file", "seed"), [("weights.safetensors", 0), ("initial.safetensors", 1)])
def test_what_is_saved_is_loaded(folder: Path, file: str, seed: int) -> None:
    network = load(folder, file)
    expected = built(seed).state_dict()
    found = network.state_dict()
    assert list(found) == list(expected)
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert (network.patch, network.dropout_conv, network.dropout_dense) == (64, 0.25, 0.5)
    assert not network.training


def test_the_trained_weights_are_loaded_unless_told_otherwise(folder: Path) -> None:
    assert torch.equal(load(folder).conv1.weight, built(0).conv1.weight)


def test_a_channels_last_network_is_saved_alike(folder: Path, tmp_path: Path) -> None:
    save_weights(tmp_path / "other.safetensors", built(0).to(memory_format=torch.channels_last))
    assert (tmp_path / "other.safetensors").read_bytes() == (folder / "weights.safetensors").read_bytes()


def test_networks_that_were_saved_before_there_was_batch_normalisation_have_none(folder: Path) -> None:
    about = json.loads((folder / "network.json").read_text())
    assert about["network"].pop("batch_norm") is False
    (folder / "network.json").write_text(json.dumps(about))
    assert torch.equal(load(folder).conv1.weight, built(0).conv1.weight)


def test_batch_normalisation_is_saved_with_its_statistics(tmp_path: Path) -> None:
    params = PARAMS.model_copy(update={"batch_norm": True})
    network = initialise(params, 7, 64, 0, MEAN, STD)
    describe(tmp_path / "network.json", params, SUMMARY)
    save_weights(tmp_path / "weights.safetensors", network.train())
    assert json.loads((tmp_path / "network.json").read_text())["network"]["batch_norm"] is True
    found = load(tmp_path).state_dict()
    assert "norm3.running_var" in found
    assert all(torch.equal(found[name], value) for name, value in network.state_dict().items())


def test_network_json_holds_what_building_needs_and_no_more(folder: Path) -> None:
    about = json.loads((folder / "network.json").read_text())
    assert set(about) == {"network", "classes", "patch", "mean", "std"}
    assert about["network"] == {
        "widths": [4, 5, 6],
        "dense": 9,
        "dropout_conv": 0.25,
        "dropout_dense": 0.5,
        "batch_norm": False,
    }


def test_nothing_but_the_files_is_left(folder: Path) -> None:
    assert {path.name for path in folder.iterdir()} == {"network.json", "weights.safetensors", "initial.safetensors"}


def test_weights_of_another_network_are_refused_by_name(folder: Path) -> None:
    save_weights(folder / "weights.safetensors", built(classes=8))
    with pytest.raises(ModelError, match=r"(?s)weights\.safetensors: it does not fit .*network\.json; .*dense2"):
        load(folder)


@pytest.mark.parametrize(
    ("name", "gpu", "expected"),
    [
        ("auto", True, "cuda"),
        ("auto", False, "cpu"),
        ("cpu", True, "cpu"),
        ("cpu", False, "cpu"),
        ("cuda", True, "cuda"),
    ],
)
def test_device(name: str, gpu: bool, expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    assert pick_device(name).type == expected


def test_a_missing_gpu_is_an_error_with_advice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ModelError, match=r"machine\.device.*auto or cpu"):
        pick_device("cuda")


def test_network_json_says_the_side_of_images_where_the_set_does(tmp_path: Path) -> None:
    describe(tmp_path / "network.json", PARAMS, SUMMARY | {"side": 128})
    assert json.loads((tmp_path / "network.json").read_text())["side"] == 128


def test_a_network_starts_from_all_but_the_last_layer_of_another(folder: Path) -> None:
    network, before, there = built(2, classes=5), built(2, classes=5), built(0)
    network.mean.zero_()
    start_from(network, folder / "weights.safetensors")
    for name, tensor in network.state_dict().items():
        own = name.startswith("dense2")
        expected = torch.zeros_like(tensor) if name == "mean" else (before if own else there).state_dict()[name]
        assert torch.equal(tensor, expected), name
    assert not torch.equal(before.conv1.weight, there.conv1.weight)


@pytest.mark.parametrize(
    ("changes", "name", "there", "here"),
    [
        ({"dense": 8}, "dense1.bias", "(9,)", "(8,)"),
        ({"batch_norm": True}, "norm1.bias", "none", "(4,)"),
    ],
)
def test_a_network_of_other_sizes_is_no_start(
    folder: Path, changes: dict[str, object], name: str, there: str, here: str
) -> None:
    network = initialise(PARAMS.model_copy(update=changes), 7, 64, 2, MEAN, STD)
    with pytest.raises(ModelError, match=re.escape(f"{name} has the shape {there}, expected {here}")):
        start_from(network, folder / "weights.safetensors")
