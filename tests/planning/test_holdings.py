"""Images of a folder, and classes and images of tables, counted or estimated."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from exemplarcnn import paths
from exemplarcnn.classes import tables
from exemplarcnn.data import stl10
from exemplarcnn.planning.holdings import Holdings, Listed, listed
from tests.planning.conftest import HELD, config


def test_what_a_folder_holds(tmp_path: Path) -> None:
    tiny = config("tiny")
    stl10.write_images(tmp_path / "unlabeled_X.bin", np.zeros((7, 96, 96, 3), np.uint8))
    assert Holdings.of(tmp_path, tiny) == Holdings({"unlabeled": 7}, 96, 0, 0), "without labels"
    for name, count in {"train": 6, "test": 4}.items():
        stl10.write_images(tmp_path / f"{name}_X.bin", np.zeros((count, 96, 96, 3), np.uint8))
    stl10.write_labels(tmp_path / "train_y.bin", [0, 1, 0, 1, 0, 1])
    stl10.write_labels(tmp_path / "test_y.bin", [0, 1, 0, 1])
    stl10.write_folds(tmp_path / "fold_indices.txt", [np.arange(5)] * 9 + [np.arange(6)])
    stl10.write_class_names(tmp_path / "class_names.txt", ["cat", "dog"])
    assert Holdings.of(tmp_path, tiny) == Holdings({"unlabeled": 7, "train": 6, "test": 4}, 96, 2, 6)


def test_the_papers_tables() -> None:
    found = listed(config("paper"), HELD)
    assert found["baseline"] == Listed(16_000, 16_000)
    # The authors' code had 59,872 images.
    assert found["clustered"].classes == 16_000
    assert found["clustered"].images == pytest.approx(59_872, rel=0.01)


def test_tables_that_are_here_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    table = pd.DataFrame({"class_id": [0, 0, 1], "image_id": [5, 7, 9], "origin": "cluster"})
    tables.write(paths.class_table("clustered"), table)

    def controls(values: dict[str, Any]) -> None:
        rules = ("random", "ungrouped")
        values["variants"]["regroup"] = {rule: {"table": "clustered", "rule": rule} for rule in rules}

    found = listed(config("tiny", controls), HELD, made=["clustered"])
    assert (found["clustered"], found["random"], found["ungrouped"]) == (Listed(2, 3), Listed(2, 3), Listed(3, 3))


def test_few_images_make_fewer_classes() -> None:
    held = Holdings({"unlabeled": 50, "train": 50, "test": 10}, 96, 2, 20)
    found = listed(config("own"), held)
    assert found["baseline"] == Listed(50, 50)
    assert 2 <= found["clustered"].classes <= found["clustered"].images <= 50


def test_pruned_clusters() -> None:
    assert listed(config("ablation"), HELD)["dosovitskiy"] == Listed(2_500, 25_000)
