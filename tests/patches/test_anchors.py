"""Edges, and the pixels drawn where they are strong."""

from typing import cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from scipy import ndimage, stats

from exemplarcnn.patches.anchors import draw_anchors, edge_strength


@settings(deadline=None, max_examples=50)
@given(hnp.arrays(np.uint8, st.tuples(st.integers(2, 20), st.integers(2, 20), st.just(3))))
def test_edge_strength_is_scipys_sobel_magnitude(image: NDArray[np.uint8]) -> None:
    grey = image.astype(float) @ [0.299, 0.587, 0.114] / 255
    # scipy's "reflect" is d c b a | a b c d | d c b a.
    expected = np.hypot(ndimage.sobel(grey, 0, mode="reflect"), ndimage.sobel(grey, 1, mode="reflect"))
    found = edge_strength(image)
    assert found.dtype == np.float64
    assert found == pytest.approx(expected, abs=2e-6)


@pytest.mark.parametrize("shape", [(96, 96), (8, 16), (1, 1), (1, 8), (9, 3)])
def test_one_colour_has_no_edges(shape: tuple[int, int]) -> None:
    for colour in np.random.default_rng(0).integers(0, 256, (50, 3)):
        image = np.empty((*shape, 3), np.uint8)
        image[:] = colour
        assert edge_strength(image).max() == 0


def even(found: NDArray[np.int64], shape: tuple[int, int]) -> float:
    counts = np.bincount(found[:, 0] * shape[1] + found[:, 1], minlength=shape[0] * shape[1])
    return float(stats.chisquare(counts).pvalue)


@pytest.mark.parametrize("colour", [(0, 0, 0), (255, 255, 255), (90, 140, 30)])
def test_anchors_of_a_flat_image_are_drawn_evenly(colour: tuple[int, int, int]) -> None:
    image = np.empty((8, 16, 3), np.uint8)
    image[:] = colour
    assert even(draw_anchors(image, 10000, np.random.default_rng(0)), (8, 16)) > 1e-3


def test_anchors_of_a_flat_image_of_odd_width_are_drawn_evenly() -> None:
    for colour in np.random.default_rng(0).integers(0, 256, (10, 3)):
        image = np.empty((9, 13, 3), np.uint8)
        image[:] = colour
        assert even(draw_anchors(image, 10000, np.random.default_rng(0)), (9, 13)) > 1e-3


def test_anchors_are_proportional_to_edge_strength_and_never_where_there_is_none() -> None:
    image = np.zeros((12, 16, 3), np.uint8)
    image[2:6, 3:7] = (200, 50, 20)
    image[8:, 10:] = (0, 40, 90)
    strength = edge_strength(image)
    assert (strength == 0).sum() > 40
    found = draw_anchors(image, 50000, np.random.default_rng(0))
    assert found.shape == (50000, 2)
    assert found.dtype == np.int64
    counts = np.zeros((12, 16))
    np.add.at(counts, (found[:, 0], found[:, 1]), 1)
    assert counts[strength == 0].sum() == 0
    edges = strength > 0
    expected = strength[edges] / strength.sum() * 50000
    assert stats.chisquare(counts[edges], expected * counts[edges].sum() / expected.sum()).pvalue > 1e-3


class Fixed:
    """A generator that draws given numbers."""

    def __init__(self, *numbers: float):
        self.numbers = np.array(numbers)

    def random(self, count: int) -> NDArray[np.float64]:
        assert count == len(self.numbers)
        return self.numbers


def test_smallest_and_largest_draw_fall_on_an_edge() -> None:
    image = np.zeros((10, 12, 3), np.uint8)
    image[4:6, 5:7] = 255
    found = draw_anchors(image, 2, cast(np.random.Generator, Fixed(0.0, np.nextafter(1, 0))))
    # The first and the last pixel that a Sobel window around the square reaches.
    assert found.tolist() == [[3, 4], [6, 7]]
    assert edge_strength(image)[found[:, 0], found[:, 1]].min() > 0
