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

# A set is held on a GPU if it takes no more than this share of the free memory, divided by the processes that use it:
# the networks need the rest.
SHARE_OF_MEMORY = 0.5
COPIED_AT_ONCE = 1 << 16

Batch = tuple[Tensor, Tensor]


class Source(Protocol):
    """What a training takes its batches from."""

    def __len__(self) -> int:
        """Return the number of patches of an epoch."""

    def each(self, rows: Iterable[NDArray[np.int64]], epoch: int) -> Iterator[Batch]:
        """Yield the batch of each of several groups of rows of an epoch, on the device that trains."""


@dataclass(frozen=True)
class TrainingData:
    """The images that a network is trained on, and those that it is validated on after each epoch."""

    train: Source
    valid: Source


class Batches:
    """Patches and labels of a surrogate set, on the device that trains.

    Parameters
    ----------
    folder
        The surrogate set.
    name
        ``train`` or ``valid``.
    device
        Where batches are wanted.
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
        """Copy the set to the device, so that no batch has to travel there."""
        held = torch.empty(self.patches.shape, dtype=torch.uint8, device=self.device)
        for start in range(0, len(self), COPIED_AT_ONCE):
            held[start : start + COPIED_AT_ONCE] = torch.from_numpy(
                np.array(self.patches[start : start + COPIED_AT_ONCE])
            )
        self._held, self.labels = held, self.labels.to(self.device)

    def get(self, rows: NDArray[np.int64]) -> Batch:
        """Return patches (n, side, side, 3) uint8 and labels (n,) int64 of some rows."""
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
        """Yield the batch of each of several groups of rows, gathering the next while one is in use.

        They are the same in each epoch.
        """
        return ahead(self.get, rows)


def fits(size: int, device: torch.device) -> bool:
    """Say whether so many bytes can be held on the device beside a network that trains; never on a CPU."""
    if device.type != "cuda":
        return False
    here = math.ceil(int(os.environ.get("LOCAL_WORLD_SIZE", "1")) / torch.cuda.device_count())
    return size < SHARE_OF_MEMORY * torch.cuda.mem_get_info(device)[0] / here
