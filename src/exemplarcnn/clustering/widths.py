"""Choose on how many axes many points are compared: few make a product cheap, many leave few pairs to measure in full.

What each takes is timed here and now. The choice changes how long a search takes, never what it finds.
"""

import time
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from exemplarcnn import threads
from exemplarcnn.clustering.sample import STRIP, Frame, Points, some
from exemplarcnn.clustering.sketch import Axes, precision, principal_axes

WIDTH = 256  # where points are few
WIDTHS = (64, 128, WIDTH, 512)
FEW = 20_000  # points whose pairs any width finds in a second or two
PROBED = 2048  # points among which candidates are counted
MEASURED = 256  # pairs that are timed


def choose_axes(
    points: Points,
    frame: Frame,
    radius: float,
    bytes_at_most: float,
    block: int,
    measure: Callable[[NDArray[np.int64], NDArray[np.int64]], object],
) -> Axes | None:
    """Return the axes on which a search for near pairs is likely to be fastest; None for all dimensions.

    Parameters
    ----------
    points, frame, radius
        What is searched.
    bytes_at_most
        Memory for the points' coordinates.
    block
        Points on each side of a product.
    measure
        Measures pairs in full.
    """
    count, dimensions = points.shape
    if dimensions <= WIDTH + 1 or count <= WIDTH:
        return None
    if count < FEW:
        return principal_axes(points, frame, WIDTH)
    widths = [width for width in WIDTHS if width < dimensions]
    axes = principal_axes(points, frame, widths[-1])
    costs = Costs(points, frame, block, measure)
    shares = candidate_shares(points, frame, axes, radius, [*widths, dimensions])
    seconds = {
        width: costs.seconds(width, share)
        for width, share in shares.items()
        if count * (width + 7) * costs.bytes_each <= bytes_at_most or width == widths[0]
    }
    best = min(seconds, key=lambda width: seconds[width])
    return None if best == dimensions else axes[:, :best]


def candidate_shares(points: Points, frame: Frame, axes: Axes, radius: float, widths: list[int]) -> dict[int, float]:
    """Estimate what share of all pairs may be within a radius as far as so many axes can tell, by number of axes."""
    # Not those from which the axes were found: these lie closer to the axes than others.
    rows = frame(points[some(len(points), PROBED, seed=1)])
    lengths = np.einsum("ij,ij->i", rows, rows)
    on_axes = rows @ axes
    rounded = 0.0 if precision(torch.device("cpu")) == torch.float32 else 2.0**-9
    reach = (radius / frame.unit + 2 * rounded * np.sqrt(lengths.mean())) ** 2
    pairs, found = len(rows) * (len(rows) - 1), {}
    for width in widths:
        part = rows if width == points.shape[1] else on_axes[:, :width]
        inner = np.einsum("ij,ij->i", part, part)
        rest = np.sqrt(np.maximum(lengths - inner, 0))
        squares = inner[:, None] + inner - 2 * (part @ part.T) + np.square(rest[:, None] - rest)
        np.fill_diagonal(squares, np.inf)
        found[width] = float(np.count_nonzero(squares <= reach)) / pairs
    return found


class Costs:
    """What the parts of a search take here, in seconds of one thread."""

    def __init__(
        self,
        points: Points,
        frame: Frame,
        block: int,
        measure: Callable[[NDArray[np.int64], NDArray[np.int64]], object],
    ):
        self.count, self.dimensions = points.shape
        self.block = min(block, self.count)
        dtype = precision(torch.device("cpu"))
        self.bytes_each = 4 if dtype == torch.float32 else 2
        draw = np.random.default_rng(2)
        first, second = draw.integers(0, self.count, (2, MEASURED))
        self.a_pair = _seconds(lambda: measure(first, second)) / MEASURED
        strip = frame(points[:STRIP])
        axes = np.ones((self.dimensions, WIDTH))
        self.a_projection = _seconds(lambda: strip @ axes) / len(strip) / WIDTH  # of a point onto an axis
        self.product: dict[int, float] = {}
        for width in (64, 512):
            side = draw.random((self.block, width), np.float32)
            self.product[width] = _seconds(partial(compare_blocks, torch.from_numpy(side).to(dtype)))

    def seconds(self, width: int, share: float) -> float:
        """Return how long a search takes, if so many axes leave a share of all pairs to be measured."""
        low, high = self.product.values()
        product = low + (high - low) * (width - 64) / (512 - 64)
        pairs = self.count**2 / 2
        projections = self.count * width if width < self.dimensions else 0
        together = pairs / self.block**2 * product + share * pairs * self.a_pair + projections * self.a_projection
        return float(together / threads.count())


def compare_blocks(side: Tensor) -> Tensor:
    """Do what a search does with two blocks of points, of which none are near."""
    return torch.nonzero(side @ side.T >= side.shape[1])


def _seconds(work: Callable[[], object]) -> float:
    """Return the shorter of two times, after one that warms up."""
    work()
    taken = []
    for _ in range(2):
        begun = time.perf_counter()
        work()
        taken.append(time.perf_counter() - begun)
    return min(taken)
