"""Find all pairs of points within a radius, exactly, though few pairs are measured in full (docs/method.md, 5.2).

Points are projected onto their leading principal axes, which can only bring them nearer. There, a product of low
precision with a margin for every rounding error safely discards almost all pairs; the distances of the rest are
computed in float64. So neither the projection nor the precision, the size of blocks or the number of threads or
processes can change the result.
"""

from collections.abc import Generator
from contextlib import closing
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import coo_array, csr_array

from exemplarcnn import distributed, threads
from exemplarcnn.clustering.errors import NeighboursError
from exemplarcnn.clustering.kept_pairs import KeptPairs, PairList, Pairs
from exemplarcnn.clustering.sample import Frame, Points, Sample, blocks
from exemplarcnn.clustering.sketch import Sketch, full_float32, principal_axes
from exemplarcnn.clustering.widths import WIDTH, choose_axes
from exemplarcnn.progress import tqdm

BLOCK = 2048  # points on each side of a product
# The most that a pair takes in lists, in the sparse matrix and in the rounds of complete linkage, all held at once, as
# measured with few pairs a point (105 bytes beside 82 with many).
BYTES_A_PAIR = 112
BYTES_A_CANDIDATE = 50  # while it is looked at
GIB = 2**30

NOTHING: Pairs = (np.empty(0, np.int32), np.empty(0, np.int32), np.empty(0))


def measured(points: Points, first: NDArray[np.int64], second: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the Euclidean distances of listed pairs, (pairs,) float64, each from its two rows alone."""
    result = np.empty(len(first))
    for block in blocks(len(first), max(1, (1 << 18) // max(points.shape[1], 1))):  # fits into caches
        gap = points[first[block]].astype(np.float64)
        gap -= points[second[block]]
        result[block] = np.sqrt(np.square(gap, out=gap).sum(axis=1))
    return result


def most_pairs(memory: float) -> float:
    """Return how many pairs fit into an amount of memory, in GiB."""
    return memory * GIB / BYTES_A_PAIR


class RadiusSearch:
    """Finds all pairs of points within a radius, and then within a wider one without measuring those again.

    Parameters
    ----------
    points
        (points, d) float32, for instance a memory map; never loaded as a whole.
    memory
        GiB that pairs may take, here and in `linkage.complete_linkage`. On top come 1 KiB a point for the sample, and
        the points' coordinates, 2 or 4 bytes an axis: on as many axes as half of ``memory`` holds, but on 64 at least;
        on all dimensions or 256 axes where points or dimensions are few, and on a GPU.
    device
        Where products are computed; the CPU by default.
    block, width
        Points on each side of a product, and number of axes, by default what is likely to be fastest. They change
        speed and memory, not the result.
    shared
        Whether the processes that ``torchrun`` has started share the work: all of them search the same points, and each
        gets the whole graph.
    folder
        An existing folder for what is found, so that after a kill the search goes on. It must belong to these points
        alone; the caller removes it.

    Attributes
    ----------
    sample
        Of the points.

    Raises
    ------
    NeighboursError
        If a point is not finite, or there are 2³¹ points or more.
    """

    def __init__(
        self,
        points: Points,
        memory: float = 2.0,
        *,
        device: torch.device | None = None,
        block: int = BLOCK,
        width: int | None = None,
        shared: bool = False,
        folder: Path | None = None,
    ):
        self.points, self.memory, self.block, self.width = points, memory, block, width
        self.shared, self.folder = shared, folder
        self.device = device or torch.device("cpu")
        if len(points) >= 2**31:  # pairs are numbers of 32 bits
            raise NeighboursError(f"cannot compare {len(points):,} points: more than 2,147,483,647; give fewer")
        self.frame = Frame.of(points)
        self.sample = Sample.draw(points, frame=self.frame)
        self._sketch: Sketch | None = None
        self._searches = 0
        self._radius = -1.0  # within which all pairs are found
        self._found = NOTHING

    def graph(self, radius: float) -> csr_array[Any, Any]:
        """Find all pairs whose Euclidean distance is at most ``radius``; infinite for all pairs.

        Returns
        -------
        (points, points) float64
            Upper triangle; each stored entry is the distance of a pair, zero for equal points.

        Raises
        ------
        NeighboursError
            If the pairs would take more than ``memory``: the message says how many there are, and which radius and how
            much memory would do.
        """
        count, radius = len(self.points), float(radius)
        if radius > self._radius and radius >= 0 and count > 1:
            self._widen(radius)
        pairs = self._found
        if radius != self._radius:
            near = pairs[2] <= radius
            pairs = pairs[0][near], pairs[1][near], pairs[2][near]
        return coo_array((pairs[2], pairs[:2]), shape=(count, count)).tocsr()

    def agreed(self, value: float) -> float:
        """Return a value that all processes of a shared search use: that of the first."""
        return distributed.broadcast_scalar(value) if self.shared else value

    def _widen(self, radius: float) -> None:
        expected = self.agreed(self.sample.pairs_within(radius))
        most = most_pairs(self.memory)
        if expected > 1.5 * most:
            raise self._too_dense(expected, radius)
        sketch = self._prepared(radius)
        limit = sketch.limit(radius)
        known = np.sort(self._keys(*self._found[:2]))
        sides = blocks(len(self.points), self.block)
        tasks = [(rows, columns) for at, rows in enumerate(sides) for columns in sides[at:]]
        rank, world = (distributed.rank(), distributed.world()) if self.shared else (0, 1)
        kept = self._kept(radius, rank, world)
        mine = tasks[rank::world]
        left, found = mine[kept.blocks :], PairList()
        found.add(kept.pairs)
        search = partial(self._search, sketch, limit, radius, known)
        results = cast("Generator[Pairs, None, None]", threads.ahead(search, left, self._threads()))
        bar = {"total": len(mine), "initial": len(mine) - len(left), "desc": "near pairs", "unit": "block"}
        # What is under way is given up if there are too many pairs.
        with kept, full_float32(), closing(results):
            for pairs in tqdm(results, **bar, disable=rank > 0 or len(mine) < 2):
                found.add(pairs)
                kept.add(pairs)
                if len(known) + len(found) > most:
                    break
        total = len(known) + len(found)
        if self.shared:
            total = int(distributed.all_reduce_sum(len(found))[0]) + len(known)
        if total > most:
            raise self._too_dense(max(expected, total), radius)
        first, second, distances = distributed.all_gather(*found.pairs) if self.shared else found.pairs
        before = self._found
        self._found = (
            np.concatenate([before[0], first]),
            np.concatenate([before[1], second]),
            np.concatenate([before[2], distances]),
        )
        self._radius = radius

    def _kept(self, radius: float, rank: int, world: int) -> KeptPairs:
        """Open what an earlier process has found of this search."""
        if self.folder is None:
            return KeptPairs(None, {})
        # That these are the same points shows in their distances.
        points = sha256(self.sample.distances.data.cast("B")).hexdigest()
        about = {"radius": radius, "beyond": self._radius, "block": self.block, "processes": world, "points": points}
        self._searches += 1
        return KeptPairs(self.folder / f"{self._searches}-{rank}.pairs", about)

    def _threads(self) -> int:
        """Return how many blocks may be searched at a time: if all pairs of each are candidates, they take memory."""
        fit = int(self.memory * GIB / (BYTES_A_CANDIDATE * self.block**2))
        return 1 if self.device.type == "cuda" else max(1, min(threads.count(), fit))

    def _search(
        self, sketch: Sketch, limit: float, radius: float, known: NDArray[np.int64], task: tuple[slice, slice]
    ) -> Pairs:
        """Return the pairs of two blocks within a radius that are not known."""
        first, second = sketch.candidates(*task, limit)
        if len(known) and len(first):
            keys = self._keys(first, second)
            places = np.minimum(np.searchsorted(known, keys), len(known) - 1)
            new = known[places] != keys
            first, second = first[new], second[new]
        distances = measured(self.points, first, second)
        near = distances <= radius
        return first[near].astype(np.int32), second[near].astype(np.int32), distances[near]

    @property
    def axes(self) -> int | None:
        """Number of axes on which pairs are discarded, or of all dimensions; None before the first search."""
        return None if self._sketch is None else self._sketch.axes

    def _prepared(self, radius: float) -> Sketch:
        if self._sketch is None:
            count, dimensions = self.points.shape
            if self.width is None and self.device.type == "cpu":
                room = self.memory * GIB / 2
                axes = choose_axes(self.points, self.frame, radius, room, self.block, partial(measured, self.points))
            elif (width := self.width or WIDTH) + 1 < dimensions and count > width:
                axes = principal_axes(self.points, self.frame, width)
            else:
                axes = None
            self._sketch = Sketch.of(self.points, self.frame, axes, self.device)
        return self._sketch

    def _keys(self, first: NDArray[Any], second: NDArray[Any]) -> NDArray[np.int64]:
        """Return a number for each pair, another one for another pair."""
        keys: NDArray[np.int64] = first.astype(np.int64) * len(self.points) + second
        return keys

    def _too_dense(self, pairs: float, radius: float) -> NeighboursError:
        memory, sample = self.memory, self.sample
        fits = sample.radius_with(0.8 * most_pairs(memory))
        smaller = f"a threshold of {fits:.4g} would fit, or " if sample.pairs_within(fits) <= most_pairs(memory) else ""
        return NeighboursError(
            f"about {pairs:,.0f} pairs are within {radius:.4g}, and {memory:g} GiB hold {most_pairs(memory):,.0f}; "
            f"{smaller}set memory_gib (in params.yaml: machine.memory_gib) to {1.1 * pairs * BYTES_A_PAIR / GIB:.1f}"
        )


def neighbour_graph(points: Points, radius: float, memory: float = 2.0, **options: Any) -> csr_array[Any, Any]:
    """Find all pairs of points whose Euclidean distance is at most ``radius``: a `RadiusSearch` for one radius.

    Parameters
    ----------
    points, memory, **options
        As for `RadiusSearch`.
    radius
        The largest distance of a pair; infinite for all pairs.

    Returns
    -------
    (points, points) float64
        Upper triangle; each stored entry is the distance of a pair, zero for equal points.

    Raises
    ------
    NeighboursError
        If a point is not finite, there are 2³¹ points or more, or the pairs would take more than ``memory``.
    """
    return RadiusSearch(points, memory, **options).graph(radius)
