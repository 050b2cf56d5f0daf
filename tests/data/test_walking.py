"""What lies in a folder: links, loops, hidden folders, odd names (letters E, F, J of misread folders)."""

import errno
import os
import socket
from pathlib import Path
from typing import Any

import pytest
from exemplarcnn.data.folder_walk import Passed, is_utf8, lines, readable, walk

from exemplarcnn.data import walking


def put(*files: Path) -> None:
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"x")


def told(root: Path) -> dict[str, str]:
    return {each.path: each.said for each in walk(root).passed_over}


def test_files_come_in_the_order_of_their_paths(tmp_path: Path) -> None:
    put(tmp_path / "b.png", tmp_path / "a/z.png", tmp_path / "a.png", tmp_path / "a/b/c.png", tmp_path / "ä.png")
    assert walk(tmp_path).files == ["a.png", "a/b/c.png", "a/z.png", "b.png", "ä.png"]
    assert walk(tmp_path).passed_over == []


def test_e_links_to_folders_and_files_are_followed(tmp_path: Path) -> None:
    put(tmp_path / "elsewhere/deep/1.png", tmp_path / "elsewhere/2.png", tmp_path / "one.png", tmp_path / "set/a/0.png")
    (tmp_path / "set/cat").symlink_to("../elsewhere")
    (tmp_path / "set/one.png").symlink_to(tmp_path / "one.png")
    assert walk(tmp_path / "set").files == ["a/0.png", "cat/2.png", "cat/deep/1.png", "one.png"]
    assert told(tmp_path / "set") == {}


def test_e_a_folder_met_again_is_entered_once_and_told(tmp_path: Path) -> None:
    put(tmp_path / "set/z/1.png", tmp_path / "out/sub/2.png")
    (tmp_path / "set/a").symlink_to("z")  # before the folder itself, in the order of names
    (tmp_path / "set/m").symlink_to(tmp_path / "out")
    (tmp_path / "set/n").symlink_to(tmp_path / "out/sub")
    assert walk(tmp_path / "set").files == ["m/sub/2.png", "z/1.png"]
    assert told(tmp_path / "set") == {
        "a": "the same folder as z, entered once",
        "n": "the same folder as m/sub, entered once",
    }


def test_e_loops_end(tmp_path: Path) -> None:
    put(tmp_path / "set/a/b/1.png", tmp_path / "out/2.png", tmp_path / "beside.png")
    (tmp_path / "set/a/b/up").symlink_to(tmp_path / "set/a")
    (tmp_path / "set/root").symlink_to(".")
    (tmp_path / "set/around").symlink_to(tmp_path)
    (tmp_path / "set/slash").symlink_to("/")
    (tmp_path / "set/out").symlink_to(tmp_path / "out")
    (tmp_path / "out/back").symlink_to(tmp_path / "set")
    (tmp_path / "out/itself").symlink_to(tmp_path / "out")
    (tmp_path / "set/self").symlink_to("self")
    found = told(tmp_path / "set")
    assert walk(tmp_path / "set").files == ["a/b/1.png", "out/2.png"]
    assert found.pop("self") == f"cannot be followed: {os.strerror(errno.ELOOP)}"
    assert set(found) == {"a/b/up", "root", "around", "slash", "out/back", "out/itself"}
    assert set(found.values()) == {folder_walk.LOOP}


def test_e_a_link_to_the_set_itself_may_be_named(tmp_path: Path) -> None:
    put(tmp_path / "set/1.png")
    (tmp_path / "link").symlink_to("set")
    assert walk(tmp_path / "link").files == ["1.png"]


def test_e_what_leads_nowhere_or_is_no_file_is_named(tmp_path: Path) -> None:
    put(tmp_path / "1.png")
    (tmp_path / "gone.png").symlink_to("nowhere.png")
    os.mkfifo(tmp_path / "pipe.png")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "plug"))
        found = told(tmp_path)
    assert walk(tmp_path).files == ["1.png"]
    nothing = "neither a file nor a folder"
    missing = f"cannot be followed: {os.strerror(errno.ENOENT)}"
    assert found == {"gone.png": missing, "pipe.png": nothing, "plug": nothing}


def test_e_a_folder_that_cannot_be_opened_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path / "a/1.png", tmp_path / "shut/2.png")
    real = os.scandir

    def scandir(path: Any) -> Any:  # permissions do not bind root, who may run this
        if Path(path).name == "shut":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    assert walk(tmp_path).files == ["a/1.png"]
    assert told(tmp_path) == {"shut": f"cannot be opened: {os.strerror(errno.EACCES)}"}


@pytest.mark.parametrize("name", [".ipynb_checkpoints", ".thumbnails", "@eaDir", "__MACOSX", ".git"])
def test_f_hidden_folders_and_those_of_tools_are_not_entered(tmp_path: Path, name: str) -> None:
    put(tmp_path / "a/1.png", tmp_path / name / "b/1.png", tmp_path / name / "2.png", tmp_path / ".DS_Store")
    assert walk(tmp_path).files == ["a/1.png"]
    assert told(tmp_path) == {
        name: "hidden or a tool's, not entered, 2 files inside",
        ".DS_Store": "hidden",
    }
    # A hidden folder that is named is entered.
    assert walk(tmp_path / name).files == ["2.png", "b/1.png"]


def test_f_hidden_folders_of_one_name_are_told_in_one_line(tmp_path: Path) -> None:
    for label in "abcde":
        put(tmp_path / label / "1.png", tmp_path / label / "@eaDir/1.png/thumb.jpg", tmp_path / label / ".x")
    assert lines(walk(tmp_path).passed_over) == [
        "5 files: hidden; the first is a/.x",
        "5 folders @eaDir: hidden or a tool's, not entered, 5 files inside; the first is a/@eaDir",
    ]


def test_j_names_that_are_not_utf8_are_found_and_readable(tmp_path: Path) -> None:
    for name in (b"caf\xe9/1.png", b"caf\xe9.png", b"line\nend\r.png", "grün.png".encode()):
        put(tmp_path / os.fsdecode(name))
    found = walk(tmp_path).files
    assert [readable(name) for name in found] == [r"caf\xe9.png", r"caf\xe9/1.png", "grün.png", r"line\nend\r.png"]
    assert [is_utf8(name) for name in found] == [False, False, True, True]
    assert all((tmp_path / name).read_bytes() == b"x" for name in found)
    "\n".join(readable(name) for name in found).encode()


def test_notes_odd_things_come_before_harmless_ones() -> None:
    texts = [folder_walk.no_image(f"a/{number}.TXT") for number in range(2198)]
    some = [*texts, folder_walk.no_image("LICENSE"), Passed("z", "cannot be opened: no", "folders")]
    assert lines(some) == [
        "z: cannot be opened: no",
        "2,198 .txt: no image by its name; the first is a/0.TXT",
        "LICENSE: no image by its name",
    ]
    assert lines(some, harmless=False) == lines(some)[:1]
    assert lines(some, harmless=True) == lines(some)[1:]
