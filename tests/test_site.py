"""What `docs/check_site.py` finds in a site, and that the menu of the site has every text."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import ROOT

Check = Callable[[Path], list[str]]
PAGE = """<html lang="en"><head><link rel="stylesheet" href="style.css"><script src="code.js"></script></head>
<body><h1 id="top">Title</h1><h2 id="a%20b">Part</h2><p><a href="other.html#there">other</a> <a href="#top">top</a>
<a href="https://example.org">elsewhere</a> <img src="x.png" alt="a cross"> <img src="y_thumb.png" alt=""></p>
<h3>Smaller</h3><h2>Part</h2></body></html>"""


@pytest.fixture
def check(monkeypatch: pytest.MonkeyPatch) -> Check:
    monkeypatch.syspath_prepend(str(ROOT / "docs"))
    import check_site

    return check_site.check


def site(folder: Path, page: str = PAGE, style: str = "p { color: red }") -> Path:
    (folder / "page.html").write_text(page)
    (folder / "other.html").write_text('<html lang="en"><body><h1 id="there">Other</h1></body></html>')
    (folder / "style.css").write_text(style)
    for name in ("code.js", "x.png", "y_thumb.png"):
        (folder / name).touch()
    return folder


def test_nothing_is_found_in_a_good_site(check: Check, tmp_path: Path) -> None:
    assert check(site(tmp_path)) == []


@pytest.mark.parametrize(
    ("old", "new", "wrong"),
    [
        (' lang="en"', "", "names no language"),
        ('<h1 id="top">Title</h1>', '<p id="top"></p>', "has 0 headings of level 1"),
        ("<h3>Smaller</h3>", "<h1>Again</h1>", "has 2 headings of level 1"),
        ("<h3>", "<h4>", "from a heading of level 2 to one of level 4"),
        (' alt="a cross"', "", "shows x.png without a text"),
        (' alt="a cross"', ' alt=" "', "shows x.png without a text"),
        ('y_thumb.png" alt=""', 'y_thumb.png"', "shows y_thumb.png without a text"),
        ('"code.js"', '"https://example.org/code.js"', "loads https://example.org/code.js from elsewhere"),
        ('"style.css"', '"//example.org/style.css"', "loads //example.org/style.css from elsewhere"),
        ("<p>", "<style>@import 'https://example.org/x.css'</style><p>", "loads https://example.org/x.css"),
        ("other.html#there", "missing.html", "names missing.html, which is not there"),
        ("other.html#there", "../other.html", "names ../other.html, which is not there"),
        ('"code.js"', '"missing.js"', "names missing.js, which is not there"),
        ("other.html#there", "other.html#here", "names other.html#here, and that page has no such anchor"),
        ('"#top"', '"#bottom"', "names #bottom, and that page has no such anchor"),
        ('id="a%20b"', 'id="top"', "has the anchor top twice"),
    ],
)
def test_what_is_wrong_with_a_page_is_found(check: Check, tmp_path: Path, old: str, new: str, wrong: str) -> None:
    assert old in PAGE
    (line,) = check(site(tmp_path, PAGE.replace(old, new, 1)))
    assert line.startswith("page.html: ")
    assert wrong in line


def test_a_style_that_loads_a_font_from_elsewhere_is_found(check: Check, tmp_path: Path) -> None:
    lines = check(site(tmp_path, style='@font-face { src: url("https://example.org/font.woff2") }'))
    assert lines == ["style.css: loads https://example.org/font.woff2 from elsewhere"]


def test_an_empty_folder_is_no_site(check: Check, tmp_path: Path) -> None:
    assert check(tmp_path) == [".: has no page"]


def test_the_menu_has_every_page() -> None:
    """Sphinx warns of a page that is in no menu, but only `make docs` runs it."""
    text = (ROOT / "docs" / "conf.py").read_text()
    for path in (*ROOT.glob("docs/*.md"), ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", ROOT / "reports/results.md"):
        assert f'"{path.relative_to(ROOT).with_suffix("")}"' in text
