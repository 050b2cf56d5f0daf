"""The residual network of the semi-supervised experiment (docs/method.md, section 6.2)."""

from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from typing import Any

import albumentations as A
import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, Bottleneck
from torchvision.models.resnet import ResNet as TorchvisionResNet

from exemplarcnn import rng
from exemplarcnn.config import Augment, ResNet, ResNetGroups
from exemplarcnn.data.types import Pixels, Pool
from exemplarcnn.networks.exemplar_cnn import Classifier, with_rates
from exemplarcnn.training.batches import Batch, ahead

LAYERS: dict[int, tuple[type[BasicBlock | Bottleneck], list[int]]] = {
    10: (BasicBlock, [1, 1, 1, 1]),
    18: (BasicBlock, [2, 2, 2, 2]),
    34: (BasicBlock, [3, 4, 6, 3]),
    50: (Bottleneck, [3, 4, 6, 3]),
}
CHUNK = 256


class ResNetClassifier(Classifier):
    """torchvision's residual network, with a smaller stem: images have fewer pixels than the 224×224 it was made for.

    Parameters
    ----------
    params
        Depth and stem.
    classes
        How many there are.
    mean, std
        Per-channel statistics of the images in 0–1, kept with the weights: images come in as uint8.
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
        """Return logits, (n, classes), of normalised images."""
        logits: Tensor = self.body(x)
        return logits

    def parameter_groups(self, groups: ResNetGroups) -> list[dict[str, Any]]:
        """Weights of convolutions and of the last layer; and all else, which is not decayed as a rule."""
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


class Labelled:
    """Images with labels, as they are: what a training is watched by.

    Parameters
    ----------
    pools
        By name; all images are squares of one size.
    table
        Which images, with ``pool``, ``image_id`` and ``label``; at least one.
    device
        Where batches are wanted.
    """

    def __init__(self, pools: Mapping[str, Pool], table: pd.DataFrame, device: torch.device):
        self.pools, self.device = pools, device
        self.names = table["pool"].to_numpy()
        self.ids = table["image_id"].to_numpy(np.int64)
        self.labels = torch.from_numpy(table["label"].to_numpy(np.int64).copy())
        self.side, _ = pools[self.names[0]].size(int(self.ids[0]))

    def __len__(self) -> int:
        return len(self.ids)

    def each(self, rows: Iterable[NDArray[np.int64]], epoch: int) -> Iterator[Batch]:
        """Yield the batch of each of several groups of rows, reading the next while one is in use."""
        return ahead(self.get, rows)

    def get(self, rows: NDArray[np.int64]) -> Batch:
        """Return images (n, side, side, 3) uint8 and labels (n,) int64 of some rows."""
        return self._batch(self.pixels(rows), rows)

    def pixels(self, rows: NDArray[np.int64]) -> Pixels:
        """Return images, (n, side, side, 3) uint8."""
        images = np.empty((len(rows), self.side, self.side, 3), np.uint8)
        for name in np.unique(self.names[rows]):
            mine = self.names[rows] == name
            images[mine] = self.pools[name].batch(self.ids[rows[mine]])
        return images

    def _batch(self, images: Pixels, rows: NDArray[np.int64]) -> Batch:
        return torch.from_numpy(images).to(self.device), self.labels[torch.from_numpy(rows)].to(self.device)


class Augmented(Labelled):
    """Images with labels, each time another crop in other colours.

    An epoch has a fixed number of images, whatever the number in the table: so few labels get as many steps as many.
    Image after image of the table is taken, in an order of its own for each pass, and the next epoch goes on there.

    Parameters
    ----------
    pools, table, device
        As above.
    augment, epoch_images, seed
        The ranges of the changes, the images an epoch, the experiment's seed.
    """

    def __init__(
        self,
        pools: Mapping[str, Pool],
        table: pd.DataFrame,
        device: torch.device,
        augment: Augment,
        epoch_images: int,
        seed: int,
    ):
        super().__init__(pools, table, device)
        self.recipe, self.epoch_images, self.seed = recipe(augment, self.side), epoch_images, seed
        self._stream = rng.Stream(seed, rng.Purpose.AUGMENTATION)

    def __len__(self) -> int:
        return self.epoch_images

    def each(self, rows: Iterable[NDArray[np.int64]], epoch: int) -> Iterator[Batch]:
        """Yield the batch of each of several groups of an epoch's rows, drawing the next while one is in use."""
        return ahead(partial(self.draw, places=self.places(epoch), epoch=epoch), rows)

    def places(self, epoch: int) -> NDArray[np.int64]:
        """Return the table's row of each row of an epoch, (epoch_images,)."""
        steps = epoch * self.epoch_images + np.arange(self.epoch_images)
        turn, within = np.divmod(steps, len(self.ids))
        orders = {
            number: rng.generator(self.seed, rng.Purpose.PASS, number).permutation(len(self.ids))
            for number in np.unique(turn).tolist()
        }
        found: NDArray[np.int64] = np.concatenate([orders[number][within[turn == number]] for number in orders])
        return found

    def draw(self, rows: NDArray[np.int64], places: NDArray[np.int64], epoch: int) -> Batch:
        """Return images, changed as (epoch, row) decides, and labels, of some rows of an epoch."""
        images = self.pixels(places[rows])
        for image, row in zip(images, rows.tolist(), strict=True):
            self.recipe.set_random_seed(int(self._stream.at(epoch, row).integers(2**31)))
            image[:] = self.recipe(image=image)["image"]
        return self._batch(images, places[rows])


def recipe(augment: Augment, side: int) -> A.Compose:
    """Return the changes that training images, squares of `side` pixels, go through."""
    return A.Compose(
        [
            A.RandomResizedCrop((side, side), scale=augment.scale, p=1),
            A.HorizontalFlip(p=augment.flip),
            A.ColorJitter(
                brightness=_about_one(augment.brightness),
                contrast=_about_one(augment.contrast),
                saturation=_about_one(augment.saturation),
                hue=(-augment.hue, augment.hue),
                p=1,
            ),
        ]
    )


def _about_one(amount: float) -> tuple[float, float]:
    return max(0.0, 1 - amount), 1 + amount


def channel_statistics(source: Labelled) -> tuple[list[float], list[float]]:
    """Return mean and standard deviation of each channel over all images as they are, in 0–1.

    Sums are whole numbers, so that no order of images can change them.
    """
    count, first, second = 0, np.zeros(3, np.int64), np.zeros(3, np.int64)
    for start in range(0, len(source.ids), CHUNK):
        values = source.pixels(np.arange(start, min(start + CHUNK, len(source.ids)))).reshape(-1, 3).astype(np.int64)
        count += len(values)
        first += values.sum(axis=0)
        second += np.square(values).sum(axis=0)
    mean = first / count
    return (mean / 255).tolist(), (np.sqrt(np.maximum(second / count - mean**2, 1)) / 255).tolist()


def predict(network: ResNetClassifier, pool: Pool, device: torch.device) -> NDArray[np.float32]:
    """Return the logits of all images of a pool, (images, classes), from chunks of one size."""
    network.eval()
    found = []
    with torch.inference_mode():
        for start in range(0, len(pool), CHUNK):
            rows = np.minimum(np.arange(start, start + CHUNK), len(pool) - 1)
            images = network.normalise(torch.from_numpy(pool.batch(rows)).to(device))
            found.append(network(images).float().cpu().numpy()[: len(pool) - start])
    return np.concatenate(found)
