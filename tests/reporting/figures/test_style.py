"""What holds of all pictures: the same bytes, whole files, and names of any kind."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from PIL import Image

from exemplarcnn.reporting.figures import clusters, confusion, forest, neighbours, patches, results, style
from tests.conftest import one_fast
from tests.drawn_pictures import (
    CLASSES,
    DIFFERENCES,
    FEATURES,
    MATRIX,
    MISTAKES,
    POOL,
    TABLE,
    TITLES,
    cells,
    gathered,
    sheet,
)


def pictures(surrogate_set: Path) -> dict[str, Callable[[Path], None]]:
    return {
        "patches": lambda path: patches.draw(path, POOL, TABLE, surrogate_set),
        "clusters": lambda path: clusters.draw(path, POOL, TABLE, FEATURES),
        "confusion": lambda path: confusion.draw_matrix(path, cells(MATRIX, CLASSES), "Ours"),
        "mistakes": lambda path: confusion.draw_mistakes(path, POOL, MISTAKES),
        "results": lambda path: results.draw(path, gathered()),
        "differences": lambda path: forest.draw(path, DIFFERENCES, TITLES),
    }


@pytest.mark.parametrize("name", one_fast(["patches", "clusters", "confusion", "mistakes", "results", "differences"]))
def test_the_same_bytes_twice(surrogate_set: Path, tmp_path: Path, name: str) -> None:
    draw = pictures(surrogate_set)[name]
    first, second = tmp_path / "a" / "one.png", tmp_path / "b" / "two.png"
    draw(first)
    # Whatever was drawn in between must not show.
    confusion.draw_matrix(tmp_path / "between.png", cells(MATRIX, list("abc")), "Other")
    draw(second)
    assert first.read_bytes() == second.read_bytes()
    with Image.open(first) as image:
        assert image.format == "PNG"
        assert "Software" not in image.info
        assert min(image.size) > 100
        colours = image.convert("RGB").getcolors(1 << 24)
        assert colours is not None and len(colours) > 2
    assert [path.name for path in first.parent.iterdir()] == ["one.png"]


def test_a_failing_save_keeps_the_old_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "c.png"
    path.write_bytes(b"old")

    def fail(self: Figure, target: Path, **arguments: Any) -> None:
        target.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(Figure, "savefig", fail)
    with pytest.raises(OSError, match="disk full"):
        confusion.draw_matrix(path, cells(MATRIX, list("abc")), "Ours")
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["c.png"]


NAMES = ["$\\frac$", "US$ and A$", "猫", "🐈‍⬛", "قطة", "_x", "a\nb", "x" * 5000, "\x00\x1b", "</svg>"]


@pytest.mark.filterwarnings("error:Glyph")
@pytest.mark.slow
def test_a_class_may_have_any_name(tmp_path: Path, drawn: list[Figure]) -> None:
    """Formulas ended the stage; letters that the font lacks are boxes, without a warning each."""
    confusion.draw_matrix(tmp_path / "confusion.png", cells(100 * np.eye(10), NAMES), "$\\frac$\nb")
    labels = [label.get_text() for label in drawn[0].axes[0].get_yticklabels()]
    assert labels[:7] == ["$\\frac$", "US$ and A$", "猫", "🐈 ⬛", "قطة", "_x", "a b"]
    assert [len(label) for label in labels[7:]] == [style.ON_AN_AXIS, 0, 6]
    assert drawn[0].axes[0].get_title() == "$\\frac$ b: percent of each class, mean of the folds"
    rows = [(number, name, NAMES[(number + 1) % 10], 1.5) for number, name in enumerate(NAMES)]
    confusion.draw_mistakes(tmp_path / "mistakes.png", POOL, pd.DataFrame(rows, columns=MISTAKES.columns))
    assert sheet(drawn[1])[0][0] == "$\\frac$, not US$ and A$\nimage 0, by 1.5"
    neighbours.draw(tmp_path / "neighbours.png", POOL, dict.fromkeys(NAMES, FEATURES), [1, 5], 5)
    entry = {"accuracy_mean": 50.0, "fold_accuracies": [50.0], "paper": None}
    bars = [{"title": name} | entry for name in NAMES]
    about = {"dataset": {"name": "$\\frac$\nb"}, "profile": "\x00own\udce9"}
    results.draw(tmp_path / "results.png", {"rows": bars} | about)
    assert drawn[3].axes[0].get_title() == "$\\frac$ b, profile own"
    forest.draw(tmp_path / "forest.png", DIFFERENCES[:1], dict.fromkeys(("ours", "raw"), NAMES[0]))
    assert drawn[4].axes[0].texts[0].get_text() == "$\\frac$"
    with Image.open(tmp_path / "confusion.png") as saved:
        assert max(saved.size) < 1200, "a long name does not widen a picture beyond use"
