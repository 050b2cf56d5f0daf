"""Draw the filters of a network's first layer."""

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from exemplarcnn.reporting.figures import style


def draw(path: Path, weights: NDArray[np.float32], columns: int = 16) -> None:
    """Draw the first layer's filters, (n, 3, height, width) float32, each stretched to the full range of colours."""
    count, _, height, width = weights.shape
    low, high = weights.min(axis=(1, 2, 3), keepdims=True), weights.max(axis=(1, 2, 3), keepdims=True)
    stretched = (weights - low) / np.maximum(high - low, np.finfo(np.float32).tiny)
    rows = -(-count // columns)
    sheet = np.ones((rows * (height + 1) - 1, columns * (width + 1) - 1, 3), np.float32)
    for index, image in enumerate(stretched.transpose(0, 2, 3, 1)):
        row, column = divmod(index, columns)
        top, left = row * (height + 1), column * (width + 1)
        sheet[top : top + height, left : left + width] = image
    figure = Figure(figsize=(8, 8 * sheet.shape[0] / sheet.shape[1]))
    axes = figure.subplots()
    axes.imshow(sheet, interpolation="nearest")
    axes.set_axis_off()
    axes.set_title(f"Filters of the first layer ({count})", fontsize=10)
    style.save(figure, path)
