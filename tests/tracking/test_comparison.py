"""Evaluations side by side."""

from typing import Any

from exemplarcnn import paths
from exemplarcnn.config.params import Config
from exemplarcnn.files import write_json
from exemplarcnn.tracking import comparison, runs
from tests.conftest import DATA_MD5, SUMMARY, Pipeline


def test_runs_from_before_the_parameters_were_renamed_have_no_columns_of_their_own(store: Any) -> None:
    names = {
        "new": ("variant.total_patches", "variants.train.baseline.total_patches", "features.batch_size"),
        "old": ("variant.patches", "trained.baseline.patches", "features.chunk"),
        "other": ("variant.patches", "trained.baseline.patches", "features.chunk"),
    }
    mark = "a profile with old names"
    for variant, (own, of_another, everywhere) in names.items():
        tags = {"kind": "evaluate", "variant": variant, "identity": f"{mark}{variant}", "profile": mark}
        run_id = store.create_run("0", tags=tags).info.run_id
        values = {own: "30" if variant == "other" else "20", of_another: "10", everywhere: "64", "seed": "0"}
        for name, value in values.items():
            store.log_param(run_id, name, value)
        store.set_terminated(run_id, "FINISHED")
    table = comparison.evaluations(profile=mark).set_index("variant")
    assert table.columns.tolist() == [
        *comparison.FIRST_COLUMNS[1:],
        "variant.total_patches",
        *comparison.LAST_COLUMNS,
    ]
    assert table["variant.total_patches"].to_dict() == {"new": "20", "old": "20", "other": "30"}


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
    # Another profile asks for the same work: its one run belongs to both.
    other = f"{pipeline.mark} and more"
    runs.open_run(
        store,
        pipeline.records["evaluate@random_network"],
        pipeline.records,
        config.model_copy(update={"profile": other}),
    )
    assert set(comparison.evaluations(profile=other)["variant"]) == {"random_network"}
    assert set(comparison.evaluations(profile=pipeline.mark)["variant"]) == {"raw_pixels", "random_network"}
    assert comparison.for_people(table)["data"].tolist() == [DATA_MD5[:7]] * 2
    none = comparison.evaluations(profile="no such profile")
    assert none.empty
    assert list(none) == [*comparison.FIRST_COLUMNS, *comparison.LAST_COLUMNS]
