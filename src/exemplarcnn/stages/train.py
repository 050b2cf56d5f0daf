"""Stage ``train``: train a network to tell the surrogate classes apart (docs/method.md, section 3).

``machine.processes`` processes train together. To train on several machines that share this folder, run
``torchrun ... -m exemplarcnn.stages.train VARIANT`` on each (docs/clusters.md).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from exemplarcnn import distributed, paths
from exemplarcnn.config.params import Config
from exemplarcnn.evaluation.probe import Probe
from exemplarcnn.files import atomic_folder, digest, read_json
from exemplarcnn.launching.dependencies import code, packages
from exemplarcnn.launching.launcher import main
from exemplarcnn.networks import exemplar_cnn, saved
from exemplarcnn.networks.precision import computed
from exemplarcnn.patches.online import OnlinePatches
from exemplarcnn.tracking import runs
from exemplarcnn.training import objectives, session
from exemplarcnn.training.batches import Batches, Source, TrainingData
from exemplarcnn.training.learning_curve import LearningCurve
from exemplarcnn.training.online import Online
from exemplarcnn.training.trainer import PeriodicProbe, Trainer


def run(variant: str, config: Config) -> None:
    """Write ``models/VARIANT/`` and, epoch by epoch, ``metrics/VARIANT/train.csv``.

    Continue from the checkpoint in ``work/train/VARIANT/`` if there is one.
    """
    folder = paths.WORK / "train" / variant
    session.train(folder, partial(_trainer, variant, config, folder), partial(_outs, variant, config))


@contextmanager
def _outs(variant: str, config: Config, trainer: Trainer) -> Iterator[session.AfterEpoch]:
    """Write and log the results of a training; yield the function to call after each epoch."""
    about = read_json(paths.surrogate_set(variant) / "set.json")
    with runs.run("train", variant, config) as tracked, atomic_folder(paths.model(variant)) as model:
        tracked.tags({"computed_in": trainer.computed_in})
        saved.describe(model / "network.json", config.network, about | {"classes": trainer.objective.outputs})
        saved.save_weights(model / "initial.safetensors", trainer.network)
        yield LearningCurve(paths.learning_curve(variant), tracked.epoch).add
        saved.save_weights(model / "weights.safetensors", trainer.network)


def _trainer(variant: str, config: Config, folder: Path) -> Trainer:
    patches = paths.surrogate_set(variant)
    about = read_json(patches / "set.json")
    device = distributed.local_device(saved.pick_device(config.machine.device))
    params = config.training(variant)
    entry = config.variants.train[variant]
    objective = objectives.of(entry.objective, about["classes"], params)
    configuration = {
        "set": about,
        "network": config.network.model_dump(mode="json"),
        # Without the probe, which does not affect the weights.
        "train": params.model_dump(mode="json", exclude={"probe_every"}),
        "objective": entry.objective,
        "computed in": computed(params.precision, device),
        "code": code("stages.train"),
        "packages": packages(*objectives.packages_of(entry.objective)),
    }
    net = exemplar_cnn.initialise(
        config.network, objective.outputs, about["patch"], config.seed, about["mean"], about["std"]
    )
    if entry.parent is not None:
        weights = paths.model(entry.parent) / "weights.safetensors"
        saved.start_from(net, weights)
        configuration["init_from"] = [entry.init_from, digest(weights)]
    train: Source
    if about["mode"] == "online":
        configuration["drawing"] = read_json(patches / "drawing.json")
        train = Online(OnlinePatches.open(patches, paths.DATA, entry.pool, about["patch"], config.seed, device))
    else:
        train = Batches(patches, "train", device)
    checkpoint = session.checkpoint_in(folder, config, device, configuration)
    probe = PeriodicProbe(Probe(paths.DATA, device), params.probe_every) if params.probe_every else None
    data = TrainingData(train, Batches(patches, "valid", device))
    return Trainer(net, data, params, config.seed, device, checkpoint, probe, objective)


if __name__ == "__main__":
    main(run, together=True)
