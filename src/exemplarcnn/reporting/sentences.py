"""Write the report's sentences, about figures that are in no table."""

from typing import Any

from exemplarcnn.reporting import tables
from exemplarcnn.reporting.numbers import count, folds, fraction, official
from exemplarcnn.reporting.results import titles

NOT_TESTED = (
    "The images have no labels, so nothing was tested: the results are features and clusters. `exemplarcnn embed "
    "FOLDER --model VARIANT` computes the features of any images."
)


TASK = (
    "The share of validation patches that a network assigns to their class; they are other patches of the images that "
    "it was trained on. More classes make a harder task: the share says whether a network has learned, not whether its "
    "features are good."
)
OTHER_TASKS = (
    "With objective rotation, the share of patches whose turn is told; with simclr and vicreg, that of patches that "
    "are nearest to their partner among the patches of a batch."
)


def task(results: dict[str, Any]) -> str:
    """Say what `tables.surrogate_task` counts."""
    others = {entry["objective"] for entry in results["learned"]} - {"exemplar"}
    return f"{TASK} {OTHER_TASKS}" if others else TASK


def dataset(results: dict[str, Any]) -> str:
    """Say in one sentence what the accuracies were measured on."""
    data = results["dataset"]
    counts = f"{data['train']:,} training and {data['test']:,} test images"
    labelled = f", {counts}, {folds(data['fold_sizes'])}, {official(data['folds_official'])}"
    sized = f"; {data['side']}×{data['side']} pixels" if "side" in data else ""
    return (
        f"Data set: {data['name']} (hash {data['hash']}), {data['unlabeled']:,} unlabelled"
        f"{labelled if data['train'] else ' images'}{sized}. Profile: {results['profile']}."
    )


def classes_shown(results: dict[str, Any]) -> str:
    """Say which classes `tables.by_class` has; empty if it has all."""
    classes = len(results["rows"][0]["class_accuracies"]) if results["rows"] else 0
    if classes <= tables.CLASSES:
        return ""
    half = tables.CLASSES // 2
    return (
        f"Of {classes} classes the {half} with the lowest and the {half} with the highest accuracy, by the mean of the "
        "rows; `results.json` has all."
    )


def audit(results: dict[str, Any]) -> list[str]:
    """Explain `tables.audit`; say how well the audit finds what is known, and what the features show."""
    lines = [
        "If images resemble labelled ones, training on them may leak what the features are tested on. The first image "
        "of each group of near duplicates is not counted. `variants.seed.VARIANT.leave_out` keeps flagged images out "
        "of a class table.",
    ]
    if (marks := results["audit"]["marks"]) is not None:
        found = "; ".join(
            f"{name}: precision {fraction(mark['precision'])}, recall {fraction(mark['recall'])} of {mark['true']}"
            for name, mark in marks.items()
        )
        lines.append(f"Compared with what is known of the unlabelled images: {found}.")
    return lines + _outliers(results["outliers"])


def _outliers(outliers: dict[str, Any]) -> list[str]:
    lines = []
    if (counted := outliers["counted"]) is not None:
        expected = counted["expected"]
        lines.append(
            f"{count(counted['images'])} unlabelled images ({100 * counted['share']:.1f} %) are farther from every "
            f"labelled class than all but {count(counted['inside_above'])} of the {count(counted['inside'])} test "
            f"images ({100 * counted['inside_above'] / counted['inside']:.1f} % false alarms). If all were of these "
            f"classes, {expected['mean']:,.0f} would be expected, and {count(expected['low'])} to "
            f"{count(expected['high'])} in 95 % of cases (features of `{outliers['of']}`)."
        )
    if (known := outliers["out_of_distribution"]) is not None:
        lines.append(
            f"Distance from the labelled classes detects the {known['images']} images of none of them with an area "
            f"under the ROC curve of {known['auroc']:.3f}; those counted have precision "
            f"{fraction(known['precision'])}, recall {fraction(known['recall'])}."
        )
    near = outliers["near_duplicates"]
    lines.append(
        f"Of the {near['closest_pairs']} pairs closest in the features of `{outliers['of']}`, "
        f"{near['known_among_them']} are among the {near['known']} pairs of near duplicates found in the pixels."
    )
    return lines


def labels(results: dict[str, Any]) -> list[str]:
    """Say from which labels each network learned, and what is known about them."""
    lines, names = [], titles(results)
    for name, found in results["labelled"].items():
        line = f"{names[name]}: {found['labelled']:,} images, {found['method']} labels"
        if (judged := found["judged"]) is not None:
            accuracy = "–" if judged["accuracy"] is None else f"{100 * judged['accuracy']:.1f} %"
            line += (
                f"; of the {judged['images']:,} whose class is known, {accuracy} are labelled correctly; "
                f"{judged['outside']:,} are of none of the classes, and {judged['left_out']:,} near duplicates of "
                "training images are not counted"
            )
        lines.append(line)
    return lines


def grouping(found: dict[str, Any]) -> list[str]:
    """Say which classes a grouping has made, and how pure they are, from its ``clusters.json``."""
    sizes = ", ".join(f"{number} of {size}" for size, number in found["cluster_sizes"].items()) or "none"
    lines = [
        f"{found['clusters']} clusters ({sizes} images) hold {found['images_in_clusters']} of the "
        f"{found['clustered_images']} images clustered ({100 * found['merged_fraction']:.2f} %); cut so that no "
        f"distance inside a cluster exceeds {found['threshold']:.4f}.",
        f"{found['single_classes']} further classes have a single image and its nearest neighbours among the "
        f"{found['held_out_images']} held-out images.",
    ]
    if left_out := found.get("clusters_left_out"):
        lines.append(
            f"{left_out} further clusters, of {found['images_left_out']} images, are left out, since fewer classes "
            "were asked for: the largest are kept, and among those of one size the tightest."
        )
    if (ranks := found["neighbour_ranks"]) is not None:
        distances = found["neighbour_distances"]
        lines.append(
            f"Rank of the neighbours taken: median {ranks['median']:.0f}, largest {ranks['max']:.0f}; "
            f"cosine distance: median {distances['median']:.4f}, largest {distances['max']:.4f}."
        )
    return lines + _quality(found)


def _quality(found: dict[str, Any]) -> list[str]:
    """Judge a grouping by labels, known duplicates and the previous round, where there are any."""
    lines = []
    for name, what in (("cluster_purity", "In the clusters"), ("purity", "In all classes of several images")):
        if (purity := found[name]) is not None:
            lines.append(
                f"{what} {100 * purity['purity']:.1f} % of the {purity['images']} images whose label is known have the "
                f"commonest label of their class; {100 * purity['by_chance']:.1f} % would by chance."
            )
    if (duplicates := found["duplicates"]) is not None:
        lines.append(
            f"Of {duplicates['pairs']} known near-duplicate pairs among the images clustered, "
            f"{100 * duplicates['together']:.1f} % are in one cluster."
        )
    if (before := found["round"]) is not None:
        lines.append(
            f"Normalised mutual information with the classes of the round before: {before['nmi']:.3f} over "
            f"{before['images']} images."
        )
    return lines
