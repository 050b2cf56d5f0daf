"""Features that no network learned, which a learned network has to beat (docs/method.md, section 4.2).

A control takes its entry in ``params.yaml``, the folder of the data set and the experiment's seed, and returns the
function that computes its features. `CONTROLS` lists them by the name that ``variants.control.NAME.method`` takes.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from exemplarcnn.config.variants import KMeans, RawPixels
from exemplarcnn.data import stl10
from exemplarcnn.evaluation.kmeans import kmeans_features
from exemplarcnn.networks.features import FeatureExtractor


def pixel_features(side: int) -> FeatureExtractor:
    """Build the function from images to shrunk RGB pixels, ``side`` pixels high and wide.

    Pixels are scaled to 0–1 and divided by the square root of their number, so that a value of C means about the same
    as for features of unit length.

    Returns
    -------
    callable
        (n, height, width, 3) uint8 to (n, 3·side²) float32.
    """

    def extract(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        small = [cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA) for image in pixels]
        flat = np.stack(small).reshape(len(pixels), -1).astype(np.float32)
        return flat / np.float32(255 * flat.shape[1] ** 0.5)

    return extract


def pixels(params: RawPixels, data: Path, seed: int) -> FeatureExtractor:
    """Use the image itself, shrunk."""
    return pixel_features(params.side)


def kmeans(params: KMeans, data: Path, seed: int) -> FeatureExtractor:
    """Learn centres of small patches from the unlabelled images."""
    return kmeans_features(stl10.open_pool(data, "unlabeled"), params, seed)


Control = Callable[[Any, Path, int], FeatureExtractor]
CONTROLS: dict[str, Control] = {"pixels": pixels, "kmeans": kmeans}
