"""Write the report in Markdown: ``results.md``."""

from typing import Any

import pandas as pd

from exemplarcnn import text
from exemplarcnn.reporting import differences, sentences, tables
from exemplarcnn.reporting.results import titles


def render(results: dict[str, Any]) -> str:
    """Return the text of ``results.md``, with all names escaped."""
    results = _escaped(results)
    parts = [
        "# Results",
        sentences.dataset(results),
        *(_tested(results) if results["rows"] else [sentences.NOT_TESTED]),
        "## The surrogate task",
        _table(tables.surrogate_task(results)),
        sentences.task(results),
        "## Pictures",
        "\n".join(_pictures(results)),
        "- [Images and their nearest neighbours in the features of different networks](pictures/neighbours.png)",
    ]
    if results["labelled"]:
        parts += ["## Learning from labels", _labels(results)]
    if others := tables.published(results):
        parts += [
            "## Published results",
            "Published test accuracies on STL-10 in percent, and those of this run, which may have used other data. If "
            "this run used other numbers of labels, its figures are in tables of their own: do not compare them with "
            "the published ones.",
        ]
        for what, table in others.items():
            parts += [what, _table(table)]
    parts += ["## The images", _table(tables.audit(results)), *sentences.audit(results), _galleries(results)]
    for name, grouping in results["groupings"].items():
        lines = "\n".join(f"- {line}" for line in sentences.grouping(grouping))
        parts += [f"## Classes of {titles(results)[name]}", lines]
    return "\n\n".join(parts) + "\n"


def _escaped(results: dict[str, Any]) -> dict[str, Any]:
    """Escape names that people chose, so that Markdown shows them as they are."""

    def rows(name: str, *keys: str) -> list[dict[str, Any]]:
        return [row | {key: text.markdown(row[key]) for key in keys} for row in results[name]]

    return results | {
        "profile": text.markdown(results["profile"]),
        "dataset": results["dataset"] | {"name": text.markdown(results["dataset"]["name"])},
        "rows": rows("rows", "title"),
        "learned": rows("learned", "title"),
        "published": rows("published", "title", "source"),
    }


def _by_class(results: dict[str, Any]) -> pd.DataFrame:
    table = tables.by_class(results)
    # Only the cells: two names may differ by blanks alone, and escaped they are the same.
    table.iloc[:, 0] = [text.markdown(name) for name in table.iloc[:, 0]]
    return table


def _table(table: pd.DataFrame) -> str:
    lines = [list(table.columns), ["---"] * len(table.columns), *table.to_numpy().tolist()]
    return "\n".join(f"| {' | '.join(str(cell) for cell in line)} |" for line in lines)


def _tested(results: dict[str, Any]) -> list[str]:
    """Return the parts about accuracy on the test images."""
    paper = (
        " The last column is what the paper (Arazo et al. 2019) reports on all of STL-10: its figures, not ours."
        if any(row["paper"] for row in results["rows"])
        else ""
    )
    return [
        _table(tables.accuracies(results)),
        "Test accuracy of a linear SVM on the features: mean ± population standard deviation over the folds." + paper,
        "![Accuracies](pictures/results.png)",
        *_differences(results),
        "## Other protocols",
        _table(tables.other_protocols(results)),
        "Test accuracy in percent. `leaky` uses the one C that is best on the test set, as in the paper. It flatters; "
        "use it only to compare with published figures. The other columns are the further protocols of "
        "`evaluate.protocols`: they choose C and k within the training labels, as above.",
        "## Class by class",
        *filter(None, [sentences.classes_shown(results)]),
        _table(_by_class(results)),
    ]


def _differences(results: dict[str, Any]) -> list[str]:
    """Return the part about differences between rows; empty if there is one row."""
    if not (entries := differences.in_full(results)):
        return []
    texts = differences.texts(entries, titles(results))
    # The numbers, for those who do not see the picture.
    said = "; ".join(f"{title} against {other} {gain} ({ends})" for title, other, gain, ends, _ in texts)
    columns = ["Variant", "Against", "Difference (points)", "95 % interval", "Fold by fold"]
    return [
        "## Differences",
        f"![Differences in points, with 95 % intervals: {said}](pictures/differences.png)",
        _table(pd.DataFrame(texts, columns=columns)),
        "Differences in test accuracy, with 95 % bootstrap intervals over test images. A filled point: the interval "
        "excludes zero. The intervals cover only the choice of test images, not that another seed trains another "
        "network. Folds share all test images and some training images, so their spread is not an interval.",
    ]


def _pictures(results: dict[str, Any]) -> list[str]:
    links: dict[str, list[str]] = {}
    for row in results["rows"]:
        name = row["variant"]
        links[name] = [
            f"[confusion matrix](pictures/confusion/{name}.png)",
            f"[most confident mistakes](pictures/mistakes/{name}.png)",
        ]
    for entry in results["learned"]:
        name = entry["variant"]
        links.setdefault(name, []).append(f"[images and their patches](pictures/patches/{name}.png)")
        if name in results["groupings"]:
            links[name].append(f"[gallery of clusters](pictures/clusters/{name}.png)")
    return [f"- {titles(results)[name]}: {', '.join(found)}" for name, found in links.items()]


def _labels(results: dict[str, Any]) -> str:
    about = (
        "These rows are residual networks, trained once on labels and tested directly, so they have no deviation over "
        "folds. All were shown the same number of images."
    )
    lines = [
        f"- {line}; [some of them](pictures/labels/{name}.png)"
        for name, line in zip(results["labelled"], sentences.labels(results), strict=True)
    ]
    return "\n".join([about, "", *lines])


def _galleries(results: dict[str, Any]) -> str:
    pools = results["audit"]["pools"]
    names = [("audit/duplicates", "near duplicates"), ("audit/leaks", "near duplicates across pools")]
    names += [(f"audit/borders-{name}", f"black borders in {name}") for name in pools]
    names += [(f"audit/empty-{name}", f"empty images in {name}") for name in pools]
    if results["dataset"]["train"]:
        names += [("outliers/farthest", "farthest from the labelled classes")]
        names += [("outliers/nearest", "nearest to them")]
    names += [("outliers/pairs", "closest pairs in feature space")]
    return "Galleries: " + ", ".join(f"[{title}](pictures/{name}.png)" for name, title in names) + "."
