"""Batches of patches that are drawn anew for every epoch, instead of once into a set (docs/method.md, section 2.6)."""

from collections.abc import Iterable, Iterator
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray

from exemplarcnn.patches.online import OnlinePatches
from exemplarcnn.threads import ahead
from exemplarcnn.training.batches import Batch, fits


class Online:
    """The training patches of a set of mode ``online``, and their labels, on the device that trains.

    The images are held there if they fit.

    Parameters
    ----------
    patches
        Draws them.
    """

    def __init__(self, patches: OnlinePatches):
        self.patches = patches
        self.labels = torch.from_numpy(patches.labels.astype(np.int64))
        if fits(patches.image_bytes, patches.device):
            patches.hold()

    def __len__(self) -> int:
        return len(self.labels)

    def each(self, rows: Iterable[NDArray[np.int64]], epoch: int) -> Iterator[Batch]:
        """Yield the batch of each of several groups of rows, drawing the next while one is in use."""
        return ahead(partial(self.get, epoch=epoch), rows)

    def get(self, rows: NDArray[np.int64], epoch: int) -> Batch:
        """Return patches (n, side, side, 3) uint8 and labels (n,) int64 of some rows."""
        return self.patches.draw(rows, epoch), self.labels[torch.from_numpy(rows)].to(self.patches.device)
