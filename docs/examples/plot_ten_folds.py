"""
Judge features by ten folds, with an interval
=============================================

STL-10 judges features like this: train a linear classifier on each of ten folds of the labelled images, test each on
all test images, give the mean of the ten accuracies and their standard deviation. It is tempting to read "25 ± 2" as
"between 23 and 27". It is not that.

This example judges features in this way. Then it computes what you need to say that one kind is better: an interval of
the *difference*, over test images.

It needs a clone of the project with its images (``dvc pull data.dvc``), and ``pip install . matplotlib`` in the clone.
"""

# %%
# Compute features
# ----------------
#
# ``DATA`` is the folder ``data`` of your clone. The embedded sample has 300 training images in ten folds of 100, which
# overlap, and 500 test images.

from collections.abc import Callable
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from torch import nn
from torch.nn import functional

from exemplarcnn import SpanLinearSVCCV, read_stl10
from exemplarcnn.evaluation import bootstrap, gain

DATA = Path("data")

images = read_stl10(DATA)
print(images.train_images.shape, images.test_images.shape, [len(fold) for fold in images.folds])

# %%
# Two ways to make features, which take seconds: the pixels of the image shrunk to 24×24, and what a small convolutional
# network makes of it with the weights that it starts with. The network is drawn twice, with two seeds. Nothing is
# learned, but each of the network's numbers responds to some pattern. The rows of each are scaled to length one: then
# the same penalties suit all.


def shrunk(pixels: np.ndarray) -> np.ndarray:
    """Turn (n, side, side, 3) uint8 into the means of blocks, (n, 24 * 24 * 3) float32 of length one."""
    block = pixels.shape[1] // 24
    means = pixels.reshape(-1, 24, block, 24, block, 3).mean(axis=(2, 4), dtype=np.float32)
    return unit(means.reshape(len(means), -1) - 127.5)


def untrained(pixels: np.ndarray, seed: int) -> np.ndarray:
    """Turn (n, side, side, 3) uint8 into the pooled maps of a random network, (n, 256) float32 of length one."""
    torch.manual_seed(seed)
    network = nn.Sequential(
        nn.Conv2d(3, 24, 5, stride=2, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(3, 2),
        nn.Conv2d(24, 48, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(3, 2),
        nn.Conv2d(48, 64, 5, padding=2),
        nn.AdaptiveMaxPool2d(2),
        nn.Flatten(),
    )
    with torch.inference_mode():
        batches = [
            network(torch.from_numpy(np.ascontiguousarray(some)).permute(0, 3, 1, 2).float() / 127.5 - 1)
            for some in np.array_split(pixels, len(pixels) // 50)
        ]
        return unit(torch.cat(batches).numpy())


def unit(rows: np.ndarray) -> np.ndarray:
    """Scale rows to length one."""
    return functional.normalize(torch.from_numpy(rows)).numpy()


WAYS = {
    "shrunk pixels": shrunk,
    "untrained network, seed 0": lambda pixels: untrained(pixels, 0),
    "untrained network, seed 1": lambda pixels: untrained(pixels, 1),
}

# %%
# Train and test on ten folds
# ---------------------------
#
# ``SpanLinearSVCCV`` is a linear SVM which chooses its penalty by cross-validation inside the fold, so test labels play
# no part in the choice. What is kept is not the accuracy, but which test images are classified correctly: an array of
# folds by test images.


def judge(way: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Return which predictions are right, (folds, test images) bool."""
    train, test = way(images.train_images), way(images.test_images)
    return np.stack(
        [
            SpanLinearSVCCV().fit(train[fold], images.train_labels[fold]).predict(test) == images.test_labels
            for fold in images.folds
        ]
    )


right = {name: judge(way) for name, way in WAYS.items()}
accuracies = pd.DataFrame({name: 100 * each.mean(axis=1) for name, each in right.items()})
accuracies.index.name = "fold"
print(accuracies.to_string())

# %%
# The usual summary is the mean and the population standard deviation of these columns. The interval beside it is new:
# ``bootstrap`` draws as many test images as there are, with replacement, 10,000 times, and looks how far the mean over
# the folds moves. 95 % of the draws lie inside.

low, high = bootstrap(np.stack([100 * each.mean(axis=0) for each in right.values()]), seed=0)
summary = pd.DataFrame({"mean": accuracies.mean(), "std over folds": accuracies.std(ddof=0), "from": low, "to": high})
print(summary.round(2).to_string())

# %%
# Why the ± is not an interval
# ----------------------------
#
# The standard deviation over the folds says how much the accuracy changes with other *training* images. It does not say
# how far the mean may be off. All ten classifiers are tested on the same images: if these happen to be easy ones, all
# ten accuracies are too high together, and no fold tells. The folds also share training images, so ten of them tell
# less than ten independent sets would.
#
# To divide the standard deviation by the square root of ten, as if the folds were independent trials, gives a number
# that knows nothing of the choice of test images. It may be smaller or larger than what that choice does:

naive = 1.96 * accuracies.std(ddof=1) / np.sqrt(len(accuracies))
print(pd.DataFrame({"folds taken as trials, ±": naive, "over test images, ±": (high - low) / 2}).round(2).to_string())

# %%
# Compare two features
# --------------------
#
# Features are compared on the same test images. ``gain`` gives for each image how much more often the one is right than
# the other, in percentage points over the ten folds. Its mean is the difference of the accuracies; its interval comes
# from drawing test images, again. Images that are easy or hard for both add nothing to it.

PAIRS = [
    ("untrained network, seed 0", "shrunk pixels"),
    ("untrained network, seed 1", "shrunk pixels"),
    ("untrained network, seed 1", "untrained network, seed 0"),
]
gains = np.stack([gain(right[first], right[second]) for first, second in PAIRS])
low_gain, high_gain = bootstrap(gains, seed=0)
differences = pd.DataFrame(
    {"difference": gains.mean(axis=1), "from": low_gain, "to": high_gain},
    index=[f"{first} - {second}" for first, second in PAIRS],
)
print(differences.round(2).to_string())

# %%
# In the picture, a grey dot is the accuracy of one fold, and a bar an interval of 95 % over test images.

BLUE, GREY = "#0072b2", "#999999"
figure, (top, bottom) = plt.subplots(2, 1, figsize=(8, 5))
for place, name in enumerate(accuracies):
    spread = np.linspace(-0.22, 0.22, len(accuracies))
    top.plot(accuracies[name], place + spread, "o", color=GREY, markersize=4)
    top.plot([low[place], high[place]], [place, place], color=BLUE, linewidth=2)
    top.plot(accuracies[name].mean(), place, "o", color=BLUE, markersize=8)
    bottom.plot([low_gain[place], high_gain[place]], [place, place], color=BLUE, linewidth=2)
    bottom.plot(gains[place].mean(), place, "o", color=BLUE, markersize=8)
top.set_yticks(range(len(accuracies.columns)), accuracies.columns)
top.set_xlabel("accuracy, %")
bottom.axvline(0, color="black", linewidth=0.8)
bottom.set_yticks(range(len(PAIRS)), [f"{first}\nminus {second}" for first, second in PAIRS])
bottom.set_xlabel("difference, percentage points")
for ax in (top, bottom):
    ax.invert_yaxis()
    ax.margins(y=0.2)
    ax.spines[["top", "right"]].set_visible(False)
figure.tight_layout()
plt.show()

# %%
# What the interval does not say
# ------------------------------
#
# An interval that contains zero says that these test images cannot tell which features are better, not that they are
# equal. One that does not contain zero says that *these* features do better on images like these. It knows nothing of
# what was drawn once, such as the ten folds and the weights of the network. The last row compares the network with
# itself, drawn again: whatever that difference is, it comes from the seed alone. To compare methods that draw or train,
# repeat them with several seeds.
