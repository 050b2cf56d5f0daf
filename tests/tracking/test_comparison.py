"""Evaluations side by side."""

from typing import Any

from exemplarcnn import paths
from exemplarcnn.config import Config
from exemplarcnn.files import write_json
from exemplarcnn.tracking import comparison, runs
from tests.conftest import DATA_MD5, SUMMARY, Pipeline


def test_evaluations_as_a_table(store: Any, pipeline: Pipeline, config: Config) -> None:
    marked = config.model_copy(update={"profile": pipeline.mark})
    for inner_folds, accuracy in ((3, 60.0), (4, 70.0)):
        pipeline.values["evaluate"]["inner_folds"] = inner_folds
        pipeline.evaluate("raw_pixels")
        write_json(paths.evaluation("raw_pixels"), SUMMARY | {"accuracy_mean": accuracy})
        with runs.run("evaluate", "raw_pixels", marked):
            pass
    pipeline.evaluate("random_network")
    with runs.run("evaluate", "random_network", marked):
        pass
    table = comparison.evaluations(["raw_pixels"], pipeline.mark)
    assert table["accuracy_mean"].tolist() == [70.0, 60.0]
    assert table.columns.tolist() == [*comparison.FIRST_COLUMNS, "evaluate.inner_folds", *comparison.LAST_COLUMNS]
    assert table["evaluate.inner_folds"].tolist() == ["4", "3"]
    assert set(table["data"]) == {DATA_MD5}
    assert set(comparison.evaluations(profile=pipeline.mark)["variant"]) == {"raw_pixels", "random_network"}
    assert comparison.for_people(table)["data"].tolist() == [DATA_MD5[:7]] * 2
    none = comparison.evaluations(profile="no such profile")
    assert none.empty
    assert list(none) == [*comparison.FIRST_COLUMNS, *comparison.LAST_COLUMNS]
