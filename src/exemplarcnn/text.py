"""What people have called things, where characters have a meaning: in pictures, and in Markdown.

Names of classes and of data sets, titles of rows: any text at all. (A page is HTML, which Jinja escapes.)
"""

import re

# All that begins something in GitHub's Markdown, formulas and entities included, and the bar between a table's cells.
# An underscore inside a word does not.
_MEANS_SOMETHING = re.compile(r"[\\`*\[\]<>|$~&]|(?<![^\W_])_|_(?![^\W_])")
_AT_THE_START = re.compile(r"^(?:[#+-]|\d+(?=[.)]))")


def plain(text: str, most: int) -> str:
    """Return a text on one line, without what cannot be printed, its middle left out if it is too long.

    Parameters
    ----------
    text
        Any.
    most
        Characters that there is room for, three or more.
    """
    line = " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())
    if len(line) <= most:
        return line
    tail = most // 3  # names that start alike may end in a number
    return f"{line[: most - 1 - tail]}…{line[len(line) - tail :]}"


def markdown(text: str) -> str:
    """Return Markdown that is read as a text, on one line, also in a cell of a table."""
    line = _MEANS_SOMETHING.sub(r"\\\g<0>", " ".join(text.split()))
    # A number before a dot would begin a list; what is escaped is the dot.
    return _AT_THE_START.sub(lambda found: found[0] + "\\" if found[0].isdigit() else "\\" + found[0], line)
