"""Draw the table of results as bars."""

from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from exemplarcnn.reporting.figures import style
from exemplarcnn.reporting.figures.style import IN_A_TITLE
from exemplarcnn.text import plain

OURS, PAPER = "#2a6fb0", "#c9c9c9"


def draw(path: Path, gathered: dict[str, Any]) -> None:
    """Draw our accuracies as bars, the folds as dots, and the paper's figures as separate lines.

    If nothing was tested, draw the share of validation patches that each network classifies correctly.
    """
    rows = gathered["rows"] or [
        {"title": entry["title"], "accuracy_mean": entry["valid_accuracy"], "fold_accuracies": [], "paper": None}
        for entry in gathered["learned"]
    ]
    figure = Figure(figsize=(7.2, 0.7 * len(rows) + 1.2))
    axes = figure.subplots()
    for place, row in enumerate(rows):
        axes.barh(place, row["accuracy_mean"], color=OURS, height=0.55, label="this run" if place == 0 else None)
        axes.plot(row["fold_accuracies"], [place] * len(row["fold_accuracies"]), "k.", markersize=3)
        axes.text(1, place, f"{row['accuracy_mean']:.1f}", va="center", color="white")
        if row["paper"]:
            axes.plot([row["paper"]["mean"]] * 2, [place - 0.38, place + 0.38], color=PAPER, linewidth=4, zorder=0)
    if any(row["paper"] for row in rows):
        axes.plot([], [], color=PAPER, linewidth=4, label="the paper, on all of STL-10")
    if gathered["rows"]:
        axes.plot([], [], "k.", markersize=3, label="single folds")
    axes.set_yticks(range(len(rows)), [plain(row["title"], IN_A_TITLE) for row in rows])
    axes.invert_yaxis()
    axes.set_xlim(0, 100)
    axes.set_xlabel("test accuracy, %" if gathered["rows"] else "validation patches told right, %")
    name = plain(gathered["dataset"]["name"], IN_A_TITLE)
    axes.set_title(f"{name}, profile {plain(gathered['profile'], IN_A_TITLE)}", fontsize=10)
    figure.legend(fontsize=8, loc="upper center", bbox_to_anchor=(0.5, 0.0), ncol=3, frameon=False)
    style.save(figure, path)
