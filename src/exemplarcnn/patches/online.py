"""Training patches of a set of mode ``online``: drawn when they are asked for, another time for each epoch.

Row r of epoch 0 is row r of the set of mode ``materialised`` (docs/method.md, section 2.6).
"""

from pathlib import Path

import albumentations as A
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from exemplarcnn import rng
from exemplarcnn.data import pools
from exemplarcnn.data.types import Pool
from exemplarcnn.files import read_array, read_json, read_table
from exemplarcnn.patches.recipes import arazo, on_device


class OnlinePatches:
    """Draws patches: on a CPU by the recipe itself, on an accelerator by its counterpart in torch, there.

    Parameters
    ----------
    folder
        The surrogate set: which image each row is of, labels, anchors, the recipe.
    pool
        The images, all of one size.
    patch, seed
        The side of a patch, the experiment's seed.
    device
        Where patches are wanted.
    """

    def __init__(self, folder: Path, pool: Pool, patch: int, seed: int, device: torch.device):
        self.pool, self.patch, self.device = pool, patch, device
        self.labels: NDArray[np.int32] = np.array(read_array(folder / "train_y.npy"))
        plan = read_table(folder / "portions.csv", integers=["image_id", "start", "stop"])
        counts = (plan["stop"] - plan["start"]).to_numpy()
        # Of each row: the place of its image in the plan, and which of the image's patches it is.
        self.places = np.repeat(np.arange(len(plan)), counts)
        self.numbers = np.arange(len(self.places)) - np.repeat(plan["start"].to_numpy(), counts)
        self.images = plan["image_id"].to_numpy()
        anchors = read_table(folder / "anchors.csv", integers=["row", "column"])[["row", "column"]].to_numpy()
        self.anchors = anchors.reshape(len(plan), -1, 2)
        self.recipe = A.from_dict(read_json(folder / "recipe.json"))
        self.in_torch = device.type != "cpu"
        self.image_bytes = len(plan) * pool[int(self.images[0])].nbytes
        self._stream = rng.Stream(seed, rng.Purpose.TRAIN_PATCH)
        self._held: Tensor | None = None

    @classmethod
    def open(cls, folder: Path, data: Path, pool: str, patch: int, seed: int, device: torch.device) -> "OnlinePatches":
        """Draw from the pool of that name in the data set."""
        return cls(folder, pools.open_pool(data, pool), patch, seed, device)

    def hold(self) -> None:
        """Keep all images on the device, ``image_bytes`` of them."""
        self._held = torch.from_numpy(self.pool.batch(self.images)).to(self.device)

    def draw(self, rows: NDArray[np.int64], epoch: int) -> Tensor:
        """Return the patches of some rows, (n, side, side, 3) uint8."""
        # An accelerator draws a batch at once, a core as many as its cache takes.
        some = max(1, len(rows)) if self.in_torch else arazo.PATCHES_AT_A_TIME
        patches = [self._drawn(rows[i : i + some], epoch) for i in range(0, len(rows), some)]
        empty = torch.empty((0, self.patch, self.patch, 3), dtype=torch.uint8, device=self.device)
        return torch.cat(patches or [empty])

    def _drawn(self, rows: NDArray[np.int64], epoch: int) -> Tensor:
        places, numbers = self.places[rows], self.numbers[rows]
        which = zip(self.images[places].tolist(), numbers.tolist(), strict=True)
        streams = (self._stream.at(image, number, epoch) for image, number in which)
        pixels = self._pixels(places)
        anchors = self.anchors[places, numbers % self.anchors.shape[1]]
        draws = arazo.draw(self.recipe, streams, tuple(pixels.shape[1:]), anchors)
        if self.in_torch:
            return on_device.paint(self.recipe, pixels, draws)
        return torch.from_numpy(arazo.paint(self.recipe, pixels.numpy().astype(np.float32) / np.float32(255), draws))

    def _pixels(self, places: NDArray[np.int64]) -> Tensor:
        if self._held is not None:
            return self._held[torch.from_numpy(places).to(self.device)]
        return torch.from_numpy(self.pool.batch(self.images[places])).to(self.device)
