"""Files appear whole or not at all."""

import hashlib
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from dvc.utils.serialize import dump_yaml, load_yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from exemplarcnn import files
from exemplarcnn.files import (
    atomic_folder,
    atomic_write,
    digest,
    digest_of,
    read_array,
    read_json,
    read_table,
    rounded,
    write_array,
    write_json,
    write_table,
)


def test_file_appears_when_the_block_ends(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.csv"
    with atomic_write(path) as partial:
        assert partial.parent == path.parent
        assert partial.suffix == ".csv"
        partial.write_text("done")
        assert not path.exists()
    assert path.read_text() == "done"
    assert list(path.parent.iterdir()) == [path]


def test_failure_keeps_the_old_file_and_leaves_nothing_behind(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("old")
    with pytest.raises(KeyboardInterrupt), atomic_write(path) as partial:
        partial.write_text("half")
        raise KeyboardInterrupt
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_success_replaces_the_old_file_without_writing_through_its_links(tmp_path: Path) -> None:
    path, link = tmp_path / "a.csv", tmp_path / "cached"
    path.write_text("old")
    link.hardlink_to(path)
    with atomic_write(path) as partial:
        partial.write_text("new")
    assert path.read_text() == "new"
    assert link.read_text() == "old"


def test_folder_appears_when_the_block_ends_and_replaces_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "new" / "set"
    for name in ("first", "second"):
        with atomic_folder(path) as partial:
            assert list(partial.iterdir()) == []
            (partial / name).write_text("x")
            assert not (path / name).exists()
        assert [file.name for file in path.iterdir()] == [name]
    assert list(path.parent.iterdir()) == [path]


def test_failure_keeps_the_old_folder_and_leaves_nothing_behind(tmp_path: Path) -> None:
    path = tmp_path / "set"
    path.mkdir()
    (path / "old").write_text("x")
    with pytest.raises(ValueError, match="stop"), atomic_folder(path) as partial:
        (partial / "half").write_text("x")
        raise ValueError("stop")
    assert [file.name for file in path.iterdir()] == ["old"]
    assert list(tmp_path.iterdir()) == [path]


def test_folder_of_a_killed_process_is_cleared(tmp_path: Path) -> None:
    with atomic_folder(tmp_path / "set") as partial:
        name = partial.name
    left = tmp_path / name
    left.mkdir()
    (left / "half").write_text("x")
    with atomic_folder(tmp_path / "set") as partial:
        assert list(partial.iterdir()) == []
    assert not left.exists()


def test_json(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "a.json"
    write_json(path, {"b": [1, 2.5, None], "a": "x"})
    assert path.read_text() == '{\n  "b": [\n    1,\n    2.5,\n    null\n  ],\n  "a": "x"\n}\n'
    assert read_json(path) == {"b": [1, 2.5, None], "a": "x"}


def test_figures_are_rounded_and_nothing_else() -> None:
    value = {"1.23456789": [0.0962962962962963, 123456789, -1234567.8, None, True, "0.0962962962962963"], "x": (74.14,)}
    assert rounded(value) == {
        "1.23456789": [0.0962963, 123456789, -1234570.0, None, True, "0.0962962962962963"],
        "x": [74.14],
    }
    assert rounded(1.23456789e-30) == 1.23457e-30, "small figures keep as many digits"
    assert rounded(rounded(2 / 3)) == rounded(2 / 3)
    table = pd.DataFrame({"n": [2**53 + 1, 1], "x": [np.nan, 2 / 3], "name": ["0.6666666666666666", "b"], "no": None})
    found = rounded(table)
    assert found["n"].tolist() == [2**53 + 1, 1]
    assert found["x"].fillna(0).tolist() == [0, 0.666667]
    assert found["name"].tolist() == table["name"].tolist()
    assert table["x"][1] == 2 / 3, "what is computed with stays as it was"


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_json_refuses_what_json_has_not(tmp_path: Path, value: float) -> None:
    write_json(tmp_path / "a.json", 1)
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "a.json", {"loss": value})
    assert read_json(tmp_path / "a.json") == 1


def test_array(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "a.npy"
    array = np.arange(6, dtype=np.int32).reshape(2, 3)
    write_array(path, array)
    found = read_array(path)
    assert found.dtype == np.int32
    assert np.array_equal(found, array)
    assert isinstance(found, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        found[0, 0] = 1
    assert [file.name for file in path.parent.iterdir()] == ["a.npy"]


def test_array_of_objects_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="allow_pickle"):
        write_array(tmp_path / "a.npy", np.array([{}]))
    assert list(tmp_path.iterdir()) == []


def test_digest_reads_large_files_in_order(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    one.write_bytes(np.random.default_rng(0).bytes((1 << 20) + 5))
    two.write_bytes(b"two")
    assert digest(one, two) == hashlib.sha256(one.read_bytes() + b"two").hexdigest()
    assert digest(two, one) != digest(one, two)
    assert digest() == hashlib.sha256().hexdigest()


LEAF = st.none() | st.booleans() | st.integers() | st.text(max_size=4)
JSON = st.recursive(LEAF, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3))


@settings(deadline=None, max_examples=40)
@given(st.dictionaries(st.text(max_size=4), JSON, max_size=5))
def test_digest_of_a_value_ignores_the_order_of_keys(value: dict[str, object]) -> None:
    backwards = dict(reversed(list(value.items())))
    assert digest_of(backwards) == digest_of(value)
    assert digest_of({**value, "one more": 1}) != digest_of({**value, "one more": 2})
    assert digest_of([1, 2]) != digest_of([2, 1])


@settings(max_examples=200, deadline=None)
@given(
    cells=st.lists(
        st.text(st.characters(codec="utf-8", exclude_characters="\0"))
        | st.sampled_from(["", "NA", "null", "None", "nan", "1", "01", "1e3", "True", "-inf", " a ", "a\r", "\n", '"']),
        min_size=1,
    )
)
def test_what_is_text_comes_back_as_it_was(cells: list[str], tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("tables") / "table.csv"
    numbers = [None if place % 3 else place / 2 for place in range(len(cells))]
    write_table(path, pd.DataFrame({"index": range(len(cells)), "name": cells, "number": numbers}))
    table = read_table(path, integers=["index"], floats=["number", "absent"])
    assert table["name"].tolist() == cells
    assert table["index"].tolist() == list(range(len(cells)))
    assert table["number"].isna().tolist() == [number is None for number in numbers]
    assert table["number"].dropna().tolist() == [number for number in numbers if number is not None]


def test_a_number_that_is_none_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    for text in ("index\nNA\n", "index,x\n,a\n", "index\n1.5\n", ""):
        path.write_text(text)
        with pytest.raises(ValueError, match=r"."):
            read_table(path, integers=["index"])


def test_no_table_is_read_with_guessed_types() -> None:
    sources = Path(files.__file__).parent.rglob("*.py")
    assert [path.name for path in sources if "read_csv" in path.read_text()] == ["files.py"]


def test_md5_of_a_file_longer_than_one_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "MD5_BLOCK", 3)
    (tmp_path / "a").write_bytes(b"message digest")
    assert files.md5_of(tmp_path / "a") == "f96b697d7cb7938d525a2f31aaf161d0"  # from RFC 1321


TEXTS = [
    "no",
    "No",
    "off",
    "on",
    "yes",
    "Y",
    "12:30",
    "1:2:3",
    "true",
    "False",
    "null",
    "~",
    "",
    "1e",
    "e5",
    "0x",
    "1_0",
]
TEXTS += ["1e-05", "1.5e3", "010", "0o17", "0x1F", "0b11", "+5", "-7", ".5", "5.", "1_000", ".inf", "-.INF", "1.0e-05"]
TEXTS += [".5e3", "._5", "08", "1.5e3", "0_9", "1.2.3", "--", "2e", "1e+400", "+.5e-3", "0.1", "-0"]


@pytest.mark.parametrize("text", TEXTS)
def test_yaml_says_the_same_to_us_and_to_dvc(tmp_path: Path, text: str) -> None:
    """DVC reads and writes YAML 1.2; PyYAML's own dialect takes `off` for False, and `1e-05` for a text."""
    path = tmp_path / "params.yaml"
    path.write_text(f"value: {text}\nlist:\n- {text}\n- x\n")
    expected = load_yaml(str(path))
    found = files.read_mapping(path)
    assert found == expected
    assert list(map(type, (found["value"], *found["list"]))) == list(map(type, (expected["value"], *expected["list"])))


@pytest.mark.parametrize("value", [*TEXTS, 1e-05, 1e-7, 123456.0, 1e22, True, None, 0, -3, float("inf")], ids=repr)
def test_what_dvc_writes_comes_back(tmp_path: Path, value: object) -> None:
    path = tmp_path / "dvc.lock"
    dump_yaml(str(path), {"value": value, "list": [value], str(value): 1})
    assert files.read_mapping(path) == {"value": value, "list": [value], str(value): 1}


@pytest.mark.parametrize("text", ["2001-13-45", "0x_", "._"])
def test_what_looks_like_a_value_and_is_none_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "params.yaml").write_text(f"value: {text}\n")
    with pytest.raises(files.UnreadableError, match="not valid YAML"):
        files.read_mapping(tmp_path / "params.yaml")


@pytest.mark.parametrize("value", [*TEXTS, "a: b", "# c", 1e-05, 0, None, True])
def test_what_we_write_says_the_same_to_all(tmp_path: Path, value: object) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(yaml.dump({"value": value}, Dumper=files.Dumper, allow_unicode=True))
    assert files.read_mapping(path) == load_yaml(str(path)) == yaml.safe_load(path.read_text()) == {"value": value}
