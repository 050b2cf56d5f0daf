"""The embedded sample: a small stand-in for STL-10, drawn from a seed (docs/method.md, section 1).

Ten classes of objects that differ only in shape, in STL-10's layout. Defects are planted among the unlabelled images,
and a table records them, so that the audit can be scored. Every picture can be drawn alone: its random numbers come
from (seed, stream, index).
"""

import csv
import dataclasses
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from exemplarcnn.data.stl10 import CLASSES as CLASS_COUNT
from exemplarcnn.data.stl10 import FOLDS, SIDE, write_class_names, write_folds, write_images, write_labels
from exemplarcnn.files import atomic_write, write_json
from exemplarcnn.sample.scene import Image, draw_scene
from exemplarcnn.sample.shapes import CLASSES, ODD, Shape

VERSION = 1
"""Raise this whenever a seed gives other pictures than before."""

ORDINARY, NEAR_DUPLICATE, BLACK_BORDER = "ordinary", "near_duplicate", "black_border"
DARK_EDGE_DECOY, OUT_OF_DISTRIBUTION = "dark_edge_decoy", "out_of_distribution"

KINDS = {
    ORDINARY: 385,
    NEAR_DUPLICATE: 45,
    BLACK_BORDER: 45,
    DARK_EDGE_DECOY: 20,
    OUT_OF_DISTRIBUTION: 45,
}
"""Unlabelled images of each kind."""

TRAIN, TEST, OTHER = 300, 500, 60
FOLD = 100

MAX_SHIFT = 6  # pixels
JPEG_QUALITY = (40, 90)
BRIGHTNESS = (0.8, 1.2)
BORDER = (2, 12)  # pixels
BORDER_SIDES = (
    ("top", "bottom"),
    ("left", "right"),
    ("top", "bottom", "left", "right"),
    ("bottom",),
    ("right",),
)
DECOYS = ("band", "wedge", "vignette")

EXTENT = (50.0, 74.0)  # longer side of an object's bounding box, pixels
JITTER = 5.0  # pixels
OTHER_SIDE = (96, 200)
OTHER_EXTENT = (36.0, 56.0)
OTHER_SLOT = 48  # width for each object, pixels

SHAPES = {shape.__name__: shape for shape in (*CLASSES, *ODD)}
CLASS_NAMES = [shape.__name__ for shape in CLASSES]

_STREAMS = {"plan": 1, "folds": 2, "unlabeled": 3, "train": 4, "test": 5, "other": 6}


@dataclass(frozen=True)
class Truth:
    """What one unlabelled image shows; a row of ``truth.csv``. Fields that do not apply are None.

    Attributes
    ----------
    index : int
        Position in the unlabelled file.
    kind : str
        A key of `KINDS`.
    object : str
        Name of the outline that is drawn.
    original : int or None
        Of a near duplicate: index of the ordinary image it copies.
    shift_y, shift_x : int or None
        Of a near duplicate: pixels that the content moved down and to the right.
    brightness : float or None
        Of a near duplicate: factor on every channel, applied before encoding.
    jpeg_quality : int or None
        Of a near duplicate: quality of its JPEG encoding, 0–100.
    border_top, border_bottom, border_left, border_right : int or None
        Of a black border: its width on each side in pixels.
    decoy : str or None
        Of a decoy: what makes its edge dark, one of `DECOYS`.
    """

    index: int
    kind: str
    object: str
    original: int | None = None
    shift_y: int | None = None
    shift_x: int | None = None
    brightness: float | None = None
    jpeg_quality: int | None = None
    border_top: int | None = None
    border_bottom: int | None = None
    border_left: int | None = None
    border_right: int | None = None
    decoy: str | None = None


def write_sample(folder: Path, seed: int = 0) -> None:
    """Draw the sample and write it in STL-10's layout (docs/method.md, section 1).

    Beside STL-10's files, write ``other/`` (pictures of mixed sizes), ``truth.csv`` (one `Truth` per row) and
    ``sample.json`` (seed, version and counts). The same seed gives the same bytes.

    Parameters
    ----------
    folder : Path
        Where to write. The folder is made if missing; files of the same names are replaced.
    seed : int
        Any integer from 0 on.
    """
    folder.mkdir(parents=True, exist_ok=True)
    truths = plan_unlabeled(seed)
    unlabeled = np.stack([draw_unlabeled(seed, truths, index) for index in range(len(truths))])
    write_images(folder / "unlabeled_X.bin", unlabeled)
    _write_truths(folder / "truth.csv", truths)
    for split, count in (("train", TRAIN), ("test", TEST)):
        labels = np.arange(count) % CLASS_COUNT
        pictures = [_draw_single(seed, split, i, CLASSES[label]) for i, label in enumerate(labels)]
        write_images(folder / f"{split}_X.bin", np.stack([_crop(picture) for picture in pictures]))
        write_labels(folder / f"{split}_y.bin", labels)
    write_folds(folder / "fold_indices.txt", draw_folds(seed, np.arange(TRAIN) % CLASS_COUNT))
    write_class_names(folder / "class_names.txt", CLASS_NAMES)
    for index in range(OTHER):
        _write_png(folder / "other" / f"{index:03d}.png", draw_other(seed, index))
    counts = {"unlabeled": len(truths), "train": TRAIN, "test": TEST, "other": OTHER}
    kinds = Counter(truth.kind for truth in truths)
    write_json(folder / "sample.json", {"seed": seed, "version": VERSION, "counts": counts, "kinds": kinds})


def _generator(seed: int, stream: str, index: int = 0) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=np.array([seed, _STREAMS[stream] << 32 | index], np.uint64)))


# --- what the unlabelled images are ---------------------------------------------------------------


def plan_unlabeled(seed: int) -> list[Truth]:
    """Decide kind, object and defect of every unlabelled image, in file order."""
    rng = _generator(seed, "plan")
    kinds = rng.permutation([kind for kind, count in KINDS.items() for _ in range(count)])
    truths = [_plan_one(rng, index, str(kind)) for index, kind in enumerate(kinds)]
    originals = iter(rng.permutation(np.flatnonzero(kinds == ORDINARY)))  # each is copied at most once
    for index in np.flatnonzero(kinds == NEAR_DUPLICATE):
        original = int(next(originals))
        truths[index] = dataclasses.replace(truths[index], original=original, object=truths[original].object)
    return truths


def _plan_one(rng: np.random.Generator, index: int, kind: str) -> Truth:
    outlines = ODD if kind == OUT_OF_DISTRIBUTION else CLASSES
    truth = Truth(index, kind, outlines[index % len(outlines)].__name__)
    if kind == NEAR_DUPLICATE:
        return dataclasses.replace(
            truth,
            shift_y=int(rng.integers(-MAX_SHIFT, MAX_SHIFT + 1)),
            shift_x=int(rng.integers(-MAX_SHIFT, MAX_SHIFT + 1)),
            brightness=round(rng.uniform(*BRIGHTNESS), 3),
            jpeg_quality=int(rng.integers(*JPEG_QUALITY, endpoint=True)),
        )
    if kind == BLACK_BORDER:
        sides = BORDER_SIDES[rng.integers(len(BORDER_SIDES))]
        width = int(rng.integers(*BORDER, endpoint=True))
        return dataclasses.replace(
            truth,
            border_top=width * ("top" in sides),
            border_bottom=width * ("bottom" in sides),
            border_left=width * ("left" in sides),
            border_right=width * ("right" in sides),
        )
    if kind == DARK_EDGE_DECOY:
        return dataclasses.replace(truth, decoy=str(rng.choice(DECOYS)))
    return truth


def _write_truths(path: Path, truths: list[Truth]) -> None:
    """Write the truth table; the class is empty for objects outside the ten classes."""
    with atomic_write(path) as partial, partial.open("w", newline="") as file:
        details = [field.name for field in dataclasses.fields(Truth)]
        writer = csv.DictWriter(file, ["index", "class", *details[1:]], lineterminator="\n")
        writer.writeheader()
        for truth in truths:
            name = truth.object if truth.object in CLASS_NAMES else ""
            writer.writerow({**dataclasses.asdict(truth), "class": name})


def draw_folds(seed: int, labels: npt.NDArray[np.int64]) -> list[npt.NDArray[np.int64]]:
    """Draw ten folds of `FOLD` indices, each ascending and with the same number from each class."""
    rng = _generator(seed, "folds")
    of_class = [np.flatnonzero(labels == label) for label in range(CLASS_COUNT)]
    each = FOLD // CLASS_COUNT
    return [
        np.sort(np.concatenate([rng.choice(members, each, replace=False) for members in of_class]))
        for _ in range(FOLDS)
    ]


# --- pictures -------------------------------------------------------------------------------------


def draw_unlabeled(seed: int, truths: list[Truth], index: int) -> Image:
    """Draw one unlabelled image, (96, 96, 3) uint8, with its defect."""
    truth = truths[index]
    source = index if truth.original is None else truth.original
    picture = _draw_single(seed, "unlabeled", source, SHAPES[truth.object])
    if truth.kind == NEAR_DUPLICATE:
        return _near_duplicate(picture, truth)
    if truth.kind == BLACK_BORDER:
        return _with_border(_crop(picture), truth)
    if truth.kind == DARK_EDGE_DECOY:
        return _with_dark_edge(_crop(picture), truth, _generator(seed, "plan", 1 + index))
    return _crop(picture)


def draw_other(seed: int, index: int) -> Image:
    """Draw one picture of the second pool: two objects or more, each side at least 96 pixels."""
    rng = _generator(seed, "other", index)
    height, width = (int(side) for side in rng.integers(*OTHER_SIDE, size=2, endpoint=True))
    outlines = list(SHAPES.values())
    shapes = [outlines[i] for i in rng.integers(len(outlines), size=width // OTHER_SLOT)]
    return draw_scene(rng, shapes, height, width, extent=OTHER_EXTENT, jitter=(6.0, height / 2 - 30))


def _draw_single(seed: int, stream: str, index: int, shape: Shape) -> Image:
    """Draw one object with a margin of `MAX_SHIFT` around the final picture, for shifted copies."""
    side = SIDE + 2 * MAX_SHIFT
    rng = _generator(seed, stream, index)
    return draw_scene(rng, [shape], side, side, extent=EXTENT, jitter=(JITTER, JITTER))


def _crop(picture: Image, down: int = 0, right: int = 0) -> Image:
    """Crop the final picture, with its content moved down and to the right by so many pixels."""
    top, left = MAX_SHIFT - down, MAX_SHIFT - right
    return picture[top : top + SIDE, left : left + SIDE].copy()


def _near_duplicate(picture: Image, truth: Truth) -> Image:
    """Shift, brighten or darken, and re-encode a picture."""
    assert truth.shift_y is not None and truth.shift_x is not None
    assert truth.brightness is not None and truth.jpeg_quality is not None
    moved = _crop(picture, truth.shift_y, truth.shift_x)
    lit = np.clip(np.rint(moved * truth.brightness), 0, 255).astype(np.uint8)
    _, encoded = cv2.imencode(".jpg", lit[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, truth.jpeg_quality])
    return np.asarray(cv2.imdecode(encoded, cv2.IMREAD_COLOR_RGB), np.uint8)


def _with_border(image: Image, truth: Truth) -> Image:
    """Blacken the planned rows and columns along the edges."""
    inside = np.zeros((SIDE, SIDE, 1), np.uint8)
    bottom, right = SIDE - (truth.border_bottom or 0), SIDE - (truth.border_right or 0)
    inside[truth.border_top : bottom, truth.border_left : right] = 1
    return image * inside


def _with_dark_edge(image: Image, truth: Truth, rng: np.random.Generator) -> Image:
    """Darken an edge without making a black border: not black, not straight, or not sharp."""
    side = int(rng.integers(4))
    turned = np.rot90(image, side).copy()  # the edge in question is now on top
    if truth.decoy == "band":  # straight and sharp, but of a dark colour
        turned[: int(rng.integers(3, 12))] = rng.integers(20, 50, 3)
    elif truth.decoy == "wedge":  # black and sharp, but slanted and never over the whole edge
        reach = int(rng.integers(50, 85))
        triangle = np.array([[0, 0], [reach, 0], [0, int(rng.integers(8, 20))]], np.int32)
        cv2.fillPoly(turned, [triangle], (0.0, 0.0, 0.0))
    else:  # vignette: dark at the edge, fading over many pixels
        depth = rng.uniform(15, 30)
        fade = np.clip((np.arange(SIDE) + 1) / depth, 0.15, 1)
        turned = np.rint(turned * fade[:, None, None]).astype(np.uint8)
    return np.rot90(turned, -side).copy()


def _write_png(path: Path, picture: Image) -> None:
    _, encoded = cv2.imencode(".png", picture[..., ::-1])
    with atomic_write(path) as partial:
        partial.write_bytes(encoded.tobytes())
