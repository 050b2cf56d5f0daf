"""Look at some of many points first, to guess what a radius will give."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from exemplarcnn import threads
from exemplarcnn.clustering.errors import NeighboursError

STRIP = 512  # points that are read at a time
SAMPLE = 256  # points whose distances to all others are estimated first
LARGEST = float(np.finfo(np.float32).max)


def some(count: int, size: int, seed: int = 0) -> NDArray[np.int64]:
    """Draw ``size`` of ``count`` indices, ascending. They only guide the search, so a fixed seed is enough."""
    return np.sort(np.random.default_rng(seed).permutation(count)[:size])


def blocks(count: int, size: int) -> list[slice]:
    """Split rows into blocks of a size; the last one may be shorter."""
    return [slice(start, min(start + size, count)) for start in range(0, count, size)]


@dataclass(frozen=True)
class Chosen:
    """Some rows of points, read only when they are asked for: a copy of half a memory map would fill the memory.

    Attributes
    ----------
    points
        (points, d) float32.
    rows
        Which of them, (n,) int64; fastest if they ascend.
    """

    points: NDArray[np.float32]
    rows: NDArray[np.int64]
    ndim = 2

    @property
    def shape(self) -> tuple[int, int]:
        """As of an array of these rows."""
        return len(self.rows), self.points.shape[1]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, places: slice | NDArray[np.int64]) -> NDArray[np.float32]:
        return self.points[self.rows[places]]


Points = NDArray[np.float32] | Chosen


@dataclass(frozen=True)
class Frame:
    """What coordinates are measured from, and in: computations on points that are centred and small lose least.

    Attributes
    ----------
    mean
        Of all points, (d,) float64.
    unit
        A power of two that no coordinate exceeds.
    """

    mean: NDArray[np.float64]
    unit: float

    @classmethod
    def of(cls, points: Points) -> "Frame":
        """Read all points, block by block.

        Raises
        ------
        NeighboursError
            If the points are not two-dimensional, or a coordinate is not finite: the message names the first such
            point.
        """
        if points.ndim != 2:
            raise NeighboursError(
                f"found points of shape {points.shape}, expected (points, dimensions); pass one row per point"
            )
        total, largest = np.zeros(points.shape[1]), 0.0
        for block in blocks(len(points), STRIP):
            rows = np.asarray(points[block])
            total += rows.sum(axis=0, dtype=np.float64)
            largest = max(largest, float(rows.max(initial=0)), -float(rows.min(initial=0)))
            if not np.isfinite(total).all() and not (good := np.isfinite(rows).all(axis=1)).all():
                raise NeighboursError(
                    f"cannot compare the points: point {block.start + int(np.argmin(good))} has a coordinate that is "
                    "not finite; if its network's training diverged, lower the learning rates and train again, else "
                    "check the features with `exemplarcnn verify`"
                )
        return cls(total / max(len(points), 1), 2.0 ** math.frexp(largest)[1])

    def __call__(self, rows: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return rows of points in this frame, float64."""
        return np.asarray((rows - self.mean) / self.unit)


@dataclass(frozen=True)
class Sample:
    """Approximate distances of some points to all.

    Attributes
    ----------
    distances
        (sample, points) float32; infinite between a point and itself.
    """

    distances: NDArray[np.float32]

    @classmethod
    def draw(cls, points: Points, size: int = SAMPLE, frame: Frame | None = None) -> "Sample":
        """Measure up to ``size`` of the points, drawn at random, against all."""
        frame = frame or Frame.of(points)
        rows = some(len(points), size)
        # In float64: rounding of float32 products would drown the distances of points that are much alike.
        chosen = frame(points[rows])
        lengths = np.einsum("ij,ij->i", chosen, chosen)[:, None]
        distances = np.empty((len(rows), len(points)), np.float32)

        def measure(block: slice) -> None:
            others = frame(points[block])
            squares = -2 * (chosen @ others.T)
            squares += lengths + np.einsum("ij,ij->i", others, others)
            distances[:, block] = np.minimum(np.sqrt(np.maximum(squares, 0)) * frame.unit, LARGEST)

        for _ in threads.ahead(measure, blocks(len(points), STRIP), threads.count()):
            pass
        distances[np.arange(len(rows)), rows] = np.inf
        return cls(distances)

    def pairs_within(self, radius: float) -> float:
        """Estimate how many pairs of all points are within a radius."""
        near = int(np.count_nonzero(self.distances <= min(float(radius), LARGEST)))
        return near / max(self.distances.size, 1) * float(self.distances.shape[1]) ** 2 / 2

    def radius_with(self, pairs: float) -> float:
        """Estimate the radius that has a number of pairs within it."""
        rank = int(pairs * 2 / self.distances.shape[1] ** 2 * self.distances.size)
        if rank >= self.distances.size:
            return np.inf
        return float(np.partition(self.distances, rank, axis=None)[rank])

    def nearest_within(self, share: float) -> float:
        """Return the radius within which a share of the sampled points have their nearest neighbour."""
        nearest = np.sort(self.distances.min(axis=1))
        return float(nearest[min(int(np.ceil(share * len(nearest))), len(nearest) - 1)])

    def wider(self, radius: float, factor: float = 1.15) -> float:
        """Multiply a radius by a factor, at least to the next sampled distance; to infinity if there is none."""
        further = self.distances[np.isfinite(self.distances) & (self.distances > radius)]
        return max(factor * radius, float(further.min())) if further.size else np.inf
