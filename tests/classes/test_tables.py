"""Class tables."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from exemplarcnn.classes import tables
from exemplarcnn.classes.tables import ClassTableError, check


def table(class_ids: list[int], image_ids: list[Any]) -> pd.DataFrame:
    return pd.DataFrame({"class_id": class_ids, "image_id": image_ids, "origin": "x"})


GAP = "class ids must be 0, 1, 2, … without a gap"


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (table([0, 2], [0, 1]), GAP),
        (table([1, 2], [0, 1]), GAP),
        (table([-1, 0], [0, 1]), GAP),
        (table([], []), GAP),
        (table([0, 1, 0], [0, 1, 2]), "rows must be ordered by class_id"),
        (table([0, 1, 1, 2], [3, 5, 4, 5]), "image 5 is listed twice"),
        (table([0, 0], [4, 4]), "image 4 is listed twice"),
        (table([0, 1], [4, 10]), "image 10 is not in the pool of 10 images"),
        (table([0, 1], [-1, 4]), "image -1 is not in the pool of 10 images"),
        (
            table([0], [0])[["image_id", "class_id", "origin"]],
            "columns ['image_id', 'class_id', 'origin'], expected ['class_id', 'image_id', 'origin']",
        ),
        (table([0], [0]).drop(columns="origin"), "expected ['class_id', 'image_id', 'origin']"),
        (table([0], [0]).assign(extra=1), "expected ['class_id', 'image_id', 'origin']"),
    ],
)
def test_every_mistake_is_named(frame: pd.DataFrame, message: str) -> None:
    with pytest.raises(ClassTableError) as error:
        check(frame, 10, "some.csv")
    assert str(error.value).startswith("some.csv: ")
    assert str(error.value).endswith(message)


def test_a_good_table_passes() -> None:
    check(table([0, 0, 1, 2, 2], [9, 0, 3, 2, 1]), 10)


def test_a_table_comes_back_as_written(tmp_path: Path) -> None:
    frame = table([0, 0, 1], [9, 0, 3])
    tables.write(tmp_path / "new" / "a.csv", frame)
    assert (tmp_path / "new" / "a.csv").read_bytes() == b"class_id,image_id,origin\n0,9,x\n0,0,x\n1,3,x\n"
    pd.testing.assert_frame_equal(tables.read(tmp_path / "new" / "a.csv", 10), frame, check_dtype=False)


def test_reading_checks_and_names_the_file(tmp_path: Path) -> None:
    tables.write(tmp_path / "a.csv", table([0, 1], [4, 10]))
    with pytest.raises(ClassTableError, match=r"a\.csv: image 10 is not in the pool of 10 images"):
        tables.read(tmp_path / "a.csv", 10)


def test_an_origin_may_be_any_word(tmp_path: Path) -> None:
    words = ["NA", "null", "01", ""]
    table = pd.DataFrame({"class_id": range(4), "image_id": range(4), "origin": words})
    tables.write(tmp_path / "table.csv", table)
    assert tables.read(tmp_path / "table.csv", 4)["origin"].tolist() == words


def test_count_and_sizes() -> None:
    frame = table([0, 0, 1, 2, 2, 2], [9, 0, 3, 2, 1, 5])
    assert tables.count(frame) == 3
    assert tables.sizes(frame).tolist() == [2, 1, 3]
