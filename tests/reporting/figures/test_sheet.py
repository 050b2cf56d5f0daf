"""Galleries."""

from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from exemplarcnn.reporting.figures.sheet import Tile, gallery, lines, spread
from tests.drawn_pictures import POOL, sheet


def test_blocks_of_tiles_stay_together() -> None:
    def block(*greys: int) -> list[Tile]:
        return [(POOL[grey], str(grey)) for grey in greys]

    found = lines([block(1, 2, 3), block(4, 5, 6, 7), block(8, 9), block(10)])
    assert [[caption for _, caption in line] for line in found] == [
        ["1", "2", "3", "4", "5", "6", "7"],
        ["8", "9", "10"],
    ]
    assert lines([]) == []


def test_what_is_shown_is_spread_evenly() -> None:
    assert spread(list(range(9)), 3) == [0, 4, 8]
    assert spread([5, 6], 3) == [5, 6]
    assert spread([], 3) == []


def test_a_gallery_has_its_images_and_captions(tmp_path: Path, drawn: list[Figure]) -> None:
    rows = [[(POOL[3], "three"), (POOL[4], "four")], [(POOL[5], "five")]]
    gallery(tmp_path / "g.png", "Some", rows)
    (figure,) = drawn
    assert sheet(figure) == [("three", 3), ("four", 4), ("five", 5)]
    assert figure.axes[0].get_title() == "Some"


def test_images_of_any_shape_keep_it_in_their_place(tmp_path: Path, drawn: list[Figure]) -> None:
    wide, high = np.zeros((20, 40, 3), np.uint8), np.zeros((40, 10, 3), np.uint8)
    gallery(tmp_path / "g.png", "Some", [[(wide, "wide"), (high, "high")]])
    (axes,) = drawn[0].axes
    (left, right, bottom, upper), (other_left, other_right, other_bottom, other_upper) = (
        image.get_extent() for image in axes.get_images()
    )
    assert right - left == pytest.approx(2 * (bottom - upper))
    assert other_bottom - other_upper == pytest.approx(4 * (other_right - other_left))
    assert (right - left, bottom) == pytest.approx((other_bottom - other_upper, other_bottom))
    assert right < other_left


def test_an_empty_gallery_says_so(tmp_path: Path, drawn: list[Figure]) -> None:
    gallery(tmp_path / "g.png", "Some", [])
    assert drawn[0].axes[0].get_title() == "Some: none"
    assert (tmp_path / "g.png").exists()
