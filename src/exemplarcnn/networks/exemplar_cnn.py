"""The network: three convolutions and two dense layers (docs/method.md, section 3)."""

from abc import abstractmethod
from contextlib import AbstractContextManager, nullcontext
from threading import Lock
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from exemplarcnn import rng
from exemplarcnn.config.sections import Groups, Network

Module = TypeVar("Module", bound=nn.Module)
# Side of the third convolution's map for a 32×32 patch; for other patch sizes the map is pooled to this side.
DENSE_MAP = 7


class Classifier(nn.Module):
    """A network that classifies images and normalises them itself.

    Parameters
    ----------
    classes
        Number of classes.
    mean, std
        Per-channel mean and standard deviation of the training images in 0–1, stored with the weights.
    """

    def __init__(self, classes: int, mean: list[float] | None = None, std: list[float] | None = None):
        super().__init__()
        self.classes = classes
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", torch.tensor(mean or [0.0] * 3).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(std or [1.0] * 3).view(1, 3, 1, 1))
        # Of what dropout draws; None: torch's global one.
        self.generator: torch.Generator | None = None

    def normalise(self, images: Tensor) -> Tensor:
        """Turn uint8 images into the network's input.

        Parameters
        ----------
        images
            (n, height, width, 3) uint8.

        Returns
        -------
        Tensor
            (n, 3, height, width) float32, with zero mean and unit variance per channel over the training images.
            Channels stay last in memory, as in the images.
        """
        planes = images.permute(0, 3, 1, 2).float().div_(255)
        return planes.sub_(self.mean).div_(self.std)

    def tensors(self) -> dict[str, Tensor]:
        """Return parameters and buffers by name, contiguous and on the CPU, ready to be saved."""
        return {name: value.detach().cpu().contiguous() for name, value in self.state_dict().items()}

    @abstractmethod
    def parameter_groups(self, groups: Any) -> list[dict[str, Any]]:
        """Group the parameters by learning rate and L2 factor, as torch optimisers take them.

        Returns
        -------
        list of dict
            Groups with ``name``, ``params``, ``lr``, ``initial_lr`` and ``weight_decay``.
        """


def with_rates(members: dict[str, list[nn.Parameter]], groups: Any) -> list[dict[str, Any]]:
    """Give each group of parameters the learning rate and L2 factor configured under its name."""
    rows = ((name, getattr(groups, name), params) for name, params in members.items())
    return [
        {"name": name, "params": params, "lr": row.lr, "initial_lr": row.lr, "weight_decay": row.l2}
        for name, row, params in rows
    ]


class ExemplarCNN(Classifier):
    """The patch classifier (docs/method.md, section 3); ``params.yaml`` refers to its layers by these names.

    For 32×32 patches the maps are widths[0]×32×32 → 15×15, widths[1]×15×15 → 7×7, widths[2]×7×7, then
    ``dense`` and ``classes`` numbers. For any other patch size the last map is max-pooled adaptively to 7×7
    (docs/method.md, section 6.1), so that the dense layers keep their size.

    Parameters
    ----------
    params
        Widths, size of the dense layer, dropout, batch normalisation.
    classes
        Number of surrogate classes.
    patch
        Side of a patch in pixels.
    mean, std
        Per-channel mean and standard deviation of the training patches in 0–1, stored with the weights.
    """

    def __init__(
        self,
        params: Network,
        classes: int,
        patch: int,
        mean: list[float] | None = None,
        std: list[float] | None = None,
    ):
        super().__init__(classes, mean, std)
        first, second, third = params.widths
        self.patch = patch
        self.conv1 = nn.Conv2d(3, first, 5, padding=2)
        self.conv2 = nn.Conv2d(first, second, 5, padding=2)
        self.conv3 = nn.Conv2d(second, third, 5, padding=2)
        self.norm1, self.norm2, self.norm3 = (
            nn.BatchNorm2d(width) if params.batch_norm else nn.Identity() for width in params.widths
        )
        self.dense1 = nn.Linear(third * DENSE_MAP * DENSE_MAP, params.dense)
        self.dense2 = nn.Linear(params.dense, classes)
        self.dropout_conv, self.dropout_dense = params.dropout_conv, params.dropout_dense

    def forward(self, x: Tensor) -> Tensor:
        """Compute the class scores of patches.

        Parameters
        ----------
        x
            (n, 3, patch, patch) float, normalised.

        Returns
        -------
        Tensor
            (n, classes) logits.
        """
        x = self._dropped(pool(F.relu(self.norm1(self.conv1(x)))), self.dropout_conv)
        x = self._dropped(pool(F.relu(self.norm2(self.conv2(x)))), self.dropout_conv)
        x = F.relu(self.norm3(self.conv3(x)))
        if x.shape[-1] != DENSE_MAP:
            x = F.adaptive_max_pool2d(x, DENSE_MAP)
        # Dropout follows the pooling, as above: it keeps the mean of its input, but not that of maxima taken later.
        x = self._dropped(x, self.dropout_conv)
        x = self._dropped(F.relu(self.dense1(x.flatten(1))), self.dropout_dense)
        logits: Tensor = self.dense2(x)
        return logits

    def _dropped(self, x: Tensor, rate: float) -> Tensor:
        """Apply dropout, drawn from the network's own generator, which `torch.nn.functional.dropout` cannot."""
        if not (self.training and rate):
            return x
        return x * torch.empty_like(x).bernoulli_(1 - rate, generator=self.generator).div_(1 - rate)

    def maps(self, x: Tensor, dense_stride: int) -> dict[str, tuple[Tensor, Tensor]]:
        """Compute every layer's map of whole images, before and after its ReLU (docs/method.md, section 4).

        The dense layers are applied as convolutions: dense1 as 7×7, dense2 as 1×1. In a network for patches other than
        32×32, dense1 gets conv3's map pooled to 7×7, so that the dense maps are 1×1.

        Parameters
        ----------
        x
            (n, 3, height, width) float, normalised; at least one patch high and wide.
        dense_stride
            Stride of dense1 as a convolution.

        Returns
        -------
        dict
            Layer name to (before ReLU, after ReLU), each (n, channels, rows, columns).
        """
        result = {}
        x = self.norm1(self.conv1(x))
        result["conv1"] = x, (active := F.relu(x))
        x = self.norm2(self.conv2(pool(active)))
        result["conv2"] = x, (active := F.relu(x))
        x = self.norm3(self.conv3(pool(active)))
        result["conv3"] = x, (active := F.relu(x))
        if self.patch != 32:
            active = F.adaptive_max_pool2d(active, DENSE_MAP)
        kernel = self.dense1.weight.view(self.dense1.out_features, -1, DENSE_MAP, DENSE_MAP)
        x = F.conv2d(active, kernel, self.dense1.bias, stride=dense_stride)
        result["dense1"] = x, (active := F.relu(x))
        x = F.conv2d(active, self.dense2.weight[:, :, None, None], self.dense2.bias)
        result["dense2"] = x, F.relu(x)
        return result

    def parameter_groups(self, groups: Groups) -> list[dict[str, Any]]:
        """Group the parameters by learning rate and L2 factor, as torch optimisers take them.

        Returns
        -------
        list of dict
            One group for each of the five weight tensors and one for all biases and what batch normalisation learns,
            each with ``name``, ``params``, ``lr``, ``initial_lr`` and ``weight_decay``.
        """
        members: dict[str, list[nn.Parameter]] = {name: [] for name in type(groups).model_fields}
        for name, parameter in self.named_parameters():
            layer, kind = name.split(".")
            members[layer if kind == "weight" and layer in members else "bias"].append(parameter)
        return with_rates(members, groups)


def pool(x: Tensor) -> Tensor:
    """Apply 3×3 max pooling with stride 2 and no padding: 32 → 15 → 7."""
    return F.max_pool2d(x, 3, 2)


def to_device(network: Module, device: torch.device, layout: torch.memory_format) -> Module:
    """Move a network to a device and into a memory layout, in place; return it."""
    # torch documents this call, but its type stubs have no overload with memory_format.
    network.to(device=device, memory_format=layout)  # type: ignore[call-overload]
    return network


def taking_turns(device: torch.device) -> AbstractContextManager[Any]:
    """Return a context for forward passes of several threads: on a GPU, whose memory is for one of them, a lock."""
    return Lock() if device.type == "cuda" else nullcontext()


def initialise(
    params: Network,
    classes: int,
    patch: int,
    seed: int,
    mean: list[float] | None = None,
    std: list[float] | None = None,
) -> ExemplarCNN:
    """Build a network with PyTorch's default initial weights, drawn from the experiment's seed alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(rng.torch_seed(seed, rng.Purpose.WEIGHTS))
        return ExemplarCNN(params, classes, patch, mean, std)
