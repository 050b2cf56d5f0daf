"""Spell names of files and folders so that they can be written: in tables, messages and names of classes."""

import re

# Characters that end a line or control a terminal.
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def is_utf8(name: str) -> bool:
    """Tell whether a name, as Python gets it from the system, is UTF-8."""
    return not any("\ud800" <= letter <= "\udfff" for letter in name)


def as_text(name: str) -> str:
    r"""Spell a name so that it can be written: bytes that are not UTF-8 become ``\xe9`` and the like."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def readable(name: str) -> str:
    r"""Spell a name so that it can be written on one line.

    As `as_text`; also, line ends and other control characters become ``\n``, ``\x1b``, ``\u2028``. Other names stay as
    they are.
    """
    return CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), as_text(name))
