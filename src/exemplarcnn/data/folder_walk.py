"""List a folder at any depth: each file once, and a reason for everything that is skipped.

All code that reads folders of images uses this module, so that the results agree. Links are followed, each folder is
entered once, and hidden folders and those of tools are skipped.
"""

import heapq
import os
from collections import defaultdict
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePath

from exemplarcnn.data.file_names import readable
from exemplarcnn.errors import reason

# Folders of file managers, storage systems and archivers, apart from those that begin with a dot.
TOOLS = frozenset({"@eadir", "__macosx", "$recycle.bin", "system volume information", "lost+found"})
HIDDEN_FOLDER = "hidden or a tool's, not entered"
HIDDEN_FILE = "hidden"
NOT_AN_IMAGE = "no image by its name"
HARMLESS = (NOT_AN_IMAGE, HIDDEN_FOLDER, HIDDEN_FILE)
LOOP = "leads to a folder around it, not followed"
NAMED_SINGLY = 3  # most entries of one kind to list one by one; of more, only the first is named


@dataclass(frozen=True)
class PassedOver:
    """Something in a folder that is skipped.

    Attributes
    ----------
    path
        Relative to the folder, as `exemplarcnn.data.file_names.readable` spells it.
    why
        The reason.
    kind
        What to call several such things.
    files
        Number of files in a folder that was not entered; else 0.
    """

    path: str
    why: str
    kind: str
    files: int = 0

    @property
    def said(self) -> str:
        """The reason, with the number of files inside."""
        return self.why + _inside(self.files)


@dataclass(frozen=True)
class Listing:
    """What lies in a folder.

    Attributes
    ----------
    files
        Regular files that are not hidden, relative to the folder, sorted by path; as the system spells them.
    passed_over
        Everything else except the folders that were entered, sorted by path.
    """

    files: list[str]
    passed_over: list[PassedOver]


def walk(root: Path) -> Listing:
    """List a folder, at any depth.

    Links to files and folders are followed. A folder that can be reached in several ways is entered once: at its own
    place, if that is within `root`, else through the first link to it. A link to a folder around it would be a loop and
    is skipped, as are folders that cannot be opened.
    """
    walker = _Walker(root)
    links = walker.enter("")
    heapq.heapify(links)
    while links:  # after all folders, so that what is within `root` is listed under its own path
        for link in walker.enter(heapq.heappop(links)):
            heapq.heappush(links, link)
    return Listing(sorted(walker.files), sorted(walker.passed_over, key=lambda each: each.path))


class _Walker:
    """What was found, and which folders were entered under which path, by device and inode."""

    def __init__(self, root: Path):
        self.root = root
        self.files: list[str] = []
        self.passed_over: list[PassedOver] = []
        self.entered: dict[tuple[int, int], str] = {}
        for folder in root.resolve().parents:
            with suppress(OSError):
                self.entered[_identity(folder)] = ""

    def enter(self, top: str) -> list[str]:
        """List a folder and all below it; return links to folders there without following them."""
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
        """Note that a folder is entered; if it already was, record that, and return False."""
        earlier = self.entered.setdefault(_identity(self.root / folder), folder)
        if earlier == folder:
            return True
        around = not earlier or folder.startswith(f"{earlier}/")
        self._pass(folder, LOOP if around else f"the same folder as {readable(earlier)}, entered once", "links")
        return False

    def _is_folder(self, entry: "os.DirEntry[str]", path: str) -> bool:
        """Tell whether something is a folder to enter; if not, record it."""
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
                entry.stat()  # raises what is wrong with a link
                self._pass(path, "neither a file nor a folder", "things")
        except OSError as error:
            self._pass(path, f"cannot be followed: {reason(error)}", "links")
        return False

    def _pass(self, path: str, why: str, kind: str, files: int = 0) -> None:
        self.passed_over.append(PassedOver(readable(path), why, kind, files))


def _identity(folder: Path) -> tuple[int, int]:
    about = folder.stat()
    return about.st_dev, about.st_ino


def not_an_image(path: str) -> PassedOver:
    """Return the record of a file whose name is not that of an image."""
    return PassedOver(readable(path), NOT_AN_IMAGE, readable(PurePath(path).suffix.lower()) or "files without a suffix")


def summary_lines(passed_over: Iterable[PassedOver], harmless: bool | None = None) -> list[str]:
    """List what was skipped, one per line; many things of one kind share a line.

    Problems come first, then what is harmless, such as a text file beside the images. ``harmless`` selects one of both.
    """
    kinds: dict[tuple[bool, str, str], list[PassedOver]] = defaultdict(list)
    for each in passed_over:
        if harmless is None or harmless == (each.why in HARMLESS):
            kinds[each.why in HARMLESS, each.why, each.kind].append(each)
    said: list[str] = []
    for (_, why, kind), some in sorted(kinds.items(), key=lambda item: item[0][0]):
        if len(some) > NAMED_SINGLY:
            inside = _inside(sum(each.files for each in some))
            said.append(f"{len(some):,} {kind}: {why}{inside}; the first is {some[0].path}")
        else:
            said += [f"{each.path}: {each.said}" for each in some]
    return said


def _inside(files: int) -> str:
    return f", {files:,} files inside" if files else ""
