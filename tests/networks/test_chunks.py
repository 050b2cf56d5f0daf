"""Chunks of one size: every row once, in order, and no chunk shorter than the others."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from exemplarcnn.networks.chunks import padded_chunks


@given(count=st.integers(0, 40), size=st.integers(1, 12))
def test_every_row_counts_once_and_all_chunks_are_of_one_size(count: int, size: int) -> None:
    chunks = padded_chunks(count, size)
    assert [row for rows, counting in chunks for row in rows[:counting].tolist()] == list(range(count))
    for rows, counting in chunks:
        assert len(rows) == size
        assert 1 <= counting <= size
        assert (rows[counting:] == count - 1).all(), "filled up with the last row"


def test_by_hand() -> None:
    first, last = padded_chunks(5, 3)
    np.testing.assert_array_equal(first[0], [0, 1, 2])
    np.testing.assert_array_equal(last[0], [3, 4, 4])
    assert (first[1], last[1]) == (3, 2)
