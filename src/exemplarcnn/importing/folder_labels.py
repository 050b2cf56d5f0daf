"""Derive classes and the split into training and test images from the folders of a set (docs/own-images.md)."""

import re
import shlex
import unicodedata
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from os.path import commonpath
from pathlib import Path
from typing import Literal

from exemplarcnn.data.file_names import as_text, readable
from exemplarcnn.data.stl10 import MAX_CLASSES
from exemplarcnn.data.types import DataError

Kind = Literal["unlabelled", "train", "test", "valid"]
Way = tuple[str, ...]  # the folders that lead to a file, as the system spells them

_END = r"(set|data|images?|imgs?|split)?"
KINDS: dict[Kind, re.Pattern[str]] = {
    "unlabelled": re.compile(rf"unlabell?ed{_END}"),
    "train": re.compile(rf"train(ing|val)?{_END}"),
    "test": re.compile(rf"test(ing)?{_END}"),
    "valid": re.compile(rf"(val|valid|validation|eval|evaluation|dev){_END}"),
}
# Words that mean nothing beside these: `test images` is not a class, `test tubes` may be one.
NEUTRAL = re.compile(r"(data)?set|data|images?|imgs?|pictures?|photos?|split|samples?")
BLANKS = re.compile(r"[\s\x00-\x1f\x7f-\x9f]+")  # line ends and other control characters among them
AS_IT_IS = "if no folder is a class, add --unlabelled"


@dataclass(frozen=True)
class FolderLabels:
    """What the folders say about each file.

    Attributes
    ----------
    splits
        ``train`` or ``test``; empty if the folders do not say.
    labels
        The class, or an empty string.
    said
        How the folders were understood, a sentence each.
    """

    splits: list[str]
    labels: list[str]
    said: list[str]


def kind_of(name: str, strictly: bool = False) -> Kind | None:
    """Tell which part of a split a folder's name stands for: ``Train``, ``test_set``, ``val2017``, ``flowers-train``.

    With ``strictly``, only if the name has no other meaning.
    """
    words = re.findall(r"[^\W\d_]+", name.casefold())
    for kind, pattern in KINDS.items():
        others = [word for word in words if not pattern.fullmatch(word)]
        if len(others) < len(words) and not (strictly and any(not NEUTRAL.fullmatch(word) for word in others)):
            return kind
    return None


def read(files: Iterable[str], source: Path, unlabelled: bool) -> FolderLabels:
    """Read split and class of each file from the folders that lead to it.

    Parameters
    ----------
    files
        Relative to ``source``, as the system spells them.
    source
        The folder, for messages.
    unlabelled
        Ignore all folders.

    Raises
    ------
    DataError
        If folders can be understood in two ways, if the names of two classes cannot be told apart, or if there are
        too many classes.
    """
    said: list[str] = []
    ways: list[Way] = [tuple(file.split("/")[:-1]) for file in files]
    if unlabelled:
        return FolderLabels([""] * len(ways), [""] * len(ways), said)
    understood = _split_and_class(set(ways), source, said)
    names = _class_names({place for _, place in understood.values() if place}, source, said)
    if (classes := len(set(names.values()))) > MAX_CLASSES:
        raise DataError(
            f"{source}: found {classes} folders of images, expected {MAX_CLASSES} classes at most; if they are not "
            "classes, add --unlabelled."
        )
    return FolderLabels([understood[way][0] for way in ways], [names.get(understood[way][1], "") for way in ways], said)


def _split_and_class(ways: set[Way], source: Path, said: list[str]) -> dict[Way, tuple[str, Way]]:
    """Return for each way its split, ``train``, ``test`` or empty, and the way to the folder of its class, or ()."""
    below: dict[str, set[str]] = defaultdict(set)
    for way in sorted(way for way in ways if way):
        below[way[0]].update(way[1:2])
    kinds = {top: kind_of(top) for top in below}
    bare = [top for top in below if kinds[top] == "unlabelled"]
    rest = [top for top in below if top not in bare]
    trains = [top for top in rest if kinds[top] == "train"]
    if bare:
        said.append(f"{_listed(bare)}: unlabelled, as the name says")
    if trains and (len(trains) < sum(kinds[top] is not None for top in rest) or (bare and trains == rest)):
        return _outer_split(ways, dict(below), kinds, source, said)
    if len(rest) < 2:
        said.append(_why_no_labels(ways, rest, source))
        return dict.fromkeys(ways, ("", ()))
    for top in rest:
        # A class may be called `train`, but one that has folders like those of a set is part of a split.
        if (kind := kind_of(top, strictly=True)) and (kind != "train" or len(below[top]) > 1):
            others = _listed(other for other in rest if other != top)
            raise DataError(
                f"{source}: cannot tell whether {_listed([top])} is a class, like {others}, or part of a split: if a "
                f"class, rename it; if part of a split, put the classes into train/ and test/; {AS_IT_IS}."
            )
    parts = [{kind_of(name, strictly=True) for name in below[top]} for top in rest]
    tests = {"test"} if any("test" in some for some in parts) else {"valid"}
    if any("train" in some and some & tests for some in parts):
        said.append("the folders of classes are split into training and test images; the split is kept")
        return {way: _inner_split(way, rest, tests) for way in ways}
    return {way: ("", way[:1] if way and way[0] in rest else ()) for way in ways}


def _inner_split(way: Way, rest: list[str], tests: set[str]) -> tuple[str, Way]:
    kind = kind_of(way[1], strictly=True) if len(way) > 1 else None
    split = "test" if kind in tests else "train" if kind else ""
    return split, way[:1] if way and way[0] in rest and kind != "unlabelled" else ()


def _outer_split(
    ways: set[Way], below: dict[str, set[str]], kinds: dict[str, Kind | None], source: Path, said: list[str]
) -> dict[Way, tuple[str, Way]]:
    """Read a set with the split on the first level of folders and the classes on the second."""
    tops: dict[str | None, list[str]] = {kind: [top for top in below if kinds[top] == kind] for kind in (*KINDS, None)}
    flat = [top for top in tops["test"] + tops["valid"] if not below[top]]
    tests = [top for top in tops["test"] if below[top]] or [top for top in tops["valid"] if below[top]]
    more = [top for top in tops["valid"] if below[top] and top not in tests]
    if len(set().union(*(below[top] for top in tops["train"]))) < 2:
        raise DataError(
            f"{source}: cannot tell whether {_listed(tops['train'] + tops['test'] + tops['valid'])} are parts of a "
            f"split: found fewer than two folders of classes in {_listed(tops['train'])}. If they are classes, "
            f"rename them; {AS_IT_IS}."
        )
    if flat and not tests:
        train = shlex.quote(readable(str(source / tops["train"][0])))
        raise DataError(
            f"{source}: found no folders of classes in {_listed(flat)}, so it cannot be used for testing. "
            f"`exemplarcnn data import {train}` sets aside a share of the training images; {AS_IT_IS}."
        )
    if tests:
        said.append(f"already split: {_listed(tops['train'])} for training, {_listed(tests)} for testing")
    if more:
        said.append(f"{_listed(more)}: for training too, since {_listed(tests)} is there for testing")
    if flat:
        said.append(f"{_listed(flat)}: unlabelled, since it has no folders of classes")
    if tops[None]:
        said.append(f"{_listed(tops[None])}: unlabelled, since it is not part of the split")
    split = dict.fromkeys(tops["train"] + more, "train" if tests else "") | dict.fromkeys(tests, "test")
    return {way: (split[way[0]], way[:2]) if len(way) > 1 and way[0] in split else ("", ()) for way in ways}


def _why_no_labels(ways: set[Way], rest: list[str], source: Path) -> str:
    """Return why no image has a label, and what to do about it."""
    if not rest:
        return "no image has a label: none is in the folder of a class"
    around = commonpath(["/".join(way) for way in ways])
    inside = {way[around.count("/") + 1 :][:1] for way in ways} - {()}
    if not around or len(inside) < 2:
        return f"no image has a label: a single folder, {_listed(rest)}, is not a class; it takes two or more"
    return (
        f"no image has a label: all are in one folder, {readable(around)}/. If the folders in it are classes, type "
        f"`exemplarcnn data import {shlex.quote(readable(str(source / around)))}`"
    )


def _class_names(places: set[Way], source: Path, said: list[str]) -> dict[Way, str]:
    """Name classes after their folders.

    Names are composed (NFC). Runs of blanks, line ends and other control characters become one blank, and are removed
    at the ends.
    """
    folders: dict[str, dict[str, Way]] = defaultdict(dict)
    for place in sorted(places):
        folders[_class_name(place)].setdefault(place[-1], place)
    for name, some in folders.items():
        spelled = " and ".join(repr(as_text(str(source.joinpath(*place)))) for place in some.values())
        if not name:
            raise DataError(f"{spelled}: found a name of blanks only, expected the name of a class; rename the folder.")
        if len({_composed_name(leaf) for leaf in some}) > 1:
            raise DataError(
                f"{spelled}: found names that differ only in blanks, expected different names of classes; "
                "rename one folder, or put all images into one."
            )
        if len(some) > 1:
            said.append(f"{spelled}: one class, {name}; the names differ only in Unicode composition")
        elif _composed_name(next(iter(some))) != name:
            said.append(f"{spelled}: the class is called {name}")
    return {place: _class_name(place) for place in places}


def _composed_name(name: str) -> str:
    return unicodedata.normalize("NFC", as_text(name))


def _class_name(place: Way) -> str:
    return BLANKS.sub(" ", _composed_name(place[-1])).strip()


def _listed(folders: Iterable[str]) -> str:
    """List folders; of more than five, the first five."""
    names = [f"{readable(name)}/" for name in folders]
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
