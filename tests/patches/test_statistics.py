"""Channel statistics."""

import numpy as np
import pytest

from exemplarcnn.patches.statistics import channel_histogram, channel_statistics


def test_channel_statistics_against_float64() -> None:
    draw = np.random.default_rng(0)
    # Channels that differ.
    patches = (draw.integers(0, 256, (4096 + 77, 4, 4, 3)) * [1.0, 0.5, 0.1]).astype(np.uint8)
    mean, std = channel_statistics(channel_histogram(patches))
    values = patches.reshape(-1, 3).astype(float) / 255
    assert mean == pytest.approx(values.mean(axis=0), rel=1e-12)
    assert std == pytest.approx(values.std(axis=0), rel=1e-12)
    shuffled = channel_histogram(patches[draw.permutation(len(patches))])
    assert channel_statistics(shuffled) == (mean, std)


@pytest.mark.parametrize("value", [0, 1, 128, 255])
def test_statistics_of_one_value(value: int) -> None:
    mean, std = channel_statistics(channel_histogram(np.full((5, 8, 8, 3), value, np.uint8)))
    assert mean == pytest.approx([value / 255] * 3)
    assert std == [0, 0, 0]
