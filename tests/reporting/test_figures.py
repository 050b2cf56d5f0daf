"""Pictures: that they are made, show what they should, and come out with the same bytes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from exemplarcnn.files import write_array
from exemplarcnn.reporting import figures


class Images:
    """Images in memory, each of one grey that is its number."""

    path = Path("nowhere")

    def __len__(self) -> int:
        return 60

    def __getitem__(self, index: int) -> np.ndarray:
        return np.full((96, 96, 3), index, np.uint8)

    def batch(self, indices: Any) -> np.ndarray:
        return np.stack([self[i] for i in indices])


POOL = Images()
FEATURES = np.random.default_rng(0).normal(size=(60, 5)).astype(np.float32)


def class_table(clusters: list[list[int]], singles: list[list[int]]) -> pd.DataFrame:
    rows = [(c, image, "cluster") for c, members in enumerate(clusters) for image in members]
    for c, members in enumerate(singles, len(clusters)):
        rows += [(c, image, "neighbour" if place else "single") for place, image in enumerate(members)]
    return pd.DataFrame(rows, columns=["class_id", "image_id", "origin"])


TABLE = class_table([[30, 1, 2], [3, 4], [5, 6, 7, 8]], [[40, 9], [41, 10]])


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
    save = figures._save

    def spy(figure: Figure, path: Path) -> None:
        kept.append(figure)
        save(figure, path)

    monkeypatch.setattr(figures, "_save", spy)
    return kept


def picture(axes: Axes) -> np.ndarray:
    (image,) = axes.get_images()
    return np.asarray(image.get_array())


def sheet(figure: Figure) -> list[tuple[str, int]]:
    """Caption and grey value of the images on a sheet, line by line; a caption stands right above its image."""
    (axes,) = figure.get_axes()
    captions = {round(sum(text.get_position()), 6): text for text in axes.texts}
    found = []
    for image in axes.get_images():
        left, right, bottom, upper = image.get_extent()
        assert (right - left) / (bottom - upper) == pytest.approx(
            image.get_array().shape[1] / image.get_array().shape[0]
        )
        text = captions.get(round((left + right) / 2 + upper - 0.04, 6))
        found.append((upper, left, text.get_text() if text else "", int(image.get_array()[0, 0, 0])))
    return [(caption, grey) for _, _, caption, grey in sorted(found)]


def tiles(axes: Axes) -> list[list[int]]:
    """Grey values in a mosaic, one list a row; white is no image."""
    canvas = picture(axes)
    rows = []
    for top in range(0, len(canvas), 102):
        row = [canvas[top : top + 96, left : left + 96] for left in range(0, canvas.shape[1], 102)]
        assert all((tile == tile[0, 0, 0]).all() for tile in row)
        rows.append([int(tile[0, 0, 0]) for tile in row if tile[0, 0, 0] != 255])
        assert (canvas[top + 96 : top + 102] == 255).all()
    return [row for row in rows if row]


def blocks(figure: Figure) -> dict[str, list[list[int]]]:
    return {axes.get_title(): tiles(axes) for axes in figure.get_axes()}


def gathered() -> dict[str, Any]:
    return {
        "profile": "tiny",
        "dataset": {"name": "sample"},
        "rows": [
            {"title": "Raw", "accuracy_mean": 30.5, "fold_accuracies": [30.0, 31.0], "paper": None},
            {
                "title": "Ours",
                "accuracy_mean": 60.0,
                "fold_accuracies": [59.0, 61.0],
                "paper": {"mean": 74.1, "std": 0.4},
            },
        ],
    }


MISTAKES = [(40, 2, 3.25), (7, 0, 1.5), (9, 2, 0.5)]
LABELS = np.arange(60) % 3
MATRIX = np.array([[0.8, 0.2, 0.0], [0.1, 0.5, 0.4], [0.0, 0.0, 1.0]])


def pictures(surrogate_set: Path) -> dict[str, Callable[[Path], None]]:
    return {
        "patches": lambda path: figures.patches(path, POOL, TABLE, surrogate_set),
        "clusters": lambda path: figures.clusters(path, POOL, TABLE, FEATURES),
        "confusion": lambda path: figures.confusion(path, MATRIX, ["cat", "dog", "owl"], "Ours"),
        "mistakes": lambda path: figures.mistakes(path, POOL, MISTAKES, LABELS, ["cat", "dog", "owl"]),
        "results": lambda path: figures.results(path, gathered()),
    }


@pytest.mark.parametrize("name", ["patches", "clusters", "confusion", "mistakes", "results"])
def test_the_same_bytes_twice(surrogate_set: Path, tmp_path: Path, name: str) -> None:
    draw = pictures(surrogate_set)[name]
    first, second = tmp_path / "a" / "one.png", tmp_path / "b" / "two.png"
    draw(first)
    # Whatever was drawn in between must not show.
    figures.confusion(tmp_path / "between.png", MATRIX, list("abc"), "Other")
    draw(second)
    assert first.read_bytes() == second.read_bytes()
    with Image.open(first) as image:
        assert image.format == "PNG"
        assert "Software" not in image.info
        assert min(image.size) > 100
        assert len(image.convert("RGB").getcolors(1 << 24)) > 2
    assert [path.name for path in first.parent.iterdir()] == ["one.png"]


def test_patches_stand_beside_their_image(surrogate_set: Path, tmp_path: Path, drawn: list[Figure]) -> None:
    figures.patches(tmp_path / "p.png", POOL, TABLE, surrogate_set, rows=3, columns=2)
    assert [grey for _, grey in sheet(drawn[0])] == [30, 100, 102, 3, 103, 105, 5, 106, 108]
    (axes,) = drawn[0].get_axes()
    extents = [image.get_extent() for image in axes.get_images() if image.get_array().shape == (96, 96, 3)]
    crosses = []
    for line, number in zip(axes.get_lines(), [0, 0, 1, 2], strict=True):
        left, right, _, upper = sorted(extents, key=lambda extent: extent[3])[number]
        pixel = (right - left) / 96
        crosses.append(tuple(((np.ravel(line.get_xydata()) - [left, upper]) / pixel - 0.5).round(6)))
    # x is the column, y the row; the first image has two anchors.
    assert crosses == [(60, 30), (51, 50), (6, 3), (10, 5)]


def test_fewer_classes_and_patches_than_room(surrogate_set: Path, tmp_path: Path, drawn: list[Figure]) -> None:
    figures.patches(tmp_path / "p.png", POOL, TABLE, surrogate_set)
    assert len(sheet(drawn[0])) == 5 * (1 + 3)


def test_largest_and_tightest_clusters_and_singles(tmp_path: Path, drawn: list[Figure]) -> None:
    features = np.zeros((60, 2), np.float32)
    features[[1, 2], 0] = 0.5  # class 0
    features[4, 0] = 2.0  # class 1
    features[[5, 8], 0] = -1.0, 0.6  # class 2
    figures.clusters(tmp_path / "c.png", POOL, TABLE, features, rows=2)
    largest, tightest, singles = blocks(drawn[0]).items()
    assert largest == ("largest clusters", [[5, 6, 7, 8], [30, 1, 2]])
    assert tightest == ("tightest clusters", [[30, 1, 2], [5, 6, 7, 8]])
    assert "single" in singles[0]
    assert singles[1] == [[40, 9], [41, 10]]


def test_of_clusters_of_one_size_the_tighter_comes_first(tmp_path: Path, drawn: list[Figure]) -> None:
    features = np.zeros((60, 2), np.float32)
    features[[1, 3, 5], 1] = 0.5, 0.4, 0.5
    figures.clusters(tmp_path / "c.png", POOL, class_table([[0, 1], [2, 3], [4, 5]], []), features)
    assert blocks(drawn[0])["largest clusters"] == [[2, 3], [0, 1], [4, 5]]


def test_more_members_than_columns(tmp_path: Path, drawn: list[Figure]) -> None:
    figures.clusters(tmp_path / "c.png", POOL, class_table([list(range(9))], [[40]]), FEATURES, columns=4)
    assert list(blocks(drawn[0]).values()) == [[[0, 1, 2, 3]], [[0, 1, 2, 3]], [[40]]]


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        (class_table([], [[40, 9], [41, 10]]), [[[40, 9], [41, 10]]]),
        (class_table([], [[40], [41]]), [[[40], [41]]]),
        (class_table([[1, 2]], []), [[[1, 2]], [[1, 2]]]),
    ],
)
def test_tables_without_clusters_or_without_singles(
    tmp_path: Path, drawn: list[Figure], table: pd.DataFrame, expected: list[list[list[int]]]
) -> None:
    figures.clusters(tmp_path / "c.png", POOL, table, FEATURES)
    assert (tmp_path / "c.png").stat().st_size > 1_000
    assert list(blocks(drawn[0]).values()) == expected


def test_images_of_another_size_are_fitted_into_their_tile(tmp_path: Path, drawn: list[Figure]) -> None:
    class Large(Images):
        def __getitem__(self, index: int) -> np.ndarray:
            return np.full((300, 200, 3), index, np.uint8)

    figures.clusters(tmp_path / "c.png", Large(), TABLE, FEATURES)
    assert blocks(drawn[0])["tightest clusters"]


def test_confusion_in_percent(tmp_path: Path, drawn: list[Figure]) -> None:
    figures.confusion(tmp_path / "c.png", MATRIX, ["cat", "dog", "owl"], "Ours")
    (axes,) = drawn[0].get_axes()
    texts = {text.get_position(): text.get_text() for text in axes.texts}
    assert texts == {(column, row): f"{100 * MATRIX[row, column]:.0f}" for row in range(3) for column in range(3)}
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["cat", "dog", "owl"]
    assert (axes.get_ylabel(), axes.get_xlabel()) == ("actual", "predicted")


@pytest.mark.parametrize(("classes", "named"), [(20, 20), (21, 21), (50, 50), (51, 26), (255, 43)])
def test_of_many_classes_colours_tell_and_some_names(
    tmp_path: Path, drawn: list[Figure], classes: int, named: int
) -> None:
    """255 classes had 65,025 numbers, one over the other, and took a minute and more."""
    names = [f"class {number}" for number in range(classes)]
    figures.confusion(tmp_path / "c.png", np.eye(classes), names, "Ours")
    axes, *scale = drawn[0].get_axes()
    numbered = classes <= figures.CLASSES
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


def test_results_show_ours_as_bars_and_the_papers_apart(tmp_path: Path, drawn: list[Figure]) -> None:
    figures.results(tmp_path / "r.png", gathered())
    (axes,) = drawn[0].get_axes()
    assert [bar.get_width() for bar in axes.patches] == [30.5, 60.0]
    lines = [line for line in axes.get_lines() if len(line.get_xdata())]
    dots = [list(line.get_xdata()) for line in lines if line.get_color() == "k"]
    papers = [list(line.get_xdata()) for line in lines if line.get_color() == figures.PAPER]
    assert dots == [[30.0, 31.0], [59.0, 61.0]]
    assert papers == [[74.1, 74.1]]
    (key,) = drawn[0].legends
    legend = [text.get_text() for text in key.get_texts()]
    assert any("paper" in text for text in legend)
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["Raw", "Ours"]


def test_a_failing_save_keeps_the_old_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "c.png"
    path.write_bytes(b"old")

    def fail(self: Figure, target: Path, **arguments: Any) -> None:
        target.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(Figure, "savefig", fail)
    with pytest.raises(OSError, match="disk full"):
        figures.confusion(path, MATRIX, list("abc"), "Ours")
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["c.png"]


def test_mistakes_show_the_image_its_class_and_the_one_predicted(tmp_path: Path, drawn: list[Figure]) -> None:
    figures.mistakes(tmp_path / "a.png", POOL, MISTAKES, LABELS, ["cat", "dog", "owl"], columns=2)
    (figure,) = drawn
    assert sheet(figure) == [
        ("dog, not owl\nimage 40, by 3.2", 40),
        ("dog, not cat\nimage 7, by 1.5", 7),
        ("cat, not owl\nimage 9, by 0.5", 9),
    ]


def test_no_mistakes_are_no_error(tmp_path: Path) -> None:
    figures.mistakes(tmp_path / "a.png", POOL, [], LABELS, ["cat", "dog", "owl"])
    assert (tmp_path / "a.png").exists()


# Galleries


def test_blocks_of_tiles_stay_together() -> None:
    def block(*greys: int) -> list[figures.Tile]:
        return [(POOL[grey], str(grey)) for grey in greys]

    found = figures.lines([block(1, 2, 3), block(4, 5, 6, 7), block(8, 9), block(10)])
    assert [[caption for _, caption in line] for line in found] == [
        ["1", "2", "3", "4", "5", "6", "7"],
        ["8", "9", "10"],
    ]
    assert figures.lines([]) == []


def test_what_is_shown_is_spread_evenly() -> None:
    assert figures.spread(list(range(9)), 3) == [0, 4, 8]
    assert figures.spread([5, 6], 3) == [5, 6]
    assert figures.spread([], 3) == []


def test_a_gallery_has_its_images_and_captions(tmp_path: Path, drawn: list[Figure]) -> None:
    rows = [[(POOL[3], "three"), (POOL[4], "four")], [(POOL[5], "five")]]
    figures.gallery(tmp_path / "g.png", "Some", rows)
    (figure,) = drawn
    assert sheet(figure) == [("three", 3), ("four", 4), ("five", 5)]
    assert figure.axes[0].get_title() == "Some"


def test_images_of_any_shape_keep_it_in_their_place(tmp_path: Path, drawn: list[Figure]) -> None:
    wide, high = np.zeros((20, 40, 3), np.uint8), np.zeros((40, 10, 3), np.uint8)
    figures.gallery(tmp_path / "g.png", "Some", [[(wide, "wide"), (high, "high")]])
    (axes,) = drawn[0].axes
    (left, right, bottom, upper), (other_left, other_right, other_bottom, other_upper) = (
        image.get_extent() for image in axes.get_images()
    )
    assert right - left == pytest.approx(2 * (bottom - upper))
    assert other_bottom - other_upper == pytest.approx(4 * (other_right - other_left))
    assert (right - left, bottom) == pytest.approx((other_bottom - other_upper, other_bottom))
    assert right < other_left


def test_an_empty_gallery_says_so(tmp_path: Path, drawn: list[Figure]) -> None:
    figures.gallery(tmp_path / "g.png", "Some", [])
    assert drawn[0].axes[0].get_title() == "Some: none"
    assert (tmp_path / "g.png").exists()


def test_neighbours_are_the_nearest_by_each_network(tmp_path: Path, drawn: list[Figure]) -> None:
    features = {"one": FEATURES, "two": FEATURES[::-1].copy()}
    figures.neighbours(tmp_path / "n.png", POOL, features, [7, 30], nearest=3)
    (figure,) = drawn
    shown = [grey for _, grey in sheet(figure)]
    expected = []
    for query in (7, 30):
        expected.append(query)
        for found in features.values():
            apart = [(float(((row - found[query]) ** 2).sum()), i) for i, row in enumerate(found) if i != query]
            expected += [i for _, i in sorted(apart)[:3]]
    assert shown == expected


# Names

NAMES = ["$\\frac$", "US$ and A$", "猫", "🐈‍⬛", "قطة", "_x", "a\nb", "x" * 5000, "\x00\udce9", "</svg>"]


@pytest.mark.filterwarnings("error:Glyph")
@pytest.mark.slow
def test_a_class_may_have_any_name(tmp_path: Path, drawn: list[Figure]) -> None:
    """Formulas ended the stage; letters that the font lacks are boxes, without a warning each."""
    figures.confusion(tmp_path / "confusion.png", np.eye(10), NAMES, "$\\frac$\nb")
    labels = [label.get_text() for label in drawn[0].axes[0].get_yticklabels()]
    assert labels[:7] == ["$\\frac$", "US$ and A$", "猫", "🐈 ⬛", "قطة", "_x", "a b"]
    assert [len(label) for label in labels[7:]] == [figures.ON_AN_AXIS, 0, 6]
    assert drawn[0].axes[0].get_title() == "$\\frac$ b: percent of each class, mean of the folds"
    figures.mistakes(tmp_path / "mistakes.png", POOL, [(i, (i + 1) % 10, 1.5) for i in range(10)], np.arange(60), NAMES)
    assert sheet(drawn[1])[0][0] == "$\\frac$, not US$ and A$\nimage 0, by 1.5"
    figures.neighbours(tmp_path / "neighbours.png", POOL, dict.fromkeys(NAMES, FEATURES), [1, 5], 5)
    entry = {"accuracy_mean": 50.0, "fold_accuracies": [50.0], "paper": None}
    rows = [{"title": name} | entry for name in NAMES]
    about = {"dataset": {"name": "$\\frac$\nb"}, "profile": "\x00own\udce9"}
    figures.results(tmp_path / "results.png", {"rows": rows} | about)
    assert drawn[3].axes[0].get_title() == "$\\frac$ b, profile own"
    with Image.open(tmp_path / "confusion.png") as saved:
        assert max(saved.size) < 1200, "a long name does not widen a picture beyond use"


def test_of_few_images_each_has_the_others_as_neighbours(tmp_path: Path, drawn: list[Figure]) -> None:
    class Few(Images):
        def __len__(self) -> int:
            return 3

    figures.neighbours(tmp_path / "neighbours.png", Few(), {"a": FEATURES[:3]}, [1], 5)
    assert len(sheet(drawn[0])) == 3, "the image and two others, not itself at an infinite distance"


def test_distances_are_taken_block_by_block_and_do_not_depend_on_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The features of many images would take gigabytes in float64."""
    taken = []

    class Spied(np.ndarray[Any, Any]):
        def astype(self, *options: Any, **more: Any) -> Any:
            taken.append(len(self))
            return np.asarray(self).astype(*options, **more)

    whole = np.linalg.norm(FEATURES.astype(np.float64) - FEATURES[7], axis=1)
    monkeypatch.setattr(figures, "ROWS", 7)
    assert (figures._distances(FEATURES.view(Spied), 7) == whole).all()
    assert taken == [7] * 8 + [4]
