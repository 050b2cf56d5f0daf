"""Near duplicates: what is alike, what is not, and groups against a search of all pairs."""

from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from exemplarcnn import threads
from exemplarcnn.config.sections import Duplicates
from exemplarcnn.data import near_duplicates
from exemplarcnn.data.near_duplicates import WINDOW, find, fine_structure, grey_levels, similarity, spectrum
from exemplarcnn.data.pools import ImageFolder
from exemplarcnn.data.stl10 import ImageFile, write_images
from exemplarcnn.data.types import Pixels, Pool
from tests.recipe_references import photo

PARAMS = Duplicates(spectrum=0.75, structure=0.75, shift=8)
SIDE = 96


def picture(seed: int, side: int = SIDE) -> Pixels:
    return np.rint(photo(side, side, seed) * 255).astype(np.uint8)


def cut(large: Pixels, down: int, right: int) -> Pixels:
    return np.ascontiguousarray(large[12 + down : 108 + down, 12 + right : 108 + right])


def compressed(image: Pixels, quality: int) -> Pixels:
    _, encoded = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    return np.asarray(cv2.imdecode(encoded, cv2.IMREAD_COLOR_RGB), np.uint8)


def brighter(image: Pixels, factor: float) -> Pixels:
    return np.asarray(np.clip(image * factor, 0, 255), np.uint8)


def shrunk(image: Pixels, side: int) -> Pixels:
    return np.asarray(cv2.resize(image, (side, side)), np.uint8)


def everyone(pool: Pool) -> tuple[Pool, np.ndarray]:
    return pool, np.arange(len(pool))


def slow_similarity(first: np.ndarray, second: np.ndarray, shift: int) -> float:
    """Pearson's correlation of the middle of each with each place of the other, in float64."""
    best = -1.0
    inner = slice(shift, SIDE - shift)
    for a, b in ((first, second), (second, first)):
        middle = b[inner, inner].astype(np.float64).ravel()
        size = SIDE - 2 * shift
        for top in range(2 * shift + 1):
            for left in range(2 * shift + 1):
                window = a[top : top + size, left : left + size].astype(np.float64).ravel()
                best = max(best, float(np.corrcoef(middle, window)[0, 1]))
    return best


def test_similarity_is_the_best_correlation_over_all_shifts() -> None:
    large = picture(1, 120)
    pairs = [(cut(large, 0, 0), cut(large, 3, -2)), (picture(2), picture(3)), (cut(large, 0, 0), picture(4))]
    for a, b in pairs:
        first, second = fine_structure(grey_levels(a)), fine_structure(grey_levels(b))
        assert similarity(first, second, 3) == pytest.approx(slow_similarity(first, second, 3), abs=1e-4)


def test_a_moved_picture_fits_exactly() -> None:
    large = picture(1, 120)
    # Away from the borders, where the blur sees other pixels.
    first, second = (fine_structure(grey_levels(cut(large, down, right))) for down, right in ((0, 0), (5, -6)))
    assert similarity(first, second, 8) > 0.98


def test_spectra_against_plain_sums() -> None:
    levels = grey_levels(picture(7))
    windowed = levels - (levels * WINDOW).sum() / WINDOW.sum()
    windowed = windowed * WINDOW
    places = np.arange(SIDE)
    found = spectrum(levels)
    assert found.shape == (306,)
    assert np.linalg.norm(found) == pytest.approx(1)
    roots: dict[tuple[int, int], float] = {}
    for down in range(-14, 15):
        for across in range(15):
            if 1 <= np.hypot(down, across) <= 14 and not (across == 0 and down < 0):
                wave = np.exp(-2j * np.pi * (down * places[:, None] + across * places[None]) / SIDE)
                roots[down % SIDE, across] = abs((windowed * wave).sum()) ** 0.5
    rings: dict[int, list[float]] = {}
    for (down, across), root in roots.items():
        rings.setdefault(round(np.hypot(down - SIDE * (down > 48), across)), []).append(root)
    expected = np.array(
        [
            roots[down, across] / np.mean(rings[round(np.hypot(down - SIDE * (down > 48), across))]) - 1
            for down, across in sorted(roots)
        ]
    )
    np.testing.assert_allclose(found, expected / np.linalg.norm(expected), atol=1e-5)


def test_brightness_and_contrast_do_not_matter() -> None:
    levels = grey_levels(picture(7))
    np.testing.assert_allclose(spectrum(0.5 * levels + 20), spectrum(levels), atol=1e-4)
    assert similarity(fine_structure(levels), fine_structure(0.5 * levels + 20), 4) == pytest.approx(1, abs=1e-4)


@pytest.fixture
def pools(tmp_path: Path) -> dict[str, tuple[Pool, np.ndarray]]:
    """Groups: a photograph three times and in `train`; one twice; exact copies across pools; the rest alone."""
    large, other = picture(1, 120), picture(2, 120)
    flat = np.full((96, 96, 3), 77, np.uint8)
    unlabeled = [
        picture(10),
        cut(large, 0, 0),
        compressed(cut(other, 2, 2), 60),
        flat,
        brighter(cut(large, -5, 4), 0.8),
        picture(11),
        compressed(brighter(cut(large, 3, 3), 1.1), 50),
        cut(other, 0, 0),
        picture(12),
        flat,
        flat + 100,
    ]
    train = [picture(20), cut(large, 1, -3), picture(12), picture(21)]
    for name, pictures in (("unlabeled", unlabeled), ("train", train)):
        write_images(tmp_path / name, np.stack(pictures))
    return {name: everyone(ImageFile(tmp_path / name)) for name in ("unlabeled", "train")}


def test_groups_within_and_across_pools(pools: dict[str, tuple[Pool, np.ndarray]]) -> None:
    found = find(pools, PARAMS, 1.0)
    groups = [list(zip(rows["pool"], rows["image_id"], strict=True)) for _, rows in found.groupby("group")]
    unlabeled, train = "unlabeled", "train"
    assert groups == [
        [(unlabeled, 1), (unlabeled, 4), (unlabeled, 6), (train, 1)],
        [(unlabeled, 2), (unlabeled, 7)],
        [(unlabeled, 3), (unlabeled, 9)],
        [(unlabeled, 8), (train, 2)],
    ]
    assert found["group"].tolist() == sorted(found["group"])
    exact = found[found["exact"] == 1]
    assert exact["group"].unique().tolist() == [2, 3]
    assert (exact["similarity"] == 1).all()
    assert found.loc[found["exact"] == 0, "similarity"].between(0.75, 1).all()


def test_the_candidates_leave_out_no_pair_of_a_search_of_all(pools: dict[str, tuple[Pool, np.ndarray]]) -> None:
    found = find(pools, PARAMS, 1.0)
    group = {(pool, image): number for number, pool, image in found.iloc[:, :3].itertuples(index=False)}
    places = [(name, index, pool[index]) for name, (pool, all_of) in pools.items() for index in all_of]
    structures = [fine_structure(grey_levels(image)) for _, _, image in places]
    for i, (name, index, image) in enumerate(places):
        for j in range(i):
            other, number, pixels = places[j]
            same = bool(np.array_equal(image, pixels))
            if image.std() > 1 and pixels.std() > 1:
                same |= similarity(structures[i], structures[j], PARAMS.shift) >= PARAMS.structure
            together = group.get((name, index), -1) == group.get((other, number), -2)
            assert together == same, (name, index, other, number)


@pytest.mark.parametrize("count", [2, 3])
def test_threads_and_blocks_change_nothing(
    pools: dict[str, tuple[Pool, np.ndarray]], monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    expected = find(pools, PARAMS, 1.0)
    monkeypatch.setattr(near_duplicates, "AT_ONCE", 2)
    threads.use(count)
    pd.testing.assert_frame_equal(find(pools, PARAMS, 1.0), expected)


def test_images_that_are_left_out_are_in_no_group(pools: dict[str, tuple[Pool, np.ndarray]]) -> None:
    pool, _ = pools["unlabeled"]
    found = find({"unlabeled": (pool, np.array([1, 2, 4, 9]))}, PARAMS, 1.0)
    assert found["image_id"].tolist() == [1, 4]


def test_images_of_any_size_are_compared(tmp_path: Path) -> None:
    from PIL import Image

    big = picture(5, 192)
    for name, image in (("a", big), ("b", cv2.resize(big, (96, 96), interpolation=cv2.INTER_AREA)), ("c", picture(6))):
        Image.fromarray(image).save(tmp_path / f"{name}.png")
    found = find({"other": everyone(ImageFolder(tmp_path))}, PARAMS, 1.0)
    assert found["image_id"].tolist() == [0, 1]
    assert found["similarity"].min() > 0.95


@pytest.mark.parametrize("side", [64, 128])
def test_images_of_a_set_of_another_side_are_compared(tmp_path: Path, side: int) -> None:
    moved = side // 24  # a twenty-fourth of the picture: 4 of the 96 pixels that are compared
    # Shrunk, for detail as fine as that of photographs.
    large, *others = (shrunk(picture(seed, 3 * (side + moved)), side + moved) for seed in range(3))
    pictures = [others[0][:side, :side], large[:side, :side], compressed(large[moved:, moved:], 80)]
    pictures.append(others[1][:side, :side])
    write_images(tmp_path / "p", np.stack(pictures), side)
    found = find({"p": everyone(ImageFile(tmp_path / "p", side))}, PARAMS, 1.0)
    assert found["image_id"].tolist() == [1, 2]


def test_nothing_alike(tmp_path: Path) -> None:
    write_images(tmp_path / "p", np.stack([picture(seed) for seed in range(4)]))
    found = find({"p": everyone(ImageFile(tmp_path / "p"))}, PARAMS, 1.0)
    assert len(found) == 0
    assert list(found.columns) == ["group", "pool", "image_id", "similarity", "exact"]
