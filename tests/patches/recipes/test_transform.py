"""What all transforms share."""

import numpy as np

from exemplarcnn.patches.recipes.transform import to_uint8


def test_to_uint8_rounds_to_the_nearest_and_cuts_off() -> None:
    levels = np.arange(256, dtype=np.uint8)
    assert np.array_equal(to_uint8(levels.astype(np.float32) / np.float32(255)), levels)
    assert np.array_equal(to_uint8((levels.astype(np.float32)[1:] - np.float32(0.49)) / np.float32(255)), levels[1:])
    assert np.array_equal(to_uint8((levels.astype(np.float32)[:-1] + np.float32(0.49)) / np.float32(255)), levels[:-1])
    result = to_uint8(np.array([-1, -1e-6, 1.000001, 7], np.float32))
    assert result.dtype == np.uint8
    assert result.tolist() == [0, 0, 255, 255]
