"""Outlines of the objects in the embedded sample: ten classes and some odd ones out.

An outline is a list of parts in a plane with y pointing down, reaching about one unit from the origin. Parts
are painted in order: a solid part adds its area, a cut takes it away again. Every function draws its
proportions at random, so that two objects of a class are never the same.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

Points = npt.NDArray[np.float64]
"""Corners of a polygon, shape (n, 2), as x and y."""

Outline = list[tuple[bool, Points]]
"""Parts in painting order: (True, corners) adds an area, (False, corners) cuts it out."""

Shape = Callable[[np.random.Generator], Outline]


def corners(*pairs: tuple[float, float]) -> Points:
    """Return the polygon through the given x, y pairs, shape (n, 2)."""
    return np.array(pairs, dtype=np.float64)


def box(left: float, top: float, right: float, bottom: float) -> Points:
    """Return an upright rectangle, shape (4, 2)."""
    return corners((left, top), (right, top), (right, bottom), (left, bottom))


def ellipse(x: float, y: float, rx: float, ry: float, points: int = 48) -> Points:
    """Return an ellipse around x, y with radii rx and ry, shape (points, 2)."""
    angle = np.linspace(0, 2 * np.pi, points, endpoint=False)
    return np.stack([x + rx * np.cos(angle), y + ry * np.sin(angle)], axis=1)


def disc(x: float, y: float, radius: float) -> Points:
    """Return a circle, shape (48, 2)."""
    return ellipse(x, y, radius, radius)


def mirrored(points: Points) -> Points:
    """Return the polygon of a right half (from top to bottom) and its mirror image."""
    return np.concatenate([points, points[::-1] * (-1, 1)])


def polar(angles: Points, radii: Points) -> Points:
    """Return the polygon through points given by angle (radians) and radius, both (n,)."""
    return np.stack([radii * np.cos(angles), radii * np.sin(angles)], axis=1)


# --- the ten classes -----------------------------------------------------------------------------


def arrow(rng: np.random.Generator) -> Outline:
    """Return a straight arrow that points up."""
    head, shaft, neck = rng.uniform(0.55, 0.8), rng.uniform(0.16, 0.26), rng.uniform(-0.3, 0.0)
    return [(True, mirrored(corners((0, -1), (head, neck), (shaft, neck), (shaft, 1))))]


def bolt(rng: np.random.Generator) -> Outline:
    """Return a lightning bolt."""
    slant, waist, wing = rng.uniform(0.1, 0.3), rng.uniform(0.0, 0.15), rng.uniform(0.5, 0.65)
    upper = corners((slant + 0.35, -1), (-wing, waist), (-0.05, waist))
    return [(True, np.concatenate([upper, -upper]))]


def cross(rng: np.random.Generator) -> Outline:
    """Return a cross of two equal bars."""
    half = rng.uniform(0.2, 0.32)
    return [(True, box(-half, -1, half, 1)), (True, box(-1, -half, 1, half))]


def fish(rng: np.random.Generator) -> Outline:
    """Return a fish that swims to the left."""
    height, tail, fin = rng.uniform(0.38, 0.5), rng.uniform(0.4, 0.55), rng.uniform(0.15, 0.3)
    return [
        (True, ellipse(-0.25, 0, 0.75, height)),
        (True, corners((0.25, 0), (1, -tail), (0.8, 0), (1, tail))),
        (True, corners((-0.45, -height * 0.8), (0.1, -height - fin), (0.2, -height * 0.6))),
        (False, disc(-0.65, -0.1, 0.08)),
    ]


def gear(rng: np.random.Generator) -> Outline:
    """Return a toothed wheel with a hole."""
    teeth, root, hole = int(rng.integers(7, 10)), rng.uniform(0.68, 0.76), rng.uniform(0.25, 0.42)
    step = 2 * np.pi / teeth
    flank = np.array([-0.30, -0.20, 0.20, 0.30]) * step
    angles = (np.arange(teeth)[:, None] * step + flank).ravel()
    return [(True, polar(angles, np.tile([root, 1, 1, root], teeth))), (False, disc(0, 0, hole))]


def heart(rng: np.random.Generator) -> Outline:
    """Return a heart: two round lobes and a point."""
    lobe, apart = rng.uniform(0.46, 0.54), rng.uniform(0.42, 0.48)
    slope = np.arctan2(1.4, apart) - np.arccos(lobe / np.hypot(1.4, apart))  # where the tangent touches
    touch = (apart + lobe * np.cos(slope), -0.4 + lobe * np.sin(slope))
    flank = mirrored(corners((0, -0.4 - lobe * 0.3), (apart, -0.4), touch, (0, 1)))
    return [(True, disc(-apart, -0.4, lobe)), (True, disc(apart, -0.4, lobe)), (True, flank)]


def key(rng: np.random.Generator) -> Outline:
    """Return a key with a round bow and two or three bits."""
    bow, half, length = rng.uniform(0.4, 0.5), rng.uniform(0.09, 0.13), rng.uniform(0.28, 0.42)
    parts = [
        (True, disc(0, -1 + bow, bow)),
        (False, disc(0, -1 + bow, bow * rng.uniform(0.45, 0.6))),
        (True, box(-half, -1 + 1.9 * bow, half, 1)),
    ]
    for top in (0.78, 0.42, 0.06)[: int(rng.integers(2, 4))]:
        parts.append((True, box(0, top, half + length, top + 0.2)))
    return parts


def moon(rng: np.random.Generator) -> Outline:
    """Return a crescent, open to the right."""
    return [(True, disc(0, 0, 1)), (False, disc(rng.uniform(0.45, 0.65), 0, rng.uniform(0.72, 0.82)))]


def mug(rng: np.random.Generator) -> Outline:
    """Return a mug with its handle on the right."""
    taper, handle, half = rng.uniform(0, 0.18), rng.uniform(0.42, 0.52), rng.uniform(0.7, 0.9)
    return [
        (True, disc(0.35, 0, handle)),
        (False, disc(0.35, 0, handle * 0.55)),
        (True, corners((-0.85, -half), (0.4, -half), (0.4 - taper, half), (-0.85 + taper, half))),
    ]


def star(rng: np.random.Generator) -> Outline:
    """Return a star with five points."""
    angles = np.arange(10) * np.pi / 5 - np.pi / 2
    return [(True, polar(angles, np.tile([1, rng.uniform(0.38, 0.48)], 5)))]


# --- odd objects: out of distribution -------------------------------------------------------------


def bottle(rng: np.random.Generator) -> Outline:
    """Return a bottle."""
    body, neck, shoulder = rng.uniform(0.3, 0.42), rng.uniform(0.1, 0.16), rng.uniform(-0.3, 0.0)
    return [(True, mirrored(corners((neck, -1), (neck, shoulder - 0.25), (body, shoulder), (body, 1))))]


def butterfly(rng: np.random.Generator) -> Outline:
    """Return a butterfly with four wings."""
    upper, lower = rng.uniform(0.4, 0.5), rng.uniform(0.3, 0.4)
    wings = [disc(side * 0.52, -0.4, upper) for side in (-1, 1)]
    wings += [disc(side * 0.42, 0.45, lower) for side in (-1, 1)]
    return [(True, wing) for wing in [*wings, ellipse(0, 0, 0.12, 0.85)]]


def clover(rng: np.random.Generator) -> Outline:
    """Return a clover leaf: three round lobes on a stalk."""
    lobe, stalk = rng.uniform(0.38, 0.45), rng.uniform(0.08, 0.14)
    lobes = [disc(0, -0.55, lobe), disc(-0.48, 0.15, lobe), disc(0.48, 0.15, lobe)]
    return [(True, part) for part in [*lobes, disc(0, -0.1, 0.3), box(-stalk, 0, stalk, 1)]]


def hourglass(rng: np.random.Generator) -> Outline:
    """Return an hourglass between two boards."""
    width, waist = rng.uniform(0.5, 0.65), rng.uniform(0.06, 0.12)
    glass = mirrored(corners((width, -0.8), (waist, 0), (width, 0.8)))
    return [(True, part) for part in (glass, box(-0.75, -1, 0.75, -0.78), box(-0.75, 0.78, 0.75, 1))]


def mushroom(rng: np.random.Generator) -> Outline:
    """Return a mushroom."""
    cap, foot = rng.uniform(0.75, 0.95), rng.uniform(0.2, 0.3)
    dome = ellipse(0, 0.1, 1, cap)
    return [(True, dome[dome[:, 1] <= 0.11]), (True, corners((-0.2, 0), (0.2, 0), (foot, 1), (-foot, 1)))]


def spiral(rng: np.random.Generator) -> Outline:
    """Return a spiral band of about two turns."""
    angles = np.linspace(0, 2 * np.pi * rng.uniform(1.7, 2.2), 96)
    radii = 0.1 + 0.8 * angles / angles[-1]
    band = rng.uniform(0.1, 0.13)
    return [(True, np.concatenate([polar(angles, radii - band), polar(angles, radii + band)[::-1]]))]


CLASSES: tuple[Shape, ...] = (arrow, bolt, cross, fish, gear, heart, key, moon, mug, star)
"""The ten classes in the order of their labels."""

ODD: tuple[Shape, ...] = (bottle, butterfly, clover, hourglass, mushroom, spiral)
"""Objects of no class."""
