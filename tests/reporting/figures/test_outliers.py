"""What is far from every class, and what is closest to each other."""

from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from exemplarcnn.reporting.figures import outliers
from tests.drawn_pictures import POOL, sheet

SCORES = pd.DataFrame(
    {"image_id": [2, 3, 4], "nearest": ["cat", "a long name of a thing, number 17", "owl"], "score": [0.25, -0.5, 2]}
)


def test_the_farthest_and_the_nearest_come_first(tmp_path: Path, drawn: list[Figure]) -> None:
    outliers.draw_farthest(tmp_path / "f.png", POOL, SCORES)
    outliers.draw_nearest(tmp_path / "n.png", POOL, SCORES)
    expected = [("image 4\nowl? 2.00", 4), ("image 2\ncat? 0.25", 2), ("image 3\na long… 17? -0.50", 3)]
    assert [sheet(figure) for figure in drawn] == [expected, expected[::-1]]


def test_pairs_stand_side_by_side(tmp_path: Path, drawn: list[Figure]) -> None:
    pairs = pd.DataFrame({"first": [1, 5], "second": [2, 9], "distance": [0.125, 0.5]})
    outliers.draw_pairs(tmp_path / "p.png", POOL, pairs)
    shown = [("image 1", 1), ("image 2\n0.125 apart", 2), ("image 5", 5), ("image 9\n0.500 apart", 9)]
    assert sheet(drawn[0]) == shown
    outliers.draw_pairs(tmp_path / "p.png", POOL, pairs[:0])
    assert drawn[1].axes[0].get_title() == "Closest pairs in feature space: none"
