"""The precision of a network's passes: what the parameters ask for, and what the processor can do (docs/method.md, 3).

torch computes in bfloat16 on every processor, but on one without instructions for it more slowly than in float32, on
many a hundred times. There, ``bf16`` means float32, which is also closer to the exact result.
"""

import logging
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache
from threading import Lock
from typing import Any

import torch

from exemplarcnn.processor import multiplies_bfloat16

log = logging.getLogger(__name__)


def computed(precision: str, device: torch.device) -> str:
    """Return the precision in which a device computes: ``bf16`` if it is asked for and the device can, else ``fp32``.

    Says so in the log, once in a process, if it is not the one asked for.
    """
    if precision == "bf16" and not multiplies_bfloat16(device):
        _say_float32(device.type)
        return "fp32"
    return precision


@cache
def _say_float32(kind: str) -> None:
    processor = "GPU" if kind == "cuda" else "processor"
    log.warning(
        "this %s has no instructions for bfloat16: computing in float32 where the parameters say precision: bf16; "
        "results differ from those of a %s that has them by the rounding of bfloat16",
        processor,
        processor,
    )


def mixed_precision(device: torch.device, precision: str) -> AbstractContextManager[Any]:
    """Return the context of a forward pass: autocast to bfloat16 for ``bf16`` if the device can, else nothing."""
    if computed(precision, device) == "fp32":
        return nullcontext()
    # A pass uses each weight once: a cache of their bfloat16 copies would be useless, and shared by all threads.
    return torch.autocast(device.type, torch.bfloat16, cache_enabled=False)


class _Float32:
    """How many threads need convolutions in float32 now, and what the caller had chosen before the first of them."""

    lock, users, chosen = Lock(), 0, False


@contextmanager
def float32_convolutions(device: torch.device) -> Iterator[None]:
    """Convolve in float32 where a GPU would by default use fewer digits (TF32)."""
    if device.type != "cuda":
        yield
        return
    with _Float32.lock:
        if _Float32.users == 0:
            _Float32.chosen = torch.backends.cudnn.allow_tf32
            torch.backends.cudnn.allow_tf32 = False
        _Float32.users += 1
    try:
        yield
    finally:
        with _Float32.lock:
            _Float32.users -= 1
            if _Float32.users == 0:
                torch.backends.cudnn.allow_tf32 = _Float32.chosen
