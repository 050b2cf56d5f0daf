"""Class tables of single images."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from exemplarcnn.classes.seeding import seed_table
from exemplarcnn.classes.tables import ClassTableError, check
from exemplarcnn.errors import PipelineError


@settings(deadline=None)
@given(pool=st.integers(1, 300), seed=st.integers(0, 2**63 - 1), data=st.data())
def test_fewer_classes_are_the_first_ones(pool: int, seed: int, data: st.DataObject) -> None:
    more = data.draw(st.integers(1, pool))
    fewer = data.draw(st.integers(1, more))
    large, small = seed_table(pool, more, seed), seed_table(pool, fewer, seed)
    pd.testing.assert_frame_equal(small, large.head(fewer))
    check(large, pool)
    assert large["class_id"].tolist() == list(range(more))
    assert set(large["origin"]) == {"seed"}


def test_seed_draws_other_images() -> None:
    drawn = [tuple(seed_table(1000, 20, seed)["image_id"]) for seed in range(20)]
    assert len(set(drawn)) == 20
    assert tuple(seed_table(1000, 20, 3)["image_id"]) == drawn[3]


def test_every_image_is_equally_likely() -> None:
    counts = np.bincount(np.concatenate([seed_table(20, 5, seed)["image_id"] for seed in range(800)]), minlength=20)
    assert stats.chisquare(counts).pvalue > 1e-3


def test_more_classes_than_images_are_refused() -> None:
    assert sorted(seed_table(7, 7, 0)["image_id"]) == list(range(7))
    with pytest.raises(ClassTableError) as error:
        seed_table(7, 8, 0)
    told = (
        "cannot make 8 classes of one image each: only 7 of the pool's 7 images can be used; ask for at most that many"
    )
    assert str(error.value) == told
    assert isinstance(error.value, PipelineError)


def test_images_left_out_leave_the_order_of_the_others() -> None:
    order = seed_table(50, 50, 3)["image_id"].tolist()
    usable = np.array([1, 2, 30, 31, 40])
    assert seed_table(50, 4, 3, usable)["image_id"].tolist() == [image for image in order if image in usable][:4]
    with pytest.raises(ClassTableError, match="only 5 of the pool's 50 images"):
        seed_table(50, 6, 3, usable)
