"""The audit of single images: borders against a slow reference, odd files by name, flags and marks."""

import os
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from exemplarcnn.config.sections import Audit, Borders
from exemplarcnn.data import audit_tables
from exemplarcnn.data.audit import add_flags, border_widths, inspect, score_detection, summary, widest_borders
from exemplarcnn.data.audit_tables import SIDES, AuditError, usable_images, write_flags
from exemplarcnn.data.pools import ImageFolder
from exemplarcnn.data.stl10 import ImageFile, write_images
from exemplarcnn.sample import generate

BORDERS = Borders(level=16, fraction=0.9, width=2)
NOBODY = pd.DataFrame(columns=["group", "pool", "image_id", "similarity", "exact"])


def params(**changed: Any) -> Audit:
    values: dict[str, Any] = {
        "borders": {"level": 16, "fraction": 0.98, "width": 2},
        "duplicates": {"spectrum": 0.75, "structure": 0.75, "shift": 8},
        "empty_below": 4.0,
        "grey_up_to": 2,
        "smallest_side": 32,
        "most_megapixels": 1.0,
    }
    return Audit.model_validate(values | changed)


def noise(height: int = 96, width: int = 96, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(30, 256, (height, width, 3), dtype=np.uint8)


# Borders


def slow_borders(image: np.ndarray, params: Borders) -> list[int]:
    """Line by line, pixel by pixel."""

    def is_black(line: np.ndarray) -> bool:
        black = sum(all(int(value) <= params.level for value in pixel) for pixel in line)
        return black / len(line) >= params.fraction

    widths = []
    for turned in (image, image[::-1], image.transpose(1, 0, 2), image.transpose(1, 0, 2)[::-1]):
        width = 0
        while width < len(turned) and is_black(turned[width]):
            width += 1
        widths.append(width if params.width <= width < len(turned) else 0)
    return widths


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_borders_are_those_of_the_slow_reference(data: st.DataObject) -> None:
    height, width = data.draw(st.integers(3, 14)), data.draw(st.integers(3, 14))
    image = noise(height, width, data.draw(st.integers(0, 99)))
    top, bottom, left, right = (data.draw(st.integers(0, 4)) for _ in range(4))
    level = data.draw(st.sampled_from([0, 16, 17]))
    image[:top] = image[height - bottom :] = level
    image[:, :left] = image[:, width - right :] = level
    for _ in range(data.draw(st.integers(0, 3))):  # specks, that a share below 1 forgives or not
        image[data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))] = 99
    assert border_widths(image, BORDERS) == slow_borders(image, BORDERS)


def test_widths_of_each_side() -> None:
    image = noise()
    image[:3] = 5
    image[-2:] = 16
    image[:, -11:] = 0
    assert border_widths(image, BORDERS) == [3, 2, 0, 11]


@pytest.mark.parametrize("level", [0, 10])
def test_a_black_image_has_no_border(level: int) -> None:
    assert border_widths(np.full((40, 50, 3), level, np.uint8), BORDERS) == [0, 0, 0, 0]


def test_a_line_of_a_dark_colour_is_not_black() -> None:
    image = noise()
    image[:5] = (0, 0, 40)
    assert border_widths(image, BORDERS) == [0, 0, 0, 0]


# A folder with everything in it


@pytest.fixture
def odd(tmp_path: Path) -> ImageFolder:
    """A good image, a broken file, a grey image, a tiny one, a huge one, an empty one, and a text file."""
    folder = tmp_path / "other"
    folder.mkdir()
    Image.fromarray(noise(120, 100)).save(folder / "good.png")
    (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff no image")
    whole = (folder / "good.png").read_bytes()
    (folder / "cut.png").write_bytes(whole[: len(whole) // 2])
    Image.fromarray(noise(96, 96)[..., 0]).save(folder / "grey.png")
    Image.fromarray(noise(8, 200)).save(folder / "tiny.png")
    Image.new("RGB", (1200, 900), (200, 30, 60)).save(folder / "huge.png")
    Image.new("RGB", (64, 64), (200, 30, 60)).save(folder / "empty.png")
    (folder / "notes.txt").write_text("no image")
    return ImageFolder(folder)


def test_odd_files_are_told_by_name_and_the_rest_is_used(odd: ImageFolder, tmp_path: Path) -> None:
    table = add_flags(inspect(odd, params()), "other", NOBODY, params())
    found = summary(table, odd.passed_over)
    names = [line.split(": ")[0] for line in found["unusable"]]
    assert names == ["broken.jpg", "cut.png", "huge.png", "tiny.png"]
    reasons = " ".join(found["unusable"])
    assert "broken.jpg: cannot be read: " in reasons
    assert "huge.png: too large: 900×1200, audit.most_megapixels is 1" in reasons
    assert "tiny.png: too small: 8×200, audit.smallest_side is 32" in reasons
    assert found["noticed"] == ["grey.png: no colour"]
    assert found["passed_over"] == ["notes.txt: no image by its name"]
    assert (found["images"], found["grey"], found["empty"]) == (7, 1, 1)

    path = tmp_path / "flags.csv"
    write_flags(path, table)
    left = [odd.name(index) for index in usable_images(path)]
    assert left == ["empty.png", "good.png", "grey.png"]
    assert [odd.name(index) for index in usable_images(path, ("grey", "empty"))] == ["good.png"]
    for index in usable_images(path):
        assert odd[index].ndim == 3
    with pytest.raises(AuditError, match=r"flags\.csv: none of 7 images can be used"):
        nothing = table.assign(border=1)
        write_flags(path, nothing)
        usable_images(path, ("border",))
    with pytest.raises(AuditError, match="`dvc repro audit` makes it"):
        usable_images(tmp_path / "missing.csv")


def test_transparent_images_are_noticed(odd: ImageFolder) -> None:
    clear = np.dstack([noise(64, 64), np.full((64, 64), 255, np.uint8)])
    Image.fromarray(clear).save(odd.path / "opaque.png")
    clear[:20, :, 3] = 0
    Image.fromarray(clear).save(odd.path / "clear.png")
    pool = ImageFolder(odd.path)
    found = summary(add_flags(inspect(pool, params()), "other", NOBODY, params()), pool.passed_over)
    assert found["noticed"] == ["grey.png: no colour", "clear.png: transparent, put on white"]


def test_j_names_of_all_kinds_leave_the_table_whole(tmp_path: Path) -> None:
    folder = tmp_path / "pool"
    folder.mkdir()
    for name in (b"caf\xe9.png", b"a\rb.png", b"c\nd.png", b"1.png"):
        (folder / os.fsdecode(name)).write_bytes(b"no image")
    table = inspect(ImageFolder(folder), params())
    for column in ("name", "problem"):
        assert not table[column].str.contains(r"[\n\r]").any()
    groups = pd.DataFrame({"group": [], "pool": [], "image_id": []})
    write_flags(tmp_path / "table.csv", add_flags(table, "other", groups, params()))
    assert pd.read_csv(tmp_path / "table.csv")["name"].tolist() == ["1.png", r"a\rb.png", r"c\nd.png", r"caf\xe9.png"]


def test_an_image_above_the_limit_is_not_decoded(odd: ImageFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: list[str] = []
    inner = ImageFolder.read

    def spy(self: ImageFolder, index: int) -> Any:
        decoded.append(self.name(index))
        return inner(self, index)

    monkeypatch.setattr(ImageFolder, "read", spy)
    inspect(odd, params())
    assert decoded == ["cut.png", "empty.png", "good.png", "grey.png"]


# Flags


def test_flags_of_duplicates_and_leaks(tmp_path: Path) -> None:
    write_images(tmp_path / "p.bin", np.stack([noise(seed=seed) for seed in range(6)]))
    groups = pd.DataFrame(
        [(0, "unlabeled", 1), (0, "unlabeled", 4), (0, "unlabeled", 5), (1, "unlabeled", 2), (1, "train", 7),
         (2, "train", 0), (2, "test", 3)],
        columns=["group", "pool", "image_id"],
    ).assign(similarity=1.0, exact=0)  # fmt: skip
    table = inspect(ImageFile(tmp_path / "p.bin"), params())
    pool = add_flags(table, "unlabeled", groups, params())
    assert pool["duplicate"].tolist() == [0, 0, 0, 0, 1, 1]
    assert pool["leak"].tolist() == [0, 0, 1, 0, 0, 0]
    # Of a labelled pool itself: what the other labelled one resembles, and no image of its own.
    train = add_flags(table, "train", groups, params())
    assert train["duplicate"].tolist() == [0] * 6
    assert train["leak"].tolist() == [1, 0, 0, 0, 0, 0]


def test_widest_borders_first() -> None:
    table = pd.DataFrame(
        [(0, 0, 0, 0, 0, 0), (1, 2, 0, 0, 0, 1), (2, 3, 9, 0, 0, 1), (3, 0, 0, 0, 2, 1)],
        columns=["image_id", *SIDES, "border"],
    )
    assert widest_borders(table) == [(2, "↑3 ↓9"), (1, "↑2"), (3, "→2")]


def test_marks_on_known_defects(tmp_path: Path) -> None:
    truth = tmp_path / "truth.csv"
    kinds = ["ordinary", "black_border", "black_border", "near_duplicate", "near_duplicate", "ordinary"]
    originals = [None, None, None, 0, 0, None]
    pd.DataFrame({"index": range(6), "kind": kinds, "original": originals}).to_csv(truth, index=False)
    table = pd.DataFrame({"image_id": range(6), "border": [0, 1, 0, 1, 0, 0]})
    groups = pd.DataFrame({"group": [0, 0, 1, 1], "pool": "unlabeled", "image_id": [0, 3, 2, 5]})
    assert score_detection(table, groups, truth) == {
        "borders": {"true": 2, "found": 2, "precision": 0.5, "recall": 0.5},
        # 0, 3 and 4 are three pairs.
        "duplicates": {"true": 3, "found": 2, "precision": 0.5, "recall": pytest.approx(1 / 3)},
    }
    assert score_detection(table, groups, tmp_path / "missing.csv") is None


@pytest.mark.slow
def test_what_is_planted_in_another_sample_is_found(tmp_path: Path) -> None:
    """In one drawn from another seed than the embedded one, on which the limits were chosen."""
    from exemplarcnn.data import near_duplicates

    generate.write_sample(tmp_path, seed=5)
    pool = ImageFile(tmp_path / "unlabeled_X.bin")
    groups = near_duplicates.find({"unlabeled": (pool, np.arange(len(pool)))}, params().duplicates, 1.0)
    table = add_flags(inspect(pool, params()), "unlabeled", groups, params())
    found = score_detection(table, groups, tmp_path / "truth.csv")
    assert found is not None
    for what in ("borders", "duplicates"):
        assert found[what]["precision"] >= 0.95
        assert found[what]["recall"] >= 0.95


def test_pairs_are_counted_as_if_they_were_listed() -> None:
    draw = np.random.default_rng(4)
    one, other = (pd.Series(draw.integers(0, 5, 30), draw.permutation(40)[:30]) for _ in range(2))

    def listed(groups: "pd.Series[int]") -> set[tuple[int, int]]:
        pairs = combinations(sorted(groups.index), 2)
        return {(first, second) for first, second in pairs if groups[first] == groups[second]}

    assert audit_tables.count_pairs(one) == len(listed(one)) > 50
    assert audit_tables.count_pairs(one, other) == len(listed(one) & listed(other)) > 5
    nothing = pd.Series(dtype=np.int64)
    assert audit_tables.count_pairs(nothing) == audit_tables.count_pairs(one, nothing) == 0


def test_groups_of_100_000_images_are_counted() -> None:
    assert audit_tables.count_pairs(pd.Series(0, range(100_000))) == 100_000 * 99_999 // 2
