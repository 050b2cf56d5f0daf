"""Labelled images, unchanged or augmented, for the residual network (docs/method.md, section 6.2)."""

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

# Images whose pixels are summed at a time.
CHUNK = 256


class LabelledImages:
    """Labelled images, unchanged; training is validated on them.

    Parameters
    ----------
    pools
        Pools by name; all images are squares of one size.
    table
        One row per image, at least one, with columns ``pool``, ``image_id`` and ``label``.
    device
        The device that trains.
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
        """Yield a batch for each group of table rows, reading the next ones while one is in use.

        Every epoch has the same images, so ``epoch`` has no effect.
        """
        return ahead(self.get, rows)

    def get(self, rows: NDArray[np.int64]) -> Batch:
        """Return images, (n, side, side, 3) uint8, and labels, (n,) int64, of the given table rows."""
        return self._batch(self.pixels(rows), rows)

    def pixels(self, rows: NDArray[np.int64]) -> Pixels:
        """Return the images of the given table rows, (n, side, side, 3) uint8."""
        images = np.empty((len(rows), self.side, self.side, 3), np.uint8)
        for name in np.unique(self.names[rows]):
            mine = self.names[rows] == name
            images[mine] = self.pools[name].batch(self.ids[rows[mine]])
        return images

    def _batch(self, images: Pixels, rows: NDArray[np.int64]) -> Batch:
        return torch.from_numpy(images).to(self.device), self.labels[torch.from_numpy(rows)].to(self.device)


class AugmentedImages(LabelledImages):
    """Labelled images, cropped and recoloured differently each time they are shown.

    An epoch has a fixed number of images, whatever the length of the table, so that few labels get as many steps as
    many. Epochs pass through the table again and again, each time in a new order; each epoch starts where the one
    before stopped.

    Parameters
    ----------
    pools, table, device
        As for :class:`LabelledImages`.
    augment, epoch_images, seed
        Ranges of the augmentations, images in an epoch, the experiment's seed.
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
        """Yield a batch for each group of an epoch's rows, augmenting the next ones while one is in use."""
        return ahead(partial(self.draw, table_rows=self.table_rows(epoch), epoch=epoch), rows)

    def table_rows(self, epoch: int) -> NDArray[np.int64]:
        """Return the table row behind each row of an epoch, (epoch_images,) int64."""
        steps = epoch * self.epoch_images + np.arange(self.epoch_images)
        turn, within = np.divmod(steps, len(self.ids))
        orders = {
            number: rng.generator(self.seed, rng.Purpose.PASS, number).permutation(len(self.ids))
            for number in np.unique(turn).tolist()
        }
        found: NDArray[np.int64] = np.concatenate([orders[number][within[turn == number]] for number in orders])
        return found

    def draw(self, rows: NDArray[np.int64], table_rows: NDArray[np.int64], epoch: int) -> Batch:
        """Return augmented images and labels; the augmentation is a function of seed, epoch and row.

        Parameters
        ----------
        rows
            Rows of the epoch, (n,) int64.
        table_rows
            What :meth:`table_rows` returns for the epoch.
        epoch
            Epochs done before this one.

        Returns
        -------
        images, labels
            (n, side, side, 3) uint8 and (n,) int64.
        """
        images = self.pixels(table_rows[rows])
        for image, row in zip(images, rows.tolist(), strict=True):
            self.augmentations.set_random_seed(int(self._stream.at(epoch, row).integers(2**31)))
            image[:] = self.augmentations(image=image)["image"]
        return self._batch(images, table_rows[rows])


def augmentations(augment: Augment, side: int) -> A.Compose:
    """Build the augmentations of training images, squares of ``side`` pixels (docs/method.md, section 6.2)."""
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
    """Return mean and standard deviation of each channel over all images, unchanged and in 0–1.

    Sums are integers, so that the order of the images cannot change the result.
    """
    count, first, second = 0, np.zeros(3, np.int64), np.zeros(3, np.int64)
    for start in range(0, len(source.ids), CHUNK):
        values = source.pixels(np.arange(start, min(start + CHUNK, len(source.ids)))).reshape(-1, 3).astype(np.int64)
        count += len(values)
        first += values.sum(axis=0)
        second += np.square(values).sum(axis=0)
    mean = first / count
    return (mean / 255).tolist(), (np.sqrt(np.maximum(second / count - mean**2, 1)) / 255).tolist()
