"""Every parameter is explained where docs/method.md says it explains them."""

import re
from pathlib import Path

import pytest

from exemplarcnn.config import profiles
from exemplarcnn.tracking.parameters import flatten
from tests.conftest import profile_values

ROOT = Path(__file__).parents[1]
# Sections whose entries have names of a profile's choice, and what the documentation may call any of them.
ANY = {
    "seed": "VARIANT",
    "group": "VARIANT",
    "regroup": "VARIANT",
    "train": "VARIANT",
    "describe": "NAME",
    "control": "NAME",
    "label": "NAME",
    "evaluate": "ROW",
}
# Tables that have the keys of another one, which are explained there.
AGAIN = ("outliers.features", "variants.describe.NAME.features", "variants.train.VARIANT.groups")
PAPER = ("variants.evaluate.ROW.paper", "variants.label.NAME.paper")


def general(key: str) -> str:
    """Return a dotted key with what stands for any name in place of a name, and without a place in a list."""
    parts = re.sub(r"\[\d+\]$", "", key).split(".")
    if len(parts) > 2 and parts[0] == "variants":
        parts[2] = ANY[parts[1]]
    for at, part in enumerate(parts[:-1]):
        if part == "groups":
            parts[at + 1] = "GROUP"
    whole = ".".join(parts)
    return next((table for table in AGAIN + PAPER if whole.startswith(f"{table}.")), whole)


def named(text: str) -> set[str]:
    """Return the keys that a text names in code type; ``.factor`` after ``surrogate.hsv.power`` is one, too."""
    found: set[str] = set()
    for line in text.splitlines():
        last = ""
        for key in re.findall(r"`(\.?[A-Za-z]\w*(?:\.\w+)*(?:\[\d+\])?)(?:: [^`]*)?`", line):
            if key.startswith("."):
                key = last.rpartition(".")[0] + key
            if key.partition(".")[0] in SECTIONS and not key.endswith(".py"):
                last = key
                found.add(general(key))
    return found


SECTIONS = profile_values("sample").keys()
METHOD = named((ROOT / "docs" / "method.md").read_text())
MACHINE = {
    key
    for page in ("docs/parameters.md", "docs/clusters.md")
    for key in named((ROOT / page).read_text())
    if "machine." in key
}


@pytest.mark.parametrize("profile", profiles.names(ROOT / "conf"))
def test_every_parameter_is_named(profile: str) -> None:
    keys = {general(key) for key in flatten(profile_values(profile))}
    assert {key for key in keys if key not in (MACHINE if key.startswith("machine.") else METHOD)} == set()


def test_no_key_is_named_that_is_not_there() -> None:
    known: set[str] = set()
    for profile in profiles.names(ROOT / "conf"):
        for key in map(general, flatten(profile_values(profile))):
            parts = key.split(".")
            known |= {".".join(parts[: at + 1]) for at in range(len(parts))}
    assert (METHOD | MACHINE) - known == set()
