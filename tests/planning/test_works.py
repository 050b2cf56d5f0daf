"""What stages have to do: counts by hand, bytes against what stages write."""

from dataclasses import replace
from typing import Any

import pytest

from exemplarcnn.planning.holdings import Holdings, Listed
from exemplarcnn.planning.operations import Describe, DrawPatch, Inspect, Multiply, ResNetStep, Step, Validate
from exemplarcnn.planning.works import WRITTEN, Work, Works
from tests.planning.conftest import HELD, config, works


def named(found: Works) -> dict[str, Work]:
    return {work.stage: work for work in found.all()}


def amounts(work: Work) -> dict[Any, float]:
    return dict(work.parts)


def test_the_counts_of_the_rehearsal(rehearsal: Works) -> None:
    found = named(rehearsal)
    assert found["surrogate@baseline"].patches == 1_600_000 + 160_000
    assert found["surrogate@clustered"].patches == pytest.approx(6.6e6, rel=0.01)
    train = found["train@baseline"]
    assert train.steps == 2_000
    assert amounts(train) == {Step(32, 16_000): 2_000, Validate(32, 16_000): 160_000}
    assert found["train@imagenet"].steps == 100
    assert amounts(found["train@imagenet"])[Step(96, 2_000, "other")] == 100, "with patches drawn meanwhile"
    assert amounts(found["surrogate@imagenet"]) == {DrawPatch("other", 96): pytest.approx(WRITTEN * 220_000 / 2)}
    assert found["resnet@supervised"].steps == 100
    assert amounts(found["resnet@supervised"])[ResNetStep()] == 100
    embed = amounts(found["embed@baseline"])
    assert embed[Describe("cluster", 32, 16_000)] == 100_000
    assert embed[Describe(rehearsal.config.features, 32, 16_000)] == 13_000
    assert {Inspect("unlabeled"): 100_000, Inspect("other"): 2_000}.items() <= amounts(found["audit"]).items()
    assert sum(work.outs for work in found.values()) == pytest.approx(40e9, rel=0.05)


def test_other_objectives_have_other_outputs() -> None:
    found = works("objectives")
    outputs = {"baseline": 2_000, "rotation": 4, "simclr": 128, "vicreg": 128}
    work = named(found)
    for name, count in outputs.items():
        assert Step(32, count) in amounts(work[f"train@{name}"])
        assert found.length_of(name) == 4 * (32 + 64 + 128) + 4 * 256 + 4 * count
    assert len({work[f"train@{name}"].steps for name in outputs}) == 1


def test_the_papers_steps() -> None:
    found = named(works("paper"))
    assert found["train@baseline"].steps == 110 * 12_500
    assert amounts(found["train@baseline"])[Validate(32, 16_000)] == 110 * 160_000
    assert found["resnet@supervised"].steps == 100 * 781


def test_a_stage_comes_after_all_that_it_needs() -> None:
    ablation = works("ablation")
    order = [work.stage for work in ablation.all()]
    assert len(order) == len(set(order))
    variants = ablation.config.variants
    for name, entry in variants.train.items():
        makers = [
            f"{kind}@{entry.table}" for kind in ("seed", "group", "regroup") if entry.table in getattr(variants, kind)
        ]
        places = [order.index(stage) for stage in (*makers, f"surrogate@{name}", f"train@{name}", f"embed@{name}")]
        assert places == sorted(places)
    for name, grouped in variants.group.items():
        assert order.index(f"embed@{grouped.source}") < order.index(f"group@{name}")


def test_only_a_table_made_from_single_images_is_trained_on() -> None:
    def mixed_alone(values: dict[str, Any]) -> None:
        variants = values["variants"]
        trained = variants["train"]["baseline"] | {"table": "mixed"}
        values["variants"] = {kind: {} for kind in variants} | {
            "seed": variants["seed"],
            "regroup": {"mixed": {"table": "baseline", "rule": "random"}},
            "train": {"mixed": trained},
            "evaluate": {"mixed": {"title": "Mixed", "paper": None}},
        }
        values["outliers"]["of"], values["neighbours"]["of"] = "mixed", ["mixed"]

    order = [work.stage for work in works("tiny", mixed_alone).all()]
    assert [stage for stage in order if stage.endswith("@mixed")] == [
        f"{kind}@mixed" for kind in ("regroup", "surrogate", "train", "embed", "evaluate")
    ]


@pytest.mark.parametrize("profile", ["own_unlabelled", "tiny", "sample", "core", "bench", "features", "online", "code"])
def test_every_profile_can_be_planned(profile: str) -> None:
    params = config(profile)
    held = HELD
    if not params.rows:
        held = Holdings({"unlabeled": 300}, 32, 0, 0)
    tables = {name: Listed(50, 80) for name in params.variants.tables}
    for work in Works(params, held, tables).all():
        assert min(work.images, work.patches, work.steps, work.outs) >= 0
        assert work.memory > 0
        assert all(count >= 0 for _, count in work.parts)


def test_online_sets_keep_validation_patches_alone() -> None:
    def online(values: dict[str, Any]) -> None:
        values["surrogate"]["mode"] = "online"

    here, there = (named(works("paper", *changes))["surrogate@baseline"] for changes in ((online,), ()))
    assert here.patches == there.patches, "training patches are drawn once for their statistics"
    assert here.outs < 0.12 * there.outs


def test_svms_take_longer_on_features_of_longer_trainings() -> None:
    def products(name: str, steps: int = 2_000, parent: str | None = None) -> float:
        def change(values: dict[str, Any]) -> None:
            values["train"]["steps"] = steps
            if parent:
                values["variants"]["train"]["clustered"]["init_from"] = f"models/{parent}/weights.safetensors"

        return amounts(named(works("core", change))[f"evaluate@{name}"])[Multiply("float64")]

    first = products("random_network")
    assert first < products("clustered", 100) < products("clustered", 2_000) < products("clustered", 4_000)
    assert products("clustered", 2_000, parent="baseline") == products("clustered", 4_000), "the steps of both networks"
    assert first == products("random_network", 4_000), "features of the first weights"


def test_budgets_of_patches() -> None:
    def budget(**values: int) -> int:
        def change(params: dict[str, Any]) -> None:
            nothing = dict.fromkeys(("patches_per_image", "patches_per_class", "total_patches"))
            params["variants"]["train"]["clustered"].update(nothing | values)

        found = works("paper", change)
        return replace(found, tables=found.tables | {"clustered": Listed(10, 30)}).set_of("clustered")[0]

    assert budget(patches_per_image=7) == 210
    assert budget(patches_per_class=7) == 70
    assert budget(total_patches=7) == 7


def test_the_probe_counts() -> None:
    def every_second(values: dict[str, Any]) -> None:
        values["train"]["probe_every"] = 2

    found = amounts(named(works("paper", every_second))["train@baseline"])
    assert found[Describe(config("paper").features, 32, 16_000)] == 55 * 2_000


def test_bytes_are_those_of_the_sample() -> None:
    # Measured: du -sb of the results of profile `sample`, whose tables had 250 and 502 images.
    held = Holdings({"unlabeled": 540, "train": 300, "test": 500, "other": 60}, 96, 10, 100)
    params = config("sample")
    tables = {"baseline": Listed(250, 250), "clustered": Listed(250, 502), "imagenet": Listed(60, 60)}
    found = named(Works(params, held, tables))
    measured = {
        "surrogate@baseline": 84_603_044,
        "surrogate@clustered": 169_199_905,
        "surrogate@imagenet": 66_372_578,
        "train@baseline": 15_436_449,
        "embed@baseline": 11_287_936,
        "embed@imagenet": 3_886_848,
        "control@kmeans": 2_568_448,
        "describe@random_network": 9_352_448,
        "control@raw_pixels": 5_538_048,
        "evaluate@baseline": 1_296_060,
        "resnet@supervised": 19_648_022,
    }
    assert {stage: found[stage].outs for stage in measured} == pytest.approx(measured, rel=0.02)
