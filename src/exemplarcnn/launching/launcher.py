"""Start a stage: check parameters and data first, and print errors that say what to do."""

import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any

from safetensors import SafetensorError

from exemplarcnn import paths
from exemplarcnn.config.params import Config, load
from exemplarcnn.determinism import use_threads
from exemplarcnn.errors import INTERRUPTED, FailedElsewhereError, PipelineError, reason
from exemplarcnn.files import UnreadableError
from exemplarcnn.launching import preflight
from exemplarcnn.launching.inputs import Inputs
from exemplarcnn.launching.memory import Peak
from exemplarcnn.planning import plan
from exemplarcnn.tracking import lineage, timings

Stage = Callable[[str, Config], None]


def main(stage: Stage, together: bool = False, audited: bool = False) -> None:
    """Run a stage from the command line: check parameters and data first, end with one line for any known error.

    Parameters
    ----------
    stage
        The stage's function; it gets the variant, or an empty string, and the parameters.
    together
        Whether ``machine.processes`` processes work together, started by ``torchrun``.
    audited
        Whether the stage depends on the audit: DVC then guarantees that the audit's tables are those of the data.

    Raises
    ------
    SystemExit
        If the stage fails or is interrupted; the message says what to do.
    """
    try:
        with _interrupts():
            # Before anything is read, so that no edit from here on goes unnoticed.
            variant = sys.argv[1] if len(sys.argv) > 1 else ""
            begun_with = Inputs.of(_name(variant))
            config = load()
            preflight.check(config, audited=audited)  # in the first stage that runs, not after networks are trained
            plan.check_disk(config)
            if together and config.machine.processes > 1 and "TORCHELASTIC_RUN_ID" not in os.environ:
                _start_together(config.machine.processes)
            if first := os.environ.get("RANK", "0") == "0":  # of processes that work together
                _keep_lock()
            use_threads(config.machine.threads)
            start = time.monotonic()
            with Peak() as peak:
                stage(variant, config)
            if first:
                begun_with.check()
                with suppress(OSError):  # a time that cannot be kept is no reason to fail what is done
                    timings.note(begun_with.stage, time.monotonic() - start, peak.bytes)
    except FailedElsewhereError:
        sys.exit(1)
    except PipelineError as error:
        sys.exit(f"error: {error}")
    except (OSError, SafetensorError) as error:
        where = f"{error.filename}: " if isinstance(error, OSError) and error.filename else ""
        sys.exit(f"error: {where}{reason(error)}; fix this and rerun: finished work is kept")
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


@contextmanager
def _interrupts() -> Iterator[None]:
    """Take an error for Ctrl-C if that has come: libraries make errors of their own of it."""
    came = False

    def interrupt(number: int, frame: FrameType | None) -> None:
        nonlocal came
        came = True
        signal.default_int_handler(number, frame)

    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:  # a shell's job in the background ignores it
        yield
        return
    signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    except Exception as error:
        if came:
            raise KeyboardInterrupt from error
        raise
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _name(variant: str) -> str:
    """Return the running stage's name in DVC."""
    spec = sys.modules["__main__"].__spec__
    kind = spec.name.rpartition(".")[2] if spec is not None else "stage"
    return f"{kind}@{variant}" if variant else kind


def _keep_lock() -> None:
    """Copy ``dvc.lock`` to ``work/``: DVC writes it in place after each stage, and Ctrl-C may leave half of it."""
    kept = paths.WORK / lineage.LOCK.name
    partial = kept.with_name(f".{kept.name}.{os.getpid()}")  # stages may run side by side
    with suppress(OSError, UnreadableError):  # a copy that cannot be made is no reason to stop
        kept.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(lineage.LOCK, partial)
        try:
            if not _cut_off(lineage.lock_entries(partial), _entries(kept)):
                partial.replace(kept)
        finally:
            partial.unlink(missing_ok=True)


def _entries(kept: Path) -> dict[str, Any]:
    """Return the entries of a copy; none if the copy is damaged itself, as by a power failure."""
    with suppress(UnreadableError):
        return lineage.lock_entries(kept)
    return {}


def _cut_off(now: dict[str, Any], before: dict[str, Any]) -> bool:
    """Tell whether a lock, which is valid YAML, is likely to be only the beginning of what DVC meant to write."""
    changed = sum(before.get(stage) != entry for stage, entry in now.items())
    outs = [out for entry in now.values() for out in entry.get("outs", [None])]
    unfinished = not all(isinstance(out, dict) and "md5" in out for out in outs)
    return unfinished or (len(now) < len(before) and changed <= 1)


def _start_together(processes: int) -> None:
    """Replace this process with the launcher of several like it."""
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}", "-m"]
    spec = sys.modules["__main__"].__spec__
    assert spec is not None
    os.execv(sys.executable, [sys.executable, *launcher, spec.name, *sys.argv[1:]])
