"""What parameters were called before, for files and runs that still have those names.

Needed as long as somebody may have a ``params.yaml``, a profile or runs in an MLflow store of 0.1.
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
# By the sections they are in, as a regular expression. Runs call the parameters of their own variant ``variant.``.
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
    """Return what a parameter is called now, by its dotted key; a name that is no old one stays."""
    section, dot, rest = key.partition(".")
    section, dot, name = f"{SECTIONS.get(section, section)}{dot}{rest}".rpartition(".")
    for pattern, names in KEYS.items():
        if name in names and re.fullmatch(pattern, section):
            name = names[name]
            break
    return f"{section}{dot}{name}"
