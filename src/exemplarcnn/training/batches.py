"""Batches of a surrogate set: from its memory map, or from the device if the set fits there."""

import math
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from exemplarcnn.files import read_array
from exemplarcnn.threads import ahead

# A set is kept on a GPU if it takes less than this share of the free memory, divided among the processes on that GPU.
# The networks need the rest.
SHARE_OF_MEMORY = 0.5
COPIED_AT_ONCE = 1 << 16

Batch = tuple[Tensor, Tensor]


class Source(Protocol):
    """The source of a training's batches."""

    def __len__(self) -> int:
        """Return the number of images in an epoch."""

    def each(self, rows: Iterable[NDArray[np.int64]], epoch: int) -> Iterator[Batch]:
        """Yield a batch for each group of rows of an epoch, on the device that trains.

        Parameters
        ----------
        rows
            For each batch its rows of the epoch, (n,) int64.
        epoch
            Epochs done before this one.

        Yields
        ------
        images, labels
            (n, side, side, 3) uint8 and (n,) int64.
        """


class Labelled(Source, Protocol):
    """A source whose rows have the same classes in each epoch.

    Attributes
    ----------
    labels
        The class of each row, (n,) int64.
    """

    labels: Tensor


@dataclass(frozen=True)
class TrainingData:
    """The images that a network trains on, and those that it is validated on after each epoch."""

    train: Source
    valid: Source


class Batches:
    """Patches and labels of a surrogate set, on the device that trains.

    Parameters
    ----------
    folder
        Folder of the surrogate set.
    name
        ``train`` or ``valid``.
    device
        The device that trains.
    """

    def __init__(self, folder: Path, name: str, device: torch.device):
        self.patches: NDArray[np.uint8] = read_array(folder / f"{name}.npy")
        self.labels = torch.from_numpy(np.array(read_array(folder / f"{name}_y.npy"), np.int64))
        self.device = device
        self._held: Tensor | None = None
        if fits(self.patches.nbytes, device):
            self.hold()

    def __len__(self) -> int:
        return len(self.patches)

    def hold(self) -> None:
        """Copy the whole set to the device, so that batches need no transfer."""
        held = torch.empty(self.patches.shape, dtype=torch.uint8, device=self.device)
        for start in range(0, len(self), COPIED_AT_ONCE):
            held[start : start + COPIED_AT_ONCE] = torch.from_numpy(
                np.array(self.patches[start : start + COPIED_AT_ONCE])
            )
        self._held, self.labels = held, self.labels.to(self.device)

    def get(self, rows: NDArray[np.int64]) -> Batch:
        """Return patches, (n, side, side, 3) uint8, and labels, (n,) int64, of the given rows."""
        index = torch.from_numpy(rows)
        if self._held is not None:
            index = index.to(self.device)
            return self._held[index], self.labels[index]
        patches, labels = torch.from_numpy(self.patches[rows]), self.labels[index]
        if self.device.type == "cuda":  # from pinned memory, so that this thread need not wait for the copy
            patches = patches.pin_memory().to(self.device, non_blocking=True)
            labels = labels.pin_memory().to(self.device, non_blocking=True)
        return patches, labels

    def each(self, rows: Iterable[NDArray[np.int64]], epoch: int = 0) -> Iterator[Batch]:
        """Yield a batch for each group of rows, preparing the next ones while one is in use.

        Every epoch has the same patches, so ``epoch`` has no effect.
        """
        return ahead(self.get, rows)


def fits(size: int, device: torch.device) -> bool:
    """Tell whether ``size`` bytes fit on the device beside a network that trains; False on a CPU."""
    if device.type != "cuda":
        return False
    here = math.ceil(int(os.environ.get("LOCAL_WORLD_SIZE", "1")) / torch.cuda.device_count())
    return size < SHARE_OF_MEMORY * torch.cuda.mem_get_info(device)[0] / here
