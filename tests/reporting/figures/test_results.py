"""The table of results as bars."""

from pathlib import Path
from typing import cast

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from exemplarcnn.reporting.figures import results
from tests.drawn_pictures import gathered


def test_results_show_ours_as_bars_and_the_papers_apart(tmp_path: Path, drawn: list[Figure]) -> None:
    results.draw(tmp_path / "r.png", gathered())
    (axes,) = drawn[0].get_axes()
    assert [bar.get_width() for bar in cast(list[Rectangle], axes.patches)] == [30.5, 60.0]
    lines = [(line.get_color(), np.asarray(line.get_xdata()).tolist()) for line in axes.get_lines()]
    dots = [places for colour, places in lines if places and colour == "k"]
    papers = [places for colour, places in lines if places and colour == results.PAPER]
    assert dots == [[30.0, 31.0], [59.0, 61.0]]
    assert papers == [[74.1, 74.1]]
    (key,) = drawn[0].legends
    legend = [text.get_text() for text in key.get_texts()]
    assert any("paper" in text for text in legend)
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["Raw", "Ours"]
