"""Make names safe to show where some characters have a meaning: in pictures and in Markdown.

Names of classes and data sets, and titles of rows, may be any text. (In HTML pages, Jinja escapes them.)
"""

import re

# All that starts markup in GitHub's Markdown, formulas and entities included, and the bar between a table's cells.
# An underscore inside a word starts none.
_MEANS_SOMETHING = re.compile(r"[\\`*\[\]<>|$~&]|(?<![^\W_])_|_(?![^\W_])")
_AT_THE_START = re.compile(r"^(?:[#+-]|\d+(?=[.)]))")


def plain(text: str, most: int) -> str:
    """Return a text on one line, without unprintable characters, shortened in the middle if it is too long.

    Parameters
    ----------
    text
        Any text.
    most
        Largest number of characters, three or more.
    """
    line = " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())
    if len(line) <= most:
        return line
    tail = most // 3  # names that start alike may end in a number
    return f"{line[: most - 1 - tail]}…{line[len(line) - tail :]}"


def markdown(text: str) -> str:
    """Escape a text so that Markdown shows it literally, on one line, also in a table cell."""
    line = _MEANS_SOMETHING.sub(r"\\\g<0>", " ".join(text.split()))
    # A number before a dot would begin a list: escape the dot.
    return _AT_THE_START.sub(lambda found: found[0] + "\\" if found[0].isdigit() else "\\" + found[0], line)
