"""Values that entries of variants refuse, and what must hold between variants."""

import copy
from typing import Any

import pytest

from exemplarcnn.config.params import parse
from tests.config.parameters import assert_named, complaints, leaves, put

WRONG: list[tuple[str, Any]] = [
    ("variants.label.semi_supervised.title", None),
    ("variants.label.semi_supervised.paper", 74),
    ("variants.label.semi_supervised.method", "guessed"),
    ("variants.label.semi_supervised.of", "Upper"),
    ("variants.label.semi_supervised.fold", 10),
    ("variants.label.semi_supervised.fraction", 0),
    ("variants.train.baseline.mode", "both"),
    ("variants.train.baseline.groups", 0.1),
    ("variants.train.baseline.objective", "Upper"),
    ("variants.train.baseline.init_from", None),
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
    ("variants.train.baseline.steps", 0),
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
    assert_named(complaints(put(values, key, value)), key)


def test_every_parameter_is_tried_with_a_wrong_value(composed: dict[str, Any]) -> None:
    """One of each kind: what holds for one variant or row holds for the others, being the same model."""
    tried = {key for key, _ in WRONG}
    alike = tuple(f"variants.{stage}." for stage in ("seed", "group", "train", "label", "evaluate"))
    keys = {".".join(path) for path in leaves({"variants": composed["variants"]})}
    assert {key for key in keys if not key.startswith(alike)} <= tried


@pytest.mark.parametrize("name", ["Upper", "1st", "with-dash", "a/b", "", "ä"])
def test_names_of_variants_are_fit_for_files_and_stages(values: dict[str, Any], name: str) -> None:
    values["variants"]["seed"][name] = {"pool": "unlabeled", "classes": 5, "or_fewer": False, "leave_out": []}
    (problem,) = complaints(values)
    assert problem.startswith(f"variants.seed.{name}.")


def test_exactly_one_way_to_cut(values: dict[str, Any]) -> None:
    message = ["variants.group.clustered: give exactly one of merged_fraction and threshold, the other null"]
    assert complaints(put(values, "variants.group.clustered.threshold", 1.25)) == message
    put(values, "variants.group.clustered.merged_fraction", None)
    parse(values, "some.yaml")
    assert complaints(put(values, "variants.group.clustered.threshold", None)) == message


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


def test_exactly_one_budget(values: dict[str, Any]) -> None:
    message = [
        "variants.train.baseline: give exactly one of patches_per_image, patches_per_class and total_patches, "
        "and set the others to null"
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


def test_a_class_table_has_one_origin(values: dict[str, Any]) -> None:
    put(values, "variants.seed.clustered", copy.deepcopy(values["variants"]["seed"]["baseline"]))
    assert complaints(values) == [
        "variants.seed, group and regroup define a name more than once: clustered; rename one"
    ]


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


def test_a_seeded_variant_is_trained_on_the_pool_of_its_table(values: dict[str, Any]) -> None:
    del (
        values["variants"]["group"]["clustered"],
        values["variants"]["train"]["clustered"],
        values["variants"]["evaluate"]["clustered"],
    )
    assert complaints(put(values, "variants.train.baseline.pool", "train")) == [
        "variants.train.baseline.pool is train, but its class table lists images of unlabeled"
    ]


def test_kmeans_needs_patches_smaller_than_the_image_and_more_of_them_than_centres(values: dict[str, Any]) -> None:
    sizes = values["variants"]["control"]["kmeans"]
    values["variants"]["control"]["kmeans"] = sizes | {"side": 10, "patch": 10}
    assert complaints(values) == ["variants.control.kmeans: patch 10 must be smaller than side 10"]
    values["variants"]["control"]["kmeans"] = sizes | {"images": 10, "patches_per_image": 3, "centres": 31}
    assert complaints(values) == [
        "variants.control.kmeans: centres must be at most 30, images times patches_per_image, found 31"
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


WEIGHTS = "models/{}/weights.safetensors"


def test_training_starts_from_the_weights_of_a_network_that_is_there(values: dict[str, Any]) -> None:
    trained = values["variants"]["train"]
    assert parse(copy.deepcopy(values), "").variants.train["clustered"].parent is None
    trained["clustered"]["init_from"] = WEIGHTS.format("baseline")
    assert parse(copy.deepcopy(values), "").variants.train["clustered"].parent == "baseline"
    where = "variants.train.clustered.init_from"
    trained["clustered"]["init_from"] = WEIGHTS.format("nobody")
    assert complaints(values) == [f"{where}: nobody is not in train (baseline, clustered, imagenet)"]
    for wrong in ("models/baseline", "baseline", "models/a/b/weights.safetensors", "../" + WEIGHTS.format("baseline")):
        trained["clustered"]["init_from"] = wrong
        said = "expected conf/scratch.yaml or models/NAME/weights.safetensors"
        assert complaints(values) == [f"{where}: found {wrong}, {said}"]


def test_a_start_that_is_missing_is_named_where_others_start_from_its_network(values: dict[str, Any]) -> None:
    trained = values["variants"]["train"]
    trained["baseline"]["init_from"] = WEIGHTS.format("imagenet")
    trained["imagenet"]["init_from"] = WEIGHTS.format("nobody")
    said = "variants.train.imagenet.init_from: nobody is not in train (baseline, clustered, imagenet)"
    assert complaints(values) == [said]


@pytest.mark.parametrize("parent", ["clustered", "baseline"])
def test_no_network_needs_itself_trained_first(values: dict[str, Any], parent: str) -> None:
    """The table of `clustered` comes from the features of `baseline`."""
    values["variants"]["train"]["baseline"]["init_from"] = WEIGHTS.format(parent)
    (complaint,) = complaints(values)
    assert complaint.startswith("variants.train.baseline.init_from: leads back to itself; baseline needs ")


@pytest.mark.parametrize("name", ["baseline", "kmeans"])
def test_no_two_features_have_one_name(values: dict[str, Any], name: str) -> None:
    values["variants"]["describe"][name] = {"of": "baseline", "weights": "trained", "features": None}
    assert complaints(values) == [
        f"variants.train, describe, control and label define a name more than once: {name}; rename one"
    ]


def test_labels_come_from_a_variant_that_is_evaluated(values: dict[str, Any]) -> None:
    (problem,) = complaints(put(copy.deepcopy(values), "variants.label.semi_supervised.of", "nobody"))
    assert "variants.label.semi_supervised.of: found nobody, expected a variant of both train and evaluate (" in problem
    put(values, "variants.label.baseline", values["variants"]["label"]["semi_supervised"] | {"title": "Other"})
    (problem,) = complaints(values)
    assert problem == "variants.train, describe, control and label define a name more than once: baseline; rename one"


def test_rows_of_the_report_are_known(values: dict[str, Any]) -> None:
    put(values, "variants.evaluate.nobody", {"title": "Nobody", "paper": None})
    assert complaints(values) == [
        "variants.evaluate.nobody: not in train, describe or control (baseline, clustered, imagenet, "
        "random_network, raw_pixels, kmeans)"
    ]


def test_no_two_rows_have_one_title(values: dict[str, Any]) -> None:
    values["variants"]["evaluate"]["kmeans"]["title"] = "Raw pixels"
    assert complaints(values) == ["variants.evaluate and label: rows must not share the title Raw pixels"]


def test_rows_of_the_report_have_titles_of_their_own(values: dict[str, Any]) -> None:
    (problem,) = complaints(put(values, "variants.label.supervised.title", "ExemplarCNN"))
    assert problem == "variants.evaluate and label: rows must not share the title ExemplarCNN"
