"""Clusters side by side."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from exemplarcnn.data.types import Pixels
from exemplarcnn.reporting.figures import clusters
from tests.drawn_pictures import FEATURES, POOL, TABLE, Images, blocks, class_table


def test_largest_and_tightest_clusters_and_singles(tmp_path: Path, drawn: list[Figure]) -> None:
    features = np.zeros((60, 2), np.float32)
    features[[1, 2], 0] = 0.5  # class 0
    features[4, 0] = 2.0  # class 1
    features[[5, 8], 0] = -1.0, 0.6  # class 2
    clusters.draw(tmp_path / "c.png", POOL, TABLE, features, rows=2)
    largest, tightest, singles = blocks(drawn[0]).items()
    assert largest == ("largest clusters", [[5, 6, 7, 8], [30, 1, 2]])
    assert tightest == ("tightest clusters", [[30, 1, 2], [5, 6, 7, 8]])
    assert "single" in singles[0]
    assert singles[1] == [[40, 9], [41, 10]]


def test_of_clusters_of_one_size_the_tighter_comes_first(tmp_path: Path, drawn: list[Figure]) -> None:
    features = np.zeros((60, 2), np.float32)
    features[[1, 3, 5], 1] = 0.5, 0.4, 0.5
    clusters.draw(tmp_path / "c.png", POOL, class_table([[0, 1], [2, 3], [4, 5]], []), features)
    assert blocks(drawn[0])["largest clusters"] == [[2, 3], [0, 1], [4, 5]]


def test_more_members_than_columns(tmp_path: Path, drawn: list[Figure]) -> None:
    clusters.draw(tmp_path / "c.png", POOL, class_table([list(range(9))], [[40]]), FEATURES, columns=4)
    assert list(blocks(drawn[0]).values()) == [[[0, 1, 2, 3]], [[0, 1, 2, 3]], [[40]]]


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        (class_table([], [[40, 9], [41, 10]]), [[[40, 9], [41, 10]]]),
        (class_table([], [[40], [41]]), [[[40], [41]]]),
        (class_table([[1, 2]], []), [[[1, 2]], [[1, 2]]]),
    ],
)
def test_tables_without_clusters_or_without_singles(
    tmp_path: Path, drawn: list[Figure], table: pd.DataFrame, expected: list[list[list[int]]]
) -> None:
    clusters.draw(tmp_path / "c.png", POOL, table, FEATURES)
    assert (tmp_path / "c.png").stat().st_size > 1_000
    assert list(blocks(drawn[0]).values()) == expected


def test_images_of_another_size_are_fitted_into_their_tile(tmp_path: Path, drawn: list[Figure]) -> None:
    class Large(Images):
        def __getitem__(self, index: int) -> Pixels:
            return np.full((300, 200, 3), index, np.uint8)

    clusters.draw(tmp_path / "c.png", Large(), TABLE, FEATURES)
    assert blocks(drawn[0])["tightest clusters"]
