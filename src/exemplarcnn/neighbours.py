"""All pairs of points within a radius, exactly, though only few pairs are ever measured in full.

docs/method.md, section 5.2. Points are projected onto their leading principal axes, which can only bring them
nearer; a product of low precision there, with a margin for every rounding, discards almost all pairs for certain,
and the distances of the rest are computed in float64. So neither the projection nor the precision, the size of
blocks or the number of threads or processes can change the result.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import coo_array, csr_array
from sklearn.utils.extmath import randomized_svd
from torch import Tensor
from tqdm import tqdm

from exemplarcnn import distributed
from exemplarcnn.errors import PipelineError

Points = NDArray[np.float32]

BLOCK = 2048  # points a side of the products
STRIP = 512  # points that are read at a time
WIDTH = 512  # principal axes
SAMPLE = 512  # points whose distances to all others are looked at first
AXES_SAMPLE = 4096  # points from which the axes are found
# What one pair takes at most: in lists, in the sparse matrix and in the rounds of complete linkage, measured.
BYTES_A_PAIR = 160
GIB = 2**30


class NeighboursError(PipelineError):
    """Points that have no graph of near pairs, or none that fits."""


def _random(count: int, size: int) -> NDArray[np.int64]:
    """Draw ``size`` of ``count`` places, ascending. It only steers the search, so one fixed seed is enough."""
    return np.sort(np.random.default_rng(0).permutation(count)[:size])


def _blocks(count: int, size: int) -> list[slice]:
    return [slice(start, min(start + size, count)) for start in range(0, count, size)]


def centre(points: Points) -> NDArray[np.float64]:
    """Mean of all points, (d,) float64, read block by block.

    Raises
    ------
    NeighboursError
        If the points are no table of numbers, or a coordinate is not finite: the first such point is named.
    """
    if points.ndim != 2:
        raise NeighboursError(f"points of shape {points.shape}; expected one row for each point")
    total = np.zeros(points.shape[1])
    for block in _blocks(len(points), STRIP):
        rows = np.asarray(points[block])
        total += rows.sum(axis=0, dtype=np.float64)
        if not np.isfinite(total).all() and not (good := np.isfinite(rows).all(axis=1)).all():
            raise NeighboursError(
                f"point {block.start + int(np.argmin(good))} has a coordinate that is not finite; "
                "was the network's training sound?"
            )
    return total / max(len(points), 1)


def measured(points: Points, first: NDArray[np.int64], second: NDArray[np.int64]) -> NDArray[np.float64]:
    """Euclidean distances of listed pairs, each from its two rows alone, in float64."""
    result = np.empty(len(first))
    for block in _blocks(len(first), max(1, (1 << 21) // max(points.shape[1], 1))):
        gap = points[first[block]].astype(np.float64)
        gap -= points[second[block]]
        result[block] = np.sqrt(np.square(gap, out=gap).sum(axis=1))
    return result


@dataclass(frozen=True)
class Sample:
    """Approximate distances of some points to all: what to expect of a radius before the work is done.

    Attributes
    ----------
    distances
        (sample, points) float32; infinite between a point and itself.
    """

    distances: NDArray[np.float32]

    @classmethod
    def draw(cls, points: Points, mean: NDArray[np.float64], size: int = SAMPLE) -> "Sample":
        """Measure up to ``size`` of the points against all."""
        rows = _random(len(points), size)
        offset = mean.astype(np.float32)
        chosen = torch.from_numpy(points[rows] - offset)
        scale = chosen.abs().max()  # squares of very small or large numbers would leave the range of float32
        chosen /= scale if scale > 0 else 1
        distances = np.empty((len(rows), len(points)), np.float32)
        for block in _blocks(len(points), BLOCK):
            others = torch.from_numpy(points[block] - offset) / (scale if scale > 0 else 1)
            squares = chosen.square().sum(1)[:, None] + others.square().sum(1) - 2 * (chosen @ others.T)
            distances[:, block] = (squares.clamp_(min=0).sqrt_() * scale).numpy()
        distances[np.arange(len(rows)), rows] = np.inf
        return cls(distances)

    def pairs_within(self, radius: float) -> float:
        """Estimate how many pairs of all points are within a radius."""
        share = int(np.count_nonzero(self.distances <= radius)) / max(self.distances.size, 1)
        return float(share * self.distances.shape[1] ** 2 / 2)

    def radius_with(self, pairs: float) -> float:
        """Estimate the radius within which a number of pairs are."""
        rank = int(pairs * 2 / self.distances.shape[1] ** 2 * self.distances.size)
        return float(np.partition(self.distances, min(rank, self.distances.size - 1), axis=None)[rank])

    def nearest_within(self, share: float) -> float:
        """Radius within which a share of the sampled points have their nearest neighbour."""
        nearest = np.sort(self.distances.min(axis=1))
        return float(nearest[min(int(np.ceil(share * len(nearest))), len(nearest) - 1)])

    def wider(self, radius: float) -> float:
        """Widen a radius by a seventh, at least to the next sampled distance; to infinity if there is none."""
        further = self.distances[np.isfinite(self.distances) & (self.distances > radius)]
        return max(1.15 * radius, float(further.min())) if further.size else np.inf


@dataclass(frozen=True)
class _Sketch:
    """Rows whose inner product tells pairs that may be within the radius from those that cannot be.

    ``right`` is (points, columns) of low precision: coordinates, then ``extra`` ones, then ``extra`` pieces that add
    up to the point's own term. The left side of a product has the last two exchanged.
    """

    right: Tensor
    extra: int
    limit: float

    def left(self, rows: slice) -> Tensor:
        part, axes = self.right[rows], self.right.shape[1] - 2 * self.extra
        return torch.cat([part[:, :axes], part[:, axes + self.extra :], part[:, axes : axes + self.extra]], dim=1)

    def candidates(self, rows: slice, columns: slice) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Pairs (i < j) of two blocks that may be within the radius."""
        hits = self.left(rows) @ self.right[columns].T >= self.limit
        i, j = (place.cpu().numpy() for place in torch.nonzero(hits, as_tuple=True))
        i, j = i + rows.start, j + columns.start
        return i[i < j], j[i < j]


def _axes(points: Points, mean: NDArray[np.float64], scale: float, width: int) -> NDArray[np.float64]:
    """Orthonormal axes along which the points spread most, (d, width) float64. Any others would be as correct."""
    sample = points[_random(len(points), AXES_SAMPLE)] - mean.astype(np.float32)
    sample /= np.float32(scale)
    _, _, rows = randomized_svd(sample, width, n_oversamples=16, n_iter=2, random_state=0)
    return np.linalg.qr(rows.T.astype(np.float64))[0]


def _pieces(values: NDArray[np.float64], dtype: torch.dtype) -> list[Tensor]:
    """Numbers of low precision whose sum is each value to 24 bits."""
    rest, pieces = torch.from_numpy(values), []
    for _ in range(1 if dtype == torch.float32 else 3):
        pieces.append(rest.to(dtype))
        rest = rest - pieces[-1].double()
    return pieces


def _sketch(
    points: Points, mean: NDArray[np.float64], radius: float, width: int, dtype: torch.dtype, device: torch.device
) -> _Sketch:
    """Project, round, and work out a margin that covers both.

    Let p be the point's coordinates on the axes with the length of the rest as one more: |p − p'| ≤ |x − x'|. Let q
    be p rounded, e ≥ |p − q|. Then |x − x'| ≤ R implies |q − q'| ≤ R + e + e', hence
    q·q' − a − a' ≥ −R²/2 where a = |q|²/2 − R e − e². The left side is one inner product if a and a' are among the
    coordinates. Points are scaled to length at most one, so that errors have known sizes.
    """
    project = points.shape[1] > width and len(points) > width
    blocks = _blocks(len(points), STRIP)
    scale = max(float(np.linalg.norm(points[block] - mean, axis=1).max()) for block in blocks) or 1.0
    axes = _axes(points, mean, scale, width) if project else None
    radius = min(radius / scale, 2.5)  # no two points are farther apart than 2
    strips = []
    extra = 1 if dtype == torch.float32 else 3
    for block in blocks:
        rows = (points[block] - mean) / scale
        if axes is not None:
            inside = rows @ axes
            outside = np.sqrt(np.maximum(np.square(rows).sum(1) - np.square(inside).sum(1), 0))
            rows = np.concatenate([inside, outside[:, None]], axis=1)
        rounded = torch.from_numpy(rows).to(dtype)
        exact = rounded.double().numpy()
        # float64 loses at most 1e-6: of the length of a rest that is nearly zero, where a root magnifies it.
        error = np.linalg.norm(rows - exact, axis=1) + 1e-6
        own = np.square(exact).sum(1) / 2 - radius * error - np.square(error)
        ones = [torch.ones(len(rows), dtype=dtype)] * extra
        strips.append(torch.cat([rounded, torch.stack([*ones, *_pieces(-own, dtype)], dim=1)], dim=1))
    right = torch.cat(strips).to(device)
    # A float32 sum of products of K terms is off by at most K · 2⁻²⁴ times the sum of their sizes, here at most 2.1;
    # twice that, since vector instructions for bfloat16 round less strictly. The result is rounded to bfloat16 once.
    slack = right.shape[1] * 2.0**-22
    limit = -(radius**2 / 2 + slack) * (1 if dtype == torch.float32 else 1 + 2.0**-8)
    return _Sketch(right, extra, limit)


def _precision(device: torch.device) -> torch.dtype:
    """bfloat16 where the processor multiplies it faster; the result is the same."""
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
        (points, d) float32, for instance a memory map; never held as a whole.
    radius
        The largest distance of a pair; infinite for all pairs.
    memory
        GiB that pairs may take, here and in `linkage.complete_linkage`.
    device
        Where products are computed; the CPU by default.
    block, width
        Points a side of a product, and principal axes: speed and memory depend on them, the result does not.
    sample
        Of these points, if it was drawn already.

    Returns
    -------
    (points, points) float64
        Upper triangle; each stored entry is the distance of a pair, zero for points in one place.

    Raises
    ------
    NeighboursError
        If a point is not finite, or the pairs would take more than ``memory``: the message says how many there are,
        and which radius would fit.
    """
    count = len(points)
    mean = centre(points)
    if radius < 0 or count < 2:
        return csr_array((count, count), dtype=np.float64)
    sample = sample or Sample.draw(points, mean)
    most = memory * GIB / BYTES_A_PAIR
    if (expected := sample.pairs_within(radius)) > 1.5 * most:
        raise _too_dense(expected, radius, sample, memory, most)
    device = device or torch.device("cpu")
    sketch = _sketch(points, mean, radius, width, _precision(device), device)
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
            raise _too_dense(max(expected, total), radius, sample, memory, most)
    first, second, distances = (np.concatenate(column) for column in zip(*found, strict=True))
    first, second, distances = distributed.gathered(first, second, distances)
    return coo_array((distances, (first, second)), shape=(count, count)).tocsr()


def _too_dense(pairs: float, radius: float, sample: Sample, memory: float, most: float) -> NeighboursError:
    return NeighboursError(
        f"about {pairs:,.0f} pairs are within {radius:.4g}, and {memory:g} GiB hold {most:,.0f}; a threshold of "
        f"{sample.radius_with(0.8 * most):.4g} would fit, or set machine.memory to {pairs * BYTES_A_PAIR / GIB:.1f}"
    )
