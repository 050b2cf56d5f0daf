"""What stages before the report may have found."""

from typing import Any

from exemplarcnn.data.image_set import Summary

NAMES = ("raw_pixels", "baseline", "clustered")
GROUPING: dict[str, Any] = {
    "clustered_images": 20,
    "held_out_images": 21,
    "threshold": 0.421,
    "clusters": 5,
    "images_in_clusters": 11,
    "merged_fraction": 0.55,
    "cluster_sizes": {"2": 4, "3": 1},
    "merge_heights": {"min": 0.1, "quarter": 0.2, "median": 0.3, "three_quarters": 0.35, "max": 0.4},
    "single_classes": 7,
    "neighbour_ranks": {"min": 1.0, "quarter": 1.0, "median": 2.0, "three_quarters": 3.0, "max": 9.0},
    "neighbour_distances": {"min": 0.1, "quarter": 0.2, "median": 0.25, "three_quarters": 0.3, "max": 0.5},
    "purity": {"images": 18, "purity": 0.5, "by_chance": 0.4},
    "cluster_purity": {"images": 11, "purity": 0.625, "by_chance": 0.375},
    "duplicates": {"pairs": 8, "together": 0.75},
    "round": {"images": 17, "nmi": 0.4321},
}
AUDIT: dict[str, Any] = {
    "pools": {
        "unlabeled": {
            "images": 1540,
            "borders": 45,
            "empty": 1,
            "grey": 2,
            "duplicates": 44,
            "leaks": 3,
            "unusable": [],
        },
        "other": {
            "images": 7,
            "borders": 0,
            "empty": 0,
            "grey": 0,
            "duplicates": 0,
            "leaks": 0,
            "unusable": ["x.png: y"],
        },
    },
    "marks": {
        "borders": {"true": 45, "found": 44, "precision": 1.0, "recall": 0.9778},
        "duplicates": {"true": 45, "found": 0, "precision": None, "recall": 0.0},
    },
}
OUTLIERS: dict[str, Any] = {
    "of": "baseline",
    "counted": {
        "threshold": 0.41,
        "inside": 8000,
        "inside_above": 400,
        "images": 1234,
        "share": 0.1234,
        "expected": {"mean": 500.6, "low": 450, "high": 560},
    },
    "out_of_distribution": {"images": 45, "auroc": 0.81234, "precision": 0.5, "recall": 0.375},
    "near_duplicates": {"closest_pairs": 200, "known_among_them": 41, "known": 45},
}


def data() -> Summary:
    return Summary(
        dataset="sample",
        side=96,
        train=300,
        test=40,
        unlabeled=1_540,
        other=None,
        fold_sizes=[30] * 10,
        folds_official=False,
        class_names=list("abcdefghij"),
    )
