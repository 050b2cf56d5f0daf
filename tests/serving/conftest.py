"""A small trained network, and a classifier of its features."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from exemplarcnn.config.sections import Network
from exemplarcnn.networks.exemplar_cnn import initialise
from exemplarcnn.networks.features import eval_features
from exemplarcnn.networks.saved import describe, load, save_weights
from tests.serving.networks import NAMES, PARAMS, pixels


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "models" / "baseline"
    params = Network(widths=(4, 5, 6), dense=9, dropout_conv=0.25, dropout_dense=0.5, batch_norm=False)
    mean, std = [0.4, 0.5, 0.6], [0.2, 0.3, 0.2]
    about = {"classes": 7, "patch": 32, "mean": mean, "std": std}
    folder.mkdir(parents=True)
    describe(folder / "network.json", params, about)
    save_weights(folder / "weights.safetensors", initialise(params, 7, 32, 0, mean, std))
    return folder


@pytest.fixture
def svm(model: Path, tmp_path: Path) -> Path:
    size = eval_features(load(model), PARAMS, torch.device("cpu"))(pixels(1)).shape[1]
    draw = np.random.default_rng(6)
    tensors = {"weights": draw.normal(size=(len(NAMES), size)), "intercept": draw.normal(size=len(NAMES))}
    save_file({name: value.astype(np.float32) for name, value in tensors.items()}, tmp_path / "all.safetensors")
    return tmp_path / "all.safetensors"
