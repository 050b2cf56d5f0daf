"""The API reference has every public name, and docstrings there say what a caller has to know.

Of each name: a summary, every parameter with a description, what it returns. `numpydoc` reads them as the site does.
"""

import inspect
import pkgutil
import re
from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path

import numpy as np
import pytest
from numpydoc.docscrape import ClassDoc
from numpydoc.validate import validate

import exemplarcnn
from exemplarcnn import clustering, evaluation

ROOT = Path(__file__).parents[1]
PAGES = sorted((ROOT / "docs" / "api").glob("*.rst"))
# No docstring, no summary, a parameter that is missing, not there or without a description; no section on what is
# returned or yielded, or one that says nothing.
WANTED = {"GL08", "SS01", "PR01", "PR02", "PR07", "RT01", "RT03", "YD01"}
DIRECTIVE = re.compile(r"^\.\. auto(?:function|class|exception):: (\S+)(?:\n   :members: (.+))?$", re.M)


def described(text: str) -> Iterator[str]:
    """Yield the names that a page of the reference describes, those of members with the name of their class."""
    for name, members in DIRECTIVE.findall(text):
        yield name
        yield from (f"{name}.{member.strip()}" for member in members.split(",") if member)


def lacks(name: str) -> dict[str, str]:
    found = {code: said for code, said in validate(name)["errors"] if code in WANTED}
    thing = pkgutil.resolve_name(name)
    if is_dataclass(thing):  # its parameters are its attributes
        described = ClassDoc(thing, config={"show_class_members": False})["Attributes"]
        names = {name.strip() for each in described if each.desc for name in each.name.split(",")}
        if {field.name for field in fields(thing)} <= names:
            found.pop("PR01", None)
    return found


NAMES = [name for page in PAGES for name in described(page.read_text())]


@pytest.mark.parametrize("name", NAMES)
def test_a_docstring_says_what_a_caller_has_to_know(name: str) -> None:
    assert lacks(name) == {}


def test_every_public_name_is_described_once() -> None:
    things = [pkgutil.resolve_name(name) for name in NAMES]
    for package in (exemplarcnn, clustering, evaluation):
        for name in package.__all__:
            assert things.count(getattr(package, name)) == 1, f"{package.__name__}.{name}"


def test_every_public_method_of_ours_is_described() -> None:
    for name in exemplarcnn.__all__:
        thing = getattr(exemplarcnn, name)
        if inspect.isclass(thing):
            for member, value in vars(thing).items():
                function = inspect.unwrap(getattr(value, "__func__", value))
                ours = getattr(function, "__module__", "").startswith("exemplarcnn.")
                if inspect.isfunction(function) and ours and (not member.startswith("_") or member == "__call__"):
                    assert f"exemplarcnn.{name}.{member}" in NAMES


def test_no_package_names_something_that_the_test_does_not_know() -> None:
    naming = {
        file.parent
        for file in (ROOT / "src" / "exemplarcnn").rglob("__init__.py")
        if "__all__" in file.read_text(encoding="utf-8")
    }
    assert naming == {Path(inspect.getfile(package)).parent for package in (exemplarcnn, clustering, evaluation)}


# The check itself, on functions that lack something.


def whole(points: np.ndarray, radius: float) -> int:
    """Count points.

    Parameters
    ----------
    points
        (n, d) float32.
    radius
        In pixels.

    Returns
    -------
    int
        How many.
    """
    return len(points) + int(radius)


@pytest.mark.parametrize(
    ("without", "codes"),
    [
        ("    Returns\n    -------\n    int\n        How many.\n", {"RT01"}),
        ("    radius\n        In pixels.\n", {"PR01"}),
        ("        In pixels.\n", {"PR07"}),
        ("        How many.\n", {"RT03"}),
        ("", set()),
    ],
)
def test_what_is_left_out_is_found(without: str, codes: set[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert whole.__doc__ is not None
    assert without in whole.__doc__
    monkeypatch.setattr(whole, "__doc__", whole.__doc__.replace(without, ""))
    assert lacks(f"{__name__}.whole").keys() == codes


def test_a_docstring_that_is_not_there_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(whole, "__doc__", None)
    assert lacks(f"{__name__}.whole").keys() == {"GL08"}


@dataclass
class Pair:
    """Two numbers.

    Attributes
    ----------
    first
        In pixels.
    """

    first: int
    second: int


def test_a_field_that_is_not_described_is_found() -> None:
    assert lacks(f"{__name__}.Pair").keys() == {"PR01"}
