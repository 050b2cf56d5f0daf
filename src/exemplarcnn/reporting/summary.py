"""The last run on one screen: its table, and the few differences that it is about."""

from typing import Any

from exemplarcnn import paths
from exemplarcnn.reporting import report

METHODS = ("pseudo", "given")  # of labels: of the network's own making, and those of the fold

Pair = tuple[str, str]


def write(results: dict[str, Any]) -> str:
    """Write what `exemplarcnn show` prints."""
    table = report.frame(results) if results["rows"] else report.surrogate_task(results)
    names = report.titles(results)
    told = [report.describe_difference(entry, names) for entry in telling(results)]
    told += [] if results["rows"] else [report.NOT_TESTED]
    page = f"{paths.PAGE}, for a browser" if paths.PAGE.exists() else f"`exemplarcnn page` writes {paths.PAGE}"
    left = len(results["differences"]) - len(telling(results))
    where = [
        f"On one page: {page}. Table and pictures: {paths.RESULTS_MD}.",
        *([f"{left} further differences: {paths.RESULTS_JSON}."] if left else []),
        "Runs and curves: `make ui`, then http://127.0.0.1:5000",
    ]
    parts = [report.describe_dataset(results), table.to_string(index=False), "\n".join(told), "\n".join(where)]
    return "\n\n".join(part for part in parts if part)


def telling(results: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the differences that say whether something was gained, four at most.

    The first network and the first one with shared classes against the best row that nothing was trained for, one
    against the other, and the network that learns from labels of its own making against the one that has the fold's.
    """
    learned = [row["variant"] for row in results["rows"] if "classes" in row]
    labelled = results["labelled"]
    controls = [row for row in results["rows"] if row["variant"] not in (*learned, *labelled)]
    shared = [name for name in learned if name in results["groupings"]]
    networks = learned[:1] + [name for name in shared[:1] if name != learned[0]]
    pairs: list[Pair] = []
    if controls:
        best = max(controls, key=lambda row: row["accuracy_mean"])["variant"]
        pairs += [(name, best) for name in networks]
    if len(networks) > 1:
        pairs.append((networks[1], networks[0]))
    by_method = {method: [name for name in labelled if labelled[name]["method"] == method] for method in METHODS}
    pairs += zip(*(names[:1] for names in by_method.values()), strict=False)
    return [_entry(results, pair) for pair in pairs]


def _entry(results: dict[str, Any], pair: Pair) -> dict[str, Any]:
    """Return the difference of two rows, whichever stands first in the table."""
    for entry in results["differences"]:
        if (entry["variant"], entry["against"]) == pair:
            return dict(entry)
        if (entry["against"], entry["variant"]) == pair:
            turned = {"difference": -entry["difference"], "low": -entry["high"], "high": -entry["low"]}
            return turned | {"variant": pair[0], "against": pair[1], "folds": [-x for x in entry["folds"]]}
    raise KeyError(pair)
