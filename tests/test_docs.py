"""Links and anchors of the texts lead to files and headings of the repository. Addresses elsewhere are not fetched."""

import re
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from markdown_it import MarkdownIt
from markdown_it.token import Token

ROOT = Path(__file__).parents[1]
TEXTS = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "reports/results.md")]
TEXTS += sorted((ROOT / "docs").glob("*.md"))


def tokens(path: Path) -> list[Token]:
    return MarkdownIt("commonmark").enable("table").parse(path.read_text())


def links(path: Path) -> Iterator[str]:
    for block in tokens(path):
        for token in block.children or ():
            place = token.attrGet("href") or token.attrGet("src")
            if place:
                yield str(place)


def anchors(path: Path) -> set[str]:
    """Headings as GitHub names them: no punctuation, dashes for spaces, a number for the second of a name."""
    found: set[str] = set()
    seen: Counter[str] = Counter()
    blocks = tokens(path)
    for opened, heading in pairwise(blocks):
        if opened.type == "heading_open":
            text = "".join(token.content for token in heading.children or () if token.type in ("text", "code_inline"))
            name = re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-")
            found.add(f"{name}-{seen[name]}" if seen[name] else name)
            seen[name] += 1
    return found


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.name)
def test_every_link_leads_somewhere(path: Path) -> None:
    for link in links(path):
        address = urlsplit(link)
        if address.scheme:
            assert address.scheme in ("http", "https", "mailto"), link
            continue
        target = (path.parent / unquote(address.path)).resolve() if address.path else path
        assert target.is_relative_to(ROOT), f"{link} leads out of the repository"
        assert target.is_file(), f"{link} leads to no file"
        if address.fragment:
            assert unquote(address.fragment) in anchors(target), f"{link} names no heading of {target.name}"


def test_anchors_are_githubs(tmp_path: Path) -> None:
    text = tmp_path / "text.md"
    text.write_text("# 3.1 `train`: n × n, [yes](x.md)\n## Über_all\n```\n# no heading\n```\n## Twice\n## Twice\n")
    assert anchors(text) == {"31-train-n--n-yes", "über_all", "twice", "twice-1"}


def paragraphs(path: Path) -> set[str]:
    """What is said in ten words or more at a time: paragraphs, items of lists, cells of tables."""
    return {
        " ".join(block.content.split())
        for block in tokens(path)
        if block.type == "inline" and len(block.content.split()) >= 10
    }


def test_nothing_is_said_twice() -> None:
    """Of pages that people write: the report is made of figures."""
    said: Counter[str] = Counter()
    for path in TEXTS:
        if path.parent.name != "reports":
            said.update(paragraphs(path))
    assert [text for text, times in said.items() if times > 1] == []


def test_the_readme_is_read_in_one_sitting() -> None:
    text = (ROOT / "README.md").read_text()
    assert text.count("\n") <= 120
    assert len(text.split()) <= 1300
