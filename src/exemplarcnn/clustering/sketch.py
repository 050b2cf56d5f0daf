"""Points in few dimensions and low precision, with a margin for all that is lost (docs/method.md, 5.2)."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.utils.extmath import randomized_svd
from torch import Tensor

from exemplarcnn import threads
from exemplarcnn.clustering.sample import STRIP, Frame, Points, blocks, some

AXES_SAMPLE = 2048  # points from which the axes are found

Axes = NDArray[np.float64]


def principal_axes(points: Points, frame: Frame, width: int) -> Axes:
    """Return orthonormal axes along which the points spread most, (d, width) float64; any others are correct, too."""
    sample = frame(points[some(len(points), AXES_SAMPLE)]).astype(np.float32)
    _, _, rows = randomized_svd(sample, width, n_oversamples=16, n_iter=1, random_state=0)
    return np.linalg.qr(rows.T.astype(np.float64))[0]


def precision(device: torch.device) -> torch.dtype:
    """Return bfloat16 if the processor multiplies it faster, else float32; the result is the same."""
    # Only where the margin was tried: Arm's instructions may round at other places.
    if device.type == "cpu" and torch.cpu.get_capabilities().get("avx512_bf16", False):
        return torch.bfloat16
    return torch.float32


@dataclass(frozen=True)
class Sketch:
    """Rows whose inner products tell pairs that may be within a radius from pairs that cannot be.

    Let p be a point's coordinates on the axes, with the length of the rest as one more: |p − p'| ≤ |x − x'|. Let q be
    p rounded, e ≥ |p − q|. Then |x − x'| ≤ R implies |q − q'| ≤ R + e + e', hence q·q' − a − a' ≥ −R²/2 where
    a = |q|²/2 − R e − e². The left side is one inner product if a and a' are among the coordinates. The frame's unit is
    a power of two that makes coordinates at most two, which changes no digit.

    Attributes
    ----------
    right
        (points, columns) of low precision: coordinates, then ``extra`` columns of 1, then ``extra`` pieces that add up
        to −a. The left side of a product has the last two groups exchanged.
    extra
        Pieces of a number.
    error, squared
        e and q·q, (points,) float64.
    unit
        Of the coordinates.
    axes
        Number of axes, or of all dimensions.
    """

    right: Tensor
    extra: int
    error: NDArray[np.float64]
    squared: NDArray[np.float64]
    unit: float
    axes: int

    @classmethod
    def of(cls, points: Points, frame: Frame, axes: Axes | None, device: torch.device) -> "Sketch":
        """Project points onto axes, or take all their dimensions, and round."""
        dtype = precision(device)
        extra = 1 if dtype == torch.float32 else 3
        count, dimensions = points.shape
        kept = dimensions if axes is None else axes.shape[1] + 1
        right = torch.empty(count, kept + 2 * extra, dtype=dtype)
        right[:, kept : kept + extra] = 1
        error, squared = np.empty(count), np.empty(count)

        def project(block: slice) -> None:
            rows = frame(points[block])
            length = np.einsum("ij,ij->i", rows, rows)
            if axes is not None:
                rows = rows @ axes
                rest = np.sqrt(np.maximum(length - np.einsum("ij,ij->i", rows, rows), 0))
                rows = np.concatenate([rows, rest[:, None]], axis=1)
            right[block, :kept] = torch.from_numpy(rows).to(dtype)
            exact = right[block, :kept].double().numpy()
            # What float64 loses of a squared length is most where the rest is nearly zero, and the root magnifies it.
            lost = np.sqrt(length * dimensions * kept**0.5 * 2.0**-52)
            error[block] = np.linalg.norm(rows - exact, axis=1) + lost
            squared[block] = np.einsum("ij,ij->i", exact, exact)

        for _ in threads.ahead(project, blocks(count, STRIP), threads.count()):
            pass
        return cls(right.to(device), extra, error, squared, frame.unit, dimensions if axes is None else axes.shape[1])

    def limit(self, radius: float) -> float:
        """Prepare for a radius; return what the inner products of pairs within it reach."""
        longest = math.sqrt(self.squared.max())
        radius = min(radius / self.unit, 2.1 * longest + 1e-30)  # no points are farther apart than twice the longest
        own = self.squared / 2 - radius * self.error - np.square(self.error)
        dtype = self.right.dtype
        self.right[:, -self.extra :] = torch.stack(_pieces(-own, dtype), dim=1).to(self.right.device)
        # A float32 sum of K products is off by at most K · 2⁻²⁴ times the sum of their sizes; twice that, since vector
        # instructions for bfloat16 round less strictly. What comes out is then rounded to bfloat16 once.
        # The last term is for products so small that processors round them to zero.
        terms = self.right.shape[1]
        slack = 2 * terms * 2.0**-24 * (longest**2 + 2 * float(np.abs(own).max())) + terms * 2.0**-120
        return -(radius**2 / 2 + slack) * (1 if dtype == torch.float32 else 1 + 2.0**-8)

    def candidates(self, rows: slice, columns: slice, limit: float) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the pairs (i < j) of two blocks whose inner products reach a limit; inside `full_float32`."""
        part, ones = self.right[rows], self.right.shape[1] - 2 * self.extra
        left = torch.cat([part[:, :ones], part[:, ones + self.extra :], part[:, ones : ones + self.extra]], dim=1)
        hits = left @ self.right[columns].T >= limit
        i, j = (place.cpu().numpy() for place in torch.nonzero(hits, as_tuple=True))
        i, j = i + rows.start, j + columns.start
        return i[i < j], j[i < j]


def _pieces(values: NDArray[np.float64], dtype: torch.dtype) -> list[Tensor]:
    """Split values into numbers of low precision whose sum is each value to 24 bits."""
    rest, pieces = torch.from_numpy(values), []
    for _ in range(1 if dtype == torch.float32 else 3):
        pieces.append(rest.to(dtype))
        rest = rest - pieces[-1].double()
    return pieces


@contextmanager
def full_float32() -> Iterator[None]:
    """Compute float32 products in full precision, for which the margin is, whatever the caller has set."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
