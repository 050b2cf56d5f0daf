"""Images with labels, as they are or augmented: what the residual network trains on (docs/method.md, section 6.2)."""

from collections.abc import Iterable, Iterator, Mapping
from functools import partial

import albumentations as A
import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from exemplarcnn import rng
from exemplarcnn.config.sections import Augment
from exemplarcnn.data.types import Pixels, Pool
from exemplarcnn.threads import ahead
from exemplarcnn.training.batches import Batch

# Images whose values are summed up at a time.
CHUNK = 256


class LabelledImages:
    """Images with labels, as they are; training is validated on them.

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


class AugmentedImages(LabelledImages):
    """Images with labels, each time another crop in other colours.

    An epoch has a fixed number of images, whatever the number in the table: so few labels get as many steps as many.
    Image after image of the table is taken, in an order of its own for each pass, and the next epoch goes on there.

    Parameters
    ----------
    pools, table, device
        As for :class:`LabelledImages`.
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
        self.augmentations, self.epoch_images, self.seed = augmentations(augment, self.side), epoch_images, seed
        self._stream = rng.Stream(seed, rng.Purpose.AUGMENTATION)

    def __len__(self) -> int:
        return self.epoch_images

    def each(self, rows: Iterable[NDArray[np.int64]], epoch: int) -> Iterator[Batch]:
        """Yield the batch of each of several groups of an epoch's rows, drawing the next while one is in use."""
        return ahead(partial(self.draw, table_rows=self.table_rows(epoch), epoch=epoch), rows)

    def table_rows(self, epoch: int) -> NDArray[np.int64]:
        """Return the table's row of each row of an epoch, (epoch_images,)."""
        steps = epoch * self.epoch_images + np.arange(self.epoch_images)
        turn, within = np.divmod(steps, len(self.ids))
        orders = {
            number: rng.generator(self.seed, rng.Purpose.PASS, number).permutation(len(self.ids))
            for number in np.unique(turn).tolist()
        }
        found: NDArray[np.int64] = np.concatenate([orders[number][within[turn == number]] for number in orders])
        return found

    def draw(self, rows: NDArray[np.int64], table_rows: NDArray[np.int64], epoch: int) -> Batch:
        """Return images, changed as (epoch, row) decides, and labels, of some rows of an epoch."""
        images = self.pixels(table_rows[rows])
        for image, row in zip(images, rows.tolist(), strict=True):
            self.augmentations.set_random_seed(int(self._stream.at(epoch, row).integers(2**31)))
            image[:] = self.augmentations(image=image)["image"]
        return self._batch(images, table_rows[rows])


def augmentations(augment: Augment, side: int) -> A.Compose:
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


def channel_statistics(source: LabelledImages) -> tuple[list[float], list[float]]:
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
