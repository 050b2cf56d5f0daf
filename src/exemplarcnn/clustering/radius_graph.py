"""Find all pairs of points within a radius, exactly, though few pairs are measured in full (docs/method.md, 5.2).

Points are projected onto their leading principal axes, which can only bring them nearer. There, a product of low
precision with a margin for every rounding error safely discards almost all pairs; the distances of the rest are
computed in float64. So neither the projection nor the precision, the size of blocks or the number of threads or
processes can change the result.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import coo_array, csr_array
from sklearn.utils.extmath import randomized_svd
from torch import Tensor

from exemplarcnn import distributed
from exemplarcnn.errors import PipelineError
from exemplarcnn.progress import tqdm

Points = NDArray[np.float32]

BLOCK = 2048  # points on each side of a product
STRIP = 512  # points that are read at a time
WIDTH = 256  # principal axes
SAMPLE = 256  # points whose distances to all others are estimated first
AXES_SAMPLE = 2048  # points from which the axes are found
# The most that a pair takes in lists, in the sparse matrix and in the rounds of complete linkage, as measured.
BYTES_A_PAIR = 160
LARGEST = float(np.finfo(np.float32).max)
GIB = 2**30


class NeighboursError(PipelineError):
    """Points have no graph of near pairs, or none that fits into memory."""


def _random(count: int, size: int) -> NDArray[np.int64]:
    """Draw ``size`` of ``count`` indices, ascending. They only guide the search, so one fixed seed is enough."""
    return np.sort(np.random.default_rng(0).permutation(count)[:size])


def _blocks(count: int, size: int) -> list[slice]:
    return [slice(start, min(start + size, count)) for start in range(0, count, size)]


def centre(points: Points) -> tuple[NDArray[np.float64], float]:
    """Return the mean of all points, (d,) float64, and a power of two that no coordinate exceeds.

    Points are read block by block.

    Raises
    ------
    NeighboursError
        If the points are not two-dimensional, or a coordinate is not finite: the message names the first such point.
    """
    if points.ndim != 2:
        raise NeighboursError(
            f"found points of shape {points.shape}, expected (points, dimensions); pass one row per point"
        )
    total, largest = np.zeros(points.shape[1]), 0.0
    for block in _blocks(len(points), STRIP):
        rows = np.asarray(points[block])
        total += rows.sum(axis=0, dtype=np.float64)
        largest = max(largest, float(rows.max(initial=0)), -float(rows.min(initial=0)))
        if not np.isfinite(total).all() and not (good := np.isfinite(rows).all(axis=1)).all():
            raise NeighboursError(
                f"cannot compare the points: point {block.start + int(np.argmin(good))} has a coordinate that is not "
                "finite; if its network's training diverged, lower the learning rates and train again, else check the "
                "features with `exemplarcnn verify`"
            )
    return total / max(len(points), 1), 2.0 ** math.frexp(largest)[1]


def measured(points: Points, first: NDArray[np.int64], second: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the Euclidean distances of listed pairs, (pairs,) float64, each from its two rows alone."""
    result = np.empty(len(first))
    for block in _blocks(len(first), max(1, (1 << 18) // max(points.shape[1], 1))):  # fits into caches
        gap = points[first[block]].astype(np.float64)
        gap -= points[second[block]]
        result[block] = np.sqrt(np.square(gap, out=gap).sum(axis=1))
    return result


@dataclass(frozen=True)
class Sample:
    """Approximate distances of some points to all, to estimate what a radius will give.

    Attributes
    ----------
    distances
        (sample, points) float32; infinite between a point and itself.
    """

    distances: NDArray[np.float32]

    @classmethod
    def draw(cls, points: Points, size: int = SAMPLE) -> "Sample":
        """Measure up to ``size`` of the points, drawn at random, against all."""
        mean, unit = centre(points)
        rows = _random(len(points), size)
        # In float64: rounding of float32 products would drown the distances of points that are much alike.
        chosen = (points[rows] - mean) / unit
        distances = np.empty((len(rows), len(points)), np.float32)
        for block in _blocks(len(points), STRIP):
            others = (points[block] - mean) / unit
            squares = -2 * (chosen @ others.T)
            squares += np.einsum("ij,ij->i", chosen, chosen)[:, None] + np.einsum("ij,ij->i", others, others)
            distances[:, block] = np.minimum(np.sqrt(np.maximum(squares, 0)) * unit, LARGEST)
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

    def wider(self, radius: float) -> float:
        """Widen a radius by 15 %, at least to the next sampled distance; to infinity if there is none."""
        further = self.distances[np.isfinite(self.distances) & (self.distances > radius)]
        return max(1.15 * radius, float(further.min())) if further.size else np.inf


@dataclass(frozen=True)
class _Sketch:
    """Rows whose inner products tell pairs that may be within the radius from pairs that cannot be.

    ``right`` is (points, columns) of low precision: coordinates, then ``extra`` columns of 1, then ``extra`` pieces
    that add up to the point's own term. The left side of a product has the last two groups exchanged.
    """

    right: Tensor
    extra: int
    limit: float

    def left(self, rows: slice) -> Tensor:
        part, axes = self.right[rows], self.right.shape[1] - 2 * self.extra
        return torch.cat([part[:, :axes], part[:, axes + self.extra :], part[:, axes : axes + self.extra]], dim=1)

    def candidates(self, rows: slice, columns: slice) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the pairs (i < j) of two blocks that may be within the radius."""
        with _full_float32():
            hits = self.left(rows) @ self.right[columns].T >= self.limit
        i, j = (place.cpu().numpy() for place in torch.nonzero(hits, as_tuple=True))
        i, j = i + rows.start, j + columns.start
        return i[i < j], j[i < j]


def _axes(points: Points, mean: NDArray[np.float64], unit: float, width: int) -> NDArray[np.float64]:
    """Return orthonormal axes along which the points spread most, (d, width) float64; any others are correct, too."""
    sample = ((points[_random(len(points), AXES_SAMPLE)] - mean) / unit).astype(np.float32)
    _, _, rows = randomized_svd(sample, width, n_oversamples=16, n_iter=1, random_state=0)
    return np.linalg.qr(rows.T.astype(np.float64))[0]


def _pieces(values: NDArray[np.float64], dtype: torch.dtype) -> list[Tensor]:
    """Split values into numbers of low precision whose sum is each value to 24 bits."""
    rest, pieces = torch.from_numpy(values), []
    for _ in range(1 if dtype == torch.float32 else 3):
        pieces.append(rest.to(dtype))
        rest = rest - pieces[-1].double()
    return pieces


def _sketch(points: Points, radius: float, width: int, dtype: torch.dtype, device: torch.device) -> _Sketch:
    """Project, round, and work out a margin that covers both.

    Let p be the point's coordinates on the axes, with the length of the rest as one more: |p − p'| ≤ |x − x'|. Let q
    be p rounded, e ≥ |p − q|. Then |x − x'| ≤ R implies |q − q'| ≤ R + e + e', hence
    q·q' − a − a' ≥ −R²/2 where a = |q|²/2 − R e − e². The left side is one inner product if a and a' are among the
    coordinates. The unit is a power of two that makes coordinates at most one, which changes no digit.
    """
    count, dimensions = points.shape
    mean, unit = centre(points)
    axes = _axes(points, mean, unit, width) if dimensions > width + 1 and count > width else None
    extra = 1 if dtype == torch.float32 else 3
    kept = dimensions if axes is None else width + 1
    right = torch.empty(count, kept + 2 * extra, dtype=dtype)
    error, squared = np.empty(count), np.empty(count)
    for block in _blocks(count, STRIP):
        rows = points[block] - mean
        length = np.einsum("ij,ij->i", rows, rows)
        if axes is not None:
            rows = rows @ axes
            rest = np.sqrt(np.maximum(length - np.einsum("ij,ij->i", rows, rows), 0))
            rows = np.concatenate([rows, rest[:, None]], axis=1)
        rows /= unit
        right[block, :kept] = torch.from_numpy(rows).to(dtype)
        exact = right[block, :kept].double().numpy()
        # What float64 loses of a squared length is most where the rest is nearly zero, and the root magnifies it.
        lost = np.sqrt(length * dimensions * kept**0.5 * 2.0**-52) / unit
        error[block] = np.linalg.norm(rows - exact, axis=1) + lost
        squared[block] = np.einsum("ij,ij->i", exact, exact)
    longest = math.sqrt(squared.max())
    radius = min(radius / unit, 2.1 * longest + 1e-30)  # no two points are farther apart than twice the longest
    own = squared / 2 - radius * error - np.square(error)
    right[:, kept : kept + extra] = 1
    right[:, kept + extra :] = torch.stack(_pieces(-own, dtype), dim=1)
    # A float32 sum of K products is off by at most K · 2⁻²⁴ times the sum of their sizes; twice that, since vector
    # instructions for bfloat16 round less strictly. What comes out is then rounded to bfloat16 once.
    # The last term is for products so small that processors round them to zero.
    terms = kept + 2 * extra
    slack = 2 * terms * 2.0**-24 * (longest**2 + 2 * float(np.abs(own).max())) + terms * 2.0**-120
    limit = -(radius**2 / 2 + slack) * (1 if dtype == torch.float32 else 1 + 2.0**-8)
    return _Sketch(right.to(device), extra, limit)


@contextmanager
def _full_float32() -> Iterator[None]:
    """Compute float32 products in full precision, for which the margin is, whatever the caller has set."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def _precision(device: torch.device) -> torch.dtype:
    """Return bfloat16 if the processor multiplies it faster, else float32; the result is the same."""
    if device.type == "cpu" and torch.cpu.get_capabilities().get("avx512_bf16", False):
        return torch.bfloat16
    return torch.float32


def neighbour_graph(
    points: Points,
    radius: float,
    memory: float = 2.0,
    *,
    device: torch.device | None = None,
    block: int = BLOCK,
    width: int = WIDTH,
    sample: Sample | None = None,
) -> csr_array[Any, Any]:
    """Find all pairs of points whose Euclidean distance is at most ``radius``.

    Under ``torchrun`` the processes share the work, and each gets the whole graph.

    Parameters
    ----------
    points
        (points, d) float32, for instance a memory map; never loaded as a whole.
    radius
        The largest distance of a pair; infinite for all pairs.
    memory
        GiB that pairs may take, here and in `linkage.complete_linkage`.
    device
        Where products are computed; the CPU by default.
    block, width
        Points on each side of a product, and number of axes: they change speed and memory, not the result.
    sample
        Sample of these points, if already drawn.

    Returns
    -------
    (points, points) float64
        Upper triangle; each stored entry is the distance of a pair, zero for equal points.

    Raises
    ------
    NeighboursError
        If a point is not finite, or the pairs would take more than ``memory``: the message says how many there are,
        and which radius and how much memory would do.
    """
    count = len(points)
    if radius < 0 or count < 2:
        centre(points)  # raises for points that are not finite
        return csr_array((count, count), dtype=np.float64)
    sample = sample or Sample.draw(points)
    most = most_pairs(memory)
    if (expected := distributed.broadcast_scalar(sample.pairs_within(radius))) > 1.5 * most:
        raise _too_dense(expected, radius, sample, memory)
    device = device or torch.device("cpu")
    sketch = _sketch(points, radius, width, _precision(device), device)
    nothing = np.empty(0, np.int64)
    found = [(nothing, nothing, np.empty(0))]  # a process may have no block at all
    total = 0
    blocks = _blocks(count, block)
    tasks = [(rows, columns) for at, rows in enumerate(blocks) for columns in blocks[at:]]
    rank, world = distributed.rank(), distributed.world()
    mine = tasks[rank::world]
    for rows, columns in tqdm(mine, desc="near pairs", unit="block", disable=len(mine) < 2 or rank > 0):
        first, second = sketch.candidates(rows, columns)
        distances = measured(points, first, second)
        near = distances <= radius
        found.append((first[near], second[near], distances[near]))
        total += int(near.sum())
        if total > most:
            break
    total = int(distributed.all_reduce_sum(total)[0])
    if total > most:
        raise _too_dense(max(expected, total), radius, sample, memory)
    first, second, distances = (np.concatenate(column) for column in zip(*found, strict=True))
    first, second, distances = distributed.all_gather(first, second, distances)
    return coo_array((distances, (first, second)), shape=(count, count)).tocsr()


def most_pairs(memory: float) -> float:
    """Return how many pairs fit into an amount of memory, in GiB."""
    return memory * GIB / BYTES_A_PAIR


def _too_dense(pairs: float, radius: float, sample: Sample, memory: float) -> NeighboursError:
    fits = sample.radius_with(0.8 * most_pairs(memory))
    smaller = f"a threshold of {fits:.4g} would fit, or " if sample.pairs_within(fits) <= most_pairs(memory) else ""
    return NeighboursError(
        f"about {pairs:,.0f} pairs are within {radius:.4g}, and {memory:g} GiB hold {most_pairs(memory):,.0f}; "
        f"{smaller}set machine.memory_gib to {1.1 * pairs * BYTES_A_PAIR / GIB:.1f}"
    )
