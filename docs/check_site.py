"""Check the site that `make docs` built: links, headings, texts for pictures, and that nothing comes from elsewhere.

`python docs/check_site.py FOLDER` prints what is wrong, a line each, and exits with 1 if anything is.
"""

import re
import sys
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from urllib.parse import unquote, urlsplit

# What a browser loads by itself, as against links that somebody follows.
LOADED = {"src", "srcset", "poster", "data"}
LOADING_RELATIONS = {"stylesheet", "icon", "preload", "prefetch", "modulepreload", "preconnect", "dns-prefetch"}
STYLE_ADDRESS = re.compile(r"""(?:url\(\s*|@import\s+)["']?((?:https?:)?//[^"')\s]+)""")


class Page(HTMLParser):
    """One page: its language, headings, anchors, pictures, and the addresses that it names.

    Parameters
    ----------
    text
        The page's HTML.
    """

    def __init__(self, text: str):
        super().__init__()
        self.language = ""
        self.levels: list[int] = []
        self.anchors: list[str] = []
        self.pictures_without_text: list[str] = []
        self.loaded: list[str] = []
        self.links: list[str] = []
        self.feed(text)
        self.loaded += STYLE_ADDRESS.findall(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Take note of a tag."""
        given = {name: value or "" for name, value in attrs}
        if tag == "html":
            self.language = given.get("lang", "")
        if re.fullmatch("h[1-6]", tag):
            self.levels.append(int(tag[1]))
        if "id" in given:
            self.anchors.append(given["id"])
        # The gallery's thumbnails stand beside their titles, and rightly have an empty text.
        if tag == "img" and not given.get("alt", "").strip():
            picture = given.get("src", "")
            if "alt" not in given or "_thumb." not in picture:
                self.pictures_without_text.append(picture)
        self.loaded += [given[name] for name in LOADED & given.keys()]
        if tag == "link" and LOADING_RELATIONS & set(given.get("rel", "").split()):
            self.loaded.append(given.get("href", ""))
        elif "href" in given:
            self.links.append(given["href"])


def elsewhere(address: str) -> bool:
    """Return whether an address names another machine."""
    return bool(urlsplit(address).netloc)


def of_page(page: Page) -> list[str]:
    """Return what is wrong with a page by itself."""
    wrong = [] if page.language else ["names no language"]
    if page.levels.count(1) != 1:
        wrong.append(f"has {page.levels.count(1)} headings of level 1, expected one")
    steps = pairwise(page.levels)
    wrong += [f"goes from a heading of level {last} to one of level {at}" for last, at in steps if at > last + 1]
    wrong += [f"has the anchor {name} twice" for name in sorted({x for x in page.anchors if page.anchors.count(x) > 1})]
    wrong += [f"shows {picture} without a text in place of it" for picture in page.pictures_without_text]
    return wrong + [f"loads {address} from elsewhere" for address in page.loaded if elsewhere(address)]


def of_links(path: Path, pages: dict[Path, Page], folder: Path) -> list[str]:
    """Return which addresses of a page lead to no file of the site, or to no anchor of a page."""
    wrong = []
    for address in dict.fromkeys([*pages[path].links, *pages[path].loaded]):
        parts = urlsplit(address)
        if parts.scheme or parts.netloc:
            continue
        target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
        if not target.is_relative_to(folder) or not target.is_file():
            wrong.append(f"names {address}, which is not there")
        elif parts.fragment and target in pages and unquote(parts.fragment) not in pages[target].anchors:
            wrong.append(f"names {address}, and that page has no such anchor")
    return wrong


def check(folder: Path) -> list[str]:
    """Return all that is wrong with a site, a line each.

    Parameters
    ----------
    folder
        The site.

    Returns
    -------
    list of str
        ``FILE: what is wrong``, in the order of the files' names.
    """
    folder = folder.resolve()
    pages = {path: Page(path.read_text(encoding="utf-8")) for path in sorted(folder.rglob("*.html"))}
    found = [] if pages else [(folder, "has no page")]
    for path, page in pages.items():
        found += [(path, line) for line in [*of_page(page), *of_links(path, pages, folder)]]
    for path in sorted(folder.rglob("*.css")):
        addresses = STYLE_ADDRESS.findall(path.read_text(encoding="utf-8"))
        found += [(path, f"loads {address} from elsewhere") for address in addresses]
    return [f"{path.relative_to(folder)}: {line}" for path, line in found]


if __name__ == "__main__":
    lines = check(Path(sys.argv[1]))
    print(*lines, sep="\n", end="\n" if lines else "", file=sys.stderr)
    sys.exit(bool(lines))
