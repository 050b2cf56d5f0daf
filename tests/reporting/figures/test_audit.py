"""What the audit has found."""

from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from exemplarcnn.data.types import Pool
from exemplarcnn.reporting.figures import audit
from tests.drawn_pictures import POOL, sheet


def test_borders_from_the_widest_and_empty_images(tmp_path: Path, drawn: list[Figure]) -> None:
    widths = {"top": [0, 9, 3], "bottom": [0, 0, 0], "left": [0, 0, 12], "right": [0, 0, 0]}
    table = pd.DataFrame({"image_id": [1, 2, 5], "border": [0, 1, 1], "empty": [1, 0, 0], **widths})
    audit.draw_borders(tmp_path / "b.png", POOL, table, "train")
    audit.draw_empty(tmp_path / "e.png", POOL, table, "train")
    assert [sheet(figure) for figure in drawn] == [[("image 5\n↑3 ←12", 5), ("image 2\n↑9", 2)], [("image 1", 1)]]


def test_duplicates_within_a_pool_and_across_from_the_most_alike(tmp_path: Path, drawn: list[Figure]) -> None:
    rows = [(0, "train", 1, 0.9), (0, "train", 2, 0.9), (3, "train", 3, 1.0), (3, "train", 4, 1.0)]
    rows += [(5, "test", 5, 0.8), (5, "train", 6, 0.8)]
    groups = pd.DataFrame(rows, columns=["group", "pool", "image_id", "similarity"])
    pools: dict[str, Pool] = {"train": POOL, "test": POOL}
    for across in (False, True):
        audit.draw_duplicates(tmp_path / "d.png", pools, groups, across)
    within, between = (sheet(figure) for figure in drawn)
    assert within[:2] == [("group 3: 1.00\ntrain 3", 3), ("group 3: 1.00\ntrain 4", 4)]
    assert [grey for _, grey in within[2:]] == [1, 2]
    assert between == [("group 5: 0.80\ntest 5", 5), ("group 5: 0.80\ntrain 6", 6)]
