"""Pictures of a surrogate set, and a spy on all that are saved."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

from exemplarcnn.files import write_array
from exemplarcnn.reporting.figures import style
from tests.drawn_pictures import TABLE


@pytest.fixture
def surrogate_set(tmp_path: Path) -> Path:
    folder = tmp_path / "set"
    labels = np.repeat(np.arange(5), 3)
    patches = np.repeat(100 + np.arange(15, dtype=np.uint8), 8 * 8 * 3).reshape(15, 8, 8, 3)
    write_array(folder / "train.npy", patches)
    write_array(folder / "train_y.npy", labels)
    anchors = [(image, 0, image, 2 * image) for image in TABLE["image_id"]] + [(30, 1, 50, 51)]
    frame = pd.DataFrame(anchors, columns=["image_id", "anchor", "row", "column"])
    frame.to_csv(folder / "anchors.csv", index=False)
    return folder


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """Figures as they are saved."""
    kept: list[Figure] = []
    save = style.save

    def spy(figure: Figure, path: Path, box: Bbox | None = None) -> None:
        kept.append(figure)
        save(figure, path, box)

    monkeypatch.setattr(style, "save", spy)
    return kept
