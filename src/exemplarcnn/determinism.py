"""Settings that make every computation give the same bits each time."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import cv2
from threadpoolctl import threadpool_limits

from exemplarcnn import threads

# Without it, matrix products on a GPU differ in the last bits from run to run. CUDA reads it at first use.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")


def use_threads(count: int) -> None:
    """Compute with some threads of our own, each with one thread inside torch, BLAS and OpenMP.

    The last bits of these libraries' sums depend on how many threads share them. Asks torch for deterministic
    operations, too.

    Parameters
    ----------
    count
        Threads in this process (``machine.threads``).
    """
    threads.use(count)
    # Importing torch takes seconds. A stage that computes with it has imported it by now; the others do without.
    if (torch := sys.modules.get("torch")) is not None:
        torch.set_num_threads(1)
        # Some gradients have no deterministic form on a GPU: torch then warns, and the training continues.
        # Like use_deterministic_algorithms(True, warn_only=True), but that spends a second importing torch's compiler.
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
