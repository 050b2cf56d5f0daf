"""One HTML page with everything that a run has found: for people who would rather look than read.

It is made from the outs that lie in the folder and from the MLflow store, holds all its pictures, and may say what no
out of DVC may: when, how long, on which machine, at which commit. So it is no out itself.
"""

import base64
import io
import platform
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from typing import Any

import jinja2
import matplotlib
import numpy as np
import pandas as pd
from markupsafe import Markup, escape
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from exemplarcnn import config as configuration
from exemplarcnn import paths
from exemplarcnn.classes import tables as classes
from exemplarcnn.config import Config
from exemplarcnn.errors import PipelineError
from exemplarcnn.files import atomic_write, read_table
from exemplarcnn.reporting import report
from exemplarcnn.reporting.figures import style
from exemplarcnn.text import plain
from exemplarcnn.tracking import repository, store, timings
from exemplarcnn.tracking.parameters import flatten

# Photographs are kept at this width at most: two pixels for each of a page's.
WIDEST = 1600
QUALITY = 82
GREY = "#8a8a8a"  # legible on white and on black
CURVES = ("train_loss", "valid_loss", "valid_accuracy")
LINES = ("#3b82c4", "#e08a2e", "#4fa36a", "#c95d86", "#8c76c9", "#7d8a94")


class PageError(PipelineError):
    """There is nothing to make a page of."""


def write(path: Path, config: Config, conf: Path) -> None:
    """Write the page.

    Parameters
    ----------
    path
        Where to.
    config, conf
        The parameters, and the folder of the profiles.

    Raises
    ------
    PageError, report.ReportError
        If the pipeline has not been run to its end, with these parameters and this code.
    """
    results = report.read()
    if results["profile"] != config.profile:
        raise PageError(
            f"{paths.RESULTS_JSON} is of profile {results['profile']}, params.yaml of {config.profile}: run `dvc repro`"
        )
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    environment.filters |= {"picture": picture, "code": code}
    template = environment.from_string(files("exemplarcnn.reporting").joinpath("page.html").read_text(encoding="utf-8"))
    with atomic_write(path) as partial:
        partial.write_text(template.render(**_values(results, config, conf)), encoding="utf-8")


def _values(results: dict[str, Any], config: Config, conf: Path) -> dict[str, Any]:
    titles = report.titles(results)
    return {
        "results": results,
        "titles": titles,
        "dataset": report.describe_dataset(results),
        "not_tested": report.NOT_TESTED,
        "differences": [report.describe_difference(each, titles) for each in report.shown_differences(results)],
        "tables": {
            "results": report.frame(results),
            "task": report.surrogate_task(results),
            "otherwise": report.judged_otherwise(results),
            "classes": report.by_class(results),
            "audit": report.audit_table(results),
        },
        "classes_note": report.describe_classes(results),
        "published": report.published(results),
        "labelled": report.describe_labelled(results),
        "audit_notes": report.describe_audit(results),
        "groupings": {name: report.describe_grouping(found) for name, found in results["groupings"].items()},
        "curves": curves({name: paths.learning_curve(name) for name in titles}, titles),
        # Tables and models come from DVC's cache, which a fresh clone does not have.
        "sizes": {
            name: class_sizes(table) for name in results["groupings"] if (table := paths.class_table(name)).exists()
        },
        "paths": paths,
        "deviations": deviations(config, conf),
        "hashes": hashes(),
        "timings": timings.read(),
        "made": {
            "when": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
            "commit": repository.state(),
            "machine": f"{platform.system()} {platform.machine()}, {_processor()}",
            "python": platform.python_version(),
            "store": store.address(),
        },
        "runs": runs(results),
    }


def picture(path: Path) -> str:
    """Return a picture as a data address: small enough for a page, whatever it was."""
    with Image.open(path) as image:
        image.thumbnail((WIDEST, 10 * WIDEST))
        buffer = io.BytesIO()
        image.convert("RGB").save(buffer, "WEBP", quality=QUALITY)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()


def code(text: str) -> Markup:
    """Turn what stands between backticks into code."""
    return Markup(re.sub(r"`([^`]*)`", r"<code>\1</code>", str(escape(text))))


def curves(tables: dict[str, Path], titles: dict[str, str]) -> str:
    """Draw the learning curves as SVG: loss and accuracy on the images that each training is watched by."""
    figure = Figure(figsize=(9, 3.4))
    left, right = figure.subplots(1, 2)
    there = {name: path for name, path in tables.items() if path.exists()}
    lines = []
    for colour, path in zip(_colours(), there.values(), strict=False):
        table = read_table(path, integers=["epoch"], floats=CURVES)
        lines += left.plot(table["epoch"], table["valid_loss"], color=colour)
        left.plot(table["epoch"], table["train_loss"], color=colour, linestyle=":", linewidth=1)
        right.plot(table["epoch"], 100 * table["valid_accuracy"], color=colour)
    for axes, label in ((left, "cross entropy, nats"), (right, "accuracy, %")):
        axes.set_xlabel("epoch")
        axes.set_ylabel(label)
        _quiet(axes)
    # Named here, since matplotlib takes a label of a line that begins with _ for none.
    shown = [plain(titles[name], style.IN_A_TITLE) for name in there]
    figure.legend(lines, shown, loc="lower center", ncol=3, frameon=False, labelcolor=GREY, fontsize=9)
    figure.subplots_adjust(bottom=0.33, wspace=0.28)
    return _svg(figure)


def class_sizes(table: Path) -> str:
    """Draw how many images the classes of a table have, as SVG."""
    counts = np.bincount(classes.sizes(read_table(table, integers=["class_id"])))
    figure = Figure(figsize=(6, 2.6))
    axes = figure.subplots()
    places = np.flatnonzero(counts)
    axes.bar([str(place) for place in places], counts[places], color=LINES[0])
    for at, place in enumerate(places):
        axes.text(at, counts[place], f"{counts[place]:,}", ha="center", va="bottom", color=GREY, fontsize=9)
    axes.set_xlabel("images in a class")
    axes.set_ylabel("classes")
    axes.margins(y=0.15)
    _quiet(axes)
    figure.subplots_adjust(bottom=0.22)
    return _svg(figure)


def _colours() -> Iterator[str]:
    while True:
        yield from LINES


def _quiet(axes: Axes) -> None:
    """Take away what is not data, and make the rest legible on any ground."""
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("bottom", "left"):
        axes.spines[side].set_color(GREY)
    axes.tick_params(colors=GREY)
    axes.xaxis.label.set_color(GREY)
    axes.yaxis.label.set_color(GREY)


def _svg(figure: Figure) -> str:
    buffer = io.StringIO()
    with (
        matplotlib.rc_context({"svg.fonttype": "none", "font.family": "sans-serif"}),
        style.without_missing_letters(),
    ):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]


def deviations(config: Config, conf: Path) -> list[tuple[str, str, str]]:
    """List the parameters that differ from profile `paper`: key, here, there; the machine's left out."""
    paper = configuration.parse(configuration.compose(conf, "paper"), "paper")
    here, there = (flatten(each.model_dump(mode="json", by_alias=True)) for each in (config, paper))
    keys = [*here, *(key for key in there if key not in here)]
    return [
        (key, here.get(key, "–"), there.get(key, "–"))
        for key in keys
        if here.get(key) != there.get(key) and not key.startswith(("machine.", "profile", "published"))
    ]


def hashes() -> list[tuple[str, str]]:
    """List the hashes of the data and of every out that DVC knows."""
    from exemplarcnn.data.stl10 import data_digest
    from exemplarcnn.tracking import lineage

    outs = [(path, md5) for record in lineage.read_lock().values() for path, md5 in record.outs.items()]
    return [(str(paths.DATA), data_digest(paths.DATA)), *sorted(outs)]


def runs(results: dict[str, Any]) -> pd.DataFrame | None:
    """Return the newest finished run of each row in the MLflow store; None if it cannot be reached."""
    from exemplarcnn.tracking import comparison

    try:
        found = comparison.evaluations([row["variant"] for row in results["rows"]], results["profile"])
    except PipelineError:
        return None
    found = found[found["data"] == results["dataset"]["hash"]].sort_values("started", ascending=False)
    newest: pd.DataFrame = found.drop_duplicates("variant")[["variant", "accuracy_mean", "started", "run"]]
    return newest.assign(accuracy_mean=newest["accuracy_mean"].round(2))


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{len(names)} × {names[0]}" if names else platform.processor()
