"""The look at features while a network trains."""

from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.svm import LinearSVC

from exemplarcnn.config.sections import Network
from exemplarcnn.data.stl10 import ImageFile, write_class_names, write_folds, write_images, write_labels
from exemplarcnn.evaluation.probe import PARAMS, Probe
from exemplarcnn.networks.exemplar_cnn import ExemplarCNN, initialise
from exemplarcnn.networks.features import eval_features

CPU = torch.device("cpu")
CLASSES, TRAIN = 3, 60


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Images whose class shows in their colour; every third one's does not."""
    draw = np.random.default_rng(0)
    labels = np.arange(TRAIN) % CLASSES
    images = draw.integers(0, 160, (TRAIN, 96, 96, 3))
    images[np.arange(TRAIN), :, :, labels] += 30 * (np.arange(TRAIN) % 4 > 0)[:, None, None]
    write_images(tmp_path / "train_X.bin", images.astype(np.uint8))
    write_labels(tmp_path / "train_y.bin", labels)
    write_folds(tmp_path / "fold_indices.txt", [np.arange(n, 30 + n) for n in range(10)])
    write_class_names(tmp_path / "class_names.txt", [f"class {n}" for n in range(CLASSES)])
    return tmp_path


def network() -> ExemplarCNN:
    sizes = Network(widths=(4, 5, 6), dense=12, dropout_conv=0.2, dropout_dense=0.5, batch_norm=False)
    return initialise(sizes, 7, 32, 0, [0.4] * 3, [0.25] * 3)


def test_accuracy_is_that_of_a_linear_svm_on_the_first_fold(data: Path) -> None:
    extract = eval_features(network(), PARAMS, CPU)
    features = extract(ImageFile(data / "train_X.bin").batch(range(TRAIN)))
    labels = np.arange(TRAIN) % CLASSES
    reference = LinearSVC(C=1.0, tol=1e-6, max_iter=100_000).fit(features[:30], labels[:30])
    expected = (reference.predict(features[30:]) == labels[30:]).mean()
    assert Probe(data, CPU)(network()) == pytest.approx(expected)
    assert 1 / CLASSES < expected < 1


def test_the_network_is_left_as_it_is(data: Path) -> None:
    net = network().train()
    before = {name: (value.clone(), value.stride()) for name, value in net.state_dict().items()}
    torch.manual_seed(1)
    state = torch.random.get_rng_state()
    Probe(data, CPU)(net)
    assert net.training
    assert torch.equal(torch.random.get_rng_state(), state)
    for name, value in net.state_dict().items():
        assert torch.equal(value, before[name][0])
        assert value.stride() == before[name][1]
