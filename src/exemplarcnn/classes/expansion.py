"""Give single images their nearest held-out images, each of which is used once (docs/method.md, section 5.3).

There are two orders: with ``query`` each single image in turn takes its nearest images that are still free; with
``global`` the closest free pair of all comes first, again and again. Distances in float64 decide. Products in float32,
with a margin for their rounding, only narrow down the candidates, so the choice is that of sorting all distances,
which are never held.
"""

import heapq
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from exemplarcnn.clustering.sample import Frame
from exemplarcnn.errors import PipelineError
from exemplarcnn.progress import tqdm

Order = Literal["query", "global"]
Images = NDArray[np.int64]
Features = NDArray[np.float32]

BLOCK = 256  # singles whose products with all held-out images are in memory at a time
LIST = 64  # nearest free images that `global` keeps for each single


class ExpansionError(PipelineError):
    """There are too few held-out images for the neighbours asked for."""


@dataclass(frozen=True)
class Expansion:
    """The held-out images that joined single images.

    Attributes
    ----------
    images
        (singles, k) int64, positions in the held-out part, nearest first.
    ranks
        (singles, k) int64, place of each in the single's full ranking, from 1; above k if nearer images were already
        taken.
    distances
        (singles, k) float64, cosine distances.
    """

    images: Images
    ranks: Images
    distances: NDArray[np.float64]


def expand(singles: Features, held_out: Features, k: int, order: Order = "query") -> Expansion:
    """Give each single image its k nearest held-out images, no image twice.

    Parameters
    ----------
    singles, held_out
        (n, d) and (m, d) float32 of unit length; ``n * k <= m``.
    k
        Neighbours per single image.
    order
        ``query``: in the order of the singles. ``global``: the closest pair of a single that still lacks neighbours and
        a free image comes first, wherever it is. Of equally close ones the first comes first.

    Raises
    ------
    ExpansionError
        If there are too few held-out images.
    NeighboursError
        If a coordinate is not finite.
    """
    if len(singles) * k > len(held_out):
        raise ExpansionError(
            f"cannot give {len(singles)} images {k} neighbours each: only {len(held_out)} are held out; ask for fewer"
        )
    if k == 0 or len(singles) == 0:
        images = np.empty((len(singles), k), np.int64)
        return Expansion(images, images.copy(), np.empty(images.shape))
    for part in (singles, held_out):
        Frame.of(part)  # raises for coordinates that are not finite
    products = _Products(singles, held_out)
    images = _in_turn(products, k) if order == "query" else _closest_first(products, k)
    ranks, distances = _ranked(products, images)
    return Expansion(images, ranks, distances)


class _Products:
    """Inner products of singles and held-out images: approximate in bulk, precise for listed images."""

    def __init__(self, singles: Features, held_out: Features):
        self.singles, self.held_out = singles, held_out
        squares = [float(np.einsum("ij,ij->i", part, part).max()) for part in (singles, held_out)]
        # The error bound of a float32 sum of d products, in any order, and a little more for the bound's own rounding.
        self.error = 1.01 * (singles.shape[1] + 2) * 2.0**-24 * math.sqrt(squares[0] * squares[1])

    def distances(self, row: int, images: Images) -> NDArray[np.float64]:
        """Return cosine distances, (images,) float64; each depends on its two rows alone."""
        exact = self.held_out[images].astype(np.float64)
        exact *= self.singles[row]
        result: NDArray[np.float64] = 1 - exact.sum(axis=1)
        return result

    def rows(self, what: str) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """Yield each single and its approximate products with all held-out images, computed in blocks."""
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
    """Serve the closest pair first, from short lists that are refilled when one runs out.

    For each single the heap has the next image of its list; after the last image, the distance up to which the list is
    known to be complete.
    """
    count = len(products.singles)
    chosen, served = np.empty((count, k), np.int64), np.zeros(count, np.int64)
    free = np.ones(len(products.held_out), bool)
    lists: list[list[tuple[float, int]]] = [[] for _ in range(count)]
    horizons = np.full(count, -np.inf)
    heap: list[tuple[float, int, int]] = []

    def push(single: int) -> None:
        """Offer the next image of a single; at equal distance, a list that must be refilled goes first."""
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
    """List the nearest free images of some singles, nearest last, and up to which distance each list is complete."""
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
                length *= 4  # so many images are equally near, within rounding
            near, distances = images[near[sure]], distances[sure]
            order = np.lexsort((near, distances))[::-1]
            lists[row] = list(zip(distances[order].tolist(), near[order].tolist(), strict=True))
            horizons[row] = horizon


def _ranked(products: _Products, chosen: Images) -> tuple[Images, NDArray[np.float64]]:
    """Return the places of the chosen images in the full ranking of their single, and their distances."""
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
