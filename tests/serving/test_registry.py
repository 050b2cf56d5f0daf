"""Which version of a model becomes champion, and what is said where there is none."""

from pathlib import Path
from typing import Any

import pytest

from exemplarcnn.serving import registry
from exemplarcnn.serving.registry import CHAMPION, RegistryError


@pytest.fixture
def model(store: Any, request: pytest.FixtureRequest) -> str:
    name = f"model-{request.node.name}"
    store.create_registered_model(name)
    return name


def add(store: Any, model: str, accuracy: float, judged: str = "stl10", variant: str = "baseline") -> str:
    number = str(store.create_model_version(model, "file:///nowhere").version)
    for key, value in {"accuracy_mean": f"{accuracy:.4f}", "judged_on": judged, "variant": variant}.items():
        store.set_model_version_tag(model, number, key, value)
    return number


def crown(store: Any, model: str, number: str, accuracy: float, judged: str = "stl10", force: bool = False) -> str:
    candidate = registry._Candidate(model, "baseline", accuracy, judged, "no run", Path("nowhere"))
    return registry._update_champion(store, candidate, number, force)


def holder(store: Any, model: str) -> str:
    return str(store.get_model_version_by_alias(model, CHAMPION).version)


def test_the_first_is_champion_and_stays_it(store: Any, model: str) -> None:
    first = add(store, model, 60)
    assert crown(store, model, first, 60) == "champion, as the first"
    assert crown(store, model, first, 60) == "champion already"
    assert holder(store, model) == first


def test_a_better_one_takes_over_and_by_how_much_is_kept(store: Any, model: str) -> None:
    first, second = add(store, model, 60), add(store, model, 61.25)
    crown(store, model, first, 60)
    assert crown(store, model, second, 61.25) == "champion now, +1.25 points against version 1 (baseline)"
    assert holder(store, model) == second
    tags = store.get_model_version(model, second).tags
    assert (tags["champion.gain"], tags["champion.compared_with"]) == ("+1.2500", first)


@pytest.mark.parametrize("accuracy", [60.0, 58.5])
def test_one_that_is_not_better_does_not(store: Any, model: str, accuracy: float) -> None:
    first, second = add(store, model, 60), add(store, model, accuracy)
    crown(store, model, first, 60)
    said = crown(store, model, second, accuracy)
    assert said == f"{accuracy - 60:+.2f} points against version 1 (baseline), which stays champion"
    assert holder(store, model) == first


def test_one_judged_on_other_data_does_not_unless_told_to(store: Any, model: str) -> None:
    first, second = add(store, model, 60), add(store, model, 90, "other")
    crown(store, model, first, 60)
    assert "tested on other images, labels or folds than version 1" in crown(store, model, second, 90, "other")
    assert holder(store, model) == first
    assert store.get_model_version(model, second).tags["champion.gain"] == "not comparable"
    assert crown(store, model, second, 90, "other", force=True) == "champion now, in place of version 1"
    assert holder(store, model) == second


def test_a_worse_one_is_champion_if_told_to(store: Any, model: str) -> None:
    first, second = add(store, model, 60), add(store, model, 50)
    crown(store, model, first, 60)
    assert crown(store, model, second, 50, force=True) == "champion now, -10.00 points against version 1 (baseline)"
    assert holder(store, model) == second


def test_what_is_not_there_is_said(store: Any, tmp_path: Path) -> None:
    with pytest.raises(RegistryError, match="`exemplarcnn register` makes models"):
        registry.fetch("models:/nobody@champion", tmp_path)
