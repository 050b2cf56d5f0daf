"""Sphinx's configuration of the site that `make docs` builds: the repository's own texts, API reference, examples."""

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from numpy.typing import ArrayLike
from pygments.lexers.special import TextLexer
from sphinx.application import Sphinx
from sphinx.util.typing import stringify_annotation
from sphinx_gallery import gen_rst

ROOT = Path(__file__).parents[1]

project = "ExemplarCNN with clustered surrogate classes"
language = "en"
extensions = ["myst_parser", "numpydoc", "sphinx.ext.autodoc", "sphinx_gallery.gen_gallery"]

# Paths are the repository's, so that one link holds on GitHub and here. All other folders are left out unread.
root_doc = "README"
include_patterns = [
    "README.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "docs/*.md",
    "docs/api/*.rst",
    "docs/gallery/*.rst",
    "reports/results.md",
]
exclude_patterns = [path.name for path in ROOT.iterdir() if path.is_dir() and path.name not in ("docs", "reports")]
# A page that is missing is left out.
MENU = {
    "Use": [
        "docs/pipeline",
        "docs/parameters",
        "docs/experiments",
        "docs/data",
        "docs/own-images",
        "docs/variants",
        "docs/serving",
        "docs/python",
        "docs/clustering",
        "docs/clusters",
        "docs/teams",
        "docs/troubleshooting",
    ],
    "In your own code": ["docs/gallery/index", "docs/api/index"],
    "Method and results": ["docs/method", "docs/results", "reports/results"],
    "Project": ["CONTRIBUTING", "CHANGELOG"],
}
TITLES = {"reports/results": "Results on the embedded sample"}

# Anchors are named as GitHub names them.
myst_heading_anchors = 6
smartquotes = False
default_role = "py:obj"

autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_typehints_format = "short"
maximum_signature_line_length = 80
numpydoc_show_class_members = False

sphinx_gallery_conf = {
    "examples_dirs": "docs/examples",
    "gallery_dirs": "docs/gallery",
    "filename_pattern": "/plot_",
    "abort_on_example_error": True,
    "min_reported_time": 0,
    "show_memory": False,
    "show_signature": False,
    "download_all_examples": False,
    "write_computation_times": False,
}

html_theme = "furo"
html_title = "ExemplarCNN"
html_show_copyright = False
html_copy_source = False
templates_path = ["templates"]
html_static_path = ["site.css"]
html_css_files = ["site.css"]


def _in_root(run: Callable[..., Any]) -> Callable[..., Any]:
    def run_there(*given: Any, **named: Any) -> Any:
        os.chdir(ROOT)  # sphinx-gallery goes back by itself
        return run(*given, **named)

    return run_there


# Examples find data/ and models/ in the current folder, as they do in a clone. sphinx-gallery, which takes their own
# folder, has no setting for that.
gen_rst._exec_and_get_memory = _in_root(gen_rst._exec_and_get_memory)

# What autodoc writes for NumPy's names of types, and these names.
ARRAYS = {
    re.escape(stringify_annotation(ArrayLike, "smart")): "ArrayLike",
    r"~numpy\.ndarray\[tuple\[~typing\.Any, \.\.\.\], ~numpy\.dtype\[([^\]]+)\]\]": r"NDArray[\1]",
}
LONG_SIGNATURE = re.compile(r'<dl>\s*<dd><em class="sig-param">.*?</dl>', re.S)


def _names_of_types(
    app: Sphinx, kind: str, name: str, thing: object, options: object, signature: str | None, returned: str | None
) -> tuple[str | None, str | None]:
    """Write types of arrays as the code does."""
    for long, short in ARRAYS.items():
        signature = signature and re.sub(long, short, signature)
        returned = returned and re.sub(long, short, returned)
    return signature, returned


def _site(app: Sphinx, page: str, source: list[str]) -> None:
    """Lead links to examples to their pages, and give the start page the menu: on GitHub there is neither."""
    source[0] = re.sub(r"examples/(plot_\w+)\.py\)", r"gallery/\1.rst)", source[0])
    if page != root_doc:
        return
    for caption, pages in MENU.items():
        there = [f"{TITLES[each]} <{each}>" if each in TITLES else each for each in pages if each in app.env.found_docs]
        source[0] += "\n\n" + "\n".join(["```{toctree}", ":hidden:", f":caption: {caption}", *there, "```"])


def _accessible(app: Sphinx, page: str, template: str, context: dict[str, Any], tree: object) -> None:
    """Mend what keyboards and screen readers stumble over: axe-core finds nothing serious after that."""
    # What scrolls by itself can be reached, and parameters of a long signature are no list of definitions.
    body = context.get("body", "").replace("<pre>", '<pre tabindex="0">')
    body = body.replace('<div class="table-wrapper', '<div tabindex="0" class="table-wrapper')
    context["body"] = LONG_SIGNATURE.sub(lambda found: re.sub(r"(</?)d[ld]>", r"\1div>", found[0]), body)
    # A heading of the menu has no level.
    context["furo_navigation_tree"] = context["furo_navigation_tree"].replace(' role="heading"', "")


def _start(app: Sphinx, error: Exception | None) -> None:
    """Show the start page for the site's address alone, too."""
    if not error:
        shutil.copy(app.outdir / f"{root_doc}.html", app.outdir / "index.html")


def setup(app: Sphinx) -> None:
    """Connect what this file defines; the README's diagram, which GitHub draws, is there as its text."""
    app.add_lexer("mermaid", TextLexer)
    app.connect("source-read", _site)
    app.connect("html-page-context", _accessible, priority=900)  # after the theme
    app.connect("autodoc-process-signature", _names_of_types)
    app.connect("build-finished", _start)
