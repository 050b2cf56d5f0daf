"""What params.yaml may hold, and that every refusal names the key."""

import copy
import re
import shutil
import types
import typing
from collections.abc import Iterator
from functools import reduce
from operator import getitem
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel

from exemplarcnn.cli import HEADER
from exemplarcnn.config import profiles, renamed
from exemplarcnn.config.base import LAYERS, ConfigError
from exemplarcnn.config.params import Config, load, parse
from exemplarcnn.config.profiles import compose
from exemplarcnn.errors import PipelineError

ROOT = Path(__file__).parents[1]
CONF = ROOT / "conf"
Key = tuple[str, ...]


@pytest.fixture(scope="module")
def composed() -> dict[str, Any]:
    return compose(CONF, "sample")


@pytest.fixture
def values(composed: dict[str, Any]) -> dict[str, Any]:
    return copy.deepcopy(composed)


def put(values: dict[str, Any], key: str, value: Any) -> dict[str, Any]:
    *path, last = key.split(".")
    section = values
    for name in path:
        section = section[name]
    section[last] = value
    return values


def complaints(values: dict[str, Any]) -> list[str]:
    """Return the lines below the first, each a problem."""
    with pytest.raises(ConfigError) as error:
        parse(values, "some.yaml")
    first, *problems = str(error.value).split("\n")
    assert first == f"some.yaml: {len(problems)} problem(s) with the parameters"
    return [problem.removeprefix("  ") for problem in problems]


def leaves(values: Any, path: Key = ()) -> Iterator[Key]:
    if isinstance(values, dict):
        for name, inner in values.items():
            yield from leaves(inner, (*path, name))
    else:
        yield path


def sections(values: Any, path: Key = ()) -> Iterator[Key]:
    if isinstance(values, dict):
        yield path
        for name, inner in values.items():
            yield from sections(inner, (*path, name))


# Names that a person chooses, which therefore have no fixed set of keys.
FREE = ("seed", "group", "regroup", "train", "control", "describe", "label", "evaluate")


def test_unknown_keys_are_named_in_every_section(composed: dict[str, Any]) -> None:
    for path in sections(composed):
        if path in {("variants", name) for name in FREE}:
            continue
        key = ".".join((*path, "surprise"))
        assert complaints(put(copy.deepcopy(composed), key, 1)) == [f"{key}: unknown parameter"]


def test_every_leaf_of_a_profile_is_needed(composed: dict[str, Any]) -> None:
    """Each has a place in the model and none has a default: what params.yaml shows is all there is."""
    names = list(leaves(composed))
    assert len(names) > 80
    for path in names:
        less = copy.deepcopy(composed)
        section = less
        for name in path[:-1]:
            section = section[name]
        del section[path[-1]]
        assert complaints(less) == [f"{'.'.join(path)}: missing"]


def models(kind: Any) -> Iterator[type[BaseModel]]:
    if isinstance(kind, type) and not isinstance(kind, types.GenericAlias) and issubclass(kind, BaseModel):
        yield kind
        for field in kind.model_fields.values():
            yield from models(field.annotation)
    for inner in typing.get_args(kind):
        yield from models(inner)


def test_every_parameter_is_used_by_the_software() -> None:
    sources = [path for path in (ROOT / "src").rglob("*.py") if path.parent.name != "config"]
    text = "\n".join(path.read_text() for path in sources)
    # Groups are read through their names; `method` decides which model an entry is read as; what is published is read
    # by its keys, as the report has it.
    elsewhere = {*LAYERS, "bias", "others", "accuracy", "method"}
    unused = {
        f"{model.__name__}.{name}"
        for model in models(Config)
        for name in model.model_fields
        if name not in elsewhere and not re.search(rf"\.{name}\b", text)
    }
    assert unused == set()


# Values

WRONG = [
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
    ("outliers.features.layers", ["conv4"]),
    ("outliers.features.pool", 0),
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
    ("resnet.epoch_images", 0),
    ("resnet.batch_size", 0),
    ("resnet.momentum", 1),
    ("resnet.groups.weights.lr", 0),
    ("resnet.groups.weights.l2", -1),
    ("resnet.groups.others.lr", 0),
    ("resnet.groups.others.l2", -1),
    ("resnet.schedule.epochs", 0),
    ("resnet.schedule.drops", [[0, 0.1]]),
    ("resnet.precision", "fp16"),
    ("resnet.channels_last", "perhaps"),
    ("resnet.augment.scale", [0.5, 1.1]),
    ("resnet.augment.flip", 1.1),
    ("resnet.augment.brightness", -1),
    ("resnet.augment.contrast", -1),
    ("resnet.augment.saturation", -1),
    ("resnet.augment.hue", 0.6),
    ("variants.label.semi_supervised.title", None),
    ("variants.label.semi_supervised.paper", 74),
    ("variants.label.semi_supervised.method", "guessed"),
    ("variants.label.semi_supervised.of", "Upper"),
    ("variants.label.semi_supervised.fold", 10),
    ("variants.label.semi_supervised.fraction", 0),
    ("published", "none"),
    ("variants.train.baseline.mode", "both"),
    ("variants.train.baseline.groups", 0.1),
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
    ("train.epochs", 0),
    ("train.epochs", 2.5),
    ("train.batch_size", 0),
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
    ("features.dense_stride", 0),
    ("features.normalise", "perhaps"),
    ("features.batch_size", 0),
    ("cluster.layers", []),
    ("cluster.before_relu", None),
    ("cluster.pool", 0),
    ("evaluate.protocols", []),
    ("evaluate.protocols", "folds"),
    ("evaluate.C", []),
    ("evaluate.C", [1.0, 0.0]),
    ("evaluate.inner_folds", 1),
    ("evaluate.tol", 0),
    ("evaluate.k", []),
    ("evaluate.k", [1, 0]),
    ("variants.seed.baseline.pool", "test"),
    ("variants.seed.baseline.classes", 1),
    ("variants.seed.baseline.or_fewer", "perhaps"),
    ("variants.seed.baseline.leave_out", ["borders"]),
    ("variants.group.clustered.from", "Upper"),
    ("variants.group.clustered.method", "averages"),
    ("variants.group.clustered.classes", 1),
    ("variants.group.clustered.or_fewer", "perhaps"),
    ("variants.group.clustered.clustered_fraction", 1.1),
    ("variants.group.clustered.merged_fraction", 1.1),
    ("variants.group.clustered.merged_fraction", -0.1),
    ("variants.group.clustered.threshold", -1),
    ("variants.group.clustered.neighbours", -1),
    ("variants.group.clustered.neighbour_order", "first"),
    ("variants.train.baseline.table", "Upper"),
    ("variants.train.baseline.pool", "test"),
    ("variants.train.baseline.patch", 7),
    ("variants.train.baseline.patches_per_image", 0),
    ("variants.train.baseline.patches_per_class", 0),
    ("variants.train.baseline.total_patches", 0),
    ("variants.train.baseline.cluster_features", "perhaps"),
    ("variants.control.raw_pixels.side", 0),
    ("variants.control.raw_pixels.side", 257),
    ("variants.describe.random_network.of", 3),
    ("variants.describe.random_network.weights", "best"),
    ("variants.describe.random_network.features", 3),
    ("variants.control.raw_pixels.method", "edges"),
    ("variants.control.kmeans.method", None),
    ("variants.control.kmeans.images", 0),
    ("variants.control.kmeans.side", 7),
    ("variants.control.kmeans.side", 257),
    ("variants.control.kmeans.patch", 1),
    ("variants.control.kmeans.patch", 33),
    ("variants.control.kmeans.patches_per_image", 0),
    ("variants.control.kmeans.centres", 1),
    ("variants.evaluate.baseline.title", None),
    ("variants.evaluate.baseline.paper.mean", "high"),
]


@pytest.mark.parametrize(("key", "value"), WRONG, ids=lambda part: str(part))
def test_a_wrong_value_is_named_by_its_key(values: dict[str, Any], key: str, value: Any) -> None:
    for problem in complaints(put(values, key, value)):
        # A value inside a list is named by its position too.
        assert re.match(rf"{re.escape(key)}(\.[\d.]+)?: ", problem)


def test_every_parameter_is_tried_with_a_wrong_value(composed: dict[str, Any]) -> None:
    """One of each kind: what holds for one layer, variant or row holds for the others, being the same model."""
    tried = {key for key, _ in WRONG}
    stages = ("seed", "group", "train", "label", "evaluate")
    alike = (*(f"variants.{stage}." for stage in stages), "train.groups.")
    keys = {".".join(path) for path in leaves(composed)}
    assert {key for key in keys if not key.startswith(alike)} <= tried


def test_the_value_found_is_shown(values: dict[str, Any]) -> None:
    assert complaints(put(values, "network.dense", 0)) == [
        "network.dense: Input should be greater than or equal to 1 (got 0)"
    ]


def test_a_reversed_range_shows_both_ends(values: dict[str, Any]) -> None:
    assert complaints(put(values, "surrogate.hsv.power", [4, 0.25])) == [
        "surrogate.hsv.power: the lower end 4.0 is above the upper end 0.25 (got [4, 0.25])"
    ]


@pytest.mark.parametrize(
    ("old", "now"),
    [
        ("machine.memory", "memory_gib"),
        ("audit.borders.share", "fraction"),
        ("features.chunk", "batch_size"),
        ("outliers.features.chunk", "batch_size"),
        ("variants.describe.random_network.features.chunk", "batch_size"),
        ("variants.group.clustered.clustered_share", "clustered_fraction"),
        ("variants.group.pruned.size", "mean_cluster_size"),
        ("variants.group.pruned.dropped", "drop_fraction"),
        ("variants.group.pruned.merged_below", "merge_distance"),
        ("variants.train.baseline.patches", "total_patches"),
        ("variants.label.supervised.share", "fraction"),
        ("seeded", "variants.seed"),
        ("grouped", "variants.group"),
        ("derived", "variants.regroup"),
        ("trained", "variants.train"),
        ("controls", "variants.control"),
        ("described", "variants.describe"),
        ("labelled", "variants.label"),
        ("evaluated", "variants.evaluate"),
        ("audit_features", "outliers"),
    ],
)
def test_an_old_name_is_refused_with_the_new_one(values: dict[str, Any], old: str, now: str) -> None:
    pruned = {"from": "baseline", "method": "pruned", "clustered_fraction": 0.5}
    pruned |= {"mean_cluster_size": 10.0, "drop_fraction": 0.5, "merge_distance": 0.05}
    put(values, "variants.group.pruned", pruned)
    put(values, "variants.describe.random_network.features", copy.deepcopy(values["features"]))
    parse(copy.deepcopy(values), "some.yaml")
    *sections, name = f"{old.rpartition('.')[0]}.{now}".removeprefix(".").split(".")
    value = reduce(getitem, sections, values).pop(name)
    # That the new one is missing is not said as well.
    assert complaints(put(values, old, value)) == [f"{old}: is now called {now}"]


def test_parameters_from_before_the_renaming_are_refused_line_by_line(values: dict[str, Any]) -> None:
    for old, new in renamed.SECTIONS.items():
        values[old] = reduce(getitem, new.split("."), values)
    del values["variants"], values["outliers"]
    assert complaints(values) == [f"{old}: is now called {new}" for old, new in renamed.SECTIONS.items()]


def test_all_problems_are_told_at_once(values: dict[str, Any]) -> None:
    put(values, "network.dense", 0)
    put(values, "surrogate.scale", [2, 1])
    put(values, "extra", 1)
    assert sorted(problem.split(":")[0] for problem in complaints(values)) == [
        "extra",
        "network.dense",
        "surrogate.scale",
    ]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("evaluate.C", [10.0, 1.0]),  # a list of two, not a range
        ("surrogate.scale", [1.0, 1.0]),
        ("surrogate.hsv.shift", [0.0, 0.0]),
        ("surrogate.rotate", 180),
        ("surrogate.flip", 1),
        ("train.schedule.drops", []),
        ("train.groups.conv1.l2", 0),
        ("seed", 2**63 - 1),
        ("variants.evaluate.baseline.paper", None),
        ("variants.evaluate.baseline.paper.std", None),
    ],
)
def test_values_at_the_ends_are_allowed(values: dict[str, Any], key: str, value: Any) -> None:
    parse(put(values, key, value), "some.yaml")


# What holds between parameters


def test_exactly_one_way_to_cut(values: dict[str, Any]) -> None:
    message = ["variants.group.clustered: give exactly one of merged_fraction and threshold, the other null"]
    assert complaints(put(values, "variants.group.clustered.threshold", 1.25)) == message
    put(values, "variants.group.clustered.merged_fraction", None)
    parse(values, "some.yaml")
    assert complaints(put(values, "variants.group.clustered.threshold", None)) == message


def test_exactly_one_budget(values: dict[str, Any]) -> None:
    message = [
        "variants.train.baseline: give exactly one of patches_per_image, patches_per_class and total_patches, "
        "the others null"
    ]
    assert complaints(put(values, "variants.train.baseline.patches_per_class", 10)) == message
    put(values, "variants.train.baseline.patches_per_image", None)
    parse(values, "some.yaml")
    assert complaints(put(values, "variants.train.baseline.total_patches", 100)) == message
    put(values, "variants.train.baseline.patches_per_class", None)
    parse(values, "some.yaml")
    assert complaints(put(values, "variants.train.baseline.total_patches", None)) == message


def test_trained_needs_a_class_table(values: dict[str, Any]) -> None:
    put(values, "variants.train.other", copy.deepcopy(values["variants"]["train"]["clustered"]))
    parse(values, "some.yaml")
    assert complaints(put(values, "variants.train.other.table", "nothing")) == [
        "variants.train.other.table: no class table nothing in seed, group or regroup (baseline, imagenet, clustered)"
    ]


def test_derived_tables_come_from_others(values: dict[str, Any]) -> None:
    put(values, "variants.regroup.random", {"table": "clustered", "rule": "random"})
    put(values, "variants.train.random", values["variants"]["train"]["clustered"] | {"table": "random"})
    config_ = parse(copy.deepcopy(values), "some.yaml")
    assert config_.variants.pool_of("random") == config_.variants.pool_of("clustered") == "unlabeled"
    assert complaints(put(values, "variants.regroup.random.table", "random")) == [
        "variants.regroup.random.table: random is in neither seed nor group"
    ]


def test_pruned_clusters_have_parameters_of_their_own(values: dict[str, Any]) -> None:
    pruned = {"from": "baseline", "method": "pruned", "clustered_fraction": 0.5}
    pruned |= {"mean_cluster_size": 10.0, "drop_fraction": 0.5, "merge_distance": 0.05}
    put(values, "variants.group.clustered", pruned)
    parse(copy.deepcopy(values), "some.yaml")
    for key, wrong in (("mean_cluster_size", 0.5), ("drop_fraction", 1.5), ("merge_distance", -1)):
        (problem,) = complaints(put(copy.deepcopy(values), f"variants.group.clustered.{key}", wrong))
        assert problem.startswith(f"variants.group.clustered.{key}: ")
    assert complaints(put(values, "variants.group.clustered.classes", 5)) == [
        "variants.group.clustered.classes: unknown parameter"
    ]


def test_a_class_table_has_one_origin(values: dict[str, Any]) -> None:
    put(values, "variants.seed.clustered", copy.deepcopy(values["variants"]["seed"]["baseline"]))
    assert complaints(values) == ["variants.seed, group and regroup define a name more than once: clustered"]


def test_grouping_needs_a_trained_source_with_features(values: dict[str, Any]) -> None:
    assert complaints(put(copy.deepcopy(values), "variants.group.clustered.from", "nobody")) == [
        "variants.group.clustered.from: nobody is not in train (baseline, clustered, imagenet)"
    ]
    assert complaints(put(values, "variants.train.baseline.cluster_features", False)) == [
        "variants.group.clustered.from: baseline needs train.baseline.cluster_features: true"
    ]


def test_only_a_variant_of_its_own_table_is_clustered(values: dict[str, Any]) -> None:
    put(values, "variants.train.again", copy.deepcopy(values["variants"]["train"]["baseline"]))
    (problem,) = complaints(put(copy.deepcopy(values), "variants.group.clustered.from", "again"))
    assert problem.startswith("variants.group.clustered.from: again is trained on baseline; ")
    put(values, "variants.train.clustered.cluster_features", True)
    assert complaints(put(copy.deepcopy(values), "variants.group.clustered.from", "clustered")) == [
        "variants.group.clustered.from: leads back to itself (clustered from clustered)"
    ]
    put(values, "variants.group.second", values["variants"]["group"]["clustered"] | {"from": "clustered"})
    put(values, "variants.train.second", values["variants"]["train"]["clustered"] | {"table": "second"})
    parse(copy.deepcopy(values), "some.yaml")
    (problem,) = complaints(put(values, "variants.group.clustered.from", "second"))
    assert problem == "variants.group.clustered.from: leads back to itself (clustered from second from clustered)"


def test_a_grouped_variant_stays_in_the_pool_of_its_source(values: dict[str, Any]) -> None:
    assert complaints(put(values, "variants.train.clustered.pool", "train")) == [
        "variants.train.clustered.pool is train, but its class table lists images of unlabeled"
    ]


def test_the_pool_of_a_trained_variant_is_measured(values: dict[str, Any]) -> None:
    assert complaints(put(values, "pools", ["train"])) == [
        "pools: unlabeled is missing; variants.train.baseline uses it, so add it"
    ]


def test_a_seeded_variant_is_trained_on_the_pool_of_its_table(values: dict[str, Any]) -> None:
    del (
        values["variants"]["group"]["clustered"],
        values["variants"]["train"]["clustered"],
        values["variants"]["evaluate"]["clustered"],
    )
    assert complaints(put(values, "variants.train.baseline.pool", "train")) == [
        "variants.train.baseline.pool is train, but its class table lists images of unlabeled"
    ]


def test_other_features_are_those_of_a_trained_variant(values: dict[str, Any]) -> None:
    other = {"of": "baseline", "weights": "trained", "features": values["features"] | {"layers": ["conv1"]}}
    values["variants"]["describe"]["first"] = other
    values["variants"]["evaluate"]["first"] = {"title": "conv1", "paper": None}
    described = parse(copy.deepcopy(values), "").variants.describe["first"]
    assert described.features is not None
    assert described.features.layers == ("conv1",)
    values["variants"]["describe"]["first"] = other | {"of": "nobody"}
    assert complaints(values) == ["variants.describe.first.of: nobody is not in train (baseline, clustered, imagenet)"]


@pytest.mark.parametrize("name", ["baseline", "kmeans"])
def test_no_two_features_have_one_name(values: dict[str, Any], name: str) -> None:
    values["variants"]["describe"][name] = {"of": "baseline", "weights": "trained", "features": None}
    assert complaints(values) == [f"variants.train, describe, control and label define a name more than once: {name}"]


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


def test_no_two_rows_have_one_title(values: dict[str, Any]) -> None:
    values["variants"]["evaluate"]["kmeans"]["title"] = "Raw pixels"
    assert complaints(values) == ["variants.evaluate and label: rows must not share the title Raw pixels"]


def test_kmeans_needs_patches_smaller_than_the_image_and_more_of_them_than_centres(values: dict[str, Any]) -> None:
    sizes = values["variants"]["control"]["kmeans"]
    values["variants"]["control"]["kmeans"] = sizes | {"side": 10, "patch": 10}
    assert complaints(values) == ["variants.control.kmeans: patch 10 must be smaller than side 10"]
    values["variants"]["control"]["kmeans"] = sizes | {"images": 10, "patches_per_image": 3, "centres": 31}
    assert complaints(values) == [
        "variants.control.kmeans: centres 31 must not exceed the number of patches, images times patches_per_image"
    ]


def test_rows_of_the_report_are_known(values: dict[str, Any]) -> None:
    put(values, "variants.evaluate.nobody", {"title": "Nobody", "paper": None})
    assert complaints(values) == [
        "variants.evaluate.nobody: not in train, describe or control (baseline, clustered, imagenet, "
        "random_network, raw_pixels, kmeans)"
    ]


@pytest.mark.parametrize("name", ["Upper", "1st", "with-dash", "a/b", "", "ä"])
def test_names_of_variants_are_fit_for_files_and_stages(values: dict[str, Any], name: str) -> None:
    values["variants"]["seed"][name] = {"pool": "unlabeled", "classes": 5, "or_fewer": False, "leave_out": []}
    (problem,) = complaints(values)
    assert problem.startswith(f"variants.seed.{name}.")


def test_where_nothing_is_evaluated_clustering_features_are_all_there_is() -> None:
    values = compose(CONF, "own_unlabelled")
    assert parse(copy.deepcopy(values), "").rows == {}
    (problem,) = complaints(put(copy.deepcopy(values), "variants.train.clustered.cluster_features", False))
    assert "variants.train.clustered.cluster_features must be true: nothing is evaluated" in problem
    (problem,) = complaints(put(values, "neighbours.of", ["raw_pixels"]))
    assert (
        "neighbours.of: raw_pixels is not in variants.train, with cluster_features: true (baseline, clustered)"
        in problem
    )


def test_parameters_cannot_be_changed_afterwards(values: dict[str, Any]) -> None:
    parsed = parse(values, "some.yaml")
    with pytest.raises(ValueError, match="frozen"):
        parsed.network.dense = 3
    with pytest.raises(ValueError, match="frozen"):
        parsed.variants.group["clustered"].neighbours = 3


# Files


def test_load_reads_what_was_written(values: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump(values, sort_keys=False))
    loaded = load(path)
    assert loaded == parse(values, "")
    assert loaded.surrogate.scale == (0.7, 1.4)
    assert loaded.variants.group["clustered"].source == "baseline"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "params.yaml: not found; 'exemplarcnn profile sample' writes it"),
        (
            "",
            "params.yaml: found nothing, expected a mapping; fix it, or let `exemplarcnn profile NAME` write it again",
        ),
        ("- 1\n", "params.yaml: found list, expected a mapping"),
        ("a: [1\n", "params.yaml: not valid YAML: did not find expected ',' or ']', line 2; fix it"),
        ("a: \0\n", "params.yaml: not valid YAML: "),
        ("title: Zürich\n".encode("latin-1"), "params.yaml: byte 9 is not UTF-8; fix it"),
        ("<<<<<<< HEAD\na: 1\n=======\na: 2\n>>>>>>> x\n", "params.yaml: git left a conflict in it, at line 1; take"),
        ("surprise: 1\n", "\n  surprise: unknown parameter"),
        ("{}\n", "\n  profile: missing"),
    ],
)
def test_load_names_the_file_and_the_trouble(tmp_path: Path, text: str | bytes | None, message: str) -> None:
    if text is not None:
        (tmp_path / "params.yaml").write_bytes(text.encode() if isinstance(text, str) else text)
    with pytest.raises(ConfigError) as error:
        load(tmp_path / "params.yaml")
    assert isinstance(error.value, PipelineError)
    assert str(error.value).startswith(str(tmp_path / "params.yaml"))
    assert message in str(error.value)


# Profiles


@pytest.mark.parametrize("profile", profiles.names(CONF))
def test_every_profile_composes_and_parses(profile: str) -> None:
    values = compose(CONF, profile)
    assert values["profile"] == profile
    parsed = parse(values, profile)
    base = yaml.safe_load((CONF / "config.yaml").read_text())
    base.pop("defaults")
    # A profile changes numbers of config.yaml but keeps its keys.
    assert set(base) | {"profile"} == set(values)
    assert set(base["variants"]) == set(FREE) == set(values["variants"])
    assert set(parsed.variants.evaluate) >= {"raw_pixels", "random_network"} or profile == "own_unlabelled"


def test_there_are_profiles_for_tests_sample_and_benchmark() -> None:
    assert {"tiny", "sample", "bench"} <= set(profiles.names(CONF))


def test_a_profile_overrides_and_the_rest_stays() -> None:
    base = yaml.safe_load((CONF / "config.yaml").read_text())
    tiny = yaml.safe_load((CONF / "profile" / "tiny.yaml").read_text())
    values = compose(CONF, "tiny")
    assert values["train"]["epochs"] == tiny["train"]["epochs"] != base["train"]["epochs"]
    assert values["train"]["momentum"] == base["train"]["momentum"]
    assert values["surrogate"] == base["surrogate"]


def test_an_unknown_profile_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ConfigError) as error:
        compose(CONF, "nobody")
    assert str(error.value).endswith(f"choose one of {', '.join(profiles.names(CONF))}")
    assert "no profile 'nobody'" in str(error.value)


def test_a_profile_that_is_not_valid_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "profile").mkdir()
    (tmp_path / "config.yaml").write_text((CONF / "config.yaml").read_text())
    for folder in ("rows", "entry"):
        shutil.copytree(CONF / folder, tmp_path / folder)
    sample = (CONF / "profile" / "sample.yaml").read_text()
    (tmp_path / "profile" / "broken.yaml").write_text(sample.replace("dense: 256", "dense: 0"))
    (tmp_path / "profile" / "stray.yaml").write_text(sample + "surprise: 1\n")
    with pytest.raises(ConfigError, match=r"(?s)profile broken: .*network\.dense: .*got 0"):
        compose(tmp_path, "broken")
    with pytest.raises(ConfigError, match="surprise: unknown parameter"):
        compose(tmp_path, "stray")


def test_committed_params_are_the_sample_profile(composed: dict[str, Any]) -> None:
    text = (ROOT / "params.yaml").read_text()
    assert yaml.safe_load(text) == composed
    assert text.startswith(HEADER.format(name="sample"))
    load(ROOT / "params.yaml")


def test_labels_come_from_a_variant_that_is_evaluated(values: dict[str, Any]) -> None:
    (problem,) = complaints(put(copy.deepcopy(values), "variants.label.semi_supervised.of", "nobody"))
    assert problem.endswith("variants.label.semi_supervised.of: nobody must be in train and in evaluate")
    put(values, "variants.label.baseline", values["variants"]["label"]["semi_supervised"] | {"title": "Other"})
    (problem,) = complaints(values)
    assert problem == "variants.train, describe, control and label define a name more than once: baseline"


def test_rows_of_the_report_have_titles_of_their_own(values: dict[str, Any]) -> None:
    (problem,) = complaints(put(values, "variants.label.supervised.title", "ExemplarCNN"))
    assert problem == "variants.evaluate and label: rows must not share the title ExemplarCNN"


def test_features_are_audited_where_they_are_kept(values: dict[str, Any]) -> None:
    (problem,) = complaints(put(copy.deepcopy(values), "outliers.of", "nobody"))
    assert "outliers.of: nobody is not in variants.train" in problem
    (problem,) = complaints(put(values, "outliers.of", "clustered"))
    assert problem.endswith("outliers.of: clustered needs pool: unlabeled and cluster_features: true")


def test_an_epoch_of_the_resnet_has_whole_batches(values: dict[str, Any]) -> None:
    (problem,) = complaints(put(values, "resnet.epoch_images", 1000))
    assert problem.startswith("resnet: epoch_images 1000 must be a multiple of batch_size 32")
