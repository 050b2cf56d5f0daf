"""Stage ``resnet``: a residual network that learns from labels, and is tested directly."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict

import numpy as np
import pandas as pd

from exemplarcnn import distributed, paths
from exemplarcnn.config import Config
from exemplarcnn.data import folds, stl10
from exemplarcnn.evaluation import pseudo_labels
from exemplarcnn.evaluation.protocols import (
    confident_mistakes,
    confusion,
    confusion_table,
    summarise_one,
)
from exemplarcnn.files import atomic_folder, digest, digest_of, rounded, write_array, write_json, write_table
from exemplarcnn.launching.dependencies import code, packages
from exemplarcnn.launching.launcher import main
from exemplarcnn.networks import resnet, saved
from exemplarcnn.tracking import runs
from exemplarcnn.training import trainer as training
from exemplarcnn.training.checkpoint import Epoch


def run(name: str, config: Config) -> None:
    """Write ``models/NAME/``, ``classifiers/NAME/`` and ``metrics/NAME/``.

    Goes on from a checkpoint in ``work/resnet/NAME/``.
    """
    folder = paths.WORK / "resnet" / name
    with distributed.processes(), training.alone(folder), ExitStack() as opened:
        trainer = _trainer(name, config)
        after_epoch = distributed.by_the_first(lambda: opened.enter_context(_outs(name, config, trainer)))
        trainer.run(after_epoch or (lambda row: None))


@contextmanager
def _outs(name: str, config: Config, trainer: training.Trainer) -> Iterator[Callable[[Epoch], None]]:
    """Write and log what comes of a training; gives what is to be called after each epoch."""
    network = trainer.network
    assert isinstance(network, resnet.ResNetClassifier)
    with runs.run("resnet", name, config) as tracked:
        with atomic_folder(paths.model(name)) as partial:
            curve: list[Epoch] = []

            def after_epoch(row: Epoch) -> None:
                curve.append(row)
                write_table(paths.learning_curve(name), rounded(pd.DataFrame([asdict(each) for each in curve])))
                tracked.epoch(row)

            yield after_epoch
            saved.save_weights(partial / "weights.safetensors", network)
            about = {"resnet": config.resnet.model_dump(mode="json"), "classes": network.classes}
            write_json(partial / "network.json", about)
        _test(name, network, trainer)
    shutil.rmtree(trainer.path.parent, ignore_errors=True)


def _test(name: str, network: resnet.ResNetClassifier, trainer: training.Trainer) -> None:
    pool = stl10.open_pool(paths.DATA, "test")
    labels = stl10.read_labels(paths.TEST_LABELS, len(pool))
    names = stl10.read_class_names(paths.CLASS_NAMES)
    logits = resnet.predict(network, pool, trainer.device)
    predictions = logits.argmax(axis=1).astype(np.uint8)[None]
    summary = summarise_one(predictions[0], labels, names)
    summary["predictions"] = digest_of(predictions.tolist())
    write_json(paths.evaluation(name), rounded(summary))
    with atomic_folder(paths.classifiers(name)) as folder:
        write_array(folder / "predictions.npy", predictions)
    matrix = confusion(predictions, labels, len(names))
    write_table(paths.confusion(name), rounded(confusion_table(matrix, names)))
    write_table(paths.mistakes(name), rounded(confident_mistakes(logits[None], labels, names)))


def _trainer(name: str, config: Config) -> training.Trainer:
    params = config.resnet
    device = distributed.local_device(saved.pick_device(config.machine.device))
    table = pseudo_labels.read(paths.labels(name))
    pools = {pool: stl10.open_pool(paths.DATA, pool) for pool in ("unlabeled", "train")}
    train = resnet.Augmented(pools, table, device, params.augment, params.epoch_images, config.seed)
    valid = resnet.Labelled(pools, _watched(config.variants.label[name].fold), device)
    classes = len(stl10.read_class_names(paths.CLASS_NAMES))
    network = resnet.initialise(params, classes, config.seed, *resnet.channel_statistics(train))
    configuration = {
        "labels": digest(paths.labels(name)),
        "data": stl10.data_digest(paths.DATA),
        "resnet": params.model_dump(mode="json"),
        "seed": config.seed,
        "threads": config.machine.threads,
        "processes": distributed.world(),
        "device": device.type,
        "code": code("stages.resnet"),
        "packages": packages("albumentations", "numpy", "opencv-python-headless", "torch", "torchvision"),
    }
    path = paths.WORK / "resnet" / name / "checkpoint.safetensors"
    minutes = config.machine.checkpoint_minutes
    return training.Trainer(network, train, valid, params, config.seed, device, path, configuration, minutes)


def _watched(fold: int) -> pd.DataFrame:
    """Training images outside the fold: nothing is chosen by them, but a person sees how it goes."""
    pool = stl10.open_pool(paths.DATA, "train")
    others = folds.outside(stl10.read_folds(paths.FOLDS, len(pool)), fold, len(pool))
    labels = stl10.read_labels(paths.TRAIN_LABELS, len(pool))[others]
    return pd.DataFrame({"pool": "train", "image_id": others, "label": labels})


if __name__ == "__main__":
    main(run, together=True)
