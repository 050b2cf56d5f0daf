"""Training patches of a set of mode ``online``: drawn on demand, anew for each epoch (docs/method.md, section 2.6).

Row r of epoch 0 is row r of the set of mode ``materialised``.
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
from exemplarcnn.patches.recipes import on_device, transform


class OnlinePatches:
    """Draw patches: on a CPU with the recipe itself, on an accelerator with its counterpart in torch.

    Parameters
    ----------
    folder
        Folder of the surrogate set, with labels, anchors, the recipe, and the image of each row.
    pool
        The images, all of one size.
    patch, seed
        Side of a patch in pixels, the experiment's seed.
    device
        The device that trains.
    """

    def __init__(self, folder: Path, pool: Pool, patch: int, seed: int, device: torch.device):
        self.pool, self.patch, self.device = pool, patch, device
        self.labels: NDArray[np.int32] = np.array(read_array(folder / "train_y.npy"))
        plan = read_table(folder / "portions.csv", integers=["image_id", "start", "stop"])
        counts = (plan["stop"] - plan["start"]).to_numpy()
        # For each row: the place of its image in the plan, and its number among the image's patches.
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
        """Open a pool of the data set by name, and draw from it."""
        return cls(folder, pools.open_pool(data, pool), patch, seed, device)

    def hold(self) -> None:
        """Keep all images on the device; they take ``image_bytes`` bytes."""
        self._held = torch.from_numpy(self.pool.batch(self.images)).to(self.device)

    def draw(self, rows: NDArray[np.int64], epoch: int) -> Tensor:
        """Return the patches of the given rows of an epoch, (n, side, side, 3) uint8, on the device."""
        # An accelerator draws a batch at once, a CPU core as many patches as fit into its cache.
        some = max(1, len(rows)) if self.in_torch else transform.PATCHES_AT_A_TIME
        patches = [self._drawn(rows[i : i + some], epoch) for i in range(0, len(rows), some)]
        empty = torch.empty((0, self.patch, self.patch, 3), dtype=torch.uint8, device=self.device)
        return torch.cat(patches or [empty])

    def _drawn(self, rows: NDArray[np.int64], epoch: int) -> Tensor:
        places, numbers = self.places[rows], self.numbers[rows]
        which = zip(self.images[places].tolist(), numbers.tolist(), strict=True)
        streams = (self._stream.at(image, number, epoch) for image, number in which)
        pixels = self._pixels(places)
        anchors = self.anchors[places, numbers % self.anchors.shape[1]]
        parameters = transform.draw_parameters(self.recipe, streams, tuple(pixels.shape[1:]), anchors)
        if self.in_torch:
            return on_device.apply(self.recipe, pixels, parameters)
        stack = pixels.numpy().astype(np.float32) / np.float32(255)
        return torch.from_numpy(transform.apply(self.recipe, stack, parameters))

    def _pixels(self, places: NDArray[np.int64]) -> Tensor:
        if self._held is not None:
            return self._held[torch.from_numpy(places).to(self.device)]
        return torch.from_numpy(self.pool.batch(self.images[places])).to(self.device)
