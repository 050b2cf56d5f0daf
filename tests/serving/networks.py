"""What the tests of packed models share: parameters, names of classes, images, and a network of another side."""

import json
from pathlib import Path

import numpy as np

from exemplarcnn.config.sections import Features
from exemplarcnn.data.stl10 import SIDE

PARAMS = Features(
    layers=("conv1", "conv2", "conv3", "dense1", "dense2"),
    pool=2,
    dense_stride=7,
    normalise=True,
    mirror=False,
    power=1.0,
    batch_size=4,
    precision="fp32",
)
NAMES = ["cat", "dog", "ship"]


def pixels(count: int, side: int = SIDE) -> np.ndarray:
    return np.random.default_rng(5).integers(0, 256, (count, side, side, 3), dtype=np.uint8)


def of_side(model: Path, side: object) -> None:
    """Make the network one of a set whose images have a side."""
    about = json.loads((model / "network.json").read_text())
    (model / "network.json").write_text(json.dumps(about | {"side": side}))
