"""The table of results: our rows, the paper's figures in a column of their own, and what the difference says."""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from exemplarcnn import paths, text
from exemplarcnn.config import Config
from exemplarcnn.data.image_set import Summary
from exemplarcnn.data.stl10 import side_entry
from exemplarcnn.errors import PipelineError
from exemplarcnn.evaluation.protocols import bootstrap, correct, gain
from exemplarcnn.files import read_json

# Of results.json: the next number whenever keys come, go or change their meaning.
FORMAT = 1

NOT_TESTED = (
    "The images have no labels, so that nothing was tested: here are features and clusters. `exemplarcnn embed FOLDER "
    "--model VARIANT` gives the features of any images."
)
# What classifiers are trained on where others report figures of STL-10.
STL10 = {"folds": "10 folds of 1,000 labels", "all": "all 5,000 labels"}
SHORT = 6  # rows of a table whose differences are all written out
DECIMALS = 9  # of percentage points: sums of shares are not exact
CLASSES = 20  # lines of the table of classes


class ReportError(PipelineError):
    """There is no report that this code can read; the message says what makes one."""


def read() -> dict[str, Any]:
    """Read ``results.json``, as `gather` made it.

    Raises
    ------
    ReportError
        If it is not there, or other code has written it.
    """
    if not paths.RESULTS_JSON.exists():
        raise ReportError(f"{paths.RESULTS_JSON} is not there yet; `dvc repro` makes it")
    results: dict[str, Any] = read_json(paths.RESULTS_JSON)
    if results.get("format") != FORMAT:
        said = "was written by another version of the code; `dvc repro report` writes it anew"
        raise ReportError(f"{paths.RESULTS_JSON} {said}")
    return results


def gather(
    config: Config,
    data: Summary,
    digest: str,
    summaries: dict[str, dict[str, Any]],
    predictions: dict[str, NDArray[np.uint8]],
    labels: NDArray[np.int64],
    groupings: dict[str, dict[str, Any]],
    sets: dict[str, dict[str, Any]],
    learned: dict[str, float],
    audit: dict[str, Any],
    outliers: dict[str, Any],
    labelled: dict[str, dict[str, Any]],
) -> dict[str, Any]:
    """Gather what ``results.json`` holds.

    Parameters
    ----------
    config
        Names the rows and their order.
    data, digest
        What the data is.
    summaries, predictions
        ``eval.json`` and ``predictions.npy`` (folds, test images) of each row.
    labels
        Of the test images, from 0; none where nothing is evaluated.
    groupings, sets
        ``clusters.json`` and ``set.json`` of the variants that have them.
    learned
        Accuracy of each trained network on validation patches at the end of its training, 0–1.
    audit, outliers
        ``audit.json`` and ``outliers.json``.
    labelled
        ``labels.json`` of the networks that learn from labels.

    Returns
    -------
    dict
        ``format``, ``profile``, ``dataset``, ``rows``, ``learned``, ``differences``, ``groupings``, ``audit``,
        ``outliers``, ``labelled``, ``published`` and ``full``, the names of protocols with all labels; accuracies in
        percent.
    """
    budgets = {
        name: {key: found[key] for key in ("classes", "images", "train_patches")}
        | {"steps": -(-found["train_patches"] // config.train.batch_size) * config.train.epochs}
        for name, found in sets.items()
    }
    rows = []
    for name, row in config.rows.items():
        kept = ("accuracy_mean", "accuracy_std", "fold_accuracies", "class_accuracies", "leaky")
        figures = {key: summaries[name][key] for key in kept}
        others = {
            other: {key: found[key] for key in ("accuracy_mean", "accuracy_std", "fold_accuracies")}
            for other, found in summaries[name]["others"].items()
        }
        entry = {
            "variant": name,
            "title": row.title,
            **figures,
            "others": others,
            "paper": row.paper.model_dump() if row.paper else None,
        }
        rows.append(entry | budgets.get(name, {}))
    return {
        "format": FORMAT,
        "profile": config.profile,
        "dataset": {
            "name": data["dataset"],
            **side_entry(data["side"]),
            "hash": digest,
            "folds_official": data["folds_official"],
            "fold_sizes": data["fold_sizes"],
            "unlabeled": data["unlabeled"],
            "train": data["train"],
            "test": data["test"],
        },
        "rows": rows,
        "learned": [
            {
                "variant": name,
                "title": config.rows[name].title if name in config.rows else name,
                "valid_accuracy": 100 * accuracy,
                **budgets[name],
            }
            for name, accuracy in learned.items()
        ],
        "differences": _differences(config, predictions, labels),
        "groupings": groupings,
        "audit": audit,
        "outliers": outliers,
        "labelled": labelled,
        "published": [each.model_dump() for each in config.published],
        "full": [each.name for each in config.evaluate.protocols if (each.labels, each.classifier) == ("all", "svm")],
    }


def _differences(
    config: Config, predictions: dict[str, NDArray[np.uint8]], labels: NDArray[np.int64]
) -> list[dict[str, Any]]:
    """Each row against every row above it in the table."""
    right = {name: correct(predictions[name], labels) for name in config.rows}
    names = list(config.rows)
    pairs = [(name, other) for place, name in enumerate(names) for other in names[:place]]
    if not pairs:
        return []
    gains = np.stack([gain(right[name], right[other]) for name, other in pairs])
    # Sums that cancel leave some 1e-15, and an interval that ends at zero would be above it.
    means, low, high = (each.round(DECIMALS) for each in (gains.mean(axis=1), *bootstrap(gains, config.seed)))
    result = []
    for place, (name, other) in enumerate(pairs):
        # A network that is trained and tested once has no folds to compare.
        same = len(right[name]) == len(right[other]) > 1
        folds = 100 * (right[name].mean(axis=1) - right[other].mean(axis=1)) if same else np.empty(0)
        entry = {"variant": name, "against": other, "difference": float(means[place])}
        entry |= {"low": float(low[place]), "high": float(high[place]), "folds": folds.tolist()}
        result.append(entry)
    return result


def headline(results: dict[str, Any]) -> dict[str, dict[str, float]]:
    """Return accuracy and its deviation over the folds, in percent, by variant: what one compares at a glance."""
    return {row["variant"]: {"mean": row["accuracy_mean"], "std": row["accuracy_std"]} for row in results["rows"]}


def frame(results: dict[str, Any]) -> pd.DataFrame:
    """Return the results as a table for people; one row a variant."""
    rows = results["rows"]
    table = {
        "Variant": [row["title"] for row in rows],
        "Accuracy (%)": [_spread(row) for row in rows],
        "Classes": [_number(row.get("classes")) for row in rows],
        "Images": [_number(row.get("images")) for row in rows],
        "SGD steps": [_number(row.get("steps")) for row in rows],
    }
    if any(row["paper"] for row in rows):
        table["Paper, on all of STL-10 (%)"] = [_paper(row["paper"]) for row in rows]
    return pd.DataFrame(table)


def titles(results: dict[str, Any]) -> dict[str, str]:
    """Return what people call each variant of the results."""
    return {entry["variant"]: entry["title"] for entry in (*results["learned"], *results["rows"])}


def surrogate_task(results: dict[str, Any]) -> pd.DataFrame:
    """Return how well each network tells its surrogate classes apart, on patches that it was not trained with."""
    learned = results["learned"]
    return pd.DataFrame(
        {
            "Variant": [entry["title"] for entry in learned],
            "Surrogate classes": [_number(entry["classes"]) for entry in learned],
            "Images": [_number(entry["images"]) for entry in learned],
            "SGD steps": [_number(entry["steps"]) for entry in learned],
            "Validation patches told right (%)": [f"{entry['valid_accuracy']:.2f}" for entry in learned],
            "By chance (%)": [f"{100 / entry['classes']:.2f}" for entry in learned],
        }
    )


def judged_otherwise(results: dict[str, Any]) -> pd.DataFrame:
    """Return the accuracies by the other protocols, and by the choice of C that looks at the test set."""
    rows = [row for row in results["rows"] if row["leaky"]]
    others = rows[0]["others"] if rows else {}
    table = {
        "Variant": [row["title"] for row in rows],
        "As above": [f"{row['accuracy_mean']:.2f}" for row in rows],
        "leaky": [f"{row['leaky']['accuracy_mean']:.2f} (C = {row['leaky']['value']:g})" for row in rows],
    }
    for name in others:
        table[name] = [_spread(row["others"][name]) for row in rows]
    return pd.DataFrame(table)


def _spread(figures: dict[str, Any]) -> str:
    # A single set of labels has no deviation.
    several = len(figures["fold_accuracies"]) > 1
    return f"{figures['accuracy_mean']:.2f}" + (f" ± {figures['accuracy_std']:.2f}" if several else "")


def by_class(results: dict[str, Any]) -> pd.DataFrame:
    """Return the accuracy of each class, in percent, a column a variant; see `describe_classes` for many classes."""
    rows = results["rows"]
    names = list(rows[0]["class_accuracies"]) if rows else []
    if len(names) > CLASSES:
        ranked = sorted(names, key=lambda name: sum(row["class_accuracies"][name] for row in rows))
        names = ranked[: CLASSES // 2] + ranked[-CLASSES // 2 :]
    lines = [[name, *(f"{row['class_accuracies'][name]:.1f}" for row in rows)] for name in names]
    return pd.DataFrame(lines, columns=["Class", *(row["title"] for row in rows)])


def describe_classes(results: dict[str, Any]) -> str:
    """Say which classes the table of classes has; nothing where it has all."""
    classes = len(results["rows"][0]["class_accuracies"]) if results["rows"] else 0
    if classes <= CLASSES:
        return ""
    half = CLASSES // 2
    return (
        f"Of {classes} classes the {half} that are told worst and the {half} that are told best, by the mean of the "
        "rows; `results.json` has all."
    )


def _number(value: int | None) -> str:
    return "–" if value is None else f"{value:,}"


def _paper(figure: dict[str, float | None] | None) -> str:
    if figure is None:
        return "–"
    return f"{figure['mean']:.2f}" + (f" ± {figure['std']:.2f}" if figure["std"] is not None else "")


def _table(table: pd.DataFrame) -> str:
    lines = [list(table.columns), ["---"] * len(table.columns), *table.to_numpy().tolist()]
    return "\n".join(f"| {' | '.join(str(cell) for cell in line)} |" for line in lines)


def describe_dataset(results: dict[str, Any]) -> str:
    """Say in one sentence what the accuracies were measured on."""
    data = results["dataset"]
    official = "the official ones" if data["folds_official"] else "not the official ones of STL-10"
    labelled = (
        f", {data['train']:,} training and {data['test']:,} test images, {_folds(data['fold_sizes'])}, {official}"
    )
    sized = f"; {data['side']}×{data['side']} pixels" if "side" in data else ""
    return (
        f"Data set: {data['name']} (hash {data['hash']}), {data['unlabeled']:,} unlabelled"
        f"{labelled if data['train'] else ' images'}{sized}. Profile: {results['profile']}."
    )


def describe_difference(entry: dict[str, Any], titles: dict[str, str]) -> str:
    """Say whether a difference between two rows can be told from zero."""
    sure = entry["low"] > 0 or entry["high"] < 0
    verdict = "distinguishable from zero" if sure else "not distinguishable from zero"
    folds = np.array(entry["folds"])
    by_fold = ""
    if len(folds):
        by_fold = f" Fold by fold ± {folds.std():.2f}, above zero in {(folds > 0).sum()} of {len(folds)}."
    return (
        f"{titles[entry['variant']]} against {titles[entry['against']]}: {entry['difference']:+.2f} points, 95 % "
        f"bootstrap interval over test images {entry['low']:+.2f} to {entry['high']:+.2f}: {verdict}.{by_fold}"
    )


def markdown(results: dict[str, Any]) -> str:
    """Write ``results.md``, whatever things are called."""
    results = _in_markdown(results)
    tested = _tested(results) if results["rows"] else [NOT_TESTED]
    parts = [
        "# Results",
        describe_dataset(results),
        *tested,
        "## The surrogate task",
        _table(surrogate_task(results)),
        "How many of the validation patches, drawn of the same images, each network gives to their class. More classes "
        "make a harder task: it says whether a network has learned, not whether its features are good.",
        "## Pictures",
        "\n".join(_pictures(results)),
        "- [Images and their nearest neighbours in the features of different networks](pictures/neighbours.png)",
    ]
    if results["labelled"]:
        parts += ["## Learning from labels", _labelled(results)]
    if others := published(results):
        parts += [
            "## Others",
            "Test accuracy on STL-10 in percent, as published; and of this run, which may be of other data. Where its "
            "numbers of labels are others its figures stand apart, and cannot be compared with the published ones.",
        ]
        for what, table in others.items():
            parts += [what, _table(table)]
    parts += ["## The images", _table(audit_table(results)), *describe_audit(results), _galleries(results)]
    for name, grouping in results["groupings"].items():
        lines = "\n".join(f"- {line}" for line in describe_grouping(grouping))
        parts += [f"## Classes of {titles(results)[name]}", lines]
    return "\n\n".join(parts) + "\n"


def _in_markdown(results: dict[str, Any]) -> dict[str, Any]:
    """Escape what people have named, so that Markdown shows it as it is."""

    def rows(name: str, *keys: str) -> list[dict[str, Any]]:
        return [row | {key: text.markdown(row[key]) for key in keys} for row in results[name]]

    by_class = [{text.markdown(name): x for name, x in row["class_accuracies"].items()} for row in results["rows"]]
    tested = [row | {"class_accuracies": found} for row, found in zip(rows("rows", "title"), by_class, strict=True)]
    return results | {
        "profile": text.markdown(results["profile"]),
        "dataset": results["dataset"] | {"name": text.markdown(results["dataset"]["name"])},
        "rows": tested,
        "learned": rows("learned", "title"),
        "published": rows("published", "title", "source"),
    }


def _tested(results: dict[str, Any]) -> list[str]:
    """Say how the features did on the test images."""
    names = titles(results)
    paper = (
        " The last column is what the paper (Arazo et al. 2019) reports for its own run on all of STL-10; not ours."
        if any(row["paper"] for row in results["rows"])
        else ""
    )
    return [
        _table(frame(results)),
        "Accuracy: mean ± population standard deviation over the folds, test set, linear SVM on the features." + paper,
        "![Accuracies](pictures/results.png)",
        "## Differences",
        "\n".join(f"- {describe_difference(entry, names)}" for entry in shown_differences(results)),
        "The intervals are about the choice of test images. They leave out that another seed trains another network. "
        "Folds share test images, and some training images: their spread is no interval.",
        "## Judged otherwise",
        _table(judged_otherwise(results)),
        "Test accuracy in percent. `leaky`: the one C that is best on the test set, as in the paper. It flatters, "
        "and serves comparison with published figures alone. The other columns are the further protocols of "
        "`evaluate.protocols`, where C and k are chosen inside the training labels as above.",
        "## Class by class",
        *filter(None, [describe_classes(results)]),
        _table(by_class(results)),
    ]


def audit_table(results: dict[str, Any]) -> pd.DataFrame:
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
        table[title] = [_number(pool[key]) for pool in pools.values()]
    table["Cannot be used"] = [_number(len(pool["unusable"])) for pool in pools.values()]
    return table


def describe_audit(results: dict[str, Any]) -> list[str]:
    """Say what the audit's table means, and how well it finds what is known."""
    lines = [
        "Images that resemble a labelled one may leak what the features are tested on. Of a group of near duplicates "
        "the first is not counted. `variants.seed.VARIANT.leave_out` keeps flagged images out of a class table.",
    ]
    if (marks := results["audit"]["marks"]) is not None:
        found = "; ".join(
            f"{name}: precision {_share(mark['precision'])}, recall {_share(mark['recall'])} of {mark['true']}"
            for name, mark in marks.items()
        )
        lines.append(f"Against what is known of the unlabelled images: {found}.")
    outliers = results["outliers"]
    if (counted := outliers["counted"]) is not None:
        expected = counted["expected"]
        lines.append(
            f"{_number(counted['images'])} unlabelled images ({100 * counted['share']:.1f} %) are farther from every "
            f"labelled class than all but {_number(counted['inside_above'])} of the {_number(counted['inside'])} test "
            f"images ({100 * counted['inside_above'] / counted['inside']:.1f} % false alarms); were all of the "
            f"classes, {expected['mean']:,.0f} would be, and 95 % of the time {_number(expected['low'])} to "
            f"{_number(expected['high'])} (features of `{outliers['of']}`)."
        )
    if (known := outliers["out_of_distribution"]) is not None:
        lines.append(
            f"Distance from the labelled classes tells the {known['images']} images of none of them with an area under "
            f"the ROC curve of {known['auroc']:.3f}; those counted have precision {_share(known['precision'])}, recall "
            f"{_share(known['recall'])}."
        )
    near = outliers["near_duplicates"]
    lines.append(
        f"Of the {near['closest_pairs']} pairs closest in the features of `{outliers['of']}`, "
        f"{near['known_among_them']} are among the {near['known']} pairs of near duplicates that the pixels show."
    )
    return lines


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


def describe_labelled(results: dict[str, Any]) -> list[str]:
    """Say of each network that learned from labels which these were, and what is known of them."""
    lines, names = [], titles(results)
    for name, found in results["labelled"].items():
        line = f"{names[name]}: {found['labelled']:,} images, {found['method']} labels"
        if (judged := found["judged"]) is not None:
            accuracy = "–" if judged["accuracy"] is None else f"{100 * judged['accuracy']:.1f} %"
            line += (
                f"; of the {judged['images']:,} whose class is known {accuracy} are labelled right, "
                f"{judged['outside']:,} are of none of the classes, and {judged['left_out']:,} near duplicates of "
                "training images are not counted"
            )
        lines.append(line)
    return lines


def _labelled(results: dict[str, Any]) -> str:
    about = (
        "These rows are residual networks that were trained once, on labels, and tested directly: they have no "
        "deviation over folds. All were shown the same number of images."
    )
    lines = [
        f"- {line}; [some of them](pictures/labels/{name}.png)"
        for name, line in zip(results["labelled"], describe_labelled(results), strict=True)
    ]
    return "\n".join([about, "", *lines])


def published(results: dict[str, Any]) -> dict[str, pd.DataFrame]:
    """Return tables of published figures and those of this run, by what classifiers are trained on, if any is given.

    Those of this run have a table of their own where it has other numbers of labels than STL-10.
    """
    if not results["published"]:
        return {}
    ours = f"this run: {results['dataset']['name']}, profile {results['profile']}"
    trained = [row for row in results["rows"] if "classes" in row]
    mine = {
        "folds": [(row["title"], _spread(row)) for row in trained],
        "all": [(row["title"], _spread(row["others"][name])) for row in trained for name in results["full"]],
    }
    here = {"folds": _folds(results["dataset"]["fold_sizes"]), "all": f"all {results['dataset']['train']:,} labels"}
    tables: dict[str, list[list[str]]] = {}
    for labels, there in STL10.items():
        tables[f"STL-10, {there}:"] = [
            [each["title"], _paper(each | {"mean": each["accuracy"]}), each["source"]]
            for each in results["published"]
            if each["labels"] == labels
        ]
        same = here[labels] == there
        where = f"STL-10, {there}:" if same else f"This run, {here[labels]}, where STL-10 has {there}:"
        tables.setdefault(where, []).extend([title, accuracy, ours] for title, accuracy in mine[labels])
    columns = ["Method", "Accuracy (%)", "Source"]
    return {what: pd.DataFrame(rows, columns=columns) for what, rows in tables.items() if rows}


def _folds(sizes: list[int]) -> str:
    """Say how many folds there are, of how many labels."""
    if not sizes:
        return "no folds"
    least, most = min(sizes), max(sizes)
    return f"{len(sizes)} folds of {least:,}{f' to {most:,}' if most > least else ''} labels"


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def shown_differences(results: dict[str, Any]) -> list[dict[str, Any]]:
    """All pairs of a short table; of a long one those with the first row that was trained. The rest is in the JSON."""
    pairs: list[dict[str, Any]] = results["differences"]
    trained = [row["variant"] for row in results["rows"] if "classes" in row]
    if len(results["rows"]) <= SHORT or not trained:
        return pairs
    return [pair for pair in pairs if trained[0] in (pair["variant"], pair["against"])]


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


def describe_grouping(grouping: dict[str, Any]) -> list[str]:
    """Say what a grouping has made."""
    sizes = ", ".join(f"{number} of {size}" for size, number in grouping["cluster_sizes"].items()) or "none"
    lines = [
        f"{grouping['clusters']} clusters ({sizes} images) hold {grouping['images_in_clusters']} of the "
        f"{grouping['clustered_images']} images clustered ({100 * grouping['merged_fraction']:.2f} %); cut at a "
        f"largest inner distance of {grouping['threshold']:.4f}.",
        f"{grouping['single_classes']} further classes of a single image and its nearest of the "
        f"{grouping['held_out_images']} held-out images.",
    ]
    if left_out := grouping.get("clusters_left_out"):
        lines.append(
            f"{left_out} further clusters, of {grouping['images_left_out']} images, are left out, being more than the "
            "classes asked for: the largest are kept, of those of one size the tightest."
        )
    if (ranks := grouping["neighbour_ranks"]) is not None:
        distances = grouping["neighbour_distances"]
        lines.append(
            f"Rank of the neighbours taken: median {ranks['median']:.0f}, largest {ranks['max']:.0f}; "
            f"cosine distance: median {distances['median']:.4f}, largest {distances['max']:.4f}."
        )
    for name, what in (("cluster_purity", "In the clusters"), ("purity", "In all classes of several images")):
        if (found := grouping[name]) is not None:
            lines.append(
                f"{what} {100 * found['purity']:.1f} % of the {found['images']} images whose label is known have the "
                f"commonest label of their class; {100 * found['by_chance']:.1f} % would by chance."
            )
    if (found := grouping["duplicates"]) is not None:
        lines.append(
            f"Of {found['pairs']} known near-duplicate pairs among the images clustered, "
            f"{100 * found['together']:.1f} % are in one cluster."
        )
    if (found := grouping["round"]) is not None:
        lines.append(
            f"Normalised mutual information with the classes of the round before: {found['nmi']:.3f} over "
            f"{found['images']} images."
        )
    return lines
