"""Stage ``report``: the table of results."""

import logging
from typing import Any

import numpy as np

from exemplarcnn import paths
from exemplarcnn.config import Config
from exemplarcnn.data import image_set, stl10
from exemplarcnn.files import atomic_write, read_array, read_json, read_table, rounded, write_json
from exemplarcnn.launching.launcher import main
from exemplarcnn.reporting import report

log = logging.getLogger(__name__)


def run(_: str, config: Config) -> None:
    """Write ``reports/results.json``, ``results.md`` and ``accuracy.json``."""
    data = image_set.check(paths.DATA)
    labels = stl10.read_labels(paths.TEST_LABELS, data["test"]) if config.rows else np.empty(0, np.int64)
    summaries = {name: read_json(paths.evaluation(name)) for name in config.rows}
    predictions = {name: read_array(paths.classifiers(name) / "predictions.npy") for name in config.rows}
    groupings = {
        name: read_json(paths.cluster_statistics(name))
        for name in config.variants.group
        if name in config.variants.train
    }
    sets = {name: read_json(paths.surrogate_set(name) / "set.json") for name in config.variants.train}
    curves = {name: read_table(paths.learning_curve(name), floats=["valid_accuracy"]) for name in sets}
    learned = {name: float(curve["valid_accuracy"].iloc[-1]) for name, curve in curves.items()}
    results = report.gather(
        config,
        data,
        stl10.data_digest(paths.DATA),
        summaries,
        predictions,
        labels,
        groupings,
        sets,
        learned,
        read_json(paths.AUDIT_JSON),
        read_json(paths.OUTLIERS_JSON),
        {name: _labelled(name) for name in config.variants.label},
    )
    # Once, so that text and pictures say what the file says, here and in `exemplarcnn show`.
    results = rounded(results)
    write_json(paths.RESULTS_JSON, results)
    write_json(paths.ACCURACY_JSON, report.headline(results))
    with atomic_write(paths.RESULTS_MD) as partial:
        partial.write_text(report.markdown(results), encoding="utf-8")
    if not config.rows:
        log.warning("data/ has no labels: nothing was tested; features and clusters are what there is")


def _labelled(name: str) -> dict[str, Any]:
    """Return the figures of a table of labels, without its hash."""
    found = read_json(paths.label_statistics(name))
    return {key: value for key, value in found.items() if key != "table"}


if __name__ == "__main__":
    main(run)
