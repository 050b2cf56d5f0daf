"""Make the report's tables for people: cells are texts, which Markdown, the page and `exemplarcnn show` print."""

from typing import Any

import pandas as pd

from exemplarcnn.reporting.numbers import accuracy, count, folds

# What classifiers are trained on in published results on STL-10.
STL10 = {"folds": "10 folds of 1,000 labels", "all": "all 5,000 labels"}
CLASSES = 20  # lines that the table of classes has at most


def accuracies(results: dict[str, Any]) -> pd.DataFrame:
    """Return the table of results, one row per variant."""
    rows = results["rows"]
    table = {
        "Variant": [row["title"] for row in rows],
        "Accuracy (%)": [_over_folds(row) for row in rows],
        "Classes": [count(row.get("classes")) for row in rows],
        "Images": [count(row.get("images")) for row in rows],
        "SGD steps": [count(row.get("steps")) for row in rows],
    }
    if any(row["paper"] for row in rows):
        table["Paper, on all of STL-10 (%)"] = [
            accuracy(row["paper"]["mean"], row["paper"]["std"]) if row["paper"] else "–" for row in rows
        ]
    return pd.DataFrame(table)


def surrogate_task(results: dict[str, Any]) -> pd.DataFrame:
    """Return how well each network does what it learned, on patches that it was not trained on."""
    learned = results["learned"]
    told = [entry["objective"] for entry in learned]
    return pd.DataFrame(
        {
            "Variant": [entry["title"] for entry in learned],
            **({} if set(told) <= {"exemplar"} else {"Objective": told}),
            "Surrogate classes": [count(entry["classes"]) for entry in learned],
            "Images": [count(entry["images"]) for entry in learned],
            "SGD steps": [count(entry["steps"]) for entry in learned],
            "Validation patches classified correctly (%)": [f"{entry['valid_accuracy']:.2f}" for entry in learned],
            "By chance (%)": [f"{entry['chance']:.2f}" for entry in learned],
        }
    )


def other_protocols(results: dict[str, Any]) -> pd.DataFrame:
    """Return the accuracies by the other protocols, and by the C that is best on the test set."""
    rows = [row for row in results["rows"] if row["leaky"]]
    others = rows[0]["others"] if rows else {}
    table = {
        "Variant": [row["title"] for row in rows],
        "As above": [f"{row['accuracy_mean']:.2f}" for row in rows],
        "leaky": [f"{row['leaky']['accuracy_mean']:.2f} (C = {row['leaky']['value']:g})" for row in rows],
    }
    for name in others:
        table[name] = [_over_folds(row["others"][name]) for row in rows]
    return pd.DataFrame(table)


def by_class(results: dict[str, Any]) -> pd.DataFrame:
    """Return the accuracy of each class in percent, one column per variant; of many classes, the worst and the best."""
    rows = results["rows"]
    names = list(rows[0]["class_accuracies"]) if rows else []
    if len(names) > CLASSES:
        ranked = sorted(names, key=lambda name: sum(row["class_accuracies"][name] for row in rows))
        names = ranked[: CLASSES // 2] + ranked[-CLASSES // 2 :]
    lines = [[name, *(f"{row['class_accuracies'][name]:.1f}" for row in rows)] for name in names]
    return pd.DataFrame(lines, columns=["Class", *(row["title"] for row in rows)])


def audit(results: dict[str, Any]) -> pd.DataFrame:
    """Return what the audit found in each pool."""
    pools: dict[str, dict[str, Any]] = results["audit"]["pools"]
    columns = {
        "Images": "images",
        "Black borders": "borders",
        "Empty": "empty",
        "Grey": "grey",
        "Near duplicates of others": "duplicates",
        "Like a labelled image elsewhere": "leaks",
    }
    table = pd.DataFrame({"Pool": list(pools)})
    for title, key in columns.items():
        table[title] = [count(pool[key]) for pool in pools.values()]
    table["Cannot be used"] = [count(len(pool["unusable"])) for pool in pools.values()]
    return table


def published(results: dict[str, Any]) -> dict[str, pd.DataFrame]:
    """Return tables of published figures and this run's, by the labels trained on; empty if none are published.

    This run's figures get tables of their own if its numbers of labels are not STL-10's.
    """
    if not results["published"]:
        return {}
    ours = f"this run: {results['dataset']['name']}, profile {results['profile']}"
    trained = [row for row in results["rows"] if "classes" in row]
    mine = {
        "folds": [(row["title"], _over_folds(row)) for row in trained],
        "all": [(row["title"], _over_folds(row["others"][name])) for row in trained for name in results["full"]],
    }
    here = {"folds": folds(results["dataset"]["fold_sizes"]), "all": f"all {results['dataset']['train']:,} labels"}
    tables: dict[str, list[list[str]]] = {}
    for labels, there in STL10.items():
        tables[f"STL-10, {there}:"] = [
            [each["title"], accuracy(each["accuracy"], each["std"]), each["source"]]
            for each in results["published"]
            if each["labels"] == labels
        ]
        same = here[labels] == there
        where = f"STL-10, {there}:" if same else f"This run, {here[labels]}, where STL-10 has {there}:"
        tables.setdefault(where, []).extend([title, figure, ours] for title, figure in mine[labels])
    columns = ["Method", "Accuracy (%)", "Source"]
    return {what: pd.DataFrame(rows, columns=columns) for what, rows in tables.items() if rows}


def _over_folds(found: dict[str, Any]) -> str:
    # A single set of labels has no deviation.
    several = len(found["fold_accuracies"]) > 1
    return accuracy(found["accuracy_mean"], found["accuracy_std"] if several else None)
