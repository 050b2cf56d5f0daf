"""Values that sections refuse, and what must hold between the parameters of one."""

from typing import Any

import pytest

from tests.config.parameters import assert_named, complaints, leaves, put

WRONG: list[tuple[str, Any]] = [
    ("profile", 3),
    ("seed", "many"),
    ("seed", -1),
    ("seed", 2**63),
    ("seed", 1.5),
    ("seed", None),
    ("machine", None),
    ("machine", [1]),
    ("machine.device", "tpu"),
    ("machine.threads", 0),
    ("machine.workers", 0),
    ("machine.processes", 0),
    ("machine.checkpoint_minutes", 0),
    ("train.probe_every", -1),
    ("surrogate.mode", "both"),
    ("surrogate.recipe", "krizhevsky"),
    ("surrogate.dosovitskiy.scale", [0.5, -0.5]),
    ("surrogate.dosovitskiy.power", 2.0),
    ("surrogate.dosovitskiy.factor", [0.5]),
    ("surrogate.dosovitskiy.pca_deviation", [1.0, -1.0, 0.5]),
    ("surrogate.dosovitskiy.translate", -0.1),
    ("surrogate.dosovitskiy.tries", 0),
    ("pools", ["unlabelled"]),
    ("audit.borders.level", 256),
    ("audit.borders.fraction", 0),
    ("audit.borders.width", 0),
    ("audit.duplicates.spectrum", 1),
    ("audit.duplicates.structure", 0),
    ("audit.duplicates.shift", 33),
    ("audit.empty_below", -1),
    ("audit.grey_up_to", -1),
    ("audit.smallest_side", 0),
    ("audit.most_megapixels", 0),
    ("outliers.of", "Upper"),
    ("outliers.features.mirror", "perhaps"),
    ("outliers.features.power", 0),
    ("outliers.features.layers", ["conv4"]),
    ("outliers.features.pool", 0),
    ("outliers.features.precision", "fp64"),
    ("outliers.features.dense_stride", 0),
    ("outliers.features.normalise", "perhaps"),
    ("outliers.features.batch_size", 0),
    ("outliers.C", 0),
    ("outliers.false_alarms", 0),
    ("outliers.false_alarms", 1),
    ("outliers.pairs", 0),
    ("neighbours.of", []),
    ("neighbours.images", 0),
    ("neighbours.nearest", 11),
    ("resnet.depth", 20),
    ("resnet.stem_stride", 3),
    ("resnet.stem_pool", "perhaps"),
    ("resnet.epochs", 0),
    ("resnet.steps", 0),
    ("resnet.epoch_images", 0),
    ("resnet.batch_size", 0),
    ("resnet.shards", 0),
    ("resnet.momentum", 1),
    ("resnet.groups.weights.lr", 0),
    ("resnet.groups.weights.l2", -1),
    ("resnet.groups.others.lr", 0),
    ("resnet.groups.others.l2", -1),
    ("resnet.schedule.epochs", 0),
    ("resnet.schedule.drops", [[0, 0.1]]),
    ("resnet.schedule.cosine", "perhaps"),
    ("resnet.schedule.warmup", 1.0),
    ("resnet.precision", "fp16"),
    ("resnet.channels_last", "perhaps"),
    ("resnet.augment.scale", [0.5, 1.1]),
    ("resnet.augment.flip", 1.1),
    ("resnet.augment.brightness", -1),
    ("resnet.augment.contrast", -1),
    ("resnet.augment.saturation", -1),
    ("resnet.augment.hue", 0.6),
    ("published", "none"),
    ("machine.memory_gib", 0),
    ("surrogate.anchors_per_image", 0),
    ("surrogate.valid_patches_per_image", 0),
    ("surrogate.scale", 0.7),
    ("surrogate.scale", [0.7]),
    ("surrogate.scale", [0.7, 1.0, 1.4]),
    ("surrogate.scale", [0.0, 1.4]),
    ("surrogate.scale", [1.4, 0.7]),
    ("surrogate.scale", [float("nan"), 1.4]),
    ("surrogate.translate.distribution", "cauchy"),
    ("surrogate.translate.amount", -0.1),
    ("surrogate.pca_factor", [-0.1, 2]),
    ("surrogate.pca_factor", [2, 0.5]),
    ("surrogate.flip", 1.01),
    ("surrogate.flip", -0.01),
    ("surrogate.rotate", 181),
    ("surrogate.rotate", -1),
    ("surrogate.hsv.power", [0, 4]),
    ("surrogate.hsv.power", [4, 0.25]),
    ("surrogate.hsv.factor", [-0.7, 1.4]),
    ("surrogate.hsv.factor", [1.4, 0.7]),
    ("surrogate.hsv.shift", [0.1, -0.1]),
    ("surrogate.hsv.shift", [-0.1, float("inf")]),
    ("surrogate.hue", [0.1, -0.1]),
    ("surrogate.hue", "all"),
    ("surrogate.range_policy", "wrap"),
    ("network.widths", [32, 64]),
    ("network.widths", [32, 0, 128]),
    ("network.dense", 0),
    ("network.dropout_conv", 1.0),
    ("network.dropout_dense", -0.1),
    ("network.batch_norm", "perhaps"),
    ("train.epochs", 0),
    ("train.epochs", 2.5),
    ("train.steps", 0),
    ("train.batch_size", 0),
    ("train.shards", 0),
    ("train.schedule.cosine", "perhaps"),
    ("train.schedule.warmup", 1.0),
    ("train.label_smoothing", 1.0),
    ("train.pairs.outputs", 1),
    ("train.pairs.temperature", 0),
    ("train.momentum", 1.0),
    ("train.groups.conv1.lr", 0),
    ("train.groups.bias.l2", -1e-3),
    ("train.groups.dense1", 0.1),
    ("train.schedule.epochs", 0),
    ("train.schedule.drops", [[75]]),
    ("train.schedule.drops", [[75, 0]]),
    ("train.schedule.drops", [[0, 0.4]]),
    ("train.precision", "fp16"),
    ("train.channels_last", "perhaps"),
    ("features.layers", []),
    ("features.layers", ["conv4"]),
    ("features.layers", "conv1"),
    ("features.pool", 0),
    ("features.precision", "fp64"),
    ("features.dense_stride", 0),
    ("features.normalise", "perhaps"),
    ("features.mirror", "perhaps"),
    ("features.power", 0),
    ("features.power", 1.5),
    ("features.batch_size", 0),
    ("cluster.layers", []),
    ("cluster.before_relu", None),
    ("cluster.pool", 0),
    ("cluster.precision", "fp64"),
    ("evaluate.protocols", []),
    ("evaluate.protocols", "folds"),
    ("evaluate.C", []),
    ("evaluate.C", [1.0, 0.0]),
    ("evaluate.inner_folds", 1),
    ("evaluate.tol", 0),
    ("evaluate.k", []),
    ("evaluate.k", [1, 0]),
]


@pytest.mark.parametrize(("key", "value"), WRONG, ids=lambda part: str(part))
def test_a_wrong_value_is_named_by_its_key(values: dict[str, Any], key: str, value: Any) -> None:
    assert_named(complaints(put(values, key, value)), key)


def test_every_parameter_is_tried_with_a_wrong_value(composed: dict[str, Any]) -> None:
    """Those of variants: test_variants.py. One layer stands for all, being the same model."""
    tried = {key for key, _ in WRONG}
    keys = {".".join(path) for path in leaves(composed)}
    assert {key for key in keys if not key.startswith(("variants.", "train.groups."))} <= tried


def test_the_first_protocol_is_the_papers(values: dict[str, Any]) -> None:
    values["evaluate"]["protocols"].reverse()
    assert complaints(values) == ["evaluate: protocols: the first, knn, must have labels: folds and classifier: svm"]
    values["evaluate"]["protocols"].reverse()
    values["evaluate"]["protocols"][1]["classifier"] = "tree"
    assert complaints(values) == ["evaluate.protocols.1.classifier: Input should be 'svm' or 'knn' (got 'tree')"]
    values["evaluate"]["protocols"][1]["classifier"] = "svm"
    values["evaluate"]["protocols"][2]["name"] = "full"
    assert complaints(values) == ["evaluate: protocols: names must differ (folds, full, full)"]
    values["evaluate"]["protocols"][2]["name"] = "leaky"
    (problem,) = complaints(values)
    assert problem.startswith("evaluate: protocols: the name leaky is taken by the choice that looks at the test set")


def test_no_shard_of_a_batch_is_empty(values: dict[str, Any]) -> None:
    assert complaints(put(values, "train.shards", 129)) == ["train: shards 129 must be at most batch_size 128"]


def test_an_epoch_of_the_resnet_has_whole_batches(values: dict[str, Any]) -> None:
    (problem,) = complaints(put(values, "resnet.epoch_images", 1000))
    assert problem.startswith("resnet: epoch_images 1000 must be a multiple of batch_size 32")
