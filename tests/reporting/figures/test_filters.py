"""Filters of a first layer."""

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from exemplarcnn.reporting.figures import filters


def test_each_filter_has_the_full_range_of_colours(tmp_path: Path, drawn: list[Figure]) -> None:
    weights = np.random.default_rng(0).normal(size=(3, 3, 5, 5)).astype(np.float32)
    weights[1] *= 1e-6
    weights[2] = 0.5  # all the same: no range to stretch
    filters.draw(tmp_path / "f.png", weights, columns=2)
    (image,) = drawn[0].axes[0].get_images()
    shown = np.asarray(image.get_array())
    assert shown.shape == (11, 11, 3)
    tiles = [shown[top : top + 5, left : left + 5] for top, left in ((0, 0), (0, 6), (6, 0))]
    assert [(tile.min(), tile.max()) for tile in tiles] == [(0, 1), (0, 1), (0, 0)]
    np.testing.assert_array_equal(np.argmax(tiles[0]), np.argmax(weights[0].transpose(1, 2, 0)))
    assert (shown[:, 5] == 1).all(), "white between them"
