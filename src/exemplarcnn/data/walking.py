"""What lies in a folder, at any depth: each file once, and a word for everything else.

All that read folders of images go through here, so that they agree. Links are followed, each folder is entered once,
and hidden folders and those of tools are not entered.
"""

import heapq
import os
import re
from collections import defaultdict
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePath

from exemplarcnn.errors import reason

# What file managers, storage systems and archivers keep for themselves, if it does not begin with a dot.
TOOLS = frozenset({"@eadir", "__macosx", "$recycle.bin", "system volume information", "lost+found"})
HIDDEN_FOLDER = "hidden or a tool's, not entered"
HIDDEN_FILE = "hidden"
NO_IMAGE = "no image by its name"
HARMLESS = (NO_IMAGE, HIDDEN_FOLDER, HIDDEN_FILE)
LOOP = "leads to a folder around it, not followed"
EACH = 3  # things of one kind that are named one by one; of more, the first stands for all
# What ends a line or steers a terminal.
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


@dataclass(frozen=True)
class Passed:
    """Something in a folder that is passed over.

    Attributes
    ----------
    path
        Relative to the folder, as `readable` spells it.
    why
        The reason.
    kind
        What many such things are called together.
    files
        How many files are in it, of a folder that was not entered.
    """

    path: str
    why: str
    kind: str
    files: int = 0

    @property
    def said(self) -> str:
        """The reason, and how many files are concerned."""
        return self.why + _inside(self.files)


@dataclass(frozen=True)
class Found:
    """What lies in a folder.

    Attributes
    ----------
    files
        Regular files that are not hidden, relative to the folder, in the order of their paths; as the system spells
        them.
    passed_over
        Everything else but the folders that were entered, in the order of their paths.
    """

    files: list[str]
    passed_over: list[Passed]


def walk(root: Path) -> Found:
    """List a folder, at any depth.

    Links to files and folders are followed. A folder that can be reached in several ways is entered once: where it
    lies, if that is within `root`, else by the first link to it. A link to a folder around it is a loop, and left.
    """
    walker = _Walker(root)
    links = walker.enter("")
    heapq.heapify(links)
    while links:  # after all folders, so that what lies within `root` is known by its own path
        for link in walker.enter(heapq.heappop(links)):
            heapq.heappush(links, link)
    return Found(sorted(walker.files), sorted(walker.passed, key=lambda each: each.path))


class _Walker:
    """Keeps what was found, and which folders were entered and where, by device and inode."""

    def __init__(self, root: Path):
        self.root = root
        self.files: list[str] = []
        self.passed: list[Passed] = []
        self.entered: dict[tuple[int, int], str] = {}
        for folder in root.resolve().parents:
            with suppress(OSError):
                self.entered[_identity(folder)] = ""

    def enter(self, top: str) -> list[str]:
        """List a folder and all below it, but for the links to folders there: these are returned."""
        links: list[str] = []
        waiting = [top]
        while waiting:
            folder = waiting.pop()
            try:
                if not self._is_new(folder):
                    continue
                with os.scandir(self.root / folder) as listed:
                    entries = sorted(listed, key=lambda entry: entry.name)
            except OSError as error:
                self._pass(folder or ".", f"cannot be opened: {reason(error)}", "folders")
                continue
            for entry in entries:
                path = f"{folder}/{entry.name}" if folder else entry.name
                if self._is_folder(entry, path):
                    (links if entry.is_symlink() else waiting).append(path)
        return links

    def _is_new(self, folder: str) -> bool:
        """Take note of a folder; of one that was entered already, say so."""
        earlier = self.entered.setdefault(_identity(self.root / folder), folder)
        if earlier == folder:
            return True
        around = not earlier or folder.startswith(f"{earlier}/")
        self._pass(folder, LOOP if around else f"the same folder as {readable(earlier)}, entered once", "links")
        return False

    def _is_folder(self, entry: "os.DirEntry[str]", path: str) -> bool:
        """Tell whether something is a folder to enter, and keep it if it is none."""
        try:
            if entry.is_dir():
                if not entry.name.startswith(".") and entry.name.casefold() not in TOOLS:
                    return True
                inside = 0 if entry.is_symlink() else sum(len(files) for _, _, files in os.walk(entry.path))
                self._pass(path, HIDDEN_FOLDER, f"folders {readable(entry.name)}", inside)
            elif entry.name.startswith("."):
                self._pass(path, HIDDEN_FILE, "files")
            elif entry.is_file():
                self.files.append(path)
            else:
                entry.stat()  # says what is wrong with a link
                self._pass(path, "neither a file nor a folder", "things")
        except OSError as error:
            self._pass(path, f"cannot be followed: {reason(error)}", "links")
        return False

    def _pass(self, path: str, why: str, kind: str, files: int = 0) -> None:
        self.passed.append(Passed(readable(path), why, kind, files))


def _identity(folder: Path) -> tuple[int, int]:
    about = folder.stat()
    return about.st_dev, about.st_ino


def no_image(path: str) -> Passed:
    """Say of a file that it is no image by its name."""
    return Passed(readable(path), NO_IMAGE, readable(PurePath(path).suffix.lower()) or "files without a suffix")


def lines(passed_over: Iterable[Passed], harmless: bool | None = None) -> list[str]:
    """Say what was passed over, a line each; of many things of a kind, a line for all.

    What is odd comes first, then what is harmless, such as a text beside the images; or one of both alone.
    """
    kinds: dict[tuple[bool, str, str], list[Passed]] = defaultdict(list)
    for each in passed_over:
        if harmless is None or harmless == (each.why in HARMLESS):
            kinds[each.why in HARMLESS, each.why, each.kind].append(each)
    said: list[str] = []
    for (_, why, kind), some in sorted(kinds.items(), key=lambda item: item[0][0]):
        if len(some) > EACH:
            inside = _inside(sum(each.files for each in some))
            said.append(f"{len(some):,} {kind}: {why}{inside}; the first is {some[0].path}")
        else:
            said += [f"{each.path}: {each.said}" for each in some]
    return said


def _inside(files: int) -> str:
    return f", {files:,} files inside" if files else ""


def is_utf8(name: str) -> bool:
    """Tell whether a name, as Python has it from the system, is UTF-8."""
    return not any("\ud800" <= letter <= "\udfff" for letter in name)


def as_text(name: str) -> str:
    r"""Spell a name so that it can be written: bytes that are not UTF-8 become ``\xe9`` and the like."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def readable(name: str) -> str:
    r"""Spell a name so that it can be written, and stands on one line.

    As `as_text`; and line ends and other control characters become ``\n``, ``\x1b``, ``\u2028``. All other names stay
    as they are.
    """
    return CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), as_text(name))
