"""The residual network of the semi-supervised experiment (docs/method.md, section 6.2)."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, Bottleneck
from torchvision.models.resnet import ResNet as TorchvisionResNet

from exemplarcnn import rng
from exemplarcnn.config.sections import ResNet, ResNetGroups
from exemplarcnn.data.types import Pool
from exemplarcnn.networks.chunks import map_chunks
from exemplarcnn.networks.exemplar_cnn import Classifier, taking_turns, with_rates

LAYERS: dict[int, tuple[type[BasicBlock | Bottleneck], list[int]]] = {
    10: (BasicBlock, [1, 1, 1, 1]),
    18: (BasicBlock, [2, 2, 2, 2]),
    34: (BasicBlock, [3, 4, 6, 3]),
    50: (Bottleneck, [3, 4, 6, 3]),
}
CHUNK = 64


class ResNetClassifier(Classifier):
    """torchvision's residual network, with a stem for 96×96 pixels instead of 224×224.

    Parameters
    ----------
    params
        Depth and stem.
    classes
        Number of classes.
    mean, std
        Per-channel mean and standard deviation of the training images in 0–1, stored with the weights.
    """

    def __init__(self, params: ResNet, classes: int, mean: list[float] | None = None, std: list[float] | None = None):
        super().__init__(classes, mean, std)
        block, layers = LAYERS[params.depth]
        self.body = TorchvisionResNet(block, layers, num_classes=classes)
        self.body.conv1 = nn.Conv2d(3, 64, 3, params.stem_stride, padding=1, bias=False)
        nn.init.kaiming_normal_(self.body.conv1.weight, mode="fan_out", nonlinearity="relu")
        if not params.stem_pool:
            self.body.maxpool = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits, (n, classes), of normalised images, (n, 3, side, side) float."""
        logits: Tensor = self.body(x)
        return logits

    def parameter_groups(self, groups: ResNetGroups) -> list[dict[str, Any]]:
        """Split the parameters into weights of convolutions and the last layer, and all others, usually without L2."""
        members: dict[str, list[nn.Parameter]] = {"weights": [], "others": []}
        for parameter in self.parameters():
            members["weights" if parameter.ndim > 1 else "others"].append(parameter)
        return with_rates(members, groups)


def initialise(
    params: ResNet, classes: int, seed: int, mean: list[float] | None = None, std: list[float] | None = None
) -> ResNetClassifier:
    """Build a network with torchvision's initial weights, drawn from the experiment's seed alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(rng.torch_seed(seed, rng.Purpose.RESNET_WEIGHTS))
        return ResNetClassifier(params, classes, mean, std)


def predict(network: ResNetClassifier, pool: Pool, device: torch.device) -> NDArray[np.float32]:
    """Return the logits of all images of a pool, (images, classes) float32, computed in chunks of one size."""
    network.eval()

    turn = taking_turns(device)

    def logits(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        with turn, torch.inference_mode():
            normalised = network.normalise(torch.from_numpy(images).to(device))
            found: NDArray[np.float32] = network(normalised).float().cpu().numpy()
        return found

    return np.concatenate([found for _, found in map_chunks(pool.batch, logits, len(pool), CHUNK)])
