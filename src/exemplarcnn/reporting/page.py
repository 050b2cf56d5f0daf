"""Write all results to one HTML page, for people who would rather look than read.

It is made from the outs in the folder and from the MLflow store, and contains all its pictures. It says what no out of
DVC may: when, how long, on which machine, at which commit. So it is no out itself.
"""

import base64
import hashlib
import logging
import platform
import re
from datetime import UTC, datetime
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd
from markupsafe import Markup, escape

from exemplarcnn import paths
from exemplarcnn.config import profiles
from exemplarcnn.config.params import Config, parse
from exemplarcnn.data.stl10 import data_digest
from exemplarcnn.errors import PipelineError
from exemplarcnn.files import atomic_write
from exemplarcnn.reporting import charts, class_browser, differences, forest, results, sentences, tables
from exemplarcnn.reporting.embedding import picture
from exemplarcnn.tracking import comparison, lineage, repository, store, timings
from exemplarcnn.tracking import runs as tracking
from exemplarcnn.tracking.parameters import flatten

LIMIT = 5_000_000  # bytes of a page that a browser opens at once, and that fits into a message
# Pixels that a picture is wide at most: nearly two for each of the page's, and fewer while the page is too large.
WIDTHS = (1600, 1200, 900, 600)
# Why images are in a class, by the origin of its first one.
KINDS = {"cluster": "cluster", "single": "single, filled up"}

log = logging.getLogger(__name__)


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
    values = _values(found, config, conf) | _own_code()
    for widest in WIDTHS:
        environment.filters |= {"picture": partial(picture, widest=widest), "code": code}
        text = environment.from_string(_read("page.html")).render(**values)
        if (size := len(text.encode())) <= LIMIT:
            break
    else:
        log.warning("%s: %.1f MB, with many pictures; a browser may take long to open it", path, size / 1e6)
    with atomic_write(path) as partial_file:
        partial_file.write_text(text, encoding="utf-8")


def _own_code() -> dict[str, str]:
    """Return the page's style and script, and the script's hash: a browser runs no other."""
    script = _read("page.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return {"style": Markup(_read("page.css")), "script": Markup(script), "script_hash": Markup(f"sha256-{digest}")}


def _read(name: str) -> str:
    return files("exemplarcnn.reporting").joinpath(name).read_text(encoding="utf-8")


def _values(found: dict[str, Any], config: Config, conf: Path) -> dict[str, Any]:
    """Return the values that the template uses."""
    titles = results.titles(found)
    # Files of former entries stay in metrics/.
    networks = {*config.variants.train, *config.variants.label}
    # Class tables come from DVC's cache, which a fresh clone does not have.
    class_tables = {name: paths.class_table(name) for name in found["groupings"]}
    return {
        "results": found,
        "titles": titles,
        "dataset": sentences.dataset(found),
        "not_tested": sentences.NOT_TESTED,
        "differences": forest.lay_out(differences.in_full(found), titles),
        "tables": {
            "results": tables.accuracies(found),
            "task": tables.surrogate_task(found),
            "otherwise": tables.other_protocols(found),
            "classes": tables.by_class(found),
            "audit": tables.audit(found),
        },
        "task": sentences.task(found),
        "classes_note": sentences.classes_shown(found),
        "published": tables.published(found),
        "labelled": sentences.labels(found),
        "audit_notes": sentences.audit(found),
        "groupings": {name: sentences.grouping(each) for name, each in found["groupings"].items()},
        "curves": charts.learning_curves(
            {name: paths.learning_curve(name) for name in titles if name in networks}, titles
        ),
        "sizes": {name: charts.class_sizes(table) for name, table in class_tables.items() if table.exists()},
        "browsers": _browsers(found, config),
        "kinds": KINDS,
        "paths": paths,
        "deviations": deviations(config, conf),
        "hashes": hashes(),
        "timings": _timings(),
        "made": _made(),
        "runs": runs(found),
    }


def _browsers(found: dict[str, Any], config: Config) -> dict[str, class_browser.Browser]:
    """Return what can be shown of the groupings' classes; all together have as many images as one alone would."""
    names = found["groupings"]
    if not names or found["dataset"]["hash"] != data_digest(paths.DATA):
        return {}
    most = max(class_browser.IMAGES // len(names), class_browser.IN_A_CLASS)
    made = {name: class_browser.browse(config, name, most) for name in names}
    return {name: found for name, found in made.items() if found}


def _made() -> dict[str, str]:
    """Say when, on which machine and at which commit the page is made."""
    return {
        "when": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "commit": repository.state(),
        "machine": f"{platform.system()} {platform.machine()}, {_processor()}",
        "python": platform.python_version(),
        "store": store.address(),
    }


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
    """Return the run of each row that is shown in the MLflow store; None if it cannot be reached."""
    try:
        records = lineage.read_lock()
        names = [f"{stage}@{row['variant']}" for row in found["rows"] for stage in ("evaluate", "resnet")]
        wanted = [records[name] for name in names if name in records]
        with store.reached():
            client = store.connect()
            logged = [(tracking.find(client, record, records), record) for record in wanted]
    except PipelineError:
        return None
    table = comparison.table_of([run for run, record in logged if run is not None and tracking.holds(run, record)])
    shown: pd.DataFrame = table[["variant", "accuracy_mean", "started", "run"]]
    return shown.assign(accuracy_mean=shown["accuracy_mean"].round(2))


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
