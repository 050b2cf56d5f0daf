"""The residual network: shapes, initial weights, predictions."""

import numpy as np
import pytest
import torch

from exemplarcnn.data.types import Pool
from exemplarcnn.networks.resnet import ResNetClassifier, initialise, predict
from tests.labelled_images import params, pools
from tests.small_training import same, weights

__all__ = ["pools"]  # a fixture

CPU = torch.device("cpu")
# The network


@pytest.mark.parametrize(("depth", "count"), [(10, 4_903_242), (18, 11_173_962), (34, 21_282_122), (50, 23_520_842)])
def test_sizes(depth: int, count: int) -> None:
    network = ResNetClassifier(params(depth=depth), classes=10)
    assert sum(parameter.numel() for parameter in network.parameters()) == count


@pytest.mark.parametrize(("stride", "pool", "side"), [(1, False, 96), (2, False, 48), (1, True, 48), (2, True, 24)])
def test_the_stem(stride: int, pool: bool, side: int) -> None:
    network = ResNetClassifier(params(stem_stride=stride, stem_pool=pool), classes=7).eval()
    sides: list[int] = []
    network.body.layer1.register_forward_pre_hook(lambda module, inputs: sides.append(inputs[0].shape[-1]))
    assert network(network.normalise(torch.zeros(2, 96, 96, 3, dtype=torch.uint8))).shape == (2, 7)
    assert sides == [side]


def test_initial_weights_depend_on_the_seed_alone() -> None:
    first = weights(initialise(params(), 10, seed=3))
    torch.manual_seed(7)
    assert same(weights(initialise(params(), 10, seed=3)), first)
    assert not same(weights(initialise(params(), 10, seed=4)), first)


def test_every_parameter_has_its_rates() -> None:
    network = initialise(params(), 10, seed=0)
    groups = network.parameter_groups(params().groups)
    assert [(group["name"], group["lr"], group["weight_decay"]) for group in groups] == [
        ("weights", 0.02, 0.001),
        ("others", 0.02, 0.0),
    ]
    assert all(parameter.ndim > 1 for parameter in groups[0]["params"])
    assert sum(len(group["params"]) for group in groups) == len(list(network.parameters()))


def test_predictions_do_not_depend_on_the_number_of_images(
    pools: dict[str, Pool], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("exemplarcnn.networks.resnet.CHUNK", 6)
    network = initialise(params(), 10, seed=0)
    found = predict(network, pools["train"], CPU)
    assert found.shape == (14, 10)
    assert not network.training
    with torch.inference_mode():
        expected = network(network.normalise(torch.from_numpy(pools["train"].batch(range(6))))).numpy()
    np.testing.assert_array_equal(found[:6], expected)
