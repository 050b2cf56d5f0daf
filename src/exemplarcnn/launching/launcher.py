"""Starting a stage: parameters and data are checked first, and errors are printed that a person can act on."""

import os
import sys
import time
from collections.abc import Callable

from safetensors import SafetensorError

from exemplarcnn.config.params import Config, load
from exemplarcnn.determinism import use_threads
from exemplarcnn.errors import INTERRUPTED, FailedElsewhereError, PipelineError, reason
from exemplarcnn.launching import preflight
from exemplarcnn.tracking import timings

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
        sys.exit(f"error: {where}{reason(error)}; fix this and rerun: finished work is kept")
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
