"""Single images and their nearest held-out images, each of which can be had once (docs/method.md, section 5.3).

Two orders of serving: ``query`` lets each single image in turn take its nearest images that are still free;
``global`` gives away the closest free pair of all, again and again. Distances decide in float64; float32 products
with a margin for their rounding only narrow down what has to be looked at, so that the choice is that of a sort of
all distances, which are never held.
"""

import heapq
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from exemplarcnn.clustering.radius_graph import Points, centre
from exemplarcnn.errors import PipelineError
from exemplarcnn.progress import tqdm

Order = Literal["query", "global"]
Images = NDArray[np.int64]

BLOCK = 256  # singles whose products with all held-out images are held at a time
LIST = 64  # nearest free images that `global` keeps for each single


class ExpansionError(PipelineError):
    """Too few images for the neighbours asked for."""


@dataclass(frozen=True)
class Expansion:
    """The held-out images that joined single images.

    Attributes
    ----------
    images
        (singles, k) int64, positions in the held-out part, nearest first.
    ranks
        (singles, k) int64, place of each in the single's full ranking, from 1; above k where nearer ones were
        taken already.
    distances
        (singles, k) float64, cosine distances.
    """

    images: Images
    ranks: Images
    distances: NDArray[np.float64]


def expand(singles: Points, held_out: Points, k: int, order: Order = "query") -> Expansion:
    """Give each single image its k nearest held-out images, no image twice.

    Parameters
    ----------
    singles, held_out
        (n, d) and (m, d) float32 of unit length; ``n * k <= m``.
    k
        Neighbours an image.
    order
        ``query``: in the order of the singles. ``global``: the closest pair of a single that still lacks neighbours
        and a free image comes first, wherever it is. Of equally close ones the first single and the first image.

    Raises
    ------
    ExpansionError
        If there are too few held-out images.
    NeighboursError
        If a coordinate is not finite.
    """
    if len(singles) * k > len(held_out):
        raise ExpansionError(f"{len(singles)} images with {k} neighbours each, but only {len(held_out)} are held out")
    if k == 0 or len(singles) == 0:
        images = np.empty((len(singles), k), np.int64)
        return Expansion(images, images.copy(), np.empty(images.shape))
    for part in (singles, held_out):
        centre(part)  # for its errors
    products = _Products(singles, held_out)
    images = _in_turn(products, k) if order == "query" else _closest_first(products, k)
    ranks, distances = _ranked(products, images)
    return Expansion(images, ranks, distances)


class _Products:
    """Inner products of singles and held-out images: approximate in bulk, exact for those that are listed."""

    def __init__(self, singles: Points, held_out: Points):
        self.singles, self.held_out = singles, held_out
        squares = [float(np.einsum("ij,ij->i", part, part).max()) for part in (singles, held_out)]
        # The bound of a float32 sum of d products, whatever its order, and a little more for the bound itself.
        self.error = 1.01 * (singles.shape[1] + 2) * 2.0**-24 * math.sqrt(squares[0] * squares[1])

    def distances(self, row: int, images: Images) -> NDArray[np.float64]:
        """Cosine distances in float64; each depends on its two rows alone."""
        exact = self.held_out[images].astype(np.float64)
        exact *= self.singles[row]
        result: NDArray[np.float64] = 1 - exact.sum(axis=1)
        return result

    def rows(self, what: str) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """Each single and its approximate products with all held-out images, computed in blocks."""
        with tqdm(total=len(self.singles), desc=what, unit="image") as bar:
            for start in range(0, len(self.singles), BLOCK):
                block = self.singles[start : start + BLOCK] @ self.held_out.T
                yield from enumerate(block, start)
                bar.update(len(block))


def _in_turn(products: _Products, k: int) -> Images:
    chosen = np.empty((len(products.singles), k), np.int64)
    free = np.ones(len(products.held_out), bool)
    for row, product in products.rows("nearest held-out images"):
        left = np.where(free, product, -np.inf)
        kth = np.partition(left, -k)[-k]
        near = np.flatnonzero(left >= kth - 2 * products.error)
        distances = products.distances(row, near)
        chosen[row] = near[np.lexsort((near, distances))[:k]]
        free[chosen[row]] = False
    return chosen


def _closest_first(products: _Products, k: int) -> Images:
    """Serve the closest pair first, from short lists that are filled up when one runs out.

    The heap has for each single the next image of its list, or, behind the last one, the distance up to which the
    list is known to be whole.
    """
    count = len(products.singles)
    chosen, served = np.empty((count, k), np.int64), np.zeros(count, np.int64)
    free = np.ones(len(products.held_out), bool)
    lists: list[list[tuple[float, int]]] = [[] for _ in range(count)]
    horizons = np.full(count, -np.inf)
    heap: list[tuple[float, int, int]] = []

    def push(single: int) -> None:
        """Offer the next image of a single; at the same distance an unfilled list goes first."""
        while lists[single] and not free[lists[single][-1][1]]:
            lists[single].pop()
        if lists[single]:
            distance, image = lists[single][-1]
            heapq.heappush(heap, (distance, single, image))
        else:
            heapq.heappush(heap, (horizons[single], -1, single))

    _fill(products, np.arange(count), free, lists, horizons)
    for single in range(count):
        push(single)
    with tqdm(total=count * k, desc="nearest held-out images", unit="image") as bar:
        while heap:
            _, single, image = heapq.heappop(heap)
            if single < 0:
                single = image
                if not lists[single]:
                    short = np.flatnonzero((served < k) & (np.array([len(rest) for rest in lists]) <= LIST // 4))
                    _fill(products, short, free, lists, horizons)
            elif free[image]:
                chosen[single, served[single]] = image
                served[single] += 1
                free[image] = False
                bar.update()
            if served[single] < k:
                push(single)
    return chosen


def _fill(
    products: _Products,
    rows: Images,
    free: NDArray[np.bool_],
    lists: list[list[tuple[float, int]]],
    horizons: NDArray[np.float64],
) -> None:
    """List the nearest free images of some singles, nearest last, and how far each list is sure to be whole."""
    images = np.flatnonzero(free)
    left = products.held_out[images].T
    for start in range(0, len(rows), BLOCK):
        some = rows[start : start + BLOCK]
        for row, product in zip(some, products.singles[some] @ left, strict=True):
            length = LIST
            while True:
                if length >= len(images):
                    near, horizon = np.arange(len(images)), np.inf
                else:
                    last = np.partition(product, -length)[-length]
                    near, horizon = np.flatnonzero(product >= last), 1 - float(last) - products.error
                distances = products.distances(row, images[near])
                sure = distances < horizon
                if sure.any() or horizon == np.inf:
                    break
                length *= 4  # as many images are equally near to within the rounding
            near, distances = images[near[sure]], distances[sure]
            order = np.lexsort((near, distances))[::-1]
            lists[row] = list(zip(distances[order].tolist(), near[order].tolist(), strict=True))
            horizons[row] = horizon


def _ranked(products: _Products, chosen: Images) -> tuple[Images, NDArray[np.float64]]:
    """Places of the chosen images in the full ranking of their single, and their distances."""
    ranks, lengths = np.empty_like(chosen), np.empty(chosen.shape)
    for row, product in products.rows("their ranks"):
        lengths[row] = products.distances(row, chosen[row])
        for place, (image, length) in enumerate(zip(chosen[row], lengths[row], strict=True)):
            surely = np.count_nonzero(product > 1 - length + products.error)
            close = np.flatnonzero(np.abs(product - (1 - length)) <= products.error)
            distances = products.distances(row, close)
            before = (distances < length) | ((distances == length) & (close < image))
            ranks[row, place] = 1 + surely + np.count_nonzero(before)
    return ranks, lengths
