"""The confusion matrix, and the surest mistakes."""

from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from exemplarcnn.reporting.figures import confusion, style
from tests.drawn_pictures import CLASSES, MATRIX, MISTAKES, POOL, cells, sheet


def test_confusion_in_percent(tmp_path: Path, drawn: list[Figure]) -> None:
    confusion.draw_matrix(tmp_path / "c.png", cells(MATRIX, CLASSES), "Ours")
    (axes,) = drawn[0].get_axes()
    texts = {text.get_position(): text.get_text() for text in axes.texts}
    assert texts == {(column, row): f"{MATRIX[row, column]}" for row in range(3) for column in range(3)}
    assert [tick.get_text() for tick in axes.get_yticklabels()] == CLASSES
    assert (axes.get_ylabel(), axes.get_xlabel()) == ("actual", "predicted")


@pytest.mark.parametrize(("classes", "named"), [(20, 20), (21, 21), (50, 50), (51, 26), (255, 43)])
def test_of_many_classes_colours_tell_and_some_names(
    tmp_path: Path, drawn: list[Figure], classes: int, named: int
) -> None:
    """255 classes had 65,025 numbers, one over the other, and took a minute and more."""
    names = [f"class {number}" for number in range(classes)]
    confusion.draw_matrix(tmp_path / "c.png", cells(100 * np.eye(classes), names), "Ours")
    axes, *scale = drawn[0].get_axes()
    numbered = classes <= style.CLASSES
    assert len(axes.texts) == (classes**2 if numbered else 0)
    assert len(scale) == (not numbered), "without numbers there is a scale"
    for labels, places in (
        (axes.get_yticklabels(), axes.get_yticks()),
        (axes.get_xticklabels(), axes.get_xticks()),
    ):
        assert [label.get_text() for label in labels] == [names[int(place)] for place in places]
        assert len(labels) == named
    for label in (axes.get_xlabel(), axes.get_ylabel()):
        assert (f"of {classes} classes one in" in label) == (named < classes)
    with Image.open(tmp_path / "c.png") as saved:
        assert max(saved.size) < 1200
        # Names beside each other do not run into one another.
        assert axes.get_window_extent().height / named > 7 * drawn[0].dpi / 72


def test_mistakes_show_the_image_its_class_and_the_one_predicted(tmp_path: Path, drawn: list[Figure]) -> None:
    confusion.draw_mistakes(tmp_path / "a.png", POOL, MISTAKES, columns=2)
    (figure,) = drawn
    assert sheet(figure) == [
        ("dog, not owl\nimage 40, by 3.2", 40),
        ("dog, not cat\nimage 7, by 1.5", 7),
        ("cat, not owl\nimage 9, by 0.5", 9),
    ]


def test_no_mistakes_are_no_error(tmp_path: Path) -> None:
    confusion.draw_mistakes(tmp_path / "a.png", POOL, MISTAKES[:0])
    assert (tmp_path / "a.png").exists()
