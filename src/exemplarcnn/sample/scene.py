"""Pictures of the embedded sample: solid objects in front of a clutter of flat, coloured areas.

Only the outline tells the objects apart. Pose, size, colours, light and background are drawn in the same way for every
object, and an object is as often lighter than its background as darker. Areas are flat (no noise, few gradients), so
the pictures compress well.
"""

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from exemplarcnn.sample.shapes import Outline, Points, Shape, box, ellipse

Image = npt.NDArray[np.uint8]
"""RGB picture, shape (height, width, 3), or a mask, shape (height, width), 0 or 255."""

OVERSAMPLING = 4
"""Everything is drawn this many times larger and then averaged down, which smooths the outlines."""

MAX_TURN = np.pi / 6
"""Largest rotation of an object, radians: objects stand roughly upright, as in most photographs."""

_FRACTION_BITS = 4  # sub-pixel bits of OpenCV's polygon corners


@dataclass(frozen=True)
class Palette:
    """Ranges of luma (0 to 255) that keep object and background apart."""

    background: tuple[float, float]
    face: tuple[float, float]


LIGHT_ON_DARK = Palette(background=(28, 120), face=(170, 240))
DARK_ON_LIGHT = Palette(background=(135, 235), face=(28, 85))


def draw_scene(
    rng: np.random.Generator,
    shapes: list[Shape],
    height: int,
    width: int,
    *,
    extent: tuple[float, float],
    jitter: tuple[float, float],
) -> Image:
    """Draw objects on a cluttered background.

    Parameters
    ----------
    rng : Generator
        Source of all random numbers.
    shapes : list of Shape
        Objects from back to front. One stands near the centre; several stand side by side.
    height, width : int
        Size of the picture in pixels.
    extent : (float, float)
        Range of the longer side of an object's bounding box, in pixels.
    jitter : (float, float)
        Largest distance of an object from its place along x and y, in pixels.

    Returns
    -------
    (height, width, 3) uint8
        The picture, RGB.
    """
    canvas = np.zeros((height * OVERSAMPLING, width * OVERSAMPLING, 3), np.uint8)
    palette = LIGHT_ON_DARK if rng.random() < 0.5 else DARK_ON_LIGHT
    _paint_background(rng, canvas, palette)
    _paint_fragments(rng, canvas, palette)
    for place, shape in enumerate(shapes):
        centre = np.array([width * (place + 0.5) / len(shapes), height / 2])
        centre += rng.uniform(-1, 1, 2) * jitter
        outline = _pose(rng, shape(rng), rng.uniform(*extent))
        placed = [(solid, (points + centre) * OVERSAMPLING) for solid, points in outline]
        _paint_object(rng, canvas, placed, palette)
    return _as_image(cv2.resize(canvas, (width, height), interpolation=cv2.INTER_AREA))


def _as_image(array: npt.NDArray[np.generic]) -> Image:
    return np.ascontiguousarray(array, dtype=np.uint8)


def _fill(target: Image, points: Points, colour: float | Points) -> None:
    """Fill a polygon (n, 2), in pixels of `target`, with one colour."""
    fixed = np.rint(points * (1 << _FRACTION_BITS)).astype(np.int32)
    value = [float(v) for v in np.atleast_1d(colour)]
    cv2.fillPoly(target, [fixed], value, lineType=cv2.LINE_8, shift=_FRACTION_BITS)


def _strip(canvas: Image, start: float, stop: float, angle: float, middle: Points) -> Points:
    """Return a strip across the whole canvas, from `start` to `stop` pixels beside `middle`, shape (4, 2)."""
    reach = float(sum(canvas.shape[:2]))
    return _turn(box(-reach, start, reach, stop), angle) + middle


def _turn(points: Points, angle: float) -> Points:
    """Rotate points (n, 2) about the origin by an angle in radians."""
    cos, sin = np.cos(angle), np.sin(angle)
    turned: Points = points @ np.array([[cos, sin], [-sin, cos]])
    return turned


def _centre(canvas: Image) -> Points:
    return np.array([canvas.shape[1] / 2, canvas.shape[0] / 2])


def _random_point(rng: np.random.Generator, canvas: Image) -> Points:
    return rng.uniform(0, 2, 2) * _centre(canvas)


def _colour(rng: np.random.Generator, luma: tuple[float, float]) -> Points:
    """Return an RGB colour of random hue and saturation with a luma from the given range, shape (3,)."""
    aim, hue, saturation = rng.uniform(*luma), rng.uniform(0, 6), rng.uniform(0.15, 0.95)
    ramp = np.clip(np.abs((hue + np.array([0.0, 4.0, 2.0])) % 6 - 3) - 1, 0, 1)
    rgb: Points = 255 * (1 - saturation * (1 - ramp))
    own = float(rgb @ (0.299, 0.587, 0.114))
    if own > aim:  # too bright: towards black, else towards white
        return rgb * (aim / own)
    return rgb + (255 - rgb) * ((aim - own) / (255 - own + 1e-9))


# --- background ----------------------------------------------------------------------------------


def _paint_background(rng: np.random.Generator, canvas: Image, palette: Palette) -> None:
    """Cover the canvas with bands, large areas and, at times, stripes."""
    _paint_bands(rng, canvas, palette)
    for _ in range(rng.integers(2, 6)):
        _fill(canvas, _area(rng, canvas), _colour(rng, palette.background))
    if rng.random() < 0.4:
        _paint_stripes(rng, canvas, palette)


def _area(rng: np.random.Generator, canvas: Image) -> Points:
    """Return a large ellipse, a triangle to pentagon or a bar, anywhere on the canvas."""
    kind, angle, middle = rng.integers(3), rng.uniform(0, 2 * np.pi), _random_point(rng, canvas)
    if kind == 2:
        half = rng.uniform(0.01, 0.06) * max(canvas.shape)
        return _strip(canvas, -half, half, angle, middle)
    rx, ry = rng.uniform(0.1, 0.45, 2) * max(canvas.shape)
    points = 48 if kind == 0 else int(rng.integers(3, 6))
    return _turn(ellipse(0, 0, rx, ry, points), angle) + middle


def _paint_bands(rng: np.random.Generator, canvas: Image, palette: Palette) -> None:
    """Cover the canvas with two to six parallel bands from one colour to another."""
    angle, reach = rng.uniform(0, 2 * np.pi), float(np.hypot(*canvas.shape[:2]))
    first, last = _colour(rng, palette.background), _colour(rng, palette.background)
    for fraction in np.linspace(0, 1, int(rng.integers(2, 7))):
        edge = reach * (fraction * 0.8 - 0.5)  # the last band keeps a fifth of the width
        _fill(canvas, _strip(canvas, edge, reach, angle, _centre(canvas)), first + (last - first) * fraction)


def _paint_stripes(rng: np.random.Generator, canvas: Image, palette: Palette) -> None:
    """Lay parallel stripes of one colour over the canvas."""
    angle, reach = rng.uniform(0, 2 * np.pi), float(np.hypot(*canvas.shape[:2]))
    colour = _colour(rng, palette.background)
    period = rng.uniform(6, 16) * OVERSAMPLING
    thickness = period * rng.uniform(0.2, 0.5)
    for start in np.arange(-reach / 2, reach / 2, period):
        _fill(canvas, _strip(canvas, start, start + thickness, angle, _centre(canvas)), colour)


def _paint_fragments(rng: np.random.Generator, canvas: Image, palette: Palette) -> None:
    """Scatter small pieces as bright (or dark) as an object."""
    for _ in range(rng.integers(3, 8)):
        rx, ry = rng.uniform(1.5, 7, 2) * OVERSAMPLING
        piece = ellipse(0, 0, rx, ry, points=int(rng.choice([3, 4, 4, 5, 24])))
        placed = _turn(piece, rng.uniform(0, 2 * np.pi)) + _random_point(rng, canvas)
        _fill(canvas, placed, _colour(rng, palette.face))


# --- objects -------------------------------------------------------------------------------------


def _pose(rng: np.random.Generator, outline: Outline, extent: float) -> Outline:
    """Turn, stretch and tilt an outline; centre its bounding box on 0, its longer side `extent` pixels."""
    flip, angle = rng.choice([-1.0, 1.0]), rng.uniform(-MAX_TURN, MAX_TURN)
    stretch, shear, tilt = rng.uniform(0.8, 1.25), rng.uniform(-0.2, 0.2), rng.uniform(-0.15, 0.15, 2)
    matrix = np.array([[flip * stretch, 0.0], [shear, 1 / stretch]])
    posed = []
    for solid, points in outline:
        flat = _turn(points @ matrix, angle)
        posed.append((solid, flat / (1 + flat @ tilt)[:, None]))
    added = np.concatenate([points for solid, points in posed if solid])  # a cut may reach beyond the object
    low, high = added.min(axis=0), added.max(axis=0)
    scale = extent / float((high - low).max())
    return [(solid, (points - (low + high) / 2) * scale) for solid, points in posed]


def _paint_object(rng: np.random.Generator, canvas: Image, outline: Outline, palette: Palette) -> None:
    """Paint a solid object: its shadow, its side, its face and a facet of the face in another light."""
    face = np.zeros(canvas.shape[:2], np.uint8)
    for solid, points in outline:
        _fill(face, points, 255.0 if solid else 0.0)
    angle = rng.uniform(0, 2 * np.pi)
    light = np.array([np.cos(angle), np.sin(angle)])
    depth = rng.uniform(1.0, 4.0) * OVERSAMPLING
    side = _swept(face, light * depth)
    if rng.random() < 0.6:
        shadow = _moved(side, light * depth * rng.uniform(1.0, 2.0)) > 0
        canvas[shadow] = canvas[shadow] * rng.uniform(0.6, 0.8)
    colour = _colour(rng, palette.face)
    canvas[side > 0] = colour * rng.uniform(0.5, 0.75)
    canvas[face > 0] = colour
    if rng.random() < 0.6:
        facet = np.zeros_like(face)
        middle = outline[0][1].mean(axis=0)
        _fill(facet, _strip(canvas, 0, sum(canvas.shape), rng.uniform(0, 2 * np.pi), middle), 255.0)
        canvas[(facet & face) > 0] = colour * rng.uniform(0.75, 0.9)


def _moved(mask: Image, by: Points) -> Image:
    """Return a mask moved by x, y pixels; nothing comes in from outside."""
    shift = np.array([[1, 0, round(float(by[0]))], [0, 1, round(float(by[1]))]], np.float64)
    return _as_image(cv2.warpAffine(mask, shift, mask.shape[::-1], flags=cv2.INTER_NEAREST))


def _swept(mask: Image, by: Points) -> Image:
    """Return the area a mask covers while it moves by x, y pixels."""
    swept = mask
    steps = 1
    length = max(1, int(np.abs(by).max()))
    while steps <= length:  # each round doubles the distance covered
        step = min(steps, length + 1 - steps)
        swept = swept | _moved(swept, by / length * step)
        steps += step
    return swept
