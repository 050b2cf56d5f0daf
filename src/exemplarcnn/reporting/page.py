"""Write all results to one HTML page, for people who would rather look than read.

It is made from the outs in the folder and from the MLflow store, and contains all its pictures. It says what no out of
DVC may: when, how long, on which machine, at which commit. So it is no out itself.
"""

import base64
import io
import platform
import re
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd
from markupsafe import Markup, escape
from PIL import Image

from exemplarcnn import paths
from exemplarcnn.config import profiles
from exemplarcnn.config.params import Config, parse
from exemplarcnn.data.stl10 import data_digest
from exemplarcnn.errors import PipelineError
from exemplarcnn.files import atomic_write
from exemplarcnn.reporting import charts, differences, results, sentences, tables
from exemplarcnn.tracking import comparison, lineage, repository, store, timings
from exemplarcnn.tracking.parameters import flatten

# Pixels that a picture is wide at most: nearly two for each of the page's.
WIDEST = 1600
QUALITY = 82


class PageError(PipelineError):
    """The results are not of the profile in ``params.yaml``."""


def write(path: Path, config: Config, conf: Path) -> None:
    """Write the page.

    Parameters
    ----------
    path
        The HTML file.
    config, conf
        The parameters, and the folder of the profiles.

    Raises
    ------
    PageError
        If the results are of another profile.
    results.ReportError
        If there are no results, or another version of the code wrote them.
    """
    found = results.read()
    if found["profile"] != config.profile:
        raise PageError(
            f"{paths.RESULTS_JSON}: found profile {found['profile']}, expected {config.profile} as in params.yaml; run "
            "`dvc repro`"
        )
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    environment.filters |= {"picture": picture, "code": code}
    template = environment.from_string(files("exemplarcnn.reporting").joinpath("page.html").read_text(encoding="utf-8"))
    with atomic_write(path) as partial:
        partial.write_text(template.render(**_values(found, config, conf)), encoding="utf-8")


def _values(found: dict[str, Any], config: Config, conf: Path) -> dict[str, Any]:
    """Return the values that the template uses."""
    titles = results.titles(found)
    # Class tables come from DVC's cache, which a fresh clone does not have.
    class_tables = {name: paths.class_table(name) for name in found["groupings"]}
    return {
        "results": found,
        "titles": titles,
        "dataset": sentences.dataset(found),
        "not_tested": sentences.NOT_TESTED,
        "differences": [differences.sentence(each, titles) for each in differences.in_full(found)],
        "tables": {
            "results": tables.accuracies(found),
            "task": tables.surrogate_task(found),
            "otherwise": tables.other_protocols(found),
            "classes": tables.by_class(found),
            "audit": tables.audit(found),
        },
        "classes_note": sentences.classes_shown(found),
        "published": tables.published(found),
        "labelled": sentences.labels(found),
        "audit_notes": sentences.audit(found),
        "groupings": {name: sentences.grouping(each) for name, each in found["groupings"].items()},
        "curves": charts.learning_curves({name: paths.learning_curve(name) for name in titles}, titles),
        "sizes": {name: charts.class_sizes(table) for name, table in class_tables.items() if table.exists()},
        "paths": paths,
        "deviations": deviations(config, conf),
        "hashes": hashes(),
        "timings": _timings(),
        "made": _made(),
        "runs": runs(found),
    }


def _made() -> dict[str, str]:
    """Say when, on which machine and at which commit the page is made."""
    return {
        "when": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "commit": repository.state(),
        "machine": f"{platform.system()} {platform.machine()}, {_processor()}",
        "python": platform.python_version(),
        "store": store.address(),
    }


def picture(path: Path) -> str:
    """Return a picture as a data URL, made small enough for a page."""
    with Image.open(path) as image:
        image.thumbnail((WIDEST, 10 * WIDEST))
        buffer = io.BytesIO()
        image.convert("RGB").save(buffer, "WEBP", quality=QUALITY)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()


def code(text: str) -> Markup:
    """Escape a text for HTML, and turn what is between backticks into code."""
    return Markup(re.sub(r"`([^`]*)`", r"<code>\1</code>", str(escape(text))))


def deviations(config: Config, conf: Path) -> list[tuple[str, str, str]]:
    """List the parameters that differ from profile `paper`, as (key, here, there).

    Leaves out the machine, the profile's name and published figures.
    """
    paper = parse(profiles.compose(conf, "paper"), "paper")
    here, there = (flatten(each.model_dump(mode="json", by_alias=True)) for each in (config, paper))
    keys = [*here, *(key for key in there if key not in here)]
    return [
        (key, here.get(key, "–"), there.get(key, "–"))
        for key in keys
        if here.get(key) != there.get(key) and not key.startswith(("machine.", "profile", "published"))
    ]


def hashes() -> list[tuple[str, str]]:
    """List path and MD5 of the data and of every out in ``dvc.lock``."""
    outs = [(path, md5) for record in lineage.read_lock().values() for path, md5 in record.outs.items()]
    return [(str(paths.DATA), data_digest(paths.DATA)), *sorted(outs)]


def runs(found: dict[str, Any]) -> pd.DataFrame | None:
    """Return the newest finished run of each row in the MLflow store; None if it cannot be reached."""
    try:
        logged = comparison.evaluations([row["variant"] for row in found["rows"]], found["profile"])
    except PipelineError:
        return None
    logged = logged[logged["data"] == found["dataset"]["hash"]].sort_values("started", ascending=False)
    newest: pd.DataFrame = logged.drop_duplicates("variant")[["variant", "accuracy_mean", "started", "run"]]
    return newest.assign(accuracy_mean=newest["accuracy_mean"].round(2))


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{len(names)} × {names[0]}" if names else platform.processor()


def _timings() -> pd.DataFrame:
    """Return what stages took, for people."""
    table = timings.read()
    gigabytes = table["memory"].map(lambda size: "" if pd.isna(size) else f"{size / 1e9:.2f}")
    return table.assign(memory=gigabytes).rename(columns={"memory": "memory, GB"})
