"""Which classes the page shows, with which images, and what it says of them."""

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from exemplarcnn.data.types import Pixels
from exemplarcnn.reporting import class_browser
from exemplarcnn.reporting.class_browser import COLUMNS, IN_A_CLASS, SIDE, gather, select
from tests.drawn_pictures import FEATURES, POOL, TABLE, Images, class_table


def test_each_class_with_its_images_and_distances() -> None:
    known = pd.Series(["cat", None] * 30)
    found = gather(POOL, TABLE, FEATURES, known, 60)
    assert found.all == len(found.classes) == 5
    assert [(each.origin, each.size) for each in found.classes] == [
        ("cluster", 3),
        ("cluster", 2),
        ("cluster", 4),
        ("single", 2),
        ("single", 2),
    ]
    first = found.classes[0]
    assert [tile.image for tile in first.tiles] == [30, 1, 2]
    assert [tile.known for tile in first.tiles] == ["cat", "", "cat"]
    pairs = [np.linalg.norm(FEATURES[one] - FEATURES[two]) for one, two in ((30, 1), (30, 2), (1, 2))]
    assert first.width == pytest.approx(max(pairs))
    assert first.tiles[0].distance is None
    assert [tile.distance for tile in first.tiles[1:]] == pytest.approx(pairs[:2])
    assert found.origins == ["cluster", "single"]
    assert found.sizes == [2, 3, 4]
    assert found.known


def test_each_image_is_at_its_place_on_the_sheet(monkeypatch: pytest.MonkeyPatch) -> None:
    sheets: list[Pixels] = []

    def noted(image: Image.Image, quality: int) -> str:
        sheets.append(np.asarray(image))
        return "data:"

    monkeypatch.setattr(class_browser, "data_url", noted)
    table = class_table([list(range(start, start + 3)) for start in range(0, 45, 3)], [])
    found = gather(POOL, table, FEATURES, None, 60)
    assert sheets[0].shape == (3 * SIDE, COLUMNS * SIDE, 3)
    for tile in (tile for each in found.classes for tile in each.tiles):
        piece = sheets[0][tile.row * SIDE : (tile.row + 1) * SIDE, tile.column * SIDE : (tile.column + 1) * SIDE]
        assert (piece == tile.image).all()
    assert not found.known


def test_a_class_of_one_image_is_not_apart() -> None:
    table = pd.DataFrame({"class_id": [0, 1], "image_id": [4, 2], "origin": "seed"})
    assert [each.width for each in gather(POOL, table, FEATURES, None, 60).classes] == [None, None]


def test_of_a_large_class_some_images_are_shown() -> None:
    table = class_table([list(range(30)), [40, 41]], [])
    large = gather(POOL, table, FEATURES, None, 60).classes[0]
    assert (large.size, len(large.tiles)) == (30, IN_A_CLASS)


def test_only_the_images_shown_are_read() -> None:
    class Counted(Images):
        def __init__(self) -> None:
            super().__init__()
            self.asked: list[int] = []

        def __getitem__(self, index: int) -> Pixels:
            self.asked.append(index)
            return super().__getitem__(index)

    pool = Counted()
    table = class_table([[start, start + 1] for start in range(0, 60, 2)], [])
    found = gather(pool, table, FEATURES, None, 10)
    assert len(pool.asked) == 10
    assert (len(found.classes), found.all) == (5, 30)


# Selection


def test_all_classes_if_they_suffice() -> None:
    assert select([2, 3, 20], np.array([1.0, 2.0, 3.0]), 2 + 3 + IN_A_CLASS) == [0, 1, 2]


def test_of_many_classes_the_largest_tightest_loosest_and_some_of_all() -> None:
    count = 16_000
    sizes = [2] * count
    sizes[5_000:5_100] = [30] * 100
    widths = np.random.default_rng(0).permutation(np.linspace(0.1, 1.0, count))
    chosen = select(sizes, widths, 600)
    shown = [min(sizes[number], IN_A_CLASS) for number in chosen]
    assert 590 < sum(shown) <= 600
    assert chosen == sorted(set(chosen))
    assert {int(widths.argmin()), int(widths.argmax())} <= set(chosen)
    assert sum(sizes[number] == 30 for number in chosen) > 20
    thousands = {number // 1_000 for number in chosen}
    assert len(thousands) == 16
