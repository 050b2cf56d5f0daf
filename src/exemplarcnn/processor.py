"""What the processor can do."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def multiplies_bfloat16(device: torch.device) -> bool:
    """Say whether a device has instructions for products of bfloat16.

    torch computes with bfloat16 everywhere. Where there are no instructions for it, that is slower than float32: on a
    processor with AVX2 alone about a hundred times (docs/results.md).
    """
    import torch

    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    here = torch.cpu.get_capabilities()
    if here["architecture"] == "x86_64":
        return bool(here["avx512_bf16"])
    # Of torch's builds for other processors, those with oneDNN, for Linux, use these instructions. torch has no types
    # for this call.
    return bool(here.get("bf16") and torch.backends.mkldnn.is_available())  # type: ignore[no-untyped-call]
