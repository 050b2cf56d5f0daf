"""A few images of all shapes and a class table over them, for tests of surrogate sets."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy import ndimage

from exemplarcnn.config.sections import Surrogate
from exemplarcnn.config.variants import SCRATCH, TrainEntry
from exemplarcnn.data.pools import ImageFolder
from tests import defaults

# Height and width: larger than a patch of 16, narrower, smaller, as large as one, a single pixel. The sixth is flat.
SIZES = [(40, 31), (50, 12), (7, 9), (16, 16), (1, 1), (24, 24), (33, 60), (96, 96)]
FLAT = 5
TABLE = [
    (0, 6, "seed"),
    (0, 2, "neighbour"),
    (1, 5, "seed"),
    (2, 0, "cluster"),
    (2, 4, "cluster"),
    (2, 1, "cluster"),
    (3, 3, "seed"),
    (4, 7, "seed"),
]


def params(**changed: Any) -> Surrogate:
    return defaults.surrogate(**({"valid_patches_per_image": 2} | changed))


def trained(**changed: Any) -> TrainEntry:
    values = {"pool": "other", "patch": 16, "patches_per_image": 3, "patches_per_class": None}
    values |= {"table": "table", "total_patches": None, "mode": None, "steps": None, "groups": None}
    return TrainEntry.model_validate(
        values | {"objective": "exemplar", "init_from": SCRATCH, "cluster_features": False} | changed
    )


def table(rows: list[tuple[int, int, str]] = TABLE) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["class_id", "image_id", "origin"])


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> ImageFolder:
    folder = tmp_path_factory.mktemp("pool")
    draw = np.random.default_rng(0)
    for number, size in enumerate(SIZES):
        pixels = ndimage.gaussian_filter(draw.uniform(0, 255, (*size, 3)), (1, 1, 0)).astype(np.uint8)
        if number == FLAT:
            pixels[:] = (90, 140, 30)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    return ImageFolder(folder)
