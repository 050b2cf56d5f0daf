"""Principal axes of a pool's colours."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Picture

from exemplarcnn.data import colour_axes
from exemplarcnn.data.pools import ImageFolder
from tests.recipe_references import photo


def test_axes_are_those_of_all_pixels(tmp_path: Path) -> None:
    pictures = [np.rint(255 * photo(20 + n, 30, n)).astype(np.uint8) for n in range(4)]
    for number, picture in enumerate(pictures):
        Picture.fromarray(picture).save(tmp_path / f"{number}.png")
    found = colour_axes.measure(ImageFolder(tmp_path))
    pixels = np.concatenate([picture.reshape(-1, 3) for picture in pictures]) / 255
    values, vectors = np.linalg.eigh(np.cov(pixels, rowvar=False, bias=True))
    assert found.mean == pytest.approx(tuple(pixels.mean(axis=0)))
    assert found.variances == pytest.approx(tuple(values[::-1]))
    for axis, expected in zip(np.array(found.axes), vectors.T[::-1], strict=True):
        assert abs(axis @ expected) == pytest.approx(1)
        assert axis[np.abs(axis).argmax()] > 0
    colour_axes.write(tmp_path / "axes.json", found)
    assert colour_axes.read(tmp_path / "axes.json") == found
    for number, picture in enumerate(pictures[::-1]):
        Picture.fromarray(picture).save(tmp_path / f"{number}.png")
    assert colour_axes.measure(ImageFolder(tmp_path)) == found
