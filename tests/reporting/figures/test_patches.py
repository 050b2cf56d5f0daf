"""Surrogate classes."""

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from exemplarcnn.reporting.figures import patches
from tests.drawn_pictures import POOL, TABLE, sheet, shown


def test_patches_stand_beside_their_image(surrogate_set: Path, tmp_path: Path, drawn: list[Figure]) -> None:
    patches.draw(tmp_path / "p.png", POOL, TABLE, surrogate_set, rows=3, columns=2)
    assert [grey for _, grey in sheet(drawn[0])] == [30, 100, 102, 3, 103, 105, 5, 106, 108]
    (axes,) = drawn[0].get_axes()
    extents = [image.get_extent() for image in axes.get_images() if shown(image).shape == (96, 96, 3)]
    crosses = []
    for line, number in zip(axes.get_lines(), [0, 0, 1, 2], strict=True):
        left, right, _, upper = sorted(extents, key=lambda extent: extent[3])[number]
        pixel = (right - left) / 96
        crosses.append(tuple(((np.ravel(line.get_xydata()) - [left, upper]) / pixel - 0.5).round(6)))
    # x is the column, y the row; the first image has two anchors.
    assert crosses == [(60, 30), (51, 50), (6, 3), (10, 5)]


def test_fewer_classes_and_patches_than_room(surrogate_set: Path, tmp_path: Path, drawn: list[Figure]) -> None:
    patches.draw(tmp_path / "p.png", POOL, TABLE, surrogate_set)
    assert len(sheet(drawn[0])) == 5 * (1 + 3)
