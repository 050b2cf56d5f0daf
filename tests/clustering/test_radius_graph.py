"""The graph of near pairs against all pairs computed plainly, whatever the blocks, the axes and the precision."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.sparse import csr_array

from exemplarcnn import threads, unfinished
from exemplarcnn.clustering import kept_pairs, radius_graph, sketch, widths
from exemplarcnn.clustering.errors import NeighboursError
from exemplarcnn.clustering.radius_graph import RadiusSearch, measured, neighbour_graph
from exemplarcnn.clustering.sample import Frame, Sample
from exemplarcnn.clustering.sketch import principal_axes

sizes = st.tuples(st.integers(2, 25), st.integers(1, 4))
grids = hnp.arrays(np.float32, sizes, elements=st.integers(-4, 4).map(float))


def features(seed: int, n: int, d: int, decay: float = 0.7) -> np.ndarray:
    """Points of unit length whose spread falls from axis to axis, some of them near copies of others."""
    rng = np.random.default_rng(seed)
    spread = np.arange(1, d + 1) ** -decay
    points = rng.normal(size=(n, d)) * spread + 0.3
    copies = rng.integers(0, n, n // 5)
    points[: len(copies)] = points[copies] + rng.normal(size=(len(copies), d)) * spread * rng.random((len(copies), 1))
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    return np.asarray(points @ np.linalg.qr(rng.normal(size=(d, d)))[0], np.float32)


def slow_graph(points: np.ndarray, radius: float) -> dict[tuple[int, int], float]:
    exact = points.astype(np.float64)
    return {
        (i, j): float(d)
        for i in range(len(points))
        for j in range(i + 1, len(points))
        if (d := np.sqrt(((exact[i] - exact[j]) ** 2).sum())) <= radius
    }


def listed(graph: csr_array) -> dict[tuple[int, int], float]:
    pairs = graph.tocoo()
    return {(int(i), int(j)): float(d) for i, j, d in zip(pairs.row, pairs.col, pairs.data, strict=True)}


def same(graph: csr_array, other: csr_array) -> bool:
    return all(np.array_equal(getattr(graph, name), getattr(other, name)) for name in ("indptr", "indices", "data"))


@pytest.fixture(params=[torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
def precision(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> torch.dtype:
    chosen: torch.dtype = request.param
    monkeypatch.setattr(sketch, "precision", lambda device: chosen)
    return chosen


@pytest.mark.parametrize("width", [4, 16, 64, 1000])
@pytest.mark.parametrize("quantile", [0.0, 0.02, 0.3, 1.0])
def test_all_pairs_within_the_radius(precision: torch.dtype, width: int, quantile: float) -> None:
    points = features(1, 150, 96)
    every = sorted(slow_graph(points, 9).values())
    radius = every[int(quantile * (len(every) - 1))]
    found, expected = listed(neighbour_graph(points, radius, width=width)), slow_graph(points, radius)
    assert found.keys() == expected.keys()
    assert list(found.values()) == pytest.approx([expected[pair] for pair in found], rel=1e-12)


@settings(max_examples=80, deadline=None)
@given(points=grids, radius=st.floats(0, 10), low=st.booleans())
def test_points_on_a_grid(points: np.ndarray, radius: float, low: bool) -> None:
    """Many distances alike, many equal to the radius, points in one place."""
    radius = round(radius**2) ** 0.5
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sketch, "precision", lambda device: torch.bfloat16 if low else torch.float32)
        found = listed(neighbour_graph(points, radius))
    assert found == slow_graph(points, radius)


@settings(max_examples=40, deadline=None)
@given(scale=st.floats(-30, 15), seed=st.integers(0, 100), low=st.booleans())
def test_points_of_any_size(scale: float, seed: int, low: bool) -> None:
    points = features(seed, 40, 12) * np.float32(10.0**scale)
    every = sorted(slow_graph(points, np.inf).values())
    radius = every[len(every) // 10]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sketch, "precision", lambda device: torch.bfloat16 if low else torch.float32)
        assert listed(neighbour_graph(points, radius, width=5)).keys() == slow_graph(points, radius).keys()


@pytest.mark.parametrize("n", [2, 3])
def test_points_that_differ_by_less_than_their_size_allows(n: int) -> None:
    """Squares of what tells these points apart are too small for float32."""
    points = np.zeros((n, 3), np.float32)
    points[:, 0] = 1
    points[1, 1] = 1.1315e-21
    expected = slow_graph(points, 1e-20)
    for dtype in (torch.float32, torch.bfloat16):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sketch, "precision", lambda device, dtype=dtype: dtype)
            assert listed(neighbour_graph(points, max(expected.values()))) == expected


def test_small_differences_beside_a_large_coordinate(precision: torch.dtype) -> None:
    points = (features(0, 60, 250) * 1e-19).astype(np.float32)
    points[:, 7] = 1
    every = sorted(slow_graph(points, 9).values())
    assert listed(neighbour_graph(points, every[100])).keys() == slow_graph(points, every[100]).keys()


def test_points_near_the_end_of_float32(precision: torch.dtype) -> None:
    points = (features(0, 60, 300) / np.abs(features(0, 60, 300)).max() * 3.3e38).astype(np.float32)
    every = sorted(slow_graph(points, np.inf).values())
    for width in (8, 1000):
        found = listed(neighbour_graph(points, every[100], width=width))
        assert found.keys() == slow_graph(points, every[100]).keys()


def test_two_clumps_far_apart_are_not_taken_for_dense() -> None:
    """Distances within a clump drown in float32 products."""
    rng = np.random.default_rng(0)
    points = (rng.normal(size=(2000, 30)) * 1e-5).astype(np.float32)
    points[::2, 0] += 1
    exact = Sample.draw(points, 2000)
    assert exact.pairs_within(1e-7) == 0
    assert neighbour_graph(points, 1e-7, memory=1e-4).nnz == 0


def test_a_shorter_precision_that_the_caller_has_set_is_not_used() -> None:
    points = features(1, 150, 96)
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sketch, "precision", lambda device: torch.float32)
            assert listed(neighbour_graph(points, 0.6)).keys() == slow_graph(points, 0.6).keys()
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision(before)


def test_points_far_from_the_origin(precision: torch.dtype) -> None:
    points = features(0, 100, 20) + np.float32(50)
    every = sorted(slow_graph(points, 9).values())
    assert listed(neighbour_graph(points, every[200], width=8)).keys() == slow_graph(points, every[200]).keys()


def test_few_pairs_are_measured_in_full(precision: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    points = features(0, 600, 400, decay=1.0)
    radius = sorted(slow_graph(points, 9).values())[300]
    counted: list[int] = []

    def watched(p: Any, i: Any, j: Any) -> Any:
        counted.append(len(i))
        return measured(p, i, j)

    monkeypatch.setattr(radius_graph, "measured", watched)
    assert neighbour_graph(points, radius, width=64).nnz == 301
    assert sum(counted) < 1_000, "of 179,700"


@pytest.mark.parametrize("block", [1, 7, 64, 150, 1000])
def test_blocks_change_nothing(precision: torch.dtype, block: int) -> None:
    points = features(2, 150, 40)
    assert same(neighbour_graph(points, 0.6, block=block, width=16), neighbour_graph(points, 0.6))


@pytest.mark.parametrize("count", [2, 5])
def test_threads_change_nothing(tmp_path: Path, count: int) -> None:
    points, radii = features(3, 500, 300), (0.6, 0.7)
    alone = [RadiusSearch(points, width=64).graph(radius) for radius in radii]
    assert alone[0].nnz > 100
    threads.use(count)
    search = RadiusSearch(points, block=64, width=64)
    assert all(same(search.graph(radius), expected) for radius, expected in zip(radii, alone, strict=True))
    with pytest.raises(KilledError):
        interrupted(points, tmp_path, radii, 40)
    again = RadiusSearch(points, block=64, width=16, folder=tmp_path)
    assert all(same(again.graph(radius), expected) for radius, expected in zip(radii, alone, strict=True))


def test_a_memory_map_is_not_changed(tmp_path: Path) -> None:
    points = features(4, 80, 30)
    np.save(tmp_path / "points.npy", points)
    mapped = np.load(tmp_path / "points.npy", mmap_mode="r")
    assert same(neighbour_graph(mapped, 0.6), neighbour_graph(points, 0.6))
    np.testing.assert_array_equal(mapped, points)


PROCESS = """
import sys
import numpy as np
from exemplarcnn import distributed
from exemplarcnn.clustering.radius_graph import neighbour_graph
with distributed.processes():
    graph = neighbour_graph(np.load(sys.argv[1]), float(sys.argv[2]), block=16, width=16, shared=True)
    np.savez(sys.argv[3] + str(distributed.rank()), indptr=graph.indptr, indices=graph.indices, data=graph.data)
"""


@pytest.mark.slow
def test_several_processes_change_nothing(tmp_path: Path) -> None:
    points = features(5, 100, 40)
    np.save(tmp_path / "points.npy", points)
    (tmp_path / "process.py").write_text(PROCESS)
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=3"]
    words = [str(tmp_path / "process.py"), str(tmp_path / "points.npy"), "0.6", str(tmp_path / "graph")]
    subprocess.run([*launch, *words], check=True, capture_output=True, timeout=180)
    alone = neighbour_graph(points, 0.6)
    assert alone.nnz > 20
    for rank in range(3):
        shared = np.load(tmp_path / f"graph{rank}.npz")
        for name in ("indptr", "indices", "data"):
            np.testing.assert_array_equal(shared[name], getattr(alone, name))


# One search after another


def test_a_wider_radius_adds_to_what_was_found(precision: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    points = features(8, 300, 40)
    counted: list[int] = []

    def watched(p: Any, i: Any, j: Any) -> Any:
        counted.append(len(i))
        return measured(p, i, j)

    monkeypatch.setattr(radius_graph, "measured", watched)
    search = RadiusSearch(points, block=64)
    for radius in (0.3, 0.5, 0.45, 0.8):
        assert same(search.graph(radius), neighbour_graph(points, radius, width=1000))
    counted.clear()
    assert search.graph(0.7).nnz > 0
    assert counted == [], "all pairs within 0.8 are known"
    assert search.graph(np.nan).nnz == 0
    widened = RadiusSearch(points, block=300)
    first = widened.graph(0.6).nnz
    counted.clear()
    second = widened.graph(0.7).nnz
    assert second - first <= sum(counted) < second


class KilledError(Exception):
    pass


def interrupted(points: np.ndarray, folder: Path, radii: tuple[float, ...], most: int) -> int:
    """Search in a folder, and stop after so many blocks; return how many were searched."""
    blocks = 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(unfinished, "SECONDS", -1.0)

        def measure(p: Any, i: Any, j: Any) -> Any:
            nonlocal blocks
            if blocks == most:
                raise KilledError
            blocks += 1
            return measured(p, i, j)

        patch.setattr(radius_graph, "measured", measure)
        search = RadiusSearch(points, block=64, width=16, folder=folder)
        for radius in radii:
            assert same(search.graph(radius), neighbour_graph_of(points, radius))
    return blocks


def neighbour_graph_of(points: np.ndarray, radius: float) -> csr_array:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(radius_graph, "measured", measured)
        return neighbour_graph(points, radius)


@pytest.mark.parametrize("most", [0, 4, 14, 18])
def test_an_interrupted_search_goes_on(tmp_path: Path, most: int) -> None:
    points, radii = features(8, 300, 40), (0.5, 0.7)
    every = interrupted(points, tmp_path, radii, 1_000)
    assert every == 2 * 15
    again = tmp_path / "again"
    again.mkdir()
    with pytest.raises(KilledError):
        interrupted(points, again, radii, most)
    # A block may have been searched and not yet taken.
    assert every - most <= interrupted(points, again, radii, 1_000) <= every - most + 3
    assert interrupted(points, again, radii, 1_000) == 0, "all is there"


def test_what_another_first_radius_has_left_is_not_used(tmp_path: Path) -> None:
    points = features(8, 300, 40)
    interrupted(points, tmp_path, (0.5, 0.7), 1_000)
    assert interrupted(points, tmp_path, (0.6, 0.7), 1_000) == 30
    assert interrupted(points, tmp_path, (0.5, 0.7), 1_000) == 30
    assert interrupted(features(9, 300, 40), tmp_path, (0.5, 0.7), 1_000) == 30, "other points"


def test_what_an_earlier_version_has_left_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its pairs took other numbers of bytes."""
    points = features(8, 300, 40)
    with monkeypatch.context() as earlier:
        numbers = [("first", "<i8"), ("second", "<i8"), ("distance", "<f8")]
        earlier.setattr(kept_pairs, "RECORD", np.dtype(numbers))
        interrupted(points, tmp_path, (0.5,), 1_000)
    (about,) = tmp_path.glob("*.json")
    content = json.loads(about.read_text())
    del content["setting"]["bytes of a pair"]
    about.write_text(json.dumps(content))
    assert interrupted(points, tmp_path, (0.5,), 1_000) == 15
    assert same(neighbour_graph(points, 0.5, folder=tmp_path), neighbour_graph(points, 0.5))


def test_what_another_radius_or_a_half_written_file_has_left_is_not_used(tmp_path: Path) -> None:
    points = features(8, 300, 40)
    interrupted(points, tmp_path, (0.5,), 1_000)
    assert interrupted(points, tmp_path, (0.6,), 1_000) == 15
    (file,) = tmp_path.glob("*.pairs")
    with file.open("ab") as opened:
        opened.write(b"half a pair")
    assert interrupted(points, tmp_path, (0.6,), 1_000) == 0
    os.truncate(file, 24)
    assert interrupted(points, tmp_path, (0.6,), 1_000) == 15


def test_a_list_of_pairs_is_what_was_added() -> None:
    draw, pairs = np.random.default_rng(0), kept_pairs.PairList()
    added: list[Any] = []
    for count in (0, 3, 1020, 1, 0, 1, 5000, 7, 60_000):
        more = draw.integers(0, 2**31, (2, count)).astype(np.int32)
        added.append((*more, draw.random(count)))
        pairs.add(added[-1])
        assert len(pairs) == sum(len(each[0]) for each in added)
    columns: Any = pairs.pairs
    for column, found in enumerate(columns):
        expected = np.concatenate([each[column] for each in added])
        np.testing.assert_array_equal(found, expected)
        assert found.dtype == expected.dtype


# Widths


@pytest.mark.parametrize("radius", [0.2, 0.6])
def test_all_widths_find_the_same_pairs(precision: torch.dtype, monkeypatch: pytest.MonkeyPatch, radius: float) -> None:
    points = features(9, 530, 600)  # more than the widest but the last, and than a strip
    expected = neighbour_graph(points, radius, width=1000)
    assert expected.nnz > 10
    for width in (*widths.WIDTHS, 600):
        assert same(neighbour_graph(points, radius, width=width), expected)
    monkeypatch.setattr(widths, "FEW", 100)
    assert same(neighbour_graph(points, radius), expected)


def test_the_width_is_the_cheapest(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where few pairs are candidates, few axes suffice; where points spread evenly, it takes all dimensions."""
    monkeypatch.setattr(widths, "FEW", 100)
    monkeypatch.setattr(widths, "candidate_shares", lambda *_: {64: 0.1, 256: 1e-3, 600: 1e-4})
    costs = {"a_pair": 1e-5, "a_projection": 0.0, "product": {64: 1e-3, 512: 8e-3}}

    def fixed(self: Any, *_: Any) -> None:
        self.count, self.dimensions, self.block, self.bytes_each = 700, 600, 100, 2
        self.__dict__ |= costs

    monkeypatch.setattr(widths.Costs, "__init__", fixed)
    points = features(9, 700, 600)

    def chosen() -> int | None:
        search = RadiusSearch(points)
        search.graph(0.2)
        return search.axes

    assert chosen() == 256
    costs["a_pair"] = 1e-10
    assert chosen() == 64
    costs["a_pair"] = 1e-3
    assert chosen() == 600
    small = RadiusSearch(points, memory=2 * 700 * 100 * 2 / radius_graph.GIB)
    small._prepared(0.2)
    assert small.axes == 64, "the coordinates on more would not fit"


def test_shares_of_candidates_are_those_of_all_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    points = features(10, 500, 300)
    frame = Frame.of(points)
    axes = principal_axes(points, frame, 64)
    found = widths.candidate_shares(points, frame, axes, 0.5, [64, 300])
    exact = len(slow_graph(points, 0.5)) / (500 * 499 / 2)
    assert found[64] >= found[300] == pytest.approx(exact, rel=0.05)


# What cannot be done


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_points_that_are_not_finite_are_named(value: float) -> None:
    points = features(0, 700, 3)
    points[600, 1] = value
    with pytest.raises(NeighboursError, match="point 600 has a coordinate that is not finite"):
        neighbour_graph(points, 1.0)


def test_one_axis_too_few() -> None:
    with pytest.raises(NeighboursError, match=r"shape \(3,\)"):
        neighbour_graph(np.zeros(3, np.float32), 1.0)


def test_more_points_than_pairs_can_name() -> None:
    points = np.broadcast_to(np.zeros((1, 1), np.float32), (2**31, 1))
    with pytest.raises(NeighboursError, match="2,147,483,648 points"):
        neighbour_graph(points, 1.0)


def test_more_pairs_than_memory_are_refused_and_the_threshold_that_is_named_fits() -> None:
    points = features(6, 900, 20)
    memory = 20_000 * radius_graph.BYTES_A_PAIR / radius_graph.GIB
    with pytest.raises(NeighboursError, match=r"about [\d,]+ pairs are within 0.9, .*set memory_gib") as caught:
        neighbour_graph(points, 0.9, memory)
    numbers = re.search(r"about ([\d,]+) pairs .* threshold of (\S+) would fit", str(caught.value))
    assert numbers is not None
    pairs, threshold = int(numbers[1].replace(",", "")), float(numbers[2])
    assert pairs == pytest.approx(neighbour_graph(points, 0.9).nnz, rel=0.2)
    assert 10_000 < neighbour_graph(points, threshold, memory).nnz <= 20_000


def test_a_threshold_that_would_not_help_is_not_advised() -> None:
    points = np.ones((300, 3), np.float32)
    with pytest.raises(NeighboursError, match=r"hold 1,000; set memory_gib") as caught:
        neighbour_graph(points, 0.0, 1_000 * radius_graph.BYTES_A_PAIR / radius_graph.GIB)
    enough = float(str(caught.value).rsplit(" ", 1)[1])
    assert neighbour_graph(points, 0.0, max(enough, 0.1)).nnz == 300 * 299 // 2


def test_more_pairs_than_expected_are_refused_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Sample, "pairs_within", lambda self, radius: 0.0)
    with pytest.raises(NeighboursError, match="pairs are within"):
        neighbour_graph(features(6, 300, 20), 2.0, 1_000 * radius_graph.BYTES_A_PAIR / radius_graph.GIB)


@pytest.mark.parametrize("n", [0, 1])
@pytest.mark.parametrize("radius", [0.0, 1.0, np.inf])
def test_no_pairs_of_no_point_and_of_one(n: int, radius: float) -> None:
    graph = neighbour_graph(np.zeros((n, 3), np.float32), radius)
    assert graph.shape == (n, n)
    assert graph.nnz == 0


def test_vectors_of_zeros_are_points_like_others() -> None:
    points = np.zeros((4, 3), np.float32)
    points[3, 0] = 1
    assert listed(neighbour_graph(points, 0.5)) == {(0, 1): 0.0, (0, 2): 0.0, (1, 2): 0.0}


def test_an_infinite_radius_takes_all_pairs(precision: torch.dtype) -> None:
    assert neighbour_graph(features(0, 70, 9), np.inf).nnz == 70 * 69 // 2


# The sample


def test_a_sample_of_all_points_knows_everything() -> None:
    points = features(7, 200, 30)
    sample = Sample.draw(points)
    exact = slow_graph(points, 9)
    near = sorted(exact.values())
    assert sample.pairs_within(near[99] + 1e-4) == pytest.approx(100, abs=3)
    assert sample.radius_with(100) == pytest.approx(near[100], abs=0.01)
    nearest = sorted(min(d for pair, d in exact.items() if point in pair) for point in range(200))
    assert sample.nearest_within(0.25) == pytest.approx(nearest[50], abs=1e-3)
    assert sample.radius_with(1e9) == np.inf
    assert sample.nearest_within(2.0) == pytest.approx(nearest[-1], abs=1e-3)


def test_a_radius_widens_until_nothing_is_beyond() -> None:
    sample = Sample(np.array([[np.inf, 0.0, 3.0], [0.0, np.inf, 3.2]], np.float32))
    assert sample.wider(0.0) == 3.0
    assert sample.wider(3.0) == pytest.approx(3.45)
    assert sample.wider(3.45) == np.inf
