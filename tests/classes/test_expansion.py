"""Both orders of serving against a greedy walk over the sorted list of all pairs."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exemplarcnn.classes import expansion
from exemplarcnn.classes.expansion import ExpansionError, Order, expand
from exemplarcnn.clustering.errors import NeighboursError
from tests.classes.unit_features import unit

ORDERS: tuple[Order, ...] = ("query", "global")


def distance(one: np.ndarray, two: np.ndarray) -> float:
    return float(1 - (one.astype(np.float64) * two).sum())


def slow_expand(singles: np.ndarray, held_out: np.ndarray, k: int, order: Order) -> tuple[list[Any], list[Any]]:
    """Images and ranks from the full ranking of every single."""
    rankings = [sorted((distance(single, held), place) for place, held in enumerate(held_out)) for single in singles]
    pairs = [(d, single, place) for single, ranking in enumerate(rankings) for d, place in ranking]
    pairs.sort(key=(lambda pair: (pair[1], pair[0], pair[2])) if order == "query" else None)
    taken: set[int] = set()
    images: list[list[int]] = [[] for _ in singles]
    for _, single, place in pairs:
        if place not in taken and len(images[single]) < k:
            images[single].append(place)
            taken.add(place)
    places = [[place for _, place in ranking] for ranking in rankings]
    return images, [[1 + places[row].index(image) for image in mine] for row, mine in enumerate(images)]


def check(singles: np.ndarray, held_out: np.ndarray, k: int, order: Order) -> None:
    found = expand(singles, held_out, k, order)
    images, ranks = slow_expand(singles, held_out, k, order)
    assert found.images.tolist() == images
    assert found.ranks.tolist() == ranks
    lengths = [[distance(singles[row], held_out[image]) for image in mine] for row, mine in enumerate(images)]
    np.testing.assert_allclose(found.distances, lengths, atol=1e-12)


@pytest.mark.parametrize("order", ORDERS)
@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 1000), n=st.integers(1, 12), k=st.integers(1, 3), spare=st.integers(0, 9))
def test_against_the_full_ranking(order: Order, seed: int, n: int, k: int, spare: int) -> None:
    check(unit(seed, n, 6), unit(seed + 5_000, n * k + spare, 6), k, order)


@pytest.mark.parametrize("order", ORDERS)
@settings(max_examples=60, deadline=None)
@given(data=st.data(), n=st.integers(1, 8), k=st.integers(1, 3), spare=st.integers(0, 6))
def test_images_that_are_equally_near(order: Order, data: st.DataObject, n: int, k: int, spare: int) -> None:
    """Few different points: many copies, and many distances alike."""
    corners = np.concatenate([np.eye(3), -np.eye(3)[:1]]).astype(np.float32)
    draw = st.lists(st.integers(0, 3), min_size=n, max_size=n)
    singles = corners[data.draw(draw)]
    held_out = corners[data.draw(st.lists(st.integers(0, 3), min_size=n * k + spare, max_size=n * k + spare))]
    check(singles, held_out, k, order)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize(("block", "length"), [(1, 1), (3, 2), (256, 1), (7, 64)])
def test_blocks_and_lists_of_any_length(order: Order, block: int, length: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(expansion, "BLOCK", block)
    monkeypatch.setattr(expansion, "LIST", length)
    check(unit(1, 20, 6), unit(2, 50, 6), 2, order)
    check(unit(3, 20, 6), unit(4, 40, 6), 2, order)


def test_global_lists_a_few_images_of_each_single_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """All distances at once would be gigabytes."""
    listed, inner = [], expansion._Products.distances

    def spy(self: Any, row: int, images: Any) -> Any:
        listed.append(len(images))
        return inner(self, row, images)

    monkeypatch.setattr(expansion._Products, "distances", spy)
    monkeypatch.setattr(expansion, "LIST", 8)
    check(unit(1, 20, 6), unit(2, 300, 6), 2, "global")
    assert max(listed) == 8


@pytest.mark.parametrize("order", ORDERS)
def test_distances_closer_than_float32_can_tell(order: Order) -> None:
    """Held-out images around one point, all within a few float32 roundings of the same distance."""
    rng = np.random.default_rng(0)
    centre = unit(0, 1, 300)[0]
    held_out = (centre + rng.normal(size=(90, 300)) * 3e-5).astype(np.float32)
    held_out /= np.linalg.norm(held_out, axis=1, keepdims=True)
    singles = (centre + rng.normal(size=(20, 300)) * 3e-5).astype(np.float32)
    singles /= np.linalg.norm(singles, axis=1, keepdims=True)
    check(singles, held_out, 3, order)


@pytest.mark.parametrize("order", ORDERS)
def test_many_singles_that_want_the_same_images(order: Order) -> None:
    """So that lists run out: one direction is the nearest of all."""
    singles = unit(5, 60, 4) * 0.05 + np.array([1, 0, 0, 0], np.float32)
    singles /= np.linalg.norm(singles, axis=1, keepdims=True)
    check(singles.astype(np.float32), unit(6, 190, 4), 3, order)


def test_by_hand() -> None:
    angles = np.deg2rad([0, 10, 20, 90, 180])
    held_out = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    singles = np.stack([np.cos(np.deg2rad([14, 11])), np.sin(np.deg2rad([14, 11]))], axis=1).astype(np.float32)
    assert expand(singles, held_out, 2, "query").images.tolist() == [[1, 2], [0, 3]]
    assert expand(singles, held_out, 2, "global").images.tolist() == [[2, 3], [1, 0]]


@pytest.mark.parametrize("order", ORDERS)
def test_what_cannot_be_done(order: Order) -> None:
    with pytest.raises(ExpansionError, match="cannot give 2 images 2 neighbours each: only 3 are held out"):
        expand(unit(0, 2, 6), unit(1, 3, 6), 2, order)
    held_out = unit(1, 5, 6)
    held_out[3, 2] = np.nan
    with pytest.raises(NeighboursError, match="point 3 has a coordinate that is not finite"):
        expand(unit(0, 2, 6), held_out, 2, order)


@pytest.mark.parametrize("order", ORDERS)
def test_no_neighbours_and_no_singles(order: Order) -> None:
    found = expand(unit(0, 3, 6), unit(1, 0, 6), 0, order)
    assert found.images.shape == found.ranks.shape == found.distances.shape == (3, 0)
    found = expand(unit(0, 0, 6), unit(1, 4, 6), 2, order)
    assert found.images.shape == found.ranks.shape == found.distances.shape == (0, 2)
