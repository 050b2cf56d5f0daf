"""A training as a stage runs it: locked, in one process or several, resumed after an interruption."""

import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any

import torch

from exemplarcnn import distributed
from exemplarcnn.config.params import Config
from exemplarcnn.locks import exclusive_lock
from exemplarcnn.training.checkpoint import Checkpoint
from exemplarcnn.training.learning_curve import Epoch
from exemplarcnn.training.trainer import Trainer

AfterEpoch = Callable[[Epoch], None]


def train(
    folder: Path, prepare: Callable[[], Trainer], outs: Callable[[Trainer], AbstractContextManager[AfterEpoch]]
) -> None:
    """Train to the end, then remove the checkpoint.

    Parameters
    ----------
    folder
        Folder of the checkpoint.
    prepare
        Builds the trainer, in each process.
    outs
        Context manager that the first process enters around the training. It gives the function to call after each
        epoch, and writes the results.

    Raises
    ------
    LockedError
        If another process is running this training.
    CheckpointError
        If the checkpoint cannot be used.
    TrainingError
        If the training diverges.
    KeyboardInterrupt
        After Ctrl-C or SIGTERM, once the state is saved.
    """
    lock = exclusive_lock(folder, f"training {folder.name}", distributed.on_rank_zero)
    with distributed.processes(), lock:
        trainer = prepare()
        with ExitStack() as opened:
            after_epoch = distributed.on_rank_zero(lambda: opened.enter_context(outs(trainer)))
            trainer.run(after_epoch or (lambda row: None))
        if distributed.rank() == 0:
            shutil.rmtree(folder, ignore_errors=True)


def checkpoint_in(folder: Path, config: Config, device: torch.device, inputs: dict[str, Any]) -> Checkpoint:
    """Return the checkpoint of a stage's training.

    Parameters
    ----------
    folder
        Folder of the checkpoint.
    config
        Gives the seed and the minutes between writes.
    device
        The device that trains.
    inputs
        What else the weights depend on.
    """
    configuration = inputs | {
        "seed": config.seed,
        "device": device.type,
    }
    if device.type == "cuda":  # where the shards are the processes
        configuration |= {"processes": distributed.world()}
    return Checkpoint(folder / "checkpoint.safetensors", configuration, config.machine.checkpoint_minutes)
