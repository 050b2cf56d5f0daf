"""Stage ``train``: a network that tells the surrogate classes apart."""

import shutil
from dataclasses import asdict

import pandas as pd

from exemplarcnn import models, network, paths, rng, stages, tracking, training
from exemplarcnn.config import Config
from exemplarcnn.files import digest_of, read_json, whole_folder, write_table


def run(variant: str, config: Config) -> None:
    """Write ``models/VARIANT/`` and ``metrics/VARIANT/train.csv``, going on from a checkpoint in ``work/``."""
    folder = paths.surrogate_set(variant)
    about = read_json(folder / "set.json")
    device = models.pick_device(config.machine.device)
    identity = digest_of(
        {
            "code": stages.code(training, network, rng),
            "set": about,
            "network": config.network.model_dump(mode="json"),
            "train": config.train.model_dump(mode="json"),
            "seed": config.seed,
            "threads": config.machine.threads,
            "device": device.type,
        }
    )
    work = paths.WORK / "train" / identity[:16]
    net = network.initialise(config.network, about["classes"], about["patch"], config.seed, about["mean"], about["std"])
    with tracking.run("train", variant, config) as tracked, whole_folder(paths.model(variant)) as partial:
        models.describe(partial / "network.json", config.network, about)
        models.save_weights(partial / "initial.safetensors", net)
        checkpoint = work / "checkpoint.safetensors"
        trainer = training.Trainer(net, folder, config.train, config.seed, device, checkpoint, identity)
        history = trainer.run(after_epoch=tracked.epoch)
        models.save_weights(partial / "weights.safetensors", net)
        write_table(paths.learning_curve(variant), pd.DataFrame([asdict(row) for row in history]))
    shutil.rmtree(work, ignore_errors=True)


if __name__ == "__main__":
    stages.main(run)
