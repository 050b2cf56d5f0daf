"""Training patches that are drawn anew for every epoch, instead of once into a set (docs/method.md, section 2.6)."""

from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path

import albumentations as A
import numpy as np
import torch
from numpy.typing import NDArray

from exemplarcnn import painting, recipe, rng
from exemplarcnn.batches import Batch, ahead, fits
from exemplarcnn.files import read_array, read_json, read_table
from exemplarcnn.images import Pool


class Online:
    """The training patches of a set of mode ``online``; row r of epoch 0 is row r of the set of mode ``materialised``.

    On a CPU the recipe itself draws them, on an accelerator its counterpart in torch, there.

    Parameters
    ----------
    folder
        The surrogate set: which image each row is of, labels, anchors, the recipe.
    pool
        The images, all of one size.
    patch, seed
        The side of a patch, the experiment's seed.
    device
        Where batches are wanted.
    """

    def __init__(self, folder: Path, pool: Pool, patch: int, seed: int, device: torch.device):
        self.pool, self.patch, self.device = pool, patch, device
        self.labels = torch.from_numpy(np.array(read_array(folder / "train_y.npy"), np.int64))
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
        self._stream = rng.Stream(seed, rng.Purpose.TRAIN_PATCH)
        self._held: torch.Tensor | None = None
        if fits(len(plan) * pool[int(self.images[0])].nbytes, device):
            self._held = torch.from_numpy(pool.batch(self.images)).to(device)

    def __len__(self) -> int:
        return len(self.places)

    def each(self, rows: Iterable[NDArray[np.int64]], epoch: int) -> Iterator[Batch]:
        """Yield the batch of each of several groups of rows, drawing the next while one is in use."""
        return ahead(partial(self.get, epoch=epoch), rows)

    def get(self, rows: NDArray[np.int64], epoch: int) -> Batch:
        """Return patches (n, side, side, 3) uint8 and labels (n,) int64 of some rows."""
        # An accelerator draws a batch at once, a core as many as its cache takes.
        some = max(1, len(rows)) if self.in_torch else recipe.PATCHES_AT_A_TIME
        patches = [self._drawn(rows[i : i + some], epoch) for i in range(0, len(rows), some)]
        empty = torch.empty((0, self.patch, self.patch, 3), dtype=torch.uint8, device=self.device)
        return torch.cat(patches or [empty]), self.labels[torch.from_numpy(rows)].to(self.device)

    def _drawn(self, rows: NDArray[np.int64], epoch: int) -> torch.Tensor:
        places, numbers = self.places[rows], self.numbers[rows]
        which = zip(self.images[places].tolist(), numbers.tolist(), strict=True)
        streams = (self._stream.at(image, number, epoch) for image, number in which)
        pixels = self._pixels(places)
        anchors = self.anchors[places, numbers % self.anchors.shape[1]]
        draws = recipe.draw(self.recipe, streams, tuple(pixels.shape[1:]), anchors)
        if self.in_torch:
            return painting.paint(self.recipe, pixels, draws)
        return torch.from_numpy(recipe.paint(self.recipe, pixels.numpy().astype(np.float32) / np.float32(255), draws))

    def _pixels(self, places: NDArray[np.int64]) -> torch.Tensor:
        if self._held is not None:
            return self._held[torch.from_numpy(places).to(self.device)]
        return torch.from_numpy(self.pool.batch(self.images[places])).to(self.device)
