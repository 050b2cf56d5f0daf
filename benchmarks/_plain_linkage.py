"""Complete linkage of near pairs in the plainest way that scales: a product of all pairs in torch, and a heap.

What `benchmarks/clustering.py` compares the project with, where scipy and fastcluster would need n × n distances.
"""

import heapq

import numpy as np
import torch
from numpy.typing import NDArray

from exemplarcnn.clustering import dendrogram
from exemplarcnn.clustering.linkage import flat_clusters

Features = NDArray[np.float32]
Pairs = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]

BLOCK, SAMPLE = 4096, 256
MARGIN = 1e-5  # of a squared distance of unit vectors, computed in float32


def plain_cut(points: Features, fraction: float) -> NDArray[np.int64]:
    """Cluster unit vectors, (n, d), where a fraction of them is merged; return each one's cluster, from 0."""
    matrix = torch.from_numpy(np.array(points))
    rows = np.sort(np.random.default_rng(0).permutation(len(points))[:SAMPLE])
    squares = 2 - 2 * matrix[rows] @ matrix.T
    squares[torch.arange(len(rows)), torch.from_numpy(rows)] = torch.inf
    nearest = np.sqrt(np.maximum(np.sort(squares.amin(dim=1).numpy()), 0))
    radius = float(nearest[min(int((1.5 * fraction + 4 / SAMPLE) * len(rows)), len(rows) - 1)])
    while True:
        Z = merges(len(points), *near_pairs(points, matrix, radius))
        if (threshold := dendrogram.threshold_for(Z, len(points), fraction)) is not None:
            return flat_clusters(Z, len(points), threshold)
        radius *= 1.15


def near_pairs(points: Features, matrix: torch.Tensor, radius: float) -> Pairs:
    """Return all pairs within a radius, i < j, and their distances in float64."""
    found = []
    for top in range(0, len(matrix), BLOCK):
        for left in range(top, len(matrix), BLOCK):
            near = matrix[top : top + BLOCK] @ matrix[left : left + BLOCK].T >= 1 - radius**2 / 2 - MARGIN
            i, j = (place.numpy() for place in torch.nonzero(near, as_tuple=True))
            found.append(np.stack([i + top, j + left])[:, i + top < j + left])
    first, second = np.concatenate(found, axis=1)
    distances = np.empty(len(first))
    for at in range(0, len(first), BLOCK):
        some = slice(at, at + BLOCK)
        gaps = points[first[some]].astype(np.float64) - points[second[some]]
        distances[some] = np.sqrt(np.square(gaps).sum(axis=1))
    within = distances <= radius
    return first[within], second[within], distances[within]


def merges(
    count: int, first: NDArray[np.int64], second: NDArray[np.int64], distances: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Merge the closest clusters, as long as all pairs between two are listed; return (merges, 4) as scipy does."""
    near: list[dict[int, float]] = [{} for _ in range(count)]
    heap = list(zip(distances.tolist(), first.tolist(), second.tolist(), strict=True))
    for distance, a, b in heap:
        near[a][b] = near[b][a] = distance
    heapq.heapify(heap)
    number, size, Z = list(range(count)), [1] * count, []
    while heap:
        distance, a, b = heapq.heappop(heap)
        if near[a].get(b) != distance:  # of two clusters of which one has grown
            continue
        size[a] += size[b]
        Z.append((min(number[a], number[b]), max(number[a], number[b]), distance, size[a]))
        number[a] = count + len(Z) - 1
        both = near[a].keys() & near[b].keys()
        farther = {other: max(near[a][other], near[b][other]) for other in both}
        for old in (a, b):
            for other in near[old]:
                near[other].pop(old, None)
        near[a], near[b] = farther, {}
        for other, far in farther.items():
            near[other][a] = far
            heapq.heappush(heap, (far, min(a, other), max(a, other)))
    return np.array(Z, np.float64).reshape(-1, 4)
