"""Compare rows of the report: how large differences are, whether they differ from zero, and which matter most."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from exemplarcnn.evaluation.intervals import bootstrap, gain
from exemplarcnn.evaluation.metrics import correct

SHORT = 6  # up to this many rows, all differences are written out
DECIMALS = 9  # of percentage points: sums of shares are not exact
METHODS = ("pseudo", "given")  # of labels: an SVM's predictions, and those of the fold

Pair = tuple[str, str]


def between_rows(
    names: list[str], predictions: dict[str, NDArray[np.uint8]], labels: NDArray[np.int64], seed: int
) -> list[dict[str, Any]]:
    """Compare each row with every row above it in the table.

    Parameters
    ----------
    names
        Variants of the rows, in the table's order.
    predictions
        By variant, predicted labels from 0: (folds, test images) uint8.
    labels
        True labels of the test images from 0: (test images,) int64.
    seed
        Seed of the bootstrap.

    Returns
    -------
    list of dict
        ``variant``, ``against``, ``difference`` with the ends ``low`` and ``high`` of its 95 % interval, in percentage
        points, and ``folds``, the difference fold by fold (empty if the rows cannot be paired by folds).
    """
    right = {name: correct(predictions[name], labels) for name in names}
    pairs = [(name, other) for place, name in enumerate(names) for other in names[:place]]
    if not pairs:
        return []
    gains = np.stack([gain(right[name], right[other]) for name, other in pairs])
    # Sums that cancel leave about 1e-15, which would put an interval that ends at zero above it.
    means, low, high = (each.round(DECIMALS) for each in (gains.mean(axis=1), *bootstrap(gains, seed)))
    result = []
    for place, (name, other) in enumerate(pairs):
        # A network that is trained and tested once has no folds to compare.
        same = len(right[name]) == len(right[other]) > 1
        folds = 100 * (right[name].mean(axis=1) - right[other].mean(axis=1)) if same else np.empty(0)
        entry = {"variant": name, "against": other, "difference": float(means[place])}
        entry |= {"low": float(low[place]), "high": float(high[place]), "folds": folds.tolist()}
        result.append(entry)
    return result


def distinct(entry: dict[str, Any]) -> bool:
    """Tell whether the interval of a difference excludes zero."""
    return bool(entry["low"] > 0 or entry["high"] < 0)


def sentence(entry: dict[str, Any], titles: dict[str, str]) -> str:
    """Say in a sentence how large a difference is, and whether it is distinguishable from zero."""
    verdict = "distinguishable from zero" if distinct(entry) else "not distinguishable from zero"
    title, against, difference, interval, by_fold = texts([entry], titles)[0]
    told = f" Fold by fold {by_fold}." if entry["folds"] else ""
    return (
        f"{title} against {against}: {difference} points, 95 % bootstrap interval over test images {interval}: "
        f"{verdict}.{told}"
    )


def texts(entries: list[dict[str, Any]], titles: dict[str, str]) -> list[list[str]]:
    """Return for each difference its two titles, itself, its interval and how folds agree, in points, as texts."""
    return [
        [titles[entry["variant"]], titles[entry["against"]], *numbers(entry), _by_fold(entry["folds"])]
        for entry in entries
    ]


def numbers(entry: dict[str, Any]) -> tuple[str, str]:
    """Write a difference and its interval, with as many decimals as it takes to see on which side of zero that is."""
    values = [entry[key] for key in ("difference", "low", "high")]
    for digits in range(2, 7):
        difference, low, high = (round(value, digits) + 0.0 for value in values)  # no -0.00
        if distinct({"low": low, "high": high}) == distinct(entry):
            break
    return f"{difference:+.{digits}f}", f"{low:+.{digits}f} to {high:+.{digits}f}"


def _by_fold(folds: list[float]) -> str:
    """Say how much a difference varies over the folds, and in how many it is above zero; a dash without folds."""
    found = np.array(folds)
    return f"± {found.std():.2f}, above zero in {(found > 0).sum()} of {len(found)}" if len(found) else "–"


def in_full(results: dict[str, Any]) -> list[dict[str, Any]]:
    """Return all differences of a short table; of a long one, only those with its first trained row.

    ``results.json`` has all. A row counts as trained if its network learned surrogate classes.
    """
    pairs: list[dict[str, Any]] = results["differences"]
    trained = _trained(results)
    if len(results["rows"]) <= SHORT or not trained:
        return pairs
    return [pair for pair in pairs if trained[0] in (pair["variant"], pair["against"])]


def in_brief(results: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the differences that say whether something was gained, at most four.

    The first trained network and the first one with shared classes, each against the best control; the second against
    the first; and the network that learns from pseudo-labels against the one that learns from the fold's.
    """
    trained, labelled = _trained(results), results["labelled"]
    controls = [row for row in results["rows"] if row["variant"] not in (*trained, *labelled)]
    shared = [name for name in trained if name in results["groupings"]]
    networks = trained[:1] + [name for name in shared[:1] if name != trained[0]]
    pairs: list[Pair] = []
    if controls:
        best = max(controls, key=lambda row: row["accuracy_mean"])["variant"]
        pairs += [(name, best) for name in networks]
    if len(networks) > 1:
        pairs.append((networks[1], networks[0]))
    by_method = {method: [name for name in labelled if labelled[name]["method"] == method] for method in METHODS}
    pairs += zip(*(names[:1] for names in by_method.values()), strict=False)
    return [_entry(results, pair) for pair in pairs]


def _trained(results: dict[str, Any]) -> list[str]:
    """Return the variants whose networks learned surrogate classes, in the table's order."""
    return [row["variant"] for row in results["rows"] if "classes" in row]


def _entry(results: dict[str, Any], pair: Pair) -> dict[str, Any]:
    """Return the difference of two rows, whichever comes first in the table."""
    for entry in results["differences"]:
        if (entry["variant"], entry["against"]) == pair:
            return dict(entry)
        if (entry["against"], entry["variant"]) == pair:
            turned = {"difference": -entry["difference"], "low": -entry["high"], "high": -entry["low"]}
            return turned | {"variant": pair[0], "against": pair[1], "folds": [-x for x in entry["folds"]]}
    raise KeyError(pair)
