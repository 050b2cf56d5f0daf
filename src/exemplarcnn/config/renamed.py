"""Former names of parameters, for files and runs that still use them.

Keep these as long as anybody may have a ``params.yaml``, a profile or MLflow runs of version 0.1.
"""

import re

SECTIONS = {
    "seeded": "variants.seed",
    "grouped": "variants.group",
    "derived": "variants.regroup",
    "trained": "variants.train",
    "controls": "variants.control",
    "described": "variants.describe",
    "labelled": "variants.label",
    "evaluated": "variants.evaluate",
    "audit_features": "outliers",
}
# Old and new names by section, a regular expression. Runs log their own variant's parameters under ``variant.``.
KEYS = {
    r"machine": {"memory": "memory_gib"},
    r"audit\.borders": {"share": "fraction"},
    r"(.+\.)?features": {"chunk": "batch_size"},
    r"(variants\.group\..+|variant)": {
        "clustered_share": "clustered_fraction",
        "size": "mean_cluster_size",
        "dropped": "drop_fraction",
        "merged_below": "merge_distance",
    },
    r"(variants\.train\..+|variant)": {"patches": "total_patches"},
    r"(variants\.label\..+|variant)": {"share": "fraction"},
}


def current(key: str) -> str:
    """Return the current dotted key of a parameter; keys that were never renamed stay as they are."""
    section, dot, rest = key.partition(".")
    section, dot, name = f"{SECTIONS.get(section, section)}{dot}{rest}".rpartition(".")
    for pattern, names in KEYS.items():
        if name in names and re.fullmatch(pattern, section):
            name = names[name]
            break
    return f"{section}{dot}{name}"
