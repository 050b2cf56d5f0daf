"""Text that people chose, in places where characters have a meaning."""

import pytest

from exemplarcnn.text import markdown, plain


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("cat", "cat"),
        ("$\\frac$", "$\\frac$"),
        ("a\nb\tc\u2028d\x00e\udce9", "a b c d e"),
        ("  cat ", "cat"),
        ("0123456789", "0123456789"),
        ("01234567890", "012345…890"),
        ("a long name of a thing, number 17", "a long… 17"),
        ("\x07", ""),
    ],
)
def test_plain_text_is_one_line_of_a_length(text: str, shown: str) -> None:
    assert plain(text, 10) == shown


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("ExemplarCNN, its authors' own run (2019) - 1.5 %", "ExemplarCNN, its authors' own run (2019) - 1.5 %"),
        ("a|b", r"a\|b"),
        ("a\\|b", r"a\\\|b"),
        ("US$ and A$", r"US\$ and A\$"),
        ("`x` *y* _z_ ~~w~~", r"\`x\` \*y\* \_z\_ \~\~w\~\~"),
        ("<b>x</b> &amp;", r"\<b\>x\</b\> \&amp;"),
        ("![x](y)", r"!\[x\](y)"),
        ("two\nlines", "two lines"),
        ("# x", r"\# x"),
        ("- x", r"\- x"),
        ("+ x", r"\+ x"),
        ("1. x", r"1\. x"),
        ("12) x", r"12\) x"),
        ("12 x", "12 x"),
        ("own_unlabelled __x__", r"own_unlabelled \_\_x\_\_"),
    ],
)
def test_markdown_shows_a_text_as_it_is(text: str, written: str) -> None:
    assert markdown(text) == written
