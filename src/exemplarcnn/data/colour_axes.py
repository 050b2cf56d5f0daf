"""The principal axes of a pool's colours, which the recipe `dosovitskiy` needs (docs/method.md, section 2.2)."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from exemplarcnn.data.types import Pool
from exemplarcnn.files import read_json, write_json
from exemplarcnn.progress import tqdm

Vector = tuple[float, float, float]


@dataclass(frozen=True)
class Axes:
    """Mean, principal axes and variances of RGB values in 0–1; axes are unit vectors, largest variance first."""

    mean: Vector
    axes: tuple[Vector, Vector, Vector]
    variances: Vector


def measure(pool: Pool, usable: Iterable[int] | None = None) -> Axes:
    """Compute the principal axes of all pixels of a pool, or of its usable images only.

    Sums are integers, so the order of images cannot change them. Each axis has the sign that makes its largest
    component positive.
    """
    count, first, second = 0, np.zeros(3, np.int64), np.zeros((3, 3), np.int64)
    for index in tqdm(range(len(pool)) if usable is None else list(usable), desc="colours", unit="image"):
        # Exact in float64: the sums of an image stay far below 2**53.
        pixels = pool[index].reshape(-1, 3).astype(np.float64)
        count += len(pixels)
        first += pixels.sum(axis=0).astype(np.int64)
        second += (pixels.T @ pixels).astype(np.int64)
    # As Python's integers, which do not overflow.
    sums, products = first.astype(object), second.astype(object)
    covariance = ((count * products - np.outer(sums, sums)) / (255 * count) ** 2).astype(np.float64)
    vectors, values = np.linalg.eigh(covariance)[::-1]
    rows = vectors.T[::-1]
    rows = rows * np.sign(rows[np.arange(3), np.abs(rows).argmax(axis=1)])[:, None]
    return _axes((first / count / 255).tolist(), rows.tolist(), values[::-1].tolist())


def _axes(mean: list[float], rows: list[list[float]], variances: list[float]) -> Axes:
    one, two, three = ((row[0], row[1], row[2]) for row in rows)
    return Axes((mean[0], mean[1], mean[2]), (one, two, three), (variances[0], variances[1], variances[2]))


def write(path: Path, axes: Axes | None) -> None:
    """Write axes as JSON; null if no recipe needs them."""
    write_json(path, axes and {"mean": axes.mean, "axes": axes.axes, "variances": axes.variances})


def read(path: Path) -> Axes | None:
    """Read axes that :func:`write` wrote; None for null."""
    values = read_json(path)
    return values and _axes(values["mean"], values["axes"], values["variances"])
