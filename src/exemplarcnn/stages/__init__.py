"""One thin module a DVC stage: read parameters, call the library, write the outs.

``python -m exemplarcnn.stages.NAME [VARIANT]`` runs one, from the repository's root.
"""

import os
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from types import TracebackType

INTERRUPTED = "interrupted; the same command goes on from what is done"


def _said_in_a_line(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Print what nothing has caught; of a Ctrl-C, which may come while libraries are imported, one line."""
    if issubclass(kind, KeyboardInterrupt):
        print(INTERRUPTED, file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, trace)


# Before anything is imported that takes time, which is why imports follow (E402 is off for this file).
sys.excepthook = _said_in_a_line

import cv2
from safetensors import SafetensorError
from threadpoolctl import threadpool_limits

from exemplarcnn import preflight, timings
from exemplarcnn.config import Config, load
from exemplarcnn.errors import FailedElsewhereError, PipelineError, reason
from exemplarcnn.files import digest

# Without it matrix products on a GPU differ in last bits from run to run; read when a GPU is first used.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")

Stage = Callable[[str, Config], None]


def main(stage: Stage, together: bool = False, audited: bool = False) -> None:
    """Run a stage from the command line: check all parameters first, print errors a person can act on.

    Parameters
    ----------
    stage
        What to run.
    together
        Whether ``machine.processes`` of them work together, started by ``torchrun``.
    audited
        Whether the stage depends on the audit, so that DVC has seen to it that its tables are those of the data.
    """
    try:
        config = load()
        preflight.check(config, audited=audited)  # in the first stage that runs, not after networks are trained
        if together and config.machine.processes > 1 and "TORCHELASTIC_RUN_ID" not in os.environ:
            _start_together(config.machine.processes)
        use_threads(config.machine.threads)
        start, variant = time.monotonic(), sys.argv[1] if len(sys.argv) > 1 else ""
        stage(variant, config)
        if os.environ.get("RANK", "0") == "0":
            timings.note(_name(variant), time.monotonic() - start)
    except FailedElsewhereError:
        sys.exit(1)
    except PipelineError as error:
        sys.exit(f"error: {error}")
    except (OSError, SafetensorError) as error:
        where = f"{error.filename}: " if isinstance(error, OSError) and error.filename else ""
        sys.exit(f"error: {where}{reason(error)}; when that is mended, the same command goes on from what is done")
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


def _name(variant: str) -> str:
    """Return the name of the stage that runs, as DVC has it."""
    spec = sys.modules["__main__"].__spec__
    kind = spec.name.rpartition(".")[2] if spec is not None else "stage"
    return f"{kind}@{variant}" if variant else kind


def _start_together(processes: int) -> None:
    """Replace this process by the launcher of several like it."""
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}", "-m"]
    spec = sys.modules["__main__"].__spec__
    assert spec is not None
    os.execv(sys.executable, [sys.executable, *launcher, spec.name, *sys.argv[1:]])


def code(*modules: str) -> dict[str, str]:
    """Hash of the source of each of some modules: what a result depends on beside data and parameters."""
    return {module: digest(Path(__file__).parents[1] / f"{module}.py") for module in modules}


def packages(*names: str) -> dict[str, str]:
    """Version of each of some packages."""
    return {name: version(name) for name in names}


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
