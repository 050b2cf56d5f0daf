"""Which version of a model becomes champion, and what is said where there is none."""

from collections import defaultdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from exemplarcnn import paths
from exemplarcnn.config.params import Config
from exemplarcnn.files import write_json
from exemplarcnn.serving import packed_model, registry
from exemplarcnn.serving.registry import CHAMPION, RegistryError
from exemplarcnn.tracking import lineage, runs, sending
from exemplarcnn.tracking import store as tracking_store
from exemplarcnn.tracking.store import StoreError


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


class Trained:
    """Variants as a pipeline leaves them; what DVC and the pipeline would say is said here."""

    def __init__(self, store: Any, model: str, monkeypatch: pytest.MonkeyPatch):
        self.accuracies: dict[str, float] = {}
        (Path("data")).mkdir()
        self.judge("stl10")
        run = SimpleNamespace(info=SimpleNamespace(run_id="no run"))
        said = next(iter(sending.IN_STORE))
        for place, name, answer in (
            (registry, "ENCODER", model),
            (registry, "_chosen", lambda config, variants: variants or list(self.accuracies)),
            (registry, "_upload", lambda client, each: str(client.create_model_version(model, "file:///x").version)),
            (sending, "send", lambda config: defaultdict(lambda: said)),
            (lineage, "read_lock", lambda: defaultdict(lambda: None)),
            (lineage, "changed_outs", lambda stage, records: []),
            (runs, "find", lambda client, record, records: run),
            (tracking_store, "connect", lambda: store),
            (packed_model, "classifier_of", lambda name, config: None),
            (packed_model, "pack_variant", self.pack),
        ):
            monkeypatch.setattr(place, name, answer)

    def judge(self, on: str) -> None:
        for name in registry.JUDGED_ON:
            (Path("data") / name).write_text(on)

    def pack(self, folder: Path, name: str, *_: Any) -> None:
        folder.mkdir()
        (folder / "weights").write_text(name)

    def register(self, *variants: str, **accuracies: float) -> dict[str, str]:
        """Evaluate and register; return what became of each variant."""
        self.accuracies |= accuracies
        for name, accuracy in self.accuracies.items():
            write_json(paths.evaluation(name), {"accuracy_mean": accuracy})
        found = registry.register(cast(Config, None), list(variants))
        return {each.variant: each.champion for each in found}


@pytest.fixture
def trained(store: Any, model: str, monkeypatch: pytest.MonkeyPatch) -> Trained:
    return Trained(store, model, monkeypatch)


def test_a_network_that_is_tested_again_competes_with_its_new_accuracy(
    store: Any, model: str, trained: Trained
) -> None:
    assert trained.register(one=60, two=58)["one"] == "champion, as the first"
    assert trained.register("two", two=61) == {"two": "champion now, +1.00 points against version 1 (one)"}
    assert trained.register("three", three=59)["three"].endswith("which stays champion")
    assert holder(store, model) == "2"
    assert len(store.search_model_versions(f"name = '{model}'")) == 3


@pytest.mark.parametrize("order", [("a", "b"), ("b", "a")])
def test_who_is_champion_does_not_depend_on_the_order(
    store: Any, model: str, trained: Trained, order: tuple[str, str]
) -> None:
    """All are evaluated again on other folds, the champion too: each has its new accuracy before any competes."""
    trained.register(**dict.fromkeys(order, 60.0) | {"b": 62.0})
    champion = {"a": "1", "b": "2"} if order[0] == "a" else {"b": "1", "a": "2"}
    assert holder(store, model) == champion["b"]
    trained.judge("other folds")
    said = trained.register(a=70, b=65)
    assert said["a"].startswith("champion now, +5.00 points against version")
    assert holder(store, model) == champion["a"]


def test_an_address_means_one_version(store: Any, model: str) -> None:
    number = add(store, model, 60)
    store.set_registered_model_alias(model, CHAMPION, number)
    for uri in (f"models:/{model}@{CHAMPION}", f"models:/{model}/{number}"):
        assert registry.resolve(uri).uri == f"models:/{model}/{number}"
    for uri in (f"models:/{model}@nobody", f"models:/{model}/7", "models:/nobody/1"):
        with pytest.raises(RegistryError, match="`exemplarcnn register` makes models"):
            registry.resolve(uri)
    with pytest.raises(RegistryError, match="name a version, as models:/NAME@ALIAS or models:/NAME/NUMBER"):
        registry.resolve(f"models:/{model}/latest")


def test_an_export_is_logged_to_the_run_and_named_by_the_version(store: Any, model: str, tmp_path: Path) -> None:
    run = store.create_run(store.create_experiment(model)).info.run_id
    number = str(store.create_model_version(model, "file:///nowhere", run_id=run).version)
    (tmp_path / "net.onnx").write_bytes(b"net")
    said = registry.log_beside(registry.resolve(f"models:/{model}/{number}"), tmp_path / "net.onnx")
    assert said == f"runs:/{run}/exports/{model}/net.onnx"
    assert store.get_model_version(model, number).tags["export.onnx"] == said
    assert [each.path for each in store.list_artifacts(run, f"exports/{model}")] == [f"exports/{model}/net.onnx"]


def test_looking_up_a_model_leaves_the_callers_store(store: Any, tmp_path: Path) -> None:
    import mlflow

    before = mlflow.get_tracking_uri(), mlflow.get_registry_uri()
    with pytest.raises(RegistryError):
        registry.fetch("models:/nobody@champion", tmp_path)
    assert (mlflow.get_tracking_uri(), mlflow.get_registry_uri()) == before


def test_what_is_not_there_is_said(store: Any, tmp_path: Path) -> None:
    with pytest.raises(RegistryError, match="`exemplarcnn register` makes models"):
        registry.fetch("models:/nobody@champion", tmp_path)


def test_a_look_up_makes_no_store(folder: Path) -> None:
    for look_up in (lambda uri: registry.fetch(uri, folder / "model"), registry.resolve):
        with pytest.raises(StoreError, match=r"mlflow\.db is missing; work in the folder that has the store"):
            look_up("models:/nobody@champion")
    assert list(folder.iterdir()) == []
