"""The precision of a network's passes, on processors with bfloat16 and without."""

import logging

import pytest
import torch

from exemplarcnn.networks import precision
from exemplarcnn.networks.precision import computed, float32_convolutions, mixed_precision

CPU = torch.device("cpu")


@pytest.fixture
def without(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give the processor no instructions for bfloat16."""
    monkeypatch.setattr(precision, "multiplies_bfloat16", lambda device: False)
    precision._say_float32.cache_clear()


def product(asked: str) -> torch.Tensor:
    ones = torch.full((2, 2), 1.001)
    with mixed_precision(CPU, asked):
        return ones @ ones


def test_bf16_is_bfloat16_where_there_is_such(bfloat16: None) -> None:
    assert product("bf16").dtype == torch.bfloat16
    assert product("fp32").dtype == torch.float32


@pytest.mark.usefixtures("without")
def test_it_is_float32_where_there_is_not() -> None:
    assert computed("bf16", CPU) == computed("fp32", CPU) == "fp32"
    assert torch.equal(product("bf16"), product("fp32"))


@pytest.mark.usefixtures("without")
def test_that_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        product("fp32")
        assert not caplog.records
        product("bf16")
        product("bf16")
    (said,) = caplog.messages
    assert "no instructions for bfloat16: computing in float32" in said


def test_float32_on_a_gpu_is_whole_and_the_callers_choice_comes_back() -> None:
    cudnn = torch.backends.cudnn
    before = cudnn.allow_tf32, cudnn.enabled, cudnn.deterministic
    try:
        for chosen in (True, False):
            cudnn.allow_tf32 = chosen
            with float32_convolutions(torch.device("cpu")):
                assert cudnn.allow_tf32 == chosen
            with float32_convolutions(torch.device("cuda")):
                assert not cudnn.allow_tf32
                assert (cudnn.enabled, cudnn.deterministic) == before[1:], "nothing else changes"
            assert cudnn.allow_tf32 == chosen
            with float32_convolutions(torch.device("cuda")):  # another thread comes and goes
                other = float32_convolutions(torch.device("cuda"))
                other.__enter__()
                other.__exit__(None, None, None)
                assert not cudnn.allow_tf32
            assert cudnn.allow_tf32 == chosen
    finally:
        cudnn.allow_tf32 = before[0]
