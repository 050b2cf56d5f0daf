"""Lay out images in rows and columns, each with a caption above, as most pictures need."""

from pathlib import Path
from typing import TypeVar

import numpy as np
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox
from numpy.typing import NDArray

from exemplarcnn.reporting.figures import style

TILES = 8  # images in a line of a gallery
GAP, MARGIN = 0.15, 0.1  # inches between them, and around all
Tile = tuple[NDArray[np.uint8], str]
Item = TypeVar("Item")


class Sheet:
    """Images in rows and columns with a caption above each.

    All are on one pair of axes, with coordinates in inches from the upper left: one pair per image would take
    matplotlib seconds.

    Parameters
    ----------
    rows, columns
        How many images fit.
    side, line, top
        Inches: the longer side of an image, the height of a caption, and the height of the title.
    """

    def __init__(self, rows: int, columns: int, side: float, line: float, top: float = 0.3):
        self.side, self.line, self.top = side, line, top
        width, height = columns * (side + GAP) - GAP, top + rows * (side + line)
        self.figure = Figure(figsize=(width, height))
        self.axes = self.figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(height, 0), autoscale_on=False)
        self.axes.set_axis_off()

    def tile(self, row: int, column: int, image: NDArray[np.uint8], caption: str = "") -> tuple[float, float, float]:
        """Draw an image; return its left edge, its upper edge and the side of its pixels, in inches."""
        height, width = image.shape[:2]
        pixel = self.side / max(height, width)
        left = column * (self.side + GAP) + (self.side - width * pixel) / 2
        bottom = self.top + (row + 1) * (self.side + self.line)
        upper = bottom - height * pixel
        self.axes.imshow(image, extent=(left, left + width * pixel, bottom, upper), aspect="auto")
        if caption:
            middle = left + width * pixel / 2
            self.axes.text(middle, upper - 0.04, caption, fontsize=7, ha="center", va="bottom", linespacing=1)
        return left, upper, pixel

    def save(self, path: Path, title: str = "") -> None:
        """Write the picture, with a title centred above it."""
        if title:
            self.axes.set_title(title, fontsize=10, y=1, pad=-self.top * 72 / 2)
        width, height = self.figure.get_size_inches()
        style.save(self.figure, path, Bbox([[-MARGIN, -MARGIN], [width + MARGIN, height + MARGIN]]))


def gallery(path: Path, title: str, rows: list[list[Tile]], columns: int = TILES) -> None:
    """Draw rows of images, each with its caption; if there are none, the title says so."""
    sheet = Sheet(len(rows), columns, side=1.1, line=0.3)
    for row, tiles in enumerate(rows):
        for column, (image, caption) in enumerate(tiles):
            sheet.tile(row, column, image, caption)
    sheet.save(path, title if rows else f"{title}: none")


def lines(blocks: list[list[Tile]]) -> list[list[Tile]]:
    """Put blocks of tiles side by side while they fit into a line."""
    result: list[list[Tile]] = []
    for block in blocks:
        if not result or len(result[-1]) + len(block) > TILES:
            result.append([])
        result[-1] += block
    return result


def spread(items: list[Item], most: int) -> list[Item]:
    """Choose at most ``most`` items of a list, evenly spread."""
    return [items[place] for place in np.unique(np.linspace(0, len(items) - 1, min(most, len(items))).astype(int))]
