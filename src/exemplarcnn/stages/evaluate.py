"""Stage ``evaluate``: from features to accuracies on the ten folds."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from safetensors.numpy import save_file

from exemplarcnn import figures, images, paths, stages, tracking
from exemplarcnn.config import Config
from exemplarcnn.evaluation import FoldResult, confusion, evaluate, summarise
from exemplarcnn.files import read_array, whole_folder, write_array, write_json, write_table


def run(variant: str, config: Config) -> None:
    """Write ``metrics/VARIANT/``, a picture of the confusion matrix, and ``classifiers/VARIANT/``."""
    train, test = (read_array(paths.eval_features(variant, split)) for split in ("train", "test"))
    train_labels = images.read_labels(paths.TRAIN_LABELS, len(train))
    test_labels = images.read_labels(paths.TEST_LABELS, len(test))
    names = images.read_class_names(paths.CLASS_NAMES)
    folds = images.read_folds(paths.FOLDS, len(train))
    with tracking.run("evaluate", variant, config):
        results = evaluate(train, train_labels, folds, test, config.evaluate, config.seed, config.machine.workers)
        predictions = np.stack([result.predictions for result in results])
        matrix = confusion(predictions, test_labels, len(names))
        summary = summarise(results, test_labels, names)

        _write_classifiers(variant, results, predictions, config)
        write_json(paths.evaluation(variant), summary)
        _write_confusion(variant, matrix, names)
        figures.confusion(paths.confusion_picture(variant), matrix, names, variant)


def _write_classifiers(variant: str, results: list[FoldResult], predictions: NDArray[np.uint8], config: Config) -> None:
    with whole_folder(paths.classifiers(variant)) as folder:
        tensors = {
            "weights": np.stack([result.weights for result in results]),
            "intercept": np.stack([result.intercept for result in results]),
        }
        save_file(tensors, folder / "svm.safetensors")
        write_array(folder / "predictions.npy", predictions)
        grid = {
            "C": [result.C for result in results],
            "grid": list(config.evaluate.C),
            "inner_accuracies": [result.inner_accuracies for result in results],
        }
        write_json(folder / "search.json", grid)


def _write_confusion(variant: str, matrix: NDArray[np.float64], names: list[str]) -> None:
    cells = [
        (actual, predicted, round(100 * matrix[row, column], 2))
        for row, actual in enumerate(names)
        for column, predicted in enumerate(names)
    ]
    write_table(paths.confusion(variant), pd.DataFrame(cells, columns=["actual", "predicted", "percent"]))


if __name__ == "__main__":
    stages.main(run)
