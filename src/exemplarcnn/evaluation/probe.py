"""Test features while a network trains: a linear SVM on training labels alone (docs/method.md, section 3.2).

The probe changes nothing: the network's weights are the same with and without it.
"""

import copy
from pathlib import Path

import numpy as np
import torch

from exemplarcnn.config.sections import Features
from exemplarcnn.data import folds, stl10
from exemplarcnn.evaluation import svm
from exemplarcnn.networks.chunks import map_chunks
from exemplarcnn.networks.exemplar_cnn import ExemplarCNN
from exemplarcnn.networks.features import eval_features

# Maps pooled to one number for each channel: not the features of the evaluation, but computed in a tenth of their time.
PARAMS = Features(
    layers=("conv1", "conv2", "conv3", "dense1", "dense2"),
    pool=1,
    dense_stride=7,
    normalise=True,
    batch_size=64,
    precision="fp32",
    mirror=False,
    power=1.0,
)
C, TOL = 1.0, 1e-3
HELD_OUT = 1000


class Probe:
    """Train an SVM on the labels of the first fold, and test it on other training images; read no test images.

    Parameters
    ----------
    data
        Folder of the data set, with training images, labels and folds.
    device
        Where to compute the features.
    """

    def __init__(self, data: Path, device: torch.device):
        self.pool, self.device = stl10.open_pool(data, "train"), device
        self.labels = stl10.read_labels(data / "train_y.bin", len(self.pool))
        known = stl10.read_folds(data / "fold_indices.txt", len(self.pool))
        fold, others = known[0], folds.outside(known, 0, len(self.pool))
        self.rows = np.concatenate([fold, others[:HELD_OUT]])
        self.inside = len(fold)

    def __call__(self, network: ExemplarCNN) -> float:
        """Return the accuracy, 0–1, of the SVM on a network's features."""
        # A copy, because computing features changes the memory layout of the weights.
        extract = eval_features(copy.deepcopy(network), PARAMS, self.device)
        found = map_chunks(lambda rows: self.pool.batch(self.rows[rows]), extract, len(self.rows), PARAMS.batch_size)
        features = np.concatenate([block for _, block in found]).astype(np.float64)
        products = features @ features[: self.inside].T
        classes, targets = np.unique(self.labels[self.rows], return_inverse=True)
        space = svm.span(products[: self.inside])
        trained = svm.LinearSVM(C, TOL).fit(space, targets[: self.inside], len(classes))
        best = trained.decision_function(products[self.inside :]).argmax(axis=1)
        return float((best == targets[self.inside :]).mean())
