"""Show on the page which images make up the classes of a grouping, why, and how far apart they are.

Of many classes it shows a selection, so that the page stays small; only the images shown are read. They are tiles of
one sheet for each grouping, which the page cuts up with CSS.
"""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from exemplarcnn import paths
from exemplarcnn.classes import quality, tables
from exemplarcnn.config.params import Config
from exemplarcnn.data import pools
from exemplarcnn.data.types import Pool
from exemplarcnn.errors import PipelineError
from exemplarcnn.files import read_array
from exemplarcnn.progress import tqdm
from exemplarcnn.reporting.embedding import data_url
from exemplarcnn.reporting.figures.clusters import diameter

IMAGES = 600  # that all browsers of a page show together; each takes about 1.5 KB
IN_A_CLASS = 8  # images of a class that are shown
SIDE, COLUMNS = 64, 20  # pixels of a tile, and tiles in a line of the sheet
QUALITY = 75
GOLDEN = (5**0.5 - 1) / 2

log = logging.getLogger(__name__)


class Tile(NamedTuple):
    """An image of a class: its id, its class if known, its distance from the first one, its place on the sheet."""

    image: int
    known: str
    distance: float | None
    column: int
    row: int


class Class(NamedTuple):
    """A class: its number, why its images are in it, how many there are, how far apart, and those shown."""

    number: int
    origin: str
    size: int
    width: float | None
    tiles: list[Tile]


class Browser(NamedTuple):
    """What the page shows of a grouping: some classes of all, and the sheet with their images as a data URL."""

    classes: list[Class]
    all: int
    sheet: str

    @property
    def known(self) -> bool:
        """Whether the class of any image is known."""
        return any(tile.known for each in self.classes for tile in each.tiles)

    @property
    def origins(self) -> list[str]:
        """The origins of classes, each once."""
        return list(dict.fromkeys(each.origin for each in self.classes))

    @property
    def sizes(self) -> list[int]:
        """The sizes of classes, each once, ascending."""
        return sorted({each.size for each in self.classes})


def browse(config: Config, variant: str, most: int = IMAGES) -> Browser | None:
    """Gather what the page shows of a grouping's classes.

    Parameters
    ----------
    config, variant
        The parameters, and the grouping's name in ``variants.group``.
    most
        Number of images to show, at least `IN_A_CLASS`.

    Returns
    -------
    Browser or None
        None if the images, the class table or the features that were clustered are not in this folder, or if they do
        not fit together.
    """
    if (entry := config.variants.group.get(variant)) is None:
        return None
    features = paths.cluster_features(entry.source)
    if not (paths.DATA.exists() and paths.class_table(variant).exists() and features.exists()):
        return None
    try:
        return _read(config, variant, features, most)
    except PipelineError as error:
        log.warning("the page does not show the classes of %s: %s", variant, error)
        return None


def _read(config: Config, variant: str, file: Path, most: int) -> Browser | None:
    name = config.variants.pool_of(variant)
    pool = pools.open_pool(paths.DATA, name)
    truth = quality.read_truth(paths.TRUTH, len(pool)) if name == "unlabeled" else None
    known = None if truth is None else truth["class"]
    table = tables.read(paths.class_table(variant), len(pool))
    features = read_array(file)
    if len(features) != len(pool):
        log.warning("the page does not show the classes of %s: %s is of other images; run `dvc repro`", variant, file)
        return None
    return gather(pool, table, features, known, most)


def gather(
    pool: Pool, table: pd.DataFrame, features: NDArray[np.float32], known: "pd.Series[str] | None", most: int
) -> Browser:
    """Choose classes and lay out their images.

    Parameters
    ----------
    pool, table
        The images, and the class table.
    features
        What was clustered: (images, d) float32, one row per image of the pool.
    known
        The class of each image of the pool, NaN where unknown; None if nothing is known.
    most
        Number of images to show.
    """
    ends = np.cumsum(tables.sizes(table))[:-1]
    members = np.split(table["image_id"].to_numpy(), ends)
    origins = table["origin"].to_numpy()[np.concatenate([[0], ends])]
    # At the paper's size, 60,000 images in classes and 71,536 features, this reads 17 GB.
    bar = tqdm(members, desc="distances in classes", unit="class", leave=False)
    widths = np.array([diameter(features, each) if len(each) > 1 else 0.0 for each in bar])
    chosen = select([len(each) for each in members], widths, most)
    places = (divmod(place, COLUMNS) for place in range(most))
    classes = []
    for number in chosen:
        images, first = members[number][:IN_A_CLASS], features[members[number][0]].astype(np.float64)
        tiles: list[Tile] = []
        for image, (row, column) in zip(images.tolist(), places, strict=False):
            named = "" if known is None or pd.isna(known[image]) else str(known[image])
            distance = float(np.linalg.norm(features[image] - first)) if tiles else None
            tiles.append(Tile(image, named, distance, column, row))
        size = len(members[number])
        classes.append(Class(number, str(origins[number]), size, float(widths[number]) if size > 1 else None, tiles))
    shown = [tile.image for each in classes for tile in each.tiles]
    return Browser(classes, len(members), data_url(_sheet(pool, shown), QUALITY))


def select(sizes: list[int], widths: NDArray[np.float64], most: int) -> list[int]:
    """Choose classes that have at most ``most`` images to show; all if they suffice.

    Takes turns between the largest, the tightest, the loosest, and some that are evenly spread over the table.

    Parameters
    ----------
    sizes, widths
        Of each class: how many images it has, and (classes,) float64, how far apart they are.
    most
        Number of images, at least that of one class.

    Returns
    -------
    list of int
        The numbers of the classes, ascending.
    """
    shown = [min(size, IN_A_CLASS) for size in sizes]
    numbers = range(len(sizes))
    if sum(shown) <= most:
        return list(numbers)
    several = [number for number in numbers if sizes[number] > 1]
    orders = [
        sorted(numbers, key=lambda number: (-sizes[number], widths[number])),
        sorted(several, key=lambda number: widths[number]),
        sorted(several, key=lambda number: -widths[number]),
        # Multiples of the golden ratio are evenly spread, however many of them fit.
        sorted(numbers, key=lambda number: number * GOLDEN % 1),
    ]
    chosen: set[int] = set()
    left = most
    for number in _in_turn(orders):
        if number not in chosen and shown[number] <= left:
            chosen.add(number)
            left -= shown[number]
    return sorted(chosen)


def _in_turn(orders: list[list[int]]) -> Iterator[int]:
    """Yield the first of each list, then the second of each, to the end of the longest."""
    for place in range(max(map(len, orders))):
        yield from (order[place] for order in orders if place < len(order))


def _sheet(pool: Pool, images: list[int]) -> Image.Image:
    """Return images as tiles, line by line, in one picture; reads one image at a time."""
    lines = -(-len(images) // COLUMNS)
    canvas = np.zeros((lines * SIDE, COLUMNS * SIDE, 3), np.uint8)
    for place, image in enumerate(images):
        top, left = (SIDE * each for each in divmod(place, COLUMNS))
        canvas[top : top + SIDE, left : left + SIDE] = cv2.resize(
            pool[image], (SIDE, SIDE), interpolation=cv2.INTER_AREA
        )
    return Image.fromarray(canvas)
