"""What every computation runs under, so that it gives the same bits each time."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import cv2
from threadpoolctl import threadpool_limits

from exemplarcnn import threads

# Without it matrix products on a GPU differ in last bits from run to run; read when a GPU is first used.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")


def use_threads(count: int) -> None:
    """Compute with some threads of our own, each with one inside the numerical libraries.

    Sums of these depend on how many threads share them, in their last bits.
    """
    threads.use(count)
    # Importing torch takes seconds; a stage that computes with it has done so by now, the others do without.
    if (torch := sys.modules.get("torch")) is not None:
        torch.set_num_threads(1)
        # Some gradients have no deterministic form on a GPU: there a warning, and the training goes on.
        # As use_deterministic_algorithms(True, warn_only=True), which would import torch's compiler for a second.
        torch.set_deterministic_debug_mode("warn")
        torch.backends.cudnn.allow_tf32 = False
    threadpool_limits(1)
    cv2.setNumThreads(1)


@contextmanager
def shared_operations() -> Iterator[None]:
    """Let the threads share single operations inside the libraries: where they provably change no bit of the result."""
    import torch

    torch.set_num_threads(threads.count())
    try:
        with threadpool_limits(threads.count()):
            yield
    finally:
        torch.set_num_threads(1)
