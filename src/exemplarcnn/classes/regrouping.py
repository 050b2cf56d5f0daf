"""Make class tables from another class table, as controls (docs/method.md, section 5.7).

A rule is a function from a class table and the experiment's seed to a class table. `RULES` lists rules by the name that
``variants.regroup.VARIANT.rule`` gives. docs/variants.md adds one, step by step.
"""

from collections.abc import Callable

import numpy as np
import pandas as pd

from exemplarcnn import rng

Rule = Callable[[pd.DataFrame, int], pd.DataFrame]


def random(table: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Keep the images and the sizes of classes; deal the images to the classes at random."""
    images = rng.generator(seed, rng.Purpose.SHUFFLED_CLASSES).permutation(table["image_id"].to_numpy())
    return pd.DataFrame({"class_id": table["class_id"], "image_id": images, "origin": "random"})


def ungrouped(table: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Keep the images, one class each."""
    images = table["image_id"].to_numpy()
    return pd.DataFrame({"class_id": np.arange(len(images)), "image_id": images, "origin": "ungrouped"})


RULES: dict[str, Rule] = {"random": random, "ungrouped": ungrouped}
