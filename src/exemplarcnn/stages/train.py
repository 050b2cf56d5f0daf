"""Stage ``train``: a network that tells the surrogate classes apart.

``machine.processes`` of them train together; on several machines, that share this folder, start each with
``torchrun ... -m exemplarcnn.stages.train VARIANT``.
"""

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict

import pandas as pd

from exemplarcnn import distributed, paths
from exemplarcnn.config import Config
from exemplarcnn.evaluation import probe
from exemplarcnn.files import atomic_folder, read_json, rounded, write_table
from exemplarcnn.launching.dependencies import code, packages
from exemplarcnn.launching.launcher import main
from exemplarcnn.networks import exemplar_cnn, saved
from exemplarcnn.patches.online import OnlinePatches
from exemplarcnn.tracking import runs
from exemplarcnn.training import batches, online
from exemplarcnn.training import trainer as training
from exemplarcnn.training.checkpoint import Epoch


def run(variant: str, config: Config) -> None:
    """Write ``models/VARIANT/``, and ``metrics/VARIANT/train.csv`` as it grows.

    Goes on from a checkpoint in ``work/train/VARIANT/``.
    """
    with distributed.processes(), training.alone(paths.WORK / "train" / variant), ExitStack() as opened:
        trainer = _trainer(variant, config)
        after_epoch = distributed.by_the_first(lambda: opened.enter_context(_outs(variant, config, trainer)))
        trainer.run(after_epoch or (lambda row: None))


@contextmanager
def _outs(variant: str, config: Config, trainer: training.Trainer) -> Iterator[Callable[[Epoch], None]]:
    """Write and log what comes of a training; gives what is to be called after each epoch."""
    about = read_json(paths.surrogate_set(variant) / "set.json")
    with runs.run("train", variant, config) as tracked, atomic_folder(paths.model(variant)) as partial:
        saved.describe(partial / "network.json", config.network, about)
        saved.save_weights(partial / "initial.safetensors", trainer.network)
        curve: list[Epoch] = []

        def after_epoch(row: Epoch) -> None:
            curve.append(row)
            write_table(paths.learning_curve(variant), rounded(pd.DataFrame([asdict(each) for each in curve])))
            tracked.epoch(row)

        yield after_epoch
        saved.save_weights(partial / "weights.safetensors", trainer.network)
    shutil.rmtree(trainer.path.parent, ignore_errors=True)


def _trainer(variant: str, config: Config) -> training.Trainer:
    folder = paths.surrogate_set(variant)
    about = read_json(folder / "set.json")
    device = distributed.local_device(saved.pick_device(config.machine.device))
    params = config.train
    if (groups := config.variants.train[variant].groups) is not None:
        params = params.model_copy(update={"groups": groups})
    configuration = {
        "set": about,
        "network": config.network.model_dump(mode="json"),
        # Without the probe: it looks, and has no part in the weights.
        "train": params.model_dump(mode="json", exclude={"probe_every"}),
        "seed": config.seed,
        "threads": config.machine.threads,
        "processes": distributed.world(),
        "device": device.type,
        "code": code("stages.train"),
        "packages": packages("numpy", "torch"),
    }
    net = exemplar_cnn.initialise(
        config.network, about["classes"], about["patch"], config.seed, about["mean"], about["std"]
    )
    train: batches.Source
    if about["mode"] == "online":
        configuration["drawing"] = read_json(folder / "drawing.json")
        pool = config.variants.train[variant].pool
        patches = OnlinePatches.open(folder, paths.DATA, pool, about["patch"], config.seed, device)
        train = online.Online(patches)
    else:
        train = batches.Batches(folder, "train", device)
    valid = batches.Batches(folder, "valid", device)
    path = paths.WORK / "train" / variant / "checkpoint.safetensors"
    minutes = config.machine.checkpoint_minutes
    look = probe.Probe(paths.DATA, device) if params.probe_every else None
    return training.Trainer(
        net, train, valid, params, config.seed, device, path, configuration, minutes, look, params.probe_every
    )


if __name__ == "__main__":
    main(run, together=True)
