"""Draw the patches of single images, each from its own stream of random numbers (docs/method.md, section 2)."""

import numpy as np
from numpy.typing import NDArray

from exemplarcnn import rng
from exemplarcnn.config.sections import Surrogate
from exemplarcnn.data.colour_axes import Axes
from exemplarcnn.data.types import Pixels, Pool
from exemplarcnn.patches.anchors import draw_anchors
from exemplarcnn.patches.recipes import registry, transform


class PatchSampler:
    """Draw the anchors and patches of single images.

    Parameters
    ----------
    pool
        The images.
    params, patch, seed
        The recipe's parameters, the side of a patch in pixels, the experiment's seed.
    axes
        Principal axes of the pool's colours, for a recipe that needs them.
    """

    def __init__(self, pool: Pool, params: Surrogate, patch: int, seed: int, axes: Axes | None = None):
        self.pool, self.params, self.patch = pool, params, patch
        self._anchors = rng.Stream(seed, rng.Purpose.ANCHOR)
        self._last: tuple[int, Pixels, NDArray[np.int64]] | None = None
        self._streams = {p: rng.Stream(seed, p) for p in (rng.Purpose.TRAIN_PATCH, rng.Purpose.VALID_PATCH)}
        self.recipe = registry.build(params, patch, axes)

    def anchors(self, image: int) -> NDArray[np.int64]:
        """Return the image's anchors, (anchors_per_image, 2) int64, row and column."""
        return self._read(image)[1]

    def patches(self, image: int, number: int, purpose: rng.Purpose) -> NDArray[np.uint8]:
        """Return the first ``number`` training or validation patches of an image, (number, patch, patch, 3) uint8."""
        pixels, anchors = self._read(image)
        source = pixels[None].astype(np.float32) / np.float32(255)
        stream = self._streams[purpose]
        result = np.empty((number, self.patch, self.patch, 3), np.uint8)
        for start in range(0, number, transform.PATCHES_AT_A_TIME):
            numbers = np.arange(start, min(start + transform.PATCHES_AT_A_TIME, number))
            streams = (stream.at(image, index) for index in numbers.tolist())
            drawn = transform.draw_parameters(self.recipe, streams, pixels.shape, anchors[numbers % len(anchors)])
            result[start : start + len(numbers)] = transform.apply(self.recipe, source, drawn)
        return result

    def _read(self, image: int) -> tuple[Pixels, NDArray[np.int64]]:
        """Return an image's pixels and its anchors; the last image read is kept."""
        if self._last is None or self._last[0] != image:
            pixels = self.pool[image]
            anchors = draw_anchors(pixels, self.params.anchors_per_image, self._anchors.at(image))
            self._last = image, pixels, anchors
        return self._last[1:]
