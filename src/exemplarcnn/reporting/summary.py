"""Show the last run on one screen: its table, and its few most important differences."""

from typing import Any

from exemplarcnn import paths
from exemplarcnn.reporting import differences, sentences, tables
from exemplarcnn.reporting.results import titles


def render(results: dict[str, Any]) -> str:
    """Return the text that `exemplarcnn show` prints."""
    table = tables.accuracies(results) if results["rows"] else tables.surrogate_task(results)
    told = differences.in_brief(results)
    lines = [differences.sentence(entry, titles(results)) for entry in told]
    lines += [] if results["rows"] else [sentences.NOT_TESTED]
    page = f"{paths.PAGE}, for a browser" if paths.PAGE.exists() else f"`exemplarcnn page` writes {paths.PAGE}"
    left = len(results["differences"]) - len(told)
    where = [
        f"On one page: {page}. Table and pictures: {paths.RESULTS_MD}.",
        *([f"{left} further differences: {paths.RESULTS_JSON}."] if left else []),
        "Runs and curves: `make ui`, then http://127.0.0.1:5000",
    ]
    parts = [sentences.dataset(results), table.to_string(index=False), "\n".join(lines), "\n".join(where)]
    return "\n\n".join(part for part in parts if part)
