"""A trained network on a folder of images: which files are read, and how the tables name them."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from PIL import Image

from exemplarcnn.config import Config
from exemplarcnn.serving import batch


@contextmanager
def opened(*_: Any) -> Iterator[Any]:
    """A network whose one feature is the mean of the red channel."""

    def embed(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        return pixels[..., 0].mean(axis=(1, 2), dtype=np.float32)[:, None]

    yield SimpleNamespace(embed=embed, params=SimpleNamespace(batch_size=4), side=96, size=1)


@pytest.mark.parametrize("out", ["features.csv", "features.npy"])
def test_j_embed_names_files_that_are_not_utf8_and_leaves_out_odd_ones_by_name(
    tmp_path: Path, config: Config, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, out: str
) -> None:
    monkeypatch.setattr(batch, "_opened", opened)
    source = tmp_path / "photos"
    for red, name in enumerate((b"1.png", b"caf\xe9.png", b"deep/line\nend.png", b".thumbnails/1.png")):
        file = source / os.fsdecode(name)
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 40), (10 * red, 0, 0)).save(file)
    (source / os.fsdecode(b"broken\xe9.png")).write_bytes(b"no image")
    said = batch.embed(source, tmp_path / out, "any", config)
    assert said.endswith("1 features of 3 images")
    table = pd.read_csv(tmp_path / "features.csv")
    assert table["file"].tolist() == ["1.png", r"caf\xe9.png", r"deep/line\nend.png"]
    values = table["feature_0"] if out.endswith("csv") else np.load(tmp_path / out, allow_pickle=False)[:, 0]
    assert list(values) == [0, 10, 20]
    assert "passed over: .thumbnails: hidden or a tool's, not entered, 1 files inside" in caplog.text
    assert r"broken\xe9.png left out: cannot be read" in caplog.text
    caplog.text.encode()
