"""A few images with labels, and parameters of the residual network, for tests."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from exemplarcnn.config.sections import Augment, ResNet
from exemplarcnn.data.stl10 import ImageFile, write_images
from exemplarcnn.data.types import Pool
from exemplarcnn.networks.resnet import initialise
from exemplarcnn.training.batches import TrainingData
from exemplarcnn.training.checkpoint import Checkpoint
from exemplarcnn.training.labelled_images import AugmentedImages, LabelledImages, channel_statistics
from exemplarcnn.training.trainer import Trainer

SIZES = {"unlabeled": 9, "train": 14}
PLAIN = Augment(scale=(1.0, 1.0), flip=0.0, brightness=0.0, contrast=0.0, saturation=0.0, hue=0.0)
STRONG = Augment(scale=(0.5, 1.0), flip=0.5, brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1)


def params(**changed: Any) -> ResNet:
    values: dict[str, Any] = {
        "depth": 10,
        "stem_stride": 2,
        "stem_pool": True,
        "epochs": 3,
        "steps": None,
        "epoch_images": 24,
        "batch_size": 8,
        "shards": 2,
        "momentum": 0.9,
        "groups": {"weights": {"lr": 0.02, "l2": 0.001}, "others": {"lr": 0.02, "l2": 0.0}},
        "schedule": {"epochs": 3, "drops": [[2, 0.1]], "cosine": False, "warmup": 0.0},
        "precision": "fp32",
        "channels_last": False,
        "augment": STRONG.model_dump(),
    }
    return ResNet.model_validate(values | changed)


@pytest.fixture
def pools(tmp_path: Path) -> dict[str, Pool]:
    """Images of noise; the first pixel of each is its number, so that it can be told."""
    for seed, (name, count) in enumerate(SIZES.items()):
        pixels = np.random.default_rng(seed).integers(0, 256, (count, 96, 96, 3), dtype=np.uint8)
        pixels[:, 0, 0, 0] = np.arange(count) + 100 * (name == "train")
        write_images(tmp_path / name, pixels)
    return open_pools(tmp_path)


def open_pools(folder: Path) -> dict[str, Pool]:
    return {name: ImageFile(folder / name) for name in SIZES}


def trainer(pools: dict[str, Pool], path: Path, params: ResNet, seed: int = 0) -> Trainer:
    cpu = torch.device("cpu")
    train = AugmentedImages(pools, TABLE, cpu, params.augment, params.epoch_images, seed=5)
    network = initialise(params, 3, seed, *channel_statistics(train))
    data = TrainingData(train, LabelledImages(pools, TABLE, cpu))
    return Trainer(network, data, params, 5, cpu, Checkpoint(path, {"of": "mine"}, minutes=0))


TABLE = pd.DataFrame(
    [("unlabeled", 4, 1), ("train", 2, 0), ("unlabeled", 0, 2), ("train", 13, 1), ("unlabeled", 8, 0)],
    columns=["pool", "image_id", "label"],
)
NUMBERS = [4, 102, 0, 113, 8]
