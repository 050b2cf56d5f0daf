"""One thin module a DVC stage: read parameters, call the library, write the outs.

``python -m exemplarcnn.stages.NAME [VARIANT]`` runs one, from the repository's root.
"""

import sys
from collections.abc import Callable

import cv2
from threadpoolctl import threadpool_limits

from exemplarcnn.config import Config, load
from exemplarcnn.errors import PipelineError

Stage = Callable[[str, Config], None]


def main(stage: Stage) -> None:
    """Run a stage from the command line: check all parameters first, print errors a person can act on."""
    try:
        config = load()
        use_threads(config.machine.threads)
        stage(sys.argv[1] if len(sys.argv) > 1 else "", config)
    except PipelineError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit("interrupted; the same command goes on from what is done")


def use_threads(threads: int) -> None:
    """Give all numerical libraries one fixed number of threads: sums depend on it in their last bits."""
    import torch

    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True)
    threadpool_limits(threads)
    cv2.setNumThreads(1)
