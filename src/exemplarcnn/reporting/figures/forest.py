"""Draw differences between rows of the report as a forest plot: a point and its 95 % interval on each line."""

from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from exemplarcnn.reporting.differences import distinct, numbers
from exemplarcnn.reporting.figures import style
from exemplarcnn.reporting.figures.results import OURS
from exemplarcnn.reporting.figures.style import ON_AN_AXIS
from exemplarcnn.text import plain

# A hollow grey point differs from a filled blue one in lightness and shape, too: in print, and for every eye.
UNSURE, AGAINST = "#767676", "#595959"


def draw(path: Path, entries: list[dict[str, Any]], titles: dict[str, str]) -> None:
    """Draw differences in the order of the list, with names on the left, numbers on the right, and a line at zero.

    Parameters
    ----------
    path
        The file to write.
    entries
        As :func:`exemplarcnn.reporting.differences.between_rows` returns them; at least one.
    titles
        By variant, its title.
    """
    count = len(entries)
    figure = Figure(figsize=(4.2, 0.55 * count + 0.9))
    axes = figure.subplots()
    axes.axvline(0, color="black", linewidth=1)
    for place, entry in enumerate(entries):
        sure = distinct(entry)
        colour = OURS if sure else UNSURE
        axes.plot([entry["low"], entry["high"]], [place, place], color=colour, linewidth=2.5, solid_capstyle="butt")
        axes.plot(entry["difference"], place, "o", color=colour, markerfacecolor=colour if sure else "white", zorder=3)
        names = [plain(titles[entry[key]], ON_AN_AXIS) for key in ("variant", "against")]
        # Fractions of the axes across, rows down.
        words: dict[str, Any] = {"transform": axes.get_yaxis_transform(), "va": "center"}
        axes.text(-0.04, place - 0.18, names[0], ha="right", fontsize=10, **words)
        axes.text(-0.04, place + 0.22, f"against {names[1]}", ha="right", fontsize=8.5, color=AGAINST, **words)
        difference, interval = numbers(entry)
        axes.text(1.04, place - 0.18, difference, fontsize=10, **words)
        axes.text(1.04, place + 0.22, interval, fontsize=8.5, color=AGAINST, **words)
    axes.set_ylim(count - 0.4, -0.6)
    axes.set_yticks([])
    axes.grid(axis="x", color="#dddddd", linewidth=0.8)
    axes.set_axisbelow(True)
    for side in ("left", "top", "right"):
        axes.spines[side].set_visible(False)
    axes.set_xlabel("difference in test accuracy, points")
    style.save(figure, path)
