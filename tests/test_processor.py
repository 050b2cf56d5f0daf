"""What the processor can do."""

from pathlib import Path
from typing import Any

import pytest
import torch

from exemplarcnn.processor import multiplies_bfloat16


@pytest.mark.parametrize(
    ("here", "one_dnn", "expected"),
    [
        ({"architecture": "x86_64", "avx2": True, "avx512_bf16": False}, True, False),
        # torch and oneDNN would compute there with bfloat16, by instructions for float32.
        ({"architecture": "x86_64", "avx512_f": True, "avx512_bf16": False}, True, False),
        ({"architecture": "x86_64", "avx512_bf16": True}, True, True),
        ({"architecture": "aarch64", "bf16": True}, True, True),
        ({"architecture": "aarch64", "bf16": True}, False, False),
        ({"architecture": "aarch64", "bf16": False}, True, False),
        ({"architecture": "riscv64"}, False, False),
    ],
)
def test_which_processors_have_bfloat16(
    here: dict[str, Any], one_dnn: bool, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: here)
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: one_dnn)
    assert multiplies_bfloat16(torch.device("cpu")) is expected


@pytest.mark.skipif(not Path("/proc/cpuinfo").exists(), reason="the system lists the processor's instructions there")
def test_the_system_says_the_same_of_this_processor() -> None:
    words = set(Path("/proc/cpuinfo").read_text().split())
    assert multiplies_bfloat16(torch.device("cpu")) is bool({"avx512_bf16", "bf16"} & words)


def test_a_gpu_is_asked_without_emulation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation)
    assert not multiplies_bfloat16(torch.device("cuda"))
