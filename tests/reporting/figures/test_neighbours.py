"""Nearest neighbours."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

from exemplarcnn.reporting.figures import neighbours
from tests.drawn_pictures import FEATURES, POOL, Images, sheet


def test_neighbours_are_the_nearest_by_each_network(tmp_path: Path, drawn: list[Figure]) -> None:
    features = {"one": FEATURES, "two": FEATURES[::-1].copy()}
    neighbours.draw(tmp_path / "n.png", POOL, features, [7, 30], nearest=3)
    (figure,) = drawn
    shown = [grey for _, grey in sheet(figure)]
    expected = []
    for query in (7, 30):
        expected.append(query)
        for found in features.values():
            apart = [(float(((row - found[query]) ** 2).sum()), i) for i, row in enumerate(found) if i != query]
            expected += [i for _, i in sorted(apart)[:3]]
    assert shown == expected


def test_of_few_images_each_has_the_others_as_neighbours(tmp_path: Path, drawn: list[Figure]) -> None:
    class Few(Images):
        def __len__(self) -> int:
            return 3

    neighbours.draw(tmp_path / "neighbours.png", Few(), {"a": FEATURES[:3]}, [1], 5)
    assert len(sheet(drawn[0])) == 3, "the image and two others, not itself at an infinite distance"


def test_distances_are_taken_block_by_block_and_do_not_depend_on_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The features of many images would take gigabytes in float64."""
    taken = []

    class Spied(np.ndarray[Any, Any]):
        def astype(self, *options: Any, **more: Any) -> Any:
            taken.append(len(self))
            return np.asarray(self).astype(*options, **more)

    whole = np.linalg.norm(FEATURES.astype(np.float64) - FEATURES[7], axis=1)
    monkeypatch.setattr(neighbours, "ROWS", 7)
    assert (neighbours._distances(FEATURES.view(Spied), 7) == whole).all()
    assert taken == [7] * 8 + [4]
