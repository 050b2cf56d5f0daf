"""The code that stages depend on, read from import statements, in packages made up for it."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from exemplarcnn.launching import dependencies

Write = Callable[[str, str], None]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Write]:
    """Write a module of a package that is read in place of this one."""
    monkeypatch.setattr(dependencies, "SOURCES", tmp_path)

    def forget() -> None:
        dependencies._imported.cache_clear()
        dependencies._runs.cache_clear()

    def written(file: str, text: str) -> None:
        path = tmp_path / file
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)

    forget()
    written("__init__.py", '"""."""\n')
    written(f"{dependencies.ALWAYS}.py", "")
    yield written
    forget()


def modules(name: str) -> set[str]:
    return set(dependencies.modules(name)) - {name, dependencies.ALWAYS}


LAZY = '''"""A package that gives a name of one of its modules when it is asked for."""

import exemplarcnn.at_once


def __getattr__(name: str) -> object:
    from exemplarcnn.room import heavy

    return getattr(heavy, name)
'''


@pytest.fixture
def room(write: Write) -> None:
    write("room/__init__.py", LAZY)
    for name in ("room/light", "room/heavy", "at_once", "unused"):
        write(f"{name}.py", "")


@pytest.mark.usefixtures("room")
@pytest.mark.parametrize(
    "statement",
    [
        "from exemplarcnn.room import light",
        "from exemplarcnn.room.light import something",
        "import exemplarcnn.room.light",
        "def late():\n    from exemplarcnn.room import light",
    ],
)
def test_of_a_package_on_the_way_what_runs_at_import_counts(write: Write, statement: str) -> None:
    write("user.py", statement)
    assert modules("user") == {"room.__init__", "room.light", "at_once"}


@pytest.mark.usefixtures("room")
def test_a_name_of_a_package_itself_may_come_from_its_functions(write: Write) -> None:
    write("user.py", "from exemplarcnn.room import something")
    assert modules("user") == {"room.__init__", "room.heavy", "at_once"}


@pytest.mark.usefixtures("room")
@pytest.mark.parametrize("test", ["TYPE_CHECKING", "typing.TYPE_CHECKING"])
def test_imports_for_type_checkers_do_not_count(write: Write, test: str) -> None:
    text = f"if {test}:\n    import exemplarcnn.unused\nelse:\n    import exemplarcnn.at_once\n"
    write("user.py", text)
    assert modules("user") == {"at_once"}
    write("other.py", f"def late():\n    {text.replace(chr(10), chr(10) + '    ')}")
    assert modules("other") == {"at_once"}
    write("room/__init__.py", text)
    write("third.py", "import exemplarcnn.room.light")
    assert modules("third") == {"room.__init__", "room.light", "at_once"}


def test_a_package_that_only_gives_names_when_asked_does_nothing_on_the_way(write: Write) -> None:
    for name in ("room/light", "room/heavy"):
        write(f"{name}.py", "")
    write("room/__init__.py", LAZY.replace("import exemplarcnn.at_once", "__all__ = ['something']"))
    write("user.py", "from exemplarcnn.room import light")
    assert modules("user") == {"room.light"}
    write("other.py", "from exemplarcnn.room import something")
    assert modules("other") == {"room.__init__", "room.heavy"}


def test_who_needs_near_pairs_alone_does_not_depend_on_the_linkage() -> None:
    found = dependencies.modules("data.near_duplicates")
    assert "clustering.radius_graph" in found
    assert not {"clustering.linkage", "clustering.dendrogram", "clustering.__init__"} & set(found)
