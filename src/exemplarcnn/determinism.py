"""What every computation runs under, so that it gives the same bits each time."""

import os
import sys

import cv2
from threadpoolctl import threadpool_limits

# Without it matrix products on a GPU differ in last bits from run to run; read when a GPU is first used.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")


def use_threads(threads: int) -> None:
    """Give all numerical libraries one fixed number of threads: sums depend on it in their last bits."""
    # Importing torch takes seconds; a stage that computes with it has done so by now, the others do without.
    if (torch := sys.modules.get("torch")) is not None:
        torch.set_num_threads(threads)
        # Some gradients have no deterministic form on a GPU: there a warning, and the training goes on.
        # As use_deterministic_algorithms(True, warn_only=True), which would import torch's compiler for a second.
        torch.set_deterministic_debug_mode("warn")
        torch.backends.cudnn.allow_tf32 = False
    threadpool_limits(threads)
    cv2.setNumThreads(1)
