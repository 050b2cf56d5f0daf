"""How many weights networks have, and how many numbers describe an image: without computing any."""

import torch

from exemplarcnn.config.params import Config
from exemplarcnn.config.sections import ClusterFeatures, Features
from exemplarcnn.config.variants import KMeans, RawPixels
from exemplarcnn.networks.exemplar_cnn import ExemplarCNN
from exemplarcnn.networks.resnet import ResNetClassifier

NOWHERE = torch.device("meta")  # tensors that have a shape and no content


def weights(config: Config, patch: int, classes: int) -> int:
    """Return how many weights a network for patches has."""
    return _count(_network(config, patch, classes))


def resnet_weights(config: Config, classes: int) -> int:
    """Return how many weights the residual network has."""
    with NOWHERE:
        return _count(ResNetClassifier(config.resnet, classes))


def _count(network: torch.nn.Module) -> int:
    return sum(tensor.numel() for tensor in network.state_dict().values())


def _network(config: Config, patch: int, classes: int) -> ExemplarCNN:
    with NOWHERE:
        return ExemplarCNN(config.network, classes, patch)


def features(config: Config, params: Features | ClusterFeatures, patch: int, classes: int, side: int) -> int:
    """Return how many numbers a network describes an image with.

    Parameters
    ----------
    config
        The parameters.
    params
        Which layers, and to which side their maps are pooled.
    patch, classes
        Side of the network's patches in pixels, and number of its surrogate classes.
    side
        Side of the images in pixels.
    """
    stride = params.dense_stride if isinstance(params, Features) else config.features.dense_stride
    with torch.inference_mode():
        maps = _network(config, patch, classes).maps(torch.empty(1, 3, side, side, device=NOWHERE), stride)
    found = 0
    for layer in params.layers:
        _, channels, height, width = maps[layer][0].shape
        found += channels * (1 if (height, width) == (1, 1) else params.pool**2)
    return found


def control_features(params: RawPixels | KMeans) -> int:
    """Return how many numbers a control describes an image with."""
    return 3 * params.side**2 if isinstance(params, RawPixels) else 4 * params.centres
