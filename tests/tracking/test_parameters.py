"""What a run says about itself."""

import pytest
from mlflow.utils.validation import _validate_metric_name

from exemplarcnn.config.params import Config
from exemplarcnn.files import digest_of
from exemplarcnn.tracking import parameters
from exemplarcnn.tracking.lineage import Record
from exemplarcnn.tracking.parameters import changed, changes, flatten, key, params_of


def test_flatten_gives_dotted_names_and_short_texts() -> None:
    nested = {"a": {"b": {"c": 1}, "d": None}, "e": [1, 2], "f": "x" * 900}
    assert flatten(nested, "p.") == {"p.a.b.c": "1", "p.a.d": "None", "p.e": "[1, 2]", "p.f": "x" * 500}


def test_parameters_of_a_result() -> None:
    table = Record(
        "group@clustered", {"features/baseline": "1"}, {"variants.group.clustered": {"from": "baseline"}}, {"c": "2"}
    )
    train = Record("train@baseline", {}, {"variants.train.baseline.patch": 32, "seed": 3}, {"features/baseline": "1"})
    other = Record("train@clustered", {"c": "2"}, {"train": {"epochs": 7}, "seed": 3}, {})
    records = {record.stage: record for record in (table, train, other)}
    assert params_of(other, records) == {
        "variant.from": "baseline",
        "variants.train.baseline.patch": "32",
        "train.epochs": "7",
        "seed": "3",
    }


def test_what_mlflow_takes_keeps_its_name() -> None:
    for name in ("accuracy_mean", "class_Käfer 1.0_accuracy", "clustered/accuracy_std", "x" * 250):
        assert key(name) == name


def test_other_names_stay_apart_and_are_the_same_in_every_run() -> None:
    odd = ["C#", "C+", "C_", "a//b", "a/../b", "../a", "./a", "a/", ".", "..", "/a", "a:b", "a\n", "", "é" * 300]
    odd += ["x" * 400, "x" * 401, "x" * 249 + "#"]
    keys = [key(name) for name in odd]
    assert len(set(keys)) == len(odd)
    for made in keys:
        _validate_metric_name(made)
        assert len(made) <= 250
    assert key("class_C#_accuracy") == "class_C__accuracy-" + digest_of("class_C#_accuracy")[:8]


def test_what_was_changed() -> None:
    profile = {"seed": 0, "train": {"epochs": 10, "lr": 0.1}, "machine": {"threads": 2}, "C": [1, 2]}
    params = {"seed": 5, "train": {"epochs": 20, "lr": 0.1}, "machine.threads": 4, "C": [1]}
    assert changes(params, profile) == ["train.epochs=20", "C=[1]"]
    assert changes(profile, profile) == []


def test_changed_parameters_of_its_own_variant_have_short_names() -> None:
    params = {"variants.train.baseline": {"patch": 48}, "variants.train.clustered": {"patch": 64}, "seed": 3}
    record = Record("train@clustered", {}, params, {})
    profile = {"variants": {"train": {"baseline": {"patch": 32}, "clustered": {"patch": 32}}}, "seed": 0}
    assert changed(record, {}, profile) == ["baseline.patch=48", "patch=64"]
    assert changed(record, {}, None) == []


@pytest.mark.parametrize(
    ("stage", "changes", "expected"),
    [
        ("evaluate@clustered", [], "clustered · seed 0 · tiny_bench"),
        ("train@clustered", [], "clustered training · seed 0 · tiny_bench"),
        ("resnet@supervised", [], "supervised · seed 0 · tiny_bench"),
        ("evaluate@a", ["b=1", "c=2"], "a · b=1 · c=2 · seed 0 · tiny_bench"),
        (
            "evaluate@a",
            ["b=1", "c=2", "d=3", "e=4", "f=5"],
            "a · b=1 · c=2 · d=3 · 2 more changes · seed 0 · tiny_bench",
        ),
    ],
)
def test_a_name_begins_with_what_differs(stage: str, changes: list[str], expected: str, config: Config) -> None:
    assert parameters.name(Record(stage, {}, {}, {}), config, changes) == expected


def test_a_name_keeps_the_seed_whatever_was_changed(config: Config) -> None:
    made = parameters.name(
        Record(f"evaluate@{'v' * 40}", {}, {}, {}), config, [f"{letter * 500}=1" for letter in "abcdef"]
    )
    assert len(made) <= 250  # MLflow's limit
    assert made.endswith(" · seed 0 · tiny_bench")
