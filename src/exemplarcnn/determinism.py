"""Settings that make every computation give the same bits each time."""

import os
import sys

import cv2
from threadpoolctl import threadpool_limits

# Without it, matrix products on a GPU differ in the last bits from run to run. CUDA reads it at first use.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")


def use_threads(threads: int) -> None:
    """Fix the number of threads of torch, BLAS and OpenMP, and ask torch for deterministic operations.

    The last bits of sums depend on the number of threads. OpenCV always gets one thread.

    Parameters
    ----------
    threads
        Threads in this process (``machine.threads``).
    """
    # Importing torch takes seconds. A stage that computes with it has imported it by now; the others do without.
    if (torch := sys.modules.get("torch")) is not None:
        torch.set_num_threads(threads)
        # Some gradients have no deterministic form on a GPU: torch then warns, and the training continues.
        # Like use_deterministic_algorithms(True, warn_only=True), but that spends a second importing torch's compiler.
        torch.set_deterministic_debug_mode("warn")
        torch.backends.cudnn.allow_tf32 = False
    threadpool_limits(threads)
    cv2.setNumThreads(1)
