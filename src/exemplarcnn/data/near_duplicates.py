"""Find near duplicates: a picture moved a little, brightened, or compressed again (docs/method.md, section 1.2).

Amplitude spectra, which hardly change with a shift, give the candidate pairs, by the exact search that clustering
uses. The correlation of the pictures' fine structure, at the best shift, decides. Groups are the connected components
of the pairs that remain.
"""

from collections.abc import Callable, Iterator, Mapping
from hashlib import sha256
from typing import TypeVar

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from exemplarcnn import threads
from exemplarcnn.clustering.radius_graph import neighbour_graph
from exemplarcnn.config.sections import Duplicates
from exemplarcnn.data.types import Pixels, Pool
from exemplarcnn.progress import tqdm

# Pixels: all pictures are resized to this side before they are compared.
SIDE = 96
# Frequencies in periods per picture: below, spectra of different pictures are alike; above, compression changes them.
LOWEST, HIGHEST = 1, 14
COARSE = 4.0  # pixels: the blur that takes fine structure away
# Pictures of one colour resemble everything: below this standard deviation of grey levels they are skipped.
FLAT = 1.0
AT_ONCE = 64  # images or pairs that a thread takes

Grey = NDArray[np.float32]
ImageAt = Callable[[int], Pixels]
Read = TypeVar("Read")
Made = TypeVar("Made")


def grey_levels(image: Pixels) -> Grey:
    """Return an image's grey levels at 96×96 pixels, float32."""
    levels = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    if levels.shape != (SIDE, SIDE):
        levels = cv2.resize(levels, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    return np.asarray(levels, np.float32)


def _frequencies() -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """Return which of a real spectrum's frequencies are used, and the rounded radius of each of them."""
    down, across = np.fft.fftfreq(SIDE, 1 / SIDE)[:, None], np.arange(SIDE // 2 + 1)[None]
    radius = np.hypot(down, across)
    once = ~((across == 0) & (down < 0))  # the spectrum of real numbers is symmetric
    used = (radius >= LOWEST) & (radius <= HIGHEST) & once
    return used, np.round(radius[used]).astype(np.int64)


USED, RADIUS = _frequencies()
# Fades to black at the borders, where content comes and goes when a picture is moved.
WINDOW = np.outer(np.hanning(SIDE + 2)[1:-1], np.hanning(SIDE + 2)[1:-1])


def spectrum(levels: Grey) -> Grey:
    """Return the roots of an image's amplitudes relative to their mean at each radius, (306,) float32 of unit length.

    Dividing by the mean removes the contrast, and what all photographs share: amplitudes that fall with frequency.
    """
    windowed = (levels - np.average(levels, weights=WINDOW)) * WINDOW
    roots = np.sqrt(np.abs(np.fft.rfft2(windowed))[USED])
    means = np.bincount(RADIUS, roots) / np.maximum(np.bincount(RADIUS), 1)
    relative = roots / np.maximum(means[RADIUS], 1e-9) - 1
    return np.asarray(relative / max(float(np.linalg.norm(relative)), 1e-9), np.float32)


def fine_structure(levels: Grey) -> Grey:
    """Subtract an image's coarse structure, so that brightness and gradual shading are gone; 96×96, float32."""
    return np.asarray(levels - cv2.GaussianBlur(levels, (0, 0), COARSE), np.float32)


def similarity(first: Grey, second: Grey, shift: int) -> float:
    """Correlate two pictures' fine structure at the shift that fits best.

    Parameters
    ----------
    first, second
        What :func:`fine_structure` returns.
    shift
        Largest shift of one against the other along each axis, in pixels at 96×96.

    Returns
    -------
    float
        The largest normalised cross-correlation of the middle of one with the other, −1 to 1.
    """
    inner = slice(shift, SIDE - shift)
    fits = (cv2.matchTemplate(a, b[inner, inner], cv2.TM_CCOEFF_NORMED) for a, b in ((first, second), (second, first)))
    return float(max(fit.max() for fit in fits))


def find(pools: Mapping[str, tuple[Pool, NDArray[np.int64]]], params: Duplicates, memory: float) -> pd.DataFrame:
    """Find groups of near duplicates within and across pools.

    Parameters
    ----------
    pools
        By name: a pool, and the ids of its images to compare.
    params
        How alike spectra and fine structure must be, and how far pictures may have moved.
    memory
        GiB that the pairs may take.

    Returns
    -------
    DataFrame
        One row for each image with a near duplicate, sorted by group: ``group`` from 0, ``pool``, ``image_id``,
        ``similarity`` to its most similar near duplicate, and ``exact``, 1 if another image has the same pixels.

    Raises
    ------
    NeighboursError
        If ``memory`` does not hold the candidate pairs.
    """
    places = [(name, int(index)) for name, (_, indices) in pools.items() for index in indices]

    def image(row: int) -> Pixels:
        name, index = places[row]
        return pools[name][0][index]

    spectra, flat, original = _describe(image, len(places))
    # Of images with the same pixels, only the first is compared.
    kept = np.flatnonzero((original == np.arange(len(places))) & ~flat)
    # Unit vectors with cosine c are √(2 − 2c) apart.
    graph = neighbour_graph(spectra[kept], float(np.sqrt(2 - 2 * params.spectrum)), memory).tocoo()
    first, second = kept[graph.row], kept[graph.col]
    alike = _similarities(image, first, second, params.shift)
    near = alike >= params.structure
    copies = np.flatnonzero(original != np.arange(len(places)))
    edges = pd.DataFrame(
        {
            "first": np.concatenate([first[near], original[copies]]),
            "second": np.concatenate([second[near], copies]),
            "similarity": np.concatenate([alike[near], np.ones(len(copies))]),
        }
    )
    return _groups(places, edges, np.bincount(original)[original] > 1)


def _describe(image: ImageAt, count: int) -> tuple[Grey, NDArray[np.bool_], NDArray[np.int64]]:
    """Return each image's spectrum, whether it is of one colour, and the first image with the same pixels."""
    spectra = np.empty((count, len(RADIUS)), np.float32)
    flat = np.zeros(count, np.bool_)
    contents: list[bytes] = []

    def read(rows: slice) -> tuple[slice, list[Pixels]]:
        return rows, [image(row) for row in range(rows.start, rows.stop)]

    def describe(given: tuple[slice, list[Pixels]]) -> tuple[int, list[bytes]]:
        rows, images = given
        for row, pixels in zip(range(rows.start, rows.stop), images, strict=True):
            levels = grey_levels(pixels)
            spectra[row], flat[row] = spectrum(levels), levels.std() < FLAT
        hashes = [sha256(repr(pixels.shape).encode() + pixels.tobytes()).digest() for pixels in images]
        return len(images), hashes

    with tqdm(total=count, desc="spectra", unit="image") as bar:
        for done, hashes in _in_threads(read, describe, count):
            contents += hashes
            bar.update(done)
    _, first, inverse = np.unique(np.array(contents, dtype="S32"), return_index=True, return_inverse=True)
    return spectra, flat, first[inverse]


def _similarities(
    image: ImageAt, first: NDArray[np.int64], second: NDArray[np.int64], shift: int
) -> NDArray[np.float64]:
    """Return the similarity of each pair; fastest if pairs with the same first image follow one another."""
    alike = np.empty(len(first))

    def read(rows: slice) -> tuple[slice, dict[int, Pixels]]:
        wanted = np.unique(np.concatenate([first[rows], second[rows]])).tolist()
        return rows, {row: image(row) for row in wanted}

    def compare(given: tuple[slice, dict[int, Pixels]]) -> int:
        rows, images = given
        fine = {row: fine_structure(grey_levels(pixels)) for row, pixels in images.items()}
        pairs = zip(first[rows].tolist(), second[rows].tolist(), strict=True)
        alike[rows] = [similarity(fine[one], fine[other], shift) for one, other in pairs]
        return int(rows.stop - rows.start)

    with tqdm(total=len(first), desc="fine structure", unit="pair") as bar:
        for done in _in_threads(read, compare, len(first)):
            bar.update(done)
    return alike


def _in_threads(read: Callable[[slice], Read], work: Callable[[Read], Made], count: int) -> Iterator[Made]:
    """Yield what is made of each block of rows, in order: read by one thread, as Pillow needs, made by several."""
    blocks = [slice(start, min(start + AT_ONCE, count)) for start in range(0, count, AT_ONCE)]
    return threads.ahead(work, threads.ahead(read, blocks), threads.count())


def _groups(places: list[tuple[str, int]], edges: pd.DataFrame, exact: NDArray[np.bool_]) -> pd.DataFrame:
    """Return the connected components of two images or more, as :func:`find` returns them."""
    ends = edges[["first", "second"]].to_numpy().T
    count = len(places)
    _, component = connected_components(coo_array((np.ones(ends.shape[1]), tuple(ends)), shape=(count, count)))
    best = np.full(count, -np.inf)
    for end in ends:
        np.maximum.at(best, end, edges["similarity"].to_numpy())
    rows = np.flatnonzero(np.isfinite(best))
    # In the order of their first members.
    groups = pd.factorize(component[rows])[0]
    table = pd.DataFrame([places[row] for row in rows], columns=["pool", "image_id"])
    table.insert(0, "group", groups)
    table["similarity"] = best[rows].round(3)
    table["exact"] = exact[rows].astype(int)
    return table.sort_values("group", kind="stable", ignore_index=True)
