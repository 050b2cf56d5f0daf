"""What MLflow's pages show as they open, and their addresses."""

import json
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from exemplarcnn.tracking import pages, relocation
from exemplarcnn.tracking import store as store_module


@pytest.fixture
def experiment(store: Any, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> str:
    """A new experiment of ours."""
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", request.node.nodeid)
    return store_module.experiment_id(store, None)


def test_an_experiment_of_ours_gets_views_and_a_description(store: Any, experiment: str) -> None:
    pages.describe(store)
    tags = store.get_experiment(experiment).tags
    text = tags[relocation.NOTE]
    assert text.startswith(store_module.ABOUT)
    for name in ("evaluations", "trainings"):
        assert f"(#/experiments/{experiment}/runs?workflowType=machine_learning&viewStateShareKey={name})" in text
        saved = json.loads(tags[f"mlflow.sharedViewState.{name}"])
        assert saved["name"].lower().startswith(name)
        assert json.loads(saved["state"])["selectedColumns"][0].startswith("metrics.`")


@pytest.mark.parametrize("note", pages.FORMER_NOTES)
def test_a_description_of_a_former_version_is_renewed(note: str, store: Any, experiment: str) -> None:
    store.set_experiment_tag(experiment, relocation.NOTE, note)
    pages.describe(store)
    assert store.get_experiment(experiment).tags[relocation.NOTE] == pages._note(experiment)


def test_somebodys_own_description_stays(store: Any, experiment: str) -> None:
    store.set_experiment_tag(experiment, relocation.NOTE, "my own words")
    before = store.get_experiment(experiment).tags
    pages.describe(store)
    assert store.get_experiment(experiment).tags == before


def test_a_deleted_view_stays_deleted(store: Any, experiment: str) -> None:
    pages.describe(store)
    store.delete_experiment_tag(experiment, "mlflow.sharedViewState.trainings")
    pages.describe(store)
    assert "mlflow.sharedViewState.trainings" not in store.get_experiment(experiment).tags


def test_what_is_described_already_is_only_read(store: Any, experiment: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pages.describe(store)
    monkeypatch.delattr(type(store), "set_experiment_tag")
    pages.describe(store)


def test_an_experiment_that_is_not_there_is_not_made(store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "none of this name")
    pages.describe(store)
    assert store.get_experiment_by_name("none of this name") is None


# Addresses


def some(count: int) -> list[Any]:
    return [SimpleNamespace(info=SimpleNamespace(run_id=f"{i:032}", experiment_id=str(i % 2))) for i in range(count)]


@pytest.mark.parametrize(
    ("store_address", "server"),
    [
        ("http://somewhere:5000", "http://somewhere:5000"),
        ("https://me:secret@somewhere/mlflow/", "https://somewhere/mlflow"),
        ("sqlite:////somewhere/mlflow.db", "http://127.0.0.1:5000"),
        ("postgresql+psycopg2://me:secret@somewhere/mlflow", "http://127.0.0.1:5000"),
    ],
)
def test_the_address_of_a_comparison(store_address: str, server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store_address)
    said = pages.invitation(some(3))
    assert said is not None
    words, _, rest = said.partition(": http")
    assert ("make ui" in words) == (server == "http://127.0.0.1:5000")
    query = urlsplit(f"http{rest}").fragment.partition("?")[2]
    assert f"http{rest}".startswith(f"{server}/#/compare-runs?")
    asked = parse_qs(query)
    assert json.loads(asked["runs"][0]) == [f"{i:032}" for i in range(3)]
    assert json.loads(asked["experiments"][0]) == ["0", "1"]


def test_of_many_runs_the_first_are_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://somewhere:5000")
    said = pages.invitation(some(50))
    assert said is not None
    assert said.startswith("to compare the first 20 in MLflow: ")
    assert said.count("%220") == pages.MOST_COMPARED + 1  # and one experiment
    assert len(said) < 2000


def test_nothing_is_said_of_one_run_nor_on_databricks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://somewhere:5000")
    assert pages.invitation(some(1)) is None
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "databricks")
    assert pages.invitation(some(3)) is None
