"""Counter-based randomness: what a stream gives depends on its address alone."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import ArrayLike

from exemplarcnn.rng import Purpose, Stream, generator, torch_seed

WORD = st.integers(0, 2**63 - 1)
Draw = Callable[[np.random.Generator], ArrayLike]
DRAWS: list[Draw] = [
    lambda draw: draw.random(3),
    lambda draw: draw.random(np.random.default_rng(0).integers(1, 9), dtype=np.float32),
    lambda draw: draw.integers(0, 7, 5, dtype=np.uint32),  # leaves half of a 64-bit word behind
    lambda draw: draw.normal(size=5),
    lambda draw: draw.permutation(11),
]


@settings(deadline=None)
@given(seed=WORD, purpose=st.sampled_from(Purpose), major=WORD, minor=WORD)
def test_stream_is_philox_at_its_address(seed: int, purpose: Purpose, major: int, minor: int) -> None:
    counter = (major << 192) | (minor << 128)
    expected = np.random.Generator(np.random.Philox(key=seed | (int(purpose) << 64), counter=counter))
    found = generator(seed, purpose, major, minor)
    assert np.array_equal(found.random(9), expected.random(9))
    assert np.array_equal(found.normal(size=3), expected.normal(size=3))


@settings(deadline=None)
@given(
    before=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3), st.sampled_from(DRAWS)), max_size=6),
    major=st.integers(0, 3),
    minor=st.integers(0, 3),
    kind=st.sampled_from(DRAWS),
)
def test_earlier_draws_leave_no_trace(
    before: list[tuple[int, int, Draw]],
    major: int,
    minor: int,
    kind: Draw,
) -> None:
    stream = Stream(5, Purpose.TRAIN_PATCH)
    for place, part, draw in before:
        draw(stream.at(place, part))
    assert np.array_equal(kind(stream.at(major, minor)), kind(generator(5, Purpose.TRAIN_PATCH, major, minor)))


@pytest.mark.parametrize("drawn", [1, 2, 3])
def test_half_a_word_and_half_a_buffer_are_forgotten(drawn: int) -> None:
    stream = Stream(0, Purpose.ANCHOR)
    fresh = stream.at(0).integers(0, 2**32, 4, dtype=np.uint32).tolist()
    stream.at(0).integers(0, 2**32, drawn, dtype=np.uint32)
    assert stream.at(0).integers(0, 2**32, 4, dtype=np.uint32).tolist() == fresh


def test_at_gives_the_same_generator_object() -> None:
    stream = Stream(0, Purpose.ANCHOR)
    assert stream.at(1) is stream.generator
    assert stream.at(2, 3) is stream.generator


def test_neighbouring_streams_share_no_number() -> None:
    addresses = [(s, p, a, b) for s in (0, 1) for p in Purpose for a in (0, 1, 2) for b in (0, 1, 2)]
    raw = np.concatenate([generator(*address).integers(0, 2**64, 500, dtype=np.uint64) for address in addresses])
    assert len(np.unique(raw)) == raw.size


def test_minor_and_major_default_to_the_first_stream() -> None:
    assert generator(3, Purpose.EPOCH).random() == generator(3, Purpose.EPOCH, 0, 0).random()
    assert Stream(3, Purpose.EPOCH).at(4).random() == generator(3, Purpose.EPOCH, 4, 0).random()


def test_purposes_have_numbers_of_their_own() -> None:
    assert len({int(purpose) for purpose in Purpose.__members__.values()}) == len(Purpose.__members__)


def test_torch_seeds_are_plain_and_differ() -> None:
    seeds = [torch_seed(s, p, a) for s in (0, 1) for p in (Purpose.WEIGHTS, Purpose.DROPOUT) for a in range(50)]
    assert all(type(seed) is int and 0 <= seed < 2**63 for seed in seeds)
    assert len(set(seeds)) == len(seeds)
    assert torch_seed(1, Purpose.DROPOUT, 7) == torch_seed(1, Purpose.DROPOUT, 7)
    assert max(seeds) > 2**61  # uses the whole range
