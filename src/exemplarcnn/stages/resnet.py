"""Stage ``resnet``: train a residual network on a label table, and test it (docs/method.md, section 6.2)."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from exemplarcnn import distributed, paths, threads
from exemplarcnn.config.params import Config
from exemplarcnn.data import folds, stl10
from exemplarcnn.evaluation import pseudo_labels
from exemplarcnn.evaluation.metrics import confident_mistakes, confusion_matrix, confusion_table, summarise_one
from exemplarcnn.files import atomic_folder, digest, digest_of, rounded, write_array, write_json, write_table
from exemplarcnn.launching.dependencies import code, packages
from exemplarcnn.launching.launcher import main
from exemplarcnn.networks import resnet, saved
from exemplarcnn.networks.precision import computed
from exemplarcnn.tracking import runs
from exemplarcnn.training import session
from exemplarcnn.training.batches import TrainingData
from exemplarcnn.training.labelled_images import AugmentedImages, LabelledImages, channel_statistics
from exemplarcnn.training.learning_curve import LearningCurve
from exemplarcnn.training.trainer import Trainer


def run(name: str, config: Config) -> None:
    """Write ``models/NAME/``, ``classifiers/NAME/`` and ``metrics/NAME/``.

    Continue from the checkpoint in ``work/resnet/NAME/`` if there is one.
    """
    # Keeping larger maps, too, takes almost a GB more for a ResNet-50, and saves a twentieth of the time.
    threads.keep_freed_memory(largest=2**25)
    folder = paths.WORK / "resnet" / name
    session.train(folder, partial(_trainer, name, config, folder), partial(_outs, name, config))


@contextmanager
def _outs(name: str, config: Config, trainer: Trainer) -> Iterator[session.AfterEpoch]:
    """Write and log the results of a training; yield the function to call after each epoch."""
    network = trainer.network
    assert isinstance(network, resnet.ResNetClassifier)
    with runs.run("resnet", name, config) as tracked:
        tracked.tags({"computed_in": trainer.computed_in})
        with atomic_folder(paths.model(name)) as model:
            yield LearningCurve(paths.learning_curve(name), tracked.epoch).add
            saved.save_weights(model / "weights.safetensors", network)
            about = {"resnet": config.resnet.model_dump(mode="json"), "classes": network.classes}
            write_json(model / "network.json", about)
        _test(name, network, trainer.device)


def _test(name: str, network: resnet.ResNetClassifier, device: torch.device) -> None:
    pool = stl10.open_pool(paths.DATA, "test")
    labels = stl10.read_labels(paths.TEST_LABELS, len(pool))
    names = stl10.read_class_names(paths.CLASS_NAMES)
    logits = resnet.predict(network, pool, device)
    predictions = logits.argmax(axis=1).astype(np.uint8)[None]
    summary = summarise_one(predictions[0], labels, names)
    summary["predictions"] = digest_of(predictions.tolist())
    write_json(paths.evaluation(name), rounded(summary))
    with atomic_folder(paths.classifiers(name)) as folder:
        write_array(folder / "predictions.npy", predictions)
    matrix = confusion_matrix(predictions, labels, len(names))
    write_table(paths.confusion(name), rounded(confusion_table(matrix, names)))
    write_table(paths.mistakes(name), rounded(confident_mistakes(logits[None], labels, names)))


def _trainer(name: str, config: Config, folder: Path) -> Trainer:
    params = config.resnet
    device = distributed.local_device(saved.pick_device(config.machine.device))
    table = pseudo_labels.read(paths.labels(name))
    pools = {pool: stl10.open_pool(paths.DATA, pool) for pool in ("unlabeled", "train")}
    train = AugmentedImages(pools, table, device, params.augment, params.epoch_images, config.seed)
    valid = LabelledImages(pools, _validation_images(config.variants.label[name].fold), device)
    classes = len(stl10.read_class_names(paths.CLASS_NAMES))
    network = resnet.initialise(params, classes, config.seed, *channel_statistics(train))
    configuration = {
        "labels": digest(paths.labels(name)),
        "data": stl10.data_digest(paths.DATA),
        "resnet": params.model_dump(mode="json"),
        "computed in": computed(params.precision, device),
        "code": code("stages.resnet"),
        "packages": packages("albumentations", "numpy", "opencv-python-headless", "torch", "torchvision"),
    }
    checkpoint = session.checkpoint_in(folder, config, device, configuration)
    return Trainer(network, TrainingData(train, valid), params, config.seed, device, checkpoint)


def _validation_images(fold: int) -> pd.DataFrame:
    """Return the training images outside the fold; they show progress, and nothing is chosen by them."""
    pool = stl10.open_pool(paths.DATA, "train")
    others = folds.outside(stl10.read_folds(paths.FOLDS, len(pool)), fold, len(pool))
    labels = stl10.read_labels(paths.TRAIN_LABELS, len(pool))[others]
    return pd.DataFrame({"pool": "train", "image_id": others, "label": labels})


if __name__ == "__main__":
    main(run, together=True)
