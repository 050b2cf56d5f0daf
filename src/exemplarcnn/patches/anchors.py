"""Anchors: the pixels that patches are cut around, drawn at strong edges (docs/method.md, section 2.1)."""

import cv2
import numpy as np
from numpy.typing import NDArray

from exemplarcnn.patches.recipes.transform import FLAT


def edge_strength(image: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Compute the Sobel magnitude of the grey image, mirrored at its borders.

    Parameters
    ----------
    image
        (height, width, 3) uint8.

    Returns
    -------
    ndarray
        (height, width) float64.
    """
    grey = cv2.cvtColor(image.astype(np.float32) / np.float32(255), cv2.COLOR_RGB2GRAY).astype(np.float64)
    across = cv2.Sobel(grey, cv2.CV_64F, 1, 0, borderType=cv2.BORDER_REFLECT)
    down = cv2.Sobel(grey, cv2.CV_64F, 0, 1, borderType=cv2.BORDER_REFLECT)
    strength = np.hypot(across, down)
    # OpenCV may round the grey of equal pixels differently: at the end of a row it uses no vector instructions.
    strength[strength < FLAT] = 0
    return strength


def draw_anchors(image: NDArray[np.uint8], number: int, generator: np.random.Generator) -> NDArray[np.int64]:
    """Draw pixels with probability proportional to edge strength; uniformly if an image has no edges.

    Parameters
    ----------
    image
        (height, width, 3) uint8.
    number
        How many pixels to draw.
    generator
        Source of random numbers.

    Returns
    -------
    ndarray
        (number, 2) int64, row and column.
    """
    total = np.cumsum(edge_strength(image).ravel())
    if total[-1] <= 0:
        total = np.arange(1.0, total.size + 1)
    picks = np.searchsorted(total, generator.random(number) * total[-1], side="right")
    return np.stack(np.unravel_index(np.minimum(picks, total.size - 1), image.shape[:2]), axis=1).astype(np.int64)
