"""Batches of patches that are drawn anew for each epoch, not once for the set (docs/method.md, section 2.6)."""

from collections.abc import Iterable, Iterator
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray

from exemplarcnn.patches.online import OnlinePatches
from exemplarcnn.threads import ahead
from exemplarcnn.training.batches import Batch, fits


class Online:
    """Training patches and labels of a set of mode ``online``, on the device that trains.

    The images that patches are cut from are kept there if they fit.

    Parameters
    ----------
    patches
        Draws the patches.
    """

    def __init__(self, patches: OnlinePatches):
        self.patches = patches
        self.labels = torch.from_numpy(patches.labels.astype(np.int64))
        if fits(patches.image_bytes, patches.device):
            patches.hold()

    def __len__(self) -> int:
        return len(self.labels)

    def each(self, rows: Iterable[NDArray[np.int64]], epoch: int) -> Iterator[Batch]:
        """Yield a batch for each group of rows, drawing the next ones while one is in use."""
        return ahead(partial(self.get, epoch=epoch), rows)

    def get(self, rows: NDArray[np.int64], epoch: int) -> Batch:
        """Return patches, (n, side, side, 3) uint8, and labels, (n,) int64, of the given rows of an epoch."""
        return self.patches.draw(rows, epoch), self.labels[torch.from_numpy(rows)].to(self.patches.device)
