"""Share among all pictures: fonts for any name, limits on names and classes, and how a picture is saved."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import matplotlib
from matplotlib import font_manager
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

from exemplarcnn.files import atomic_write

matplotlib.use("Agg")
matplotlib.rcParams["text.parse_math"] = False  # a class may be called US$ and A$, or $\frac$
# For letters that matplotlib's own font lacks: the first of these that is installed and has them is used.
FALLBACKS = (
    "Noto Sans CJK SC",
    "WenQuanYi Zen Hei",
    "PingFang SC",
    "Microsoft YaHei",
    "Noto Sans Arabic",
    "Noto Sans Hebrew",
    "Noto Sans Devanagari",
    "Noto Sans Thai",
    "Noto Emoji",
)
INSTALLED = {font.name for font in font_manager.fontManager.ttflist}
matplotlib.rcParams["font.family"] = ["DejaVu Sans", *(name for name in FALLBACKS if name in INSTALLED), "sans-serif"]

# How many letters of a name fit.
IN_A_TILE, ON_AN_AXIS, IN_A_TITLE = 10, 30, 60
CLASSES = 20  # up to this many are shown one by one, each with its numbers or its row of images


@contextmanager
def without_missing_letters() -> Iterator[None]:
    """Suppress warnings about letters that no installed font has; each is drawn as an empty box."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from")
        yield


def save(figure: Figure, path: Path, box: Bbox | None = None) -> None:
    """Write a picture as PNG: what is in a box, in inches from the lower left; by default all that is drawn."""
    with atomic_write(path) as partial, without_missing_letters():
        # To find out how much is drawn, matplotlib draws everything twice. It would also write its own version.
        figure.savefig(partial, dpi=110, bbox_inches=box or "tight", metadata={"Software": None})
