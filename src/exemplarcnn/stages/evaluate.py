"""Stage ``evaluate``: test features by every protocol (docs/method.md, section 4.1)."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

from exemplarcnn import paths
from exemplarcnn.config.params import Config
from exemplarcnn.data import stl10
from exemplarcnn.evaluation.classifiers import FeatureSet, Result
from exemplarcnn.evaluation.metrics import confident_mistakes, confusion_matrix, confusion_table
from exemplarcnn.evaluation.protocols import evaluate, grid, summarise
from exemplarcnn.files import atomic_folder, digest_of, read_array, rounded, write_array, write_json, write_table
from exemplarcnn.launching.launcher import main
from exemplarcnn.tracking import runs


def run(variant: str, config: Config) -> None:
    """Write ``metrics/VARIANT/`` and ``classifiers/VARIANT/``."""
    train, test = (read_array(paths.eval_features(variant, split)) for split in ("train", "test"))
    train_labels = stl10.read_labels(paths.TRAIN_LABELS, len(train))
    test_labels = stl10.read_labels(paths.TEST_LABELS, len(test))
    names = stl10.read_class_names(paths.CLASS_NAMES)
    folds = stl10.read_folds(paths.FOLDS, len(train))
    params = config.evaluate
    features = FeatureSet(train, train_labels, folds, test, len(names))
    with runs.run("evaluate", variant, config):
        results = evaluate(features, params, config.seed, config.machine.workers)
        summaries = {
            protocol.name: summarise(results[protocol.name], grid(protocol, params), test_labels, names)
            for protocol in params.protocols
        }
        main, *others = summaries
        predictions = np.stack([result.predictions for result in results[main]])
        summary = summaries[main] | {"others": {name: summaries[name] for name in others}}
        summary["predictions"] = digest_of(predictions.tolist())
        write_json(paths.evaluation(variant), rounded(summary))
        whole = [results[each.name][0] for each in params.protocols if each.labels == "all"]
        single = next((each for each in whole if each.linear), None)
        _write_classifiers(variant, results[main], predictions, single, params.C)
        matrix = confusion_matrix(predictions, test_labels, len(names))
        write_table(paths.confusion(variant), rounded(confusion_table(matrix, names)))
        scores = np.stack([result.linear.scores for result in results[main] if result.linear])
        write_table(paths.mistakes(variant), rounded(confident_mistakes(scores, test_labels, names)))


def _write_classifiers(
    variant: str,
    results: list[Result],
    predictions: NDArray[np.uint8],
    whole: Result | None,
    values: tuple[float, ...],
) -> None:
    """Write the folds' classifiers and predictions, and the linear classifier of all labels if there is one."""
    linear = [result.linear for result in results if result.linear]
    with atomic_folder(paths.classifiers(variant)) as folder:
        if whole is not None and whole.linear is not None:
            tensors = {"weights": whole.linear.weights, "intercept": whole.linear.intercept}
            save_file(tensors, folder / "all.safetensors")
        tensors = {
            "weights": np.stack([each.weights for each in linear]),
            "intercept": np.stack([each.intercept for each in linear]),
        }
        save_file(tensors, folder / "svm.safetensors")
        write_array(folder / "predictions.npy", predictions)
        search: dict[str, Any] = {
            "C": [result.choice for result in results],
            "grid": list(values),
            "inner_accuracies": [result.inner_accuracies for result in results],
        }
        write_json(folder / "search.json", search)


if __name__ == "__main__":
    main(run)
