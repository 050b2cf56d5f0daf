"""The official archive: fetched from a server on this machine, unpacked, and installed."""

import gzip
import hashlib
import io
import re
import shutil
import socket
import sys
import tarfile
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from exemplarcnn.data.types import DataError
from exemplarcnn.importing.stl10_archive import fetch, install_stl10, unpack
from tests.importing.projects import image_set, names, out, snapshot

PAYLOAD = np.random.default_rng(0).bytes(3_000_000)


MD5 = hashlib.md5(PAYLOAD).hexdigest()


class Server:
    """Serves one body at every path; `behaviour` bends the rules, `ranges` keeps the Range headers it saw."""

    def __init__(self) -> None:
        self.body = PAYLOAD
        self.behaviour = "range"
        self.ranges: list[str | None] = []
        self.http = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.url = f"http://127.0.0.1:{self.http.server_port}/stl10_binary.tar.gz"

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                wanted = self.headers.get("Range")
                server.ranges.append(wanted)
                server.answer(self, int(wanted[6:-1]) if wanted else 0)

            def log_message(self, *_: object) -> None:
                pass

        return Handler

    def answer(self, request: BaseHTTPRequestHandler, start: int) -> None:
        if self.behaviour == "missing":
            request.send_error(404)
            return
        if self.behaviour == "no range":
            start = 0
        if self.behaviour == "wrong part":
            start = start and start - 10
        if start >= len(self.body):
            request.send_error(416)
            return
        if self.behaviour == "breaks in a chunk":
            request.send_response(200)
            request.send_header("Transfer-Encoding", "chunked")
            request.end_headers()
            request.wfile.write(b"%x\r\n" % len(self.body) + self.body[:2_000_000])
            return
        body = self.body[start:]
        request.send_response(206 if start else 200)
        if start:
            request.send_header("Content-Range", f"bytes {start}-{len(self.body) - 1}/{len(self.body)}")
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        request.wfile.write(body[:1_000_000] if self.behaviour == "breaks" else body)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    running = Server()
    thread = threading.Thread(target=running.http.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield running
    running.http.shutdown()
    running.http.server_close()
    thread.join()


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    return tmp_path / "work" / "stl10_binary.tar.gz"


def part_of(archive: Path, content: bytes) -> Path:
    archive.parent.mkdir(parents=True, exist_ok=True)
    part = archive.with_name(archive.name + ".part")
    part.write_bytes(content)
    return part


def test_fetches_the_whole_archive(server: Server, archive: Path) -> None:
    assert fetch(archive, server.url, MD5) == archive
    assert archive.read_bytes() == PAYLOAD
    assert names(archive.parent) == {archive.name}
    assert server.ranges == [None]


def test_archive_that_is_there_is_not_fetched_again(server: Server, archive: Path) -> None:
    part_of(archive, PAYLOAD).rename(archive)
    fetch(archive, server.url, MD5)
    assert server.ranges == []


def test_damaged_archive_is_fetched_again(server: Server, archive: Path) -> None:
    part_of(archive, PAYLOAD[:-1]).rename(archive)
    fetch(archive, server.url, MD5)
    assert archive.read_bytes() == PAYLOAD


def test_continues_a_partial_download(server: Server, archive: Path) -> None:
    part_of(archive, PAYLOAD[:1_234_567])
    fetch(archive, server.url, MD5)
    assert archive.read_bytes() == PAYLOAD
    assert names(archive.parent) == {archive.name}
    assert server.ranges == ["bytes=1234567-"]


@pytest.mark.parametrize(("behaviour", "requests"), [("no range", 1), ("wrong part", 2)])
def test_starts_afresh_if_the_server_does_not_continue(
    server: Server, archive: Path, behaviour: str, requests: int
) -> None:
    part_of(archive, PAYLOAD[:1_234_567])
    server.behaviour = behaviour
    fetch(archive, server.url, MD5)
    assert archive.read_bytes() == PAYLOAD
    assert len(server.ranges) == requests


def test_complete_partial_file_is_accepted_on_416(server: Server, archive: Path) -> None:
    part_of(archive, PAYLOAD)
    fetch(archive, server.url, MD5)
    assert archive.read_bytes() == PAYLOAD
    assert server.ranges == [f"bytes={len(PAYLOAD)}-"]


def test_too_long_partial_file_is_removed_on_416(server: Server, archive: Path) -> None:
    part_of(archive, PAYLOAD + b"more")
    with pytest.raises(DataError, match=rf"md5 \w{{32}}, expected {MD5}; the bad download was removed"):
        fetch(archive, server.url, MD5)
    fetch(archive, server.url, MD5)
    assert archive.read_bytes() == PAYLOAD


def test_wrong_sum_removes_the_file_and_the_next_try_starts_afresh(server: Server, archive: Path) -> None:
    server.body = PAYLOAD[::-1]
    found = hashlib.md5(server.body).hexdigest()
    message = f"{re.escape(server.url)}: found an archive with md5 {found}, expected {MD5}.*Run the command again"
    with pytest.raises(DataError, match=message):
        fetch(archive, server.url, MD5)
    assert names(archive.parent) == set()
    server.body = PAYLOAD
    fetch(archive, server.url, MD5)
    assert server.ranges == [None, None]


def test_broken_connection_keeps_what_came_and_is_continued(server: Server, archive: Path) -> None:
    server.behaviour = "breaks"
    message = r"the connection broke after 1,000,000 of 3,000,000 bytes; run the command again"
    with pytest.raises(DataError, match=message):
        fetch(archive, server.url, MD5)
    server.behaviour = "range"
    fetch(archive, server.url, MD5)
    assert archive.read_bytes() == PAYLOAD
    assert server.ranges == [None, "bytes=1000000-"]


def test_no_server_is_explained_and_keeps_the_partial_file(archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with socket.socket() as held:  # bound, but nobody listens
        held.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{held.getsockname()[1]}/a.tar.gz"
        part = part_of(archive, PAYLOAD[:10])
        with pytest.raises(DataError, match=r"no working connection .*refused.*network.*unpacked folder"):
            fetch(archive, url, MD5)
    assert part.read_bytes() == PAYLOAD[:10]


def test_connection_lost_inside_a_chunk_is_explained_and_continued(server: Server, archive: Path) -> None:
    server.behaviour = "breaks in a chunk"
    with pytest.raises(DataError, match=r"no working connection .*IncompleteRead.*it continues"):
        fetch(archive, server.url, MD5)
    server.behaviour = "range"
    fetch(archive, server.url, MD5)
    assert archive.read_bytes() == PAYLOAD
    assert server.ranges == [None, "bytes=1048576-"]


def test_refusal_of_the_server_is_explained(server: Server, archive: Path) -> None:
    server.behaviour = "missing"
    with pytest.raises(DataError, match=rf"{re.escape(server.url)}: .*answered 404 Not Found.*unpacked folder"):
        fetch(archive, server.url, MD5)


def test_address_that_is_none_is_explained(archive: Path) -> None:
    with pytest.raises(DataError, match=r"^nonsense: .*Check the address"):
        fetch(archive, "nonsense", MD5)


def test_disk_that_cannot_be_written_is_explained(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=r"file/a\.part: cannot store the archive there.*permissions"):
        fetch(tmp_path / "file" / "a", server.url, MD5)


def test_the_defaults_are_the_official_archive() -> None:
    assert fetch.__defaults__ == (
        "http://ai.stanford.edu/~acoates/stl10/stl10_binary.tar.gz",
        "91f7769df0f17e558f3565bffb0c7dfb",
    )


Alter = Callable[[tarfile.TarFile], None]


def pack(path: Path, source: Path, alter: Alter | None = None) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        if alter:
            alter(tar)
        tar.add(source, "stl10_binary")
    return path


def member(name: str, **fields: object) -> Alter:
    info = tarfile.TarInfo(name)
    info.size = 0 if fields else 3
    for key, value in fields.items():
        setattr(info, key, value)
    return lambda tar: tar.addfile(info, io.BytesIO(b"bad"))


def test_unpacks_the_expected_files_alone(tmp_path: Path) -> None:
    source = image_set(tmp_path / "source", 3)
    packed = pack(tmp_path / "a.tar.gz", source, member("stl10_binary/readme.txt"))
    folder = unpack(packed, tmp_path / "out")
    assert folder == tmp_path / "out" / "stl10_binary"
    assert snapshot(tmp_path / "out") == {f"stl10_binary/{k}": v for k, v in snapshot(source).items()}


@pytest.mark.parametrize(
    "bad",
    [
        member("../escaped.txt"),
        member("stl10_binary/../../escaped.txt"),
        member("/tmp/escaped.txt"),
        member("stl10_binary/train_X.bin", type=tarfile.SYMTYPE, linkname="../../escaped.txt"),
        member("stl10_binary", type=tarfile.SYMTYPE, linkname=".."),
        member("stl10_binary/train_y.bin", type=tarfile.LNKTYPE, linkname="stl10_binary/train_X.bin"),
        member("stl10_binary/train_y.bin", type=tarfile.FIFOTYPE),
    ],
    ids=["up", "down and up", "absolute", "link", "folder link", "hard link", "pipe"],
)
def test_member_that_could_lead_outside_is_refused(tmp_path: Path, bad: Alter) -> None:
    source = image_set(tmp_path / "source", 3)
    packed = pack(tmp_path / "a.tar.gz", source, bad)
    with pytest.raises(DataError, match=r"a\.tar\.gz: found the member '.*', expected only files and folders"):
        unpack(packed, tmp_path / "out")
    assert names(tmp_path) == {"source", "a.tar.gz", "out"}
    assert snapshot(tmp_path / "out") == {}


def test_incomplete_archive_is_refused(tmp_path: Path) -> None:
    source = image_set(tmp_path / "source", 3)
    (source / "test_y.bin").unlink()
    with pytest.raises(DataError, match=r"found no stl10_binary/test_y\.bin, expected all"):
        unpack(pack(tmp_path / "a.tar.gz", source), tmp_path / "out")


@pytest.mark.parametrize(
    "content",
    [b"no archive", b"", b"\x1f\x8b\x08" + bytes(7) + b"\xff" * 100, gzip.compress(b"no tar" * 200)],
    ids=["text", "empty", "bad deflate", "no tar"],
)
def test_file_that_is_no_archive_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.tar.gz").write_bytes(content)
    with pytest.raises(DataError, match=r"a\.tar\.gz: cannot unpack it into .*.*download it again"):
        unpack(tmp_path / "a.tar.gz", tmp_path / "out")


def test_missing_archive_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"a\.tar\.gz: cannot unpack it into .*.*No such file"):
        unpack(tmp_path / "a.tar.gz", tmp_path / "out")


@pytest.mark.parametrize("fraction", [0.1, 0.5, 0.9])
def test_cut_archive_is_refused(tmp_path: Path, fraction: float) -> None:
    packed = pack(tmp_path / "a.tar.gz", image_set(tmp_path / "source", 3))
    content = packed.read_bytes()
    packed.write_bytes(content[: int(fraction * len(content))])
    with pytest.raises(DataError, match=r"a\.tar\.gz: .*download it again"):
        unpack(packed, tmp_path / "out")


def test_unpacks_into_an_empty_folder_only(tmp_path: Path) -> None:
    packed = pack(tmp_path / "a.tar.gz", image_set(tmp_path / "source", 3))
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "stl10_binary").symlink_to(tmp_path / "source")
    with pytest.raises(DataError, match=r"out: found files, expected an empty folder"):
        unpack(packed, tmp_path / "out")


def test_stl10_is_fetched_installed_and_recorded(server: Server, project: Path, tmp_path: Path) -> None:
    source = image_set(tmp_path / "given", 3)
    server.body = pack(tmp_path / "a.tar.gz", source).read_bytes()
    image_set(project / "work" / "download" / "unpacked" / "stl10_binary", 4)  # of a killed try
    summary = install_stl10(project, server.url, hashlib.md5(server.body).hexdigest())
    assert (summary["unlabeled"], summary["other"]) == (3, 1)
    assert {k: v for k, v in snapshot(project / "data").items() if k != "other/a.png"} == snapshot(source)
    assert "remote" not in out(project)
    assert names(project / "work" / "download") == set()


def test_fetched_archive_is_kept_until_dvc_has_recorded_the_data(
    server: Server, project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.body = pack(tmp_path / "a.tar.gz", image_set(tmp_path / "given", 3)).read_bytes()
    md5 = hashlib.md5(server.body).hexdigest()
    with monkeypatch.context() as broken:
        broken.setattr(sys, "executable", shutil.which("false"))
        with pytest.raises(DataError, match=r"cannot record the new files, `dvc add data` failed.*data/ is unchanged"):
            install_stl10(project, server.url, md5)
    assert out(project)["remote"] == "embedded"
    assert names(project / "work" / "download") == {"stl10_binary.tar.gz"}
    install_stl10(project, server.url, md5)
    assert len(server.ranges) == 1
    assert "remote" not in out(project)


def test_bad_archive_leaves_data_and_record(server: Server, project: Path) -> None:
    data, pointer = snapshot(project / "data"), (project / "data.dvc").read_bytes()
    with pytest.raises(DataError, match=r"cannot unpack it"):
        install_stl10(project, server.url, MD5)
    assert snapshot(project / "data") == data
    assert (project / "data.dvc").read_bytes() == pointer
    assert names(project / "work" / "download") == {"stl10_binary.tar.gz"}
