"""Sizes by arithmetic, against networks."""

from typing import Any

import numpy as np
import pytest
import torch

from exemplarcnn.clustering import sample, widths
from exemplarcnn.config.base import LAYERS
from exemplarcnn.config.params import parse
from exemplarcnn.config.sections import Features
from exemplarcnn.config.variants import KMeans, RawPixels
from exemplarcnn.data import near_duplicates
from exemplarcnn.evaluation import kmeans
from exemplarcnn.networks import exemplar_cnn
from exemplarcnn.networks.exemplar_cnn import ExemplarCNN
from exemplarcnn.networks.features import cluster_features, eval_features
from exemplarcnn.networks.resnet import ResNetClassifier
from exemplarcnn.planning import shapes, works
from tests.conftest import profile_values

CPU = torch.device("cpu")
CONFIG = parse(profile_values("tiny_bench"), "tiny_bench")
PAPER = parse(profile_values("paper"), "paper")


@pytest.mark.parametrize("classes", [2, 16_000])
@pytest.mark.parametrize("patch", [32, 96])
@pytest.mark.parametrize("batch_norm", [False, True])
def test_weights(patch: int, classes: int, batch_norm: bool) -> None:
    params = PAPER.network.model_copy(update={"batch_norm": batch_norm})
    with torch.device("meta"):
        network = ExemplarCNN(params, classes, patch)
    assert shapes.weights(params, classes) == sum(value.numel() for value in network.state_dict().values())


@pytest.mark.parametrize("depth", [10, 18, 34, 50])
@pytest.mark.parametrize("classes", [2, 100])
def test_weights_of_residual_networks(depth: int, classes: int) -> None:
    config = CONFIG.model_copy(update={"resnet": CONFIG.resnet.model_copy(update={"depth": depth})})
    with torch.device("meta"):
        network = ResNetClassifier(config.resnet, classes)
    assert shapes.resnet_weights(config, classes) == sum(value.numel() for value in network.state_dict().values())


@pytest.mark.parametrize("depth", [10, 18, 34, 50])
@pytest.mark.parametrize(("side", "stem_stride", "stem_pool"), [(96, 2, False), (96, 1, True), (224, 2, True)])
def test_maps_of_residual_networks(depth: int, side: int, stem_stride: int, stem_pool: bool) -> None:
    changed = {"depth": depth, "stem_stride": stem_stride, "stem_pool": stem_pool}
    params = CONFIG.resnet.model_copy(update=changed)
    sizes: list[int] = []
    with torch.device("meta"):
        network = ResNetClassifier(params, 10).eval()
        for module in network.modules():
            if isinstance(module, torch.nn.Conv2d | torch.nn.BatchNorm2d | torch.nn.ReLU | torch.nn.MaxPool2d):
                module.register_forward_hook(lambda module, inputs, out: sizes.append(out.numel()))
        network(torch.empty(1, 3, side, side))
    assert shapes.resnet_maps(params, side) == sum(sizes)


@pytest.mark.parametrize(("patch", "side"), [(32, 32), (32, 61), (32, 96), (96, 96), (40, 96), (32, 256)])
@pytest.mark.parametrize(("stride", "pool"), [(7, 2), (1, 3)])
def test_lengths_of_features(patch: int, side: int, stride: int, pool: int) -> None:
    network = exemplar_cnn.initialise(CONFIG.network, 30, patch, 0)
    images = np.zeros((1, side, side, 3), np.uint8)
    for layers in (LAYERS, ("dense1",), ("conv1", "dense2")):
        others: dict[str, Any] = {"normalise": True, "batch_size": 1, "precision": "fp32"}
        others |= {"mirror": False, "power": 1.0}
        params = Features(layers=layers, pool=pool, dense_stride=stride, **others)
        found = eval_features(network, params, CPU)(images)
        assert shapes.features(CONFIG, params, patch, 30, side) == found.shape[1]
    found = cluster_features(network, CONFIG.cluster, CONFIG.features.dense_stride, CPU)(images)
    assert shapes.features(CONFIG, CONFIG.cluster, patch, 30, side) == found.shape[1]


def test_the_papers_features_are_71536() -> None:
    assert shapes.features(PAPER, PAPER.features, 32, 16_000, 96) == 71_536
    assert shapes.features(PAPER, PAPER.cluster, 32, 16_000, 96) == 3_440


def test_lengths_of_controls() -> None:
    assert shapes.control_features(RawPixels(method="pixels", side=24)) == 1_728
    sizes = {"images": 10, "side": 32, "patch": 6, "patches_per_image": 10, "centres": 20}
    assert shapes.control_features(KMeans.model_validate({"method": "kmeans", **sizes})) == 80


def test_constants_are_those_of_the_modules_that_use_them() -> None:
    assert (works.WIDTH, works.WIDTHS, works.SAMPLE) == (widths.WIDTH, widths.WIDTHS, sample.SAMPLE)
    assert (len(near_duplicates.RADIUS), kmeans.EPOCHS) == (works.SPECTRUM, works.KMEANS_EPOCHS)
    assert (shapes.DENSE_MAP, shapes.KERNEL) == (exemplar_cnn.DENSE_MAP, 5)
