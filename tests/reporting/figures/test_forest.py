"""Differences as a forest plot."""

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from exemplarcnn.reporting.figures import forest
from exemplarcnn.reporting.figures.results import OURS
from tests.drawn_pictures import DIFFERENCES, TITLES


def test_each_line_has_a_point_an_interval_two_names_and_two_numbers(tmp_path: Path, drawn: list[Figure]) -> None:
    forest.draw(tmp_path / "f.png", DIFFERENCES, TITLES)
    (axes,) = drawn[0].get_axes()
    zero, *lines = axes.get_lines()
    assert list(np.asarray(zero.get_xdata())) == [0, 0]
    places: list[Any] = [np.asarray(line.get_xdata()).tolist() for line in lines]
    assert places == [[4.5, 8.0], [6.25], [-1.0, 2.0], [0.5]]
    assert [np.asarray(line.get_ydata()).tolist()[0] for line in lines] == [0, 0, 1, 1]
    texts = [text.get_text() for text in axes.texts]
    assert texts == [
        *("Ours", "against Raw", "+6.25", "+4.50 to +8.00"),
        *("Theirs", "against Raw", "+0.50", "-1.00 to +2.00"),
    ]


def test_what_includes_zero_looks_different_without_colour_too(tmp_path: Path, drawn: list[Figure]) -> None:
    forest.draw(tmp_path / "f.png", DIFFERENCES, TITLES)
    _, _, sure, _, unsure = drawn[0].get_axes()[0].get_lines()
    assert to_hex(sure.get_markerfacecolor()) == OURS
    assert to_hex(unsure.get_markerfacecolor()) == "#ffffff"
    assert to_hex(unsure.get_color()) == forest.UNSURE
