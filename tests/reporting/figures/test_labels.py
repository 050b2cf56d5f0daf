"""Images by label."""

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from exemplarcnn.reporting.figures import labels
from exemplarcnn.reporting.figures.style import CLASSES
from tests.drawn_pictures import POOL, sheet

LONG = "a long name of a thing, number 17"


def table(image_id: list[int], label: list[int], margin: list[float]) -> pd.DataFrame:
    return pd.DataFrame({"pool": "train", "image_id": image_id, "label": label, "margin": margin})


def test_the_surest_come_first_and_a_name_of_any_length_has_room(tmp_path: Path, drawn: list[Figure]) -> None:
    guessed = table([3, 4, 5, 6], [1, 0, 0, 1], [0.5, 0.25, 1.5, 0.75])
    labels.draw(tmp_path / "l.png", {"train": POOL}, guessed, ["cat", LONG])
    assert sheet(drawn[0]) == [
        ("cat: image 5\nby 1.50", 5),
        ("cat: image 4\nby 0.25", 4),
        ("a long… 17: image 6\nby 0.75", 6),
        ("a long… 17: image 3\nby 0.50", 3),
    ]


def test_labels_that_were_given_have_no_margin(tmp_path: Path, drawn: list[Figure]) -> None:
    labels.draw(tmp_path / "l.png", {"train": POOL}, table([3, 4], [0, 1], [np.nan, np.nan]), ["cat", LONG])
    assert sheet(drawn[0]) == [("cat: image 3", 3), ("a long… 17: image 4", 4)]


def test_of_many_classes_some_are_shown(tmp_path: Path, drawn: list[Figure]) -> None:
    """A line for each of 255 classes made a picture of 42,000 pixels."""
    names = [f"c{number:02}" for number in range(50)]
    labels.draw(tmp_path / "l.png", {"train": POOL}, table([*range(50)], [*range(50)], [np.nan] * 50), names)
    assert drawn[0].axes[0].get_title().endswith(f", {CLASSES} of 50 classes")
    shown = sheet(drawn[0])
    assert (len(shown), shown[0][0], shown[-1][0]) == (CLASSES, "c00: image 0", "c49: image 49")
