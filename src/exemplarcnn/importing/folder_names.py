"""What the folders of an image set say of its images: classes, and which are for testing (docs/own-images.md)."""

import re
import shlex
import unicodedata
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from os.path import commonpath
from pathlib import Path
from typing import Literal

from exemplarcnn.data.folder_walk import as_text, readable
from exemplarcnn.data.stl10 import MAX_CLASSES
from exemplarcnn.data.types import DataError

Kind = Literal["unlabelled", "train", "test", "valid"]
Way = tuple[str, ...]  # the folders on the way to a file, as the system spells them

_END = r"(set|data|images?|imgs?|split)?"
KINDS: dict[Kind, re.Pattern[str]] = {
    "unlabelled": re.compile(rf"unlabell?ed{_END}"),
    "train": re.compile(rf"train(ing|val)?{_END}"),
    "test": re.compile(rf"test(ing)?{_END}"),
    "valid": re.compile(rf"(val|valid|validation|eval|evaluation|dev){_END}"),
}
# Words beside these that say nothing: `test images` is no class, `test tubes` may be one.
NEUTRAL = re.compile(r"(data)?set|data|images?|imgs?|pictures?|photos?|split|samples?")
BLANKS = re.compile(r"[\s\x00-\x1f\x7f-\x9f]+")  # line ends and other control characters among them
AS_IT_IS = "to take no folder for a class, add --unlabelled"


@dataclass(frozen=True)
class Meaning:
    """What the folders say of each file.

    Attributes
    ----------
    sides
        ``train`` or ``test``; empty where nothing is said.
    labels
        The class, or an empty string.
    said
        How the folders were understood, a sentence each.
    """

    sides: list[str]
    labels: list[str]
    said: list[str]


def kind_of(name: str, strictly: bool = False) -> Kind | None:
    """Tell which part of a split a folder's name stands for: ``Train``, ``test_set``, ``val2017``, ``flowers-train``.

    ``strictly``: only if it says nothing else.
    """
    words = re.findall(r"[^\W\d_]+", name.casefold())
    for kind, pattern in KINDS.items():
        others = [word for word in words if not pattern.fullmatch(word)]
        if len(others) < len(words) and not (strictly and any(not NEUTRAL.fullmatch(word) for word in others)):
            return kind
    return None


def read(files: Iterable[str], source: Path, unlabelled: bool) -> Meaning:
    """Tell what the folders on the way to each file say.

    Parameters
    ----------
    files
        Relative to ``source``, as the system spells them.
    source
        The folder, for messages.
    unlabelled
        Take no folder for anything.

    Raises
    ------
    DataError
        If folders can be understood in two ways, if the names of two classes cannot be told apart, or if there are
        too many classes.
    """
    said: list[str] = []
    ways: list[Way] = [tuple(file.split("/")[:-1]) for file in files]
    if unlabelled:
        return Meaning([""] * len(ways), [""] * len(ways), said)
    understood = _understand(set(ways), source, said)
    names = _names({place for _, place in understood.values() if place}, source, said)
    if (classes := len(set(names.values()))) > MAX_CLASSES:
        raise DataError(
            f"{source}: found {classes} folders of images, expected {MAX_CLASSES} classes at most; if they are no "
            "classes, add --unlabelled."
        )
    return Meaning([understood[way][0] for way in ways], [names.get(understood[way][1], "") for way in ways], said)


def _understand(ways: set[Way], source: Path, said: list[str]) -> dict[Way, tuple[str, Way]]:
    """Say of each way which side of a split it leads to, and the folder on it that is a class; empty for none."""
    below: dict[str, set[str]] = defaultdict(set)
    for way in sorted(way for way in ways if way):
        below[way[0]].update(way[1:2])
    kinds = {top: kind_of(top) for top in below}
    bare = [top for top in below if kinds[top] == "unlabelled"]
    rest = [top for top in below if top not in bare]
    trains = [top for top in rest if kinds[top] == "train"]
    if bare:
        said.append(f"{_list(bare)}: without labels, as the name says")
    if trains and (len(trains) < sum(kinds[top] is not None for top in rest) or (bare and trains == rest)):
        return _outer_split(ways, dict(below), kinds, source, said)
    if len(rest) < 2:
        said.append(_why_none(ways, rest, source))
        return dict.fromkeys(ways, ("", ()))
    for top in rest:
        # A class may be called `train`. One that has folders as a set has them is none.
        if (kind := kind_of(top, strictly=True)) and (kind != "train" or len(below[top]) > 1):
            others = _list(other for other in rest if other != top)
            raise DataError(
                f"{source}: is {_list([top])} a class, like {others}, or a part of a split? If a class, give it "
                f"another name; if a split, put the classes into train/ and test/; {AS_IT_IS}."
            )
    parts = [{kind_of(name, strictly=True) for name in below[top]} for top in rest]
    tests = {"test"} if any("test" in some for some in parts) else {"valid"}
    if any("train" in some and some & tests for some in parts):
        said.append("the folders of a class are split into training and test images; the split is kept")
        return {way: _inner_split(way, rest, tests) for way in ways}
    return {way: ("", way[:1] if way and way[0] in rest else ()) for way in ways}


def _inner_split(way: Way, rest: list[str], tests: set[str]) -> tuple[str, Way]:
    kind = kind_of(way[1], strictly=True) if len(way) > 1 else None
    side = "test" if kind in tests else "train" if kind else ""
    return side, way[:1] if way and way[0] in rest and kind != "unlabelled" else ()


def _outer_split(
    ways: set[Way], below: dict[str, set[str]], kinds: dict[str, Kind | None], source: Path, said: list[str]
) -> dict[Way, tuple[str, Way]]:
    """Read a set whose first level is the split, and the second the classes."""
    tops: dict[str | None, list[str]] = {kind: [top for top in below if kinds[top] == kind] for kind in (*KINDS, None)}
    flat = [top for top in tops["test"] + tops["valid"] if not below[top]]
    tests = [top for top in tops["test"] if below[top]] or [top for top in tops["valid"] if below[top]]
    more = [top for top in tops["valid"] if below[top] and top not in tests]
    if len(set().union(*(below[top] for top in tops["train"]))) < 2:
        raise DataError(
            f"{source}: are {_list(tops['train'] + tops['test'] + tops['valid'])} the parts of a split? There are not "
            f"two folders of classes in {_list(tops['train'])}. If they are classes themselves, give them other "
            f"names; {AS_IT_IS}."
        )
    if flat and not tests:
        train = shlex.quote(readable(str(source / tops["train"][0])))
        raise DataError(
            f"{source}: found no folders of classes in {_list(flat)}, so that nothing could be tested with it. "
            f"`exemplarcnn data import {train}` sets a share of the training images aside; {AS_IT_IS}."
        )
    if tests:
        said.append(f"a set that is split already: {_list(tops['train'])} for training, {_list(tests)} for testing")
    if more:
        said.append(f"{_list(more)}: for training too, since {_list(tests)} is there to test on")
    if flat:
        said.append(f"{_list(flat)}: without labels, for there are no folders of classes in it")
    if tops[None]:
        said.append(f"{_list(tops[None])}: without labels, for it is no part of the split")
    sides = dict.fromkeys(tops["train"] + more, "train" if tests else "") | dict.fromkeys(tests, "test")
    return {way: (sides[way[0]], way[:2]) if len(way) > 1 and way[0] in sides else ("", ()) for way in ways}


def _why_none(ways: set[Way], rest: list[str], source: Path) -> str:
    """Say why no image has a label, and what to do about it."""
    if not rest:
        return "no image has a label: none lies in the folder of a class"
    around = commonpath(["/".join(way) for way in ways])
    inside = {way[around.count("/") + 1 :][:1] for way in ways} - {()}
    if not around or len(inside) < 2:
        return f"no image has a label: one folder, {_list(rest)}, is no class; there must be two"
    return (
        f"no image has a label: all lie in one folder, {readable(around)}/. If the folders in it are classes, type "
        f"`exemplarcnn data import {shlex.quote(readable(str(source / around)))}`"
    )


def _names(places: set[Way], source: Path, said: list[str]) -> dict[Way, str]:
    """Name classes after their folders.

    Composed (NFC), and with one blank for any blanks, line ends and other control characters, none at the ends.
    """
    folders: dict[str, dict[str, Way]] = defaultdict(dict)
    for place in sorted(places):
        folders[_named(place)].setdefault(place[-1], place)
    for name, some in folders.items():
        spelled = " and ".join(repr(as_text(str(source.joinpath(*place)))) for place in some.values())
        if not name:
            raise DataError(f"{spelled}: found no name but blanks, expected that of a class; give the folder another.")
        if len({_composed(leaf) for leaf in some}) > 1:
            raise DataError(
                f"{spelled}: found names that differ in blanks alone, expected names of classes that can be told "
                "apart; rename one folder, or put the images into one."
            )
        if len(some) > 1:
            said.append(f"{spelled}: one class, {name}; the names differ in Unicode's composition alone")
        elif _composed(next(iter(some))) != name:
            said.append(f"{spelled}: the class is called {name}")
    return {place: _named(place) for place in places}


def _composed(name: str) -> str:
    return unicodedata.normalize("NFC", as_text(name))


def _named(place: Way) -> str:
    return BLANKS.sub(" ", _composed(place[-1])).strip()


def _list(folders: Iterable[str]) -> str:
    """Name folders, the first of them if they are many."""
    names = [f"{readable(name)}/" for name in folders]
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
