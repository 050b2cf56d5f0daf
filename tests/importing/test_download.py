"""Fetching, unpacking and installing an image set, against a server on this machine and a real DVC."""

import gzip
import hashlib
import io
import os
import re
import shutil
import socket
import subprocess
import sys
import tarfile
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from exemplarcnn.data.stl10 import ImageFile, write_class_names, write_folds, write_images, write_labels
from exemplarcnn.data.types import DataError
from PIL import Image

from exemplarcnn.data import image_set, stl10
from exemplarcnn.importing import download
from exemplarcnn.importing.download import fetch_stl10, install, install_folder, install_stl10, track, unpack

PAYLOAD = np.random.default_rng(0).bytes(3_000_000)
MD5 = hashlib.md5(PAYLOAD).hexdigest()


def image_set(folder: Path, seed: int) -> Path:
    """Write a complete small set with 10 train, 4 test and `seed` unlabelled images."""
    folder.mkdir(parents=True)
    for split, count in {"train": 10, "test": 4, "unlabeled": seed}.items():
        pixels = np.random.default_rng(seed).integers(0, 256, (count, 96, 96, 3), dtype=np.uint8)
        write_images(folder / f"{split}_X.bin", pixels)
    write_labels(folder / "train_y.bin", range(10))
    write_labels(folder / "test_y.bin", [0, 1, 2, 3])
    write_folds(folder / "fold_indices.txt", [[fold, (fold + 1) % 10] for fold in range(10)])
    write_class_names(folder / "class_names.txt", list("abcdefghij"))
    return folder


def add_other(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / "other" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 3), (len(name), 0, 0)).save(path)


def snapshot(folder: Path) -> dict[str, bytes]:
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


# A server


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


# Fetching


def test_fetches_the_whole_archive(server: Server, archive: Path) -> None:
    assert fetch_stl10(archive, server.url, MD5) == archive
    assert archive.read_bytes() == PAYLOAD
    assert names(archive.parent) == {archive.name}
    assert server.ranges == [None]


def test_archive_that_is_there_is_not_fetched_again(server: Server, archive: Path) -> None:
    part_of(archive, PAYLOAD).rename(archive)
    fetch_stl10(archive, server.url, MD5)
    assert server.ranges == []


def test_damaged_archive_is_fetched_again(server: Server, archive: Path) -> None:
    part_of(archive, PAYLOAD[:-1]).rename(archive)
    fetch_stl10(archive, server.url, MD5)
    assert archive.read_bytes() == PAYLOAD


def test_continues_a_partial_download(server: Server, archive: Path) -> None:
    part_of(archive, PAYLOAD[:1_234_567])
    fetch_stl10(archive, server.url, MD5)
    assert archive.read_bytes() == PAYLOAD
    assert names(archive.parent) == {archive.name}
    assert server.ranges == ["bytes=1234567-"]


@pytest.mark.parametrize(("behaviour", "requests"), [("no range", 1), ("wrong part", 2)])
def test_starts_afresh_if_the_server_does_not_continue(
    server: Server, archive: Path, behaviour: str, requests: int
) -> None:
    part_of(archive, PAYLOAD[:1_234_567])
    server.behaviour = behaviour
    fetch_stl10(archive, server.url, MD5)
    assert archive.read_bytes() == PAYLOAD
    assert len(server.ranges) == requests


def test_complete_partial_file_is_accepted_on_416(server: Server, archive: Path) -> None:
    part_of(archive, PAYLOAD)
    fetch_stl10(archive, server.url, MD5)
    assert archive.read_bytes() == PAYLOAD
    assert server.ranges == [f"bytes={len(PAYLOAD)}-"]


def test_too_long_partial_file_is_removed_on_416(server: Server, archive: Path) -> None:
    part_of(archive, PAYLOAD + b"more")
    with pytest.raises(DataError, match=rf"md5 \w{{32}}, expected {MD5}; the bad download was removed"):
        fetch_stl10(archive, server.url, MD5)
    fetch_stl10(archive, server.url, MD5)
    assert archive.read_bytes() == PAYLOAD


def test_wrong_sum_removes_the_file_and_the_next_try_starts_afresh(server: Server, archive: Path) -> None:
    server.body = PAYLOAD[::-1]
    found = hashlib.md5(server.body).hexdigest()
    message = f"{re.escape(server.url)}: found an archive with md5 {found}, expected {MD5}.*Run the command again"
    with pytest.raises(DataError, match=message):
        fetch_stl10(archive, server.url, MD5)
    assert names(archive.parent) == set()
    server.body = PAYLOAD
    fetch_stl10(archive, server.url, MD5)
    assert server.ranges == [None, None]


def test_broken_connection_keeps_what_came_and_is_continued(server: Server, archive: Path) -> None:
    server.behaviour = "breaks"
    message = r"found 1,000,000 bytes when the connection broke, expected 3,000,000; run the command again"
    with pytest.raises(DataError, match=message):
        fetch_stl10(archive, server.url, MD5)
    server.behaviour = "range"
    fetch_stl10(archive, server.url, MD5)
    assert archive.read_bytes() == PAYLOAD
    assert server.ranges == [None, "bytes=1000000-"]


def test_no_server_is_explained_and_keeps_the_partial_file(archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with socket.socket() as held:  # bound, but nobody listens
        held.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{held.getsockname()[1]}/a.tar.gz"
        part = part_of(archive, PAYLOAD[:10])
        with pytest.raises(DataError, match=r"no working connection .*refused.*network.*unpacked folder"):
            fetch_stl10(archive, url, MD5)
    assert part.read_bytes() == PAYLOAD[:10]


def test_connection_lost_inside_a_chunk_is_explained_and_continued(server: Server, archive: Path) -> None:
    server.behaviour = "breaks in a chunk"
    with pytest.raises(DataError, match=r"no working connection .*IncompleteRead.*it continues"):
        fetch_stl10(archive, server.url, MD5)
    server.behaviour = "range"
    fetch_stl10(archive, server.url, MD5)
    assert archive.read_bytes() == PAYLOAD
    assert server.ranges == [None, "bytes=1048576-"]


def test_refusal_of_the_server_is_explained(server: Server, archive: Path) -> None:
    server.behaviour = "missing"
    with pytest.raises(DataError, match=rf"{re.escape(server.url)}: .*answer 404 Not Found.*unpacked folder"):
        fetch_stl10(archive, server.url, MD5)


def test_address_that_is_none_is_explained(archive: Path) -> None:
    with pytest.raises(DataError, match=r"^nonsense: .*Check the address"):
        fetch_stl10(archive, "nonsense", MD5)


def test_disk_that_cannot_be_written_is_explained(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=r"file/a\.part: expected to store the archive there.*permissions"):
        fetch_stl10(tmp_path / "file" / "a", server.url, MD5)


def test_the_defaults_are_the_official_archive() -> None:
    assert fetch_stl10.__defaults__ == (
        "http://ai.stanford.edu/~acoates/stl10/stl10_binary.tar.gz",
        "91f7769df0f17e558f3565bffb0c7dfb",
    )


# Unpacking


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
    with pytest.raises(DataError, match=r"a\.tar\.gz: expected STL-10's archive.*download it again"):
        unpack(tmp_path / "a.tar.gz", tmp_path / "out")


def test_missing_archive_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"a\.tar\.gz: expected STL-10's archive.*No such file"):
        unpack(tmp_path / "a.tar.gz", tmp_path / "out")


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_cut_archive_is_refused(tmp_path: Path, share: float) -> None:
    packed = pack(tmp_path / "a.tar.gz", image_set(tmp_path / "source", 3))
    content = packed.read_bytes()
    packed.write_bytes(content[: int(share * len(content))])
    with pytest.raises(DataError, match=r"a\.tar\.gz: .*download it again"):
        unpack(packed, tmp_path / "out")


def test_unpacks_into_an_empty_folder_only(tmp_path: Path) -> None:
    packed = pack(tmp_path / "a.tar.gz", image_set(tmp_path / "source", 3))
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "stl10_binary").symlink_to(tmp_path / "source")
    with pytest.raises(DataError, match=r"out: found files, expected an empty folder"):
        unpack(packed, tmp_path / "out")


# Installing


@pytest.mark.parametrize("nested", [False, True])
def test_installs_a_copy_where_nothing_was(tmp_path: Path, nested: bool) -> None:
    source = image_set(tmp_path / "given" / "stl10_binary", 3)
    before = snapshot(source)
    summary = install(source.parent if nested else source, tmp_path / "root" / "data")
    assert snapshot(tmp_path / "root") == {f"data/{k}": v for k, v in before.items()}
    assert (summary["unlabeled"], summary["other"]) == (3, None)
    assert snapshot(source) == before
    (tmp_path / "root" / "data" / "train_y.bin").write_bytes(b"")
    assert snapshot(source) == before


def test_replaces_all_of_the_old_data_but_the_second_pool(tmp_path: Path) -> None:
    data, source = image_set(tmp_path / "data", 5), image_set(tmp_path / "source", 3)
    add_other(data, "a.png", "deep/b.png")
    (data / "sample.json").write_text("{}")
    (data / "truth.csv").write_text("stale")
    expected = snapshot(source) | {k: v for k, v in snapshot(data).items() if k.startswith("other/")}
    summary = install(source, data)
    assert snapshot(data) == expected
    assert (summary["dataset"], summary["unlabeled"], summary["other"]) == ("custom", 3, 2)
    assert names(tmp_path) == {"data", "source"}


def test_second_pool_and_description_of_the_source_win(tmp_path: Path) -> None:
    data, source = image_set(tmp_path / "data", 5), image_set(tmp_path / "source", 3)
    add_other(data, "a.png")
    add_other(source, "c.png")
    (source / "sample.json").write_text("{}")
    (source / "truth.csv").write_text("new")
    summary = install(source, data)
    assert snapshot(data) == snapshot(source)
    assert (summary["dataset"], summary["other"]) == ("sample", 1)


def test_moving_takes_the_files_but_only_the_source_s(tmp_path: Path) -> None:
    data, source = image_set(tmp_path / "data", 5), image_set(tmp_path / "source", 3)
    add_other(data, "a.png")
    expected = snapshot(source)
    install(source, data, move=True)
    assert snapshot(source) == {}
    assert {k: v for k, v in snapshot(data).items() if k != "other/a.png"} == expected
    assert (data / "other" / "a.png").is_file()


def test_read_only_links_into_a_cache_are_replaced_and_not_written_through(tmp_path: Path) -> None:
    data, source, cache = (
        image_set(tmp_path / "data", 5),
        image_set(tmp_path / "source", 3),
        tmp_path / "cache",
    )
    cache.mkdir()
    for name in names(data):
        os.link(data / name, cache / name)
        (cache / name).chmod(0o444)
        (source / name).chmod(0o444)
    before = snapshot(cache)
    install(source, data)
    assert snapshot(cache) == before
    assert snapshot(data) == snapshot(source)
    assert all(file.stat().st_mode & 0o200 for file in data.iterdir())


def test_data_can_be_installed_over_itself(tmp_path: Path) -> None:
    data = image_set(tmp_path / "data", 5)
    add_other(data, "a.png")
    before = snapshot(data)
    install(data, data)
    assert snapshot(data) == before


def test_damaged_source_leaves_the_old_data(tmp_path: Path) -> None:
    data, source = image_set(tmp_path / "data", 5), image_set(tmp_path / "source", 3)
    before = snapshot(data)
    (source / "train_y.bin").write_bytes(bytes([1] * 9))
    with pytest.raises(DataError, match=r"source/train_y\.bin: found 9 labels, expected 10"):
        install(source, data)
    assert snapshot(data) == before
    assert names(tmp_path) == {"data", "source"}


def test_folder_without_images_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"found no train_X\.bin.*stl10_binary/.*expected a folder with"):
        install(tmp_path, tmp_path / "data")
    assert names(tmp_path) == set()


@pytest.mark.parametrize("step", range(9))
def test_failure_at_any_step_leaves_the_old_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """Seven copies and two renames: the disk refuses at each of them in turn."""
    data, source = image_set(tmp_path / "data", 5), image_set(tmp_path / "source", 3)
    before = snapshot(data)
    calls = iter(range(100))

    def failing(real: Callable[..., object]) -> Callable[..., object]:
        def call(*arguments: Path) -> object:
            if next(calls) == step:
                raise OSError(28, "No space left on device")
            return real(*arguments)

        return call

    monkeypatch.setattr(shutil, "copyfile", failing(shutil.copyfile))
    monkeypatch.setattr(Path, "rename", failing(Path.rename))
    with pytest.raises(DataError, match=r"data: expected .* No space left on device; the old data is unchanged"):
        install(source, data)
    assert snapshot(data) == before
    assert names(tmp_path) == {"data", "source"}
    install(source, data)
    assert snapshot(data) == snapshot(source)


@pytest.mark.parametrize("move", [False, True])
def test_interruption_leaves_the_old_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, move: bool) -> None:
    data, source = image_set(tmp_path / "data", 5), image_set(tmp_path / "source", 3)
    add_other(data, "a.png")
    before = snapshot(data)
    real = Path.rename

    def interrupted(self: Path, target: Path) -> Path:
        if self.name == ".data.incoming":
            raise KeyboardInterrupt
        return real(self, target)

    monkeypatch.setattr(Path, "rename", interrupted)
    with pytest.raises(KeyboardInterrupt):
        install(source, data, move=move)
    assert snapshot(data) == before
    assert names(tmp_path) == {"data", "source"}


def test_swap_that_was_killed_halfway_is_undone_by_the_next_try(tmp_path: Path) -> None:
    old = image_set(tmp_path / ".data.old", 5)
    image_set(tmp_path / ".data.incoming", 4)
    before = snapshot(old)
    with pytest.raises(DataError, match=r"found no train_X\.bin"):
        install(tmp_path / "nowhere", tmp_path / "data")
    assert snapshot(tmp_path / "data") == before
    install(image_set(tmp_path / "source", 3), tmp_path / "data")
    assert names(tmp_path) == {"data", "source"}
    assert len(ImageFile(tmp_path / "data" / "unlabeled_X.bin")) == 3


def test_leftovers_of_a_killed_try_do_not_matter(tmp_path: Path) -> None:
    data, source = image_set(tmp_path / "data", 5), image_set(tmp_path / "source", 3)
    image_set(tmp_path / ".data.old", 4)
    add_other(tmp_path / ".data.incoming", "stale.png")
    install(source, data)
    assert snapshot(data) == snapshot(source)
    assert names(tmp_path) == {"data", "source"}


# Recording in DVC


def run(root: Path, *command: str) -> str:
    if command[0] == "dvc":
        command = (sys.executable, "-m", *command)
    return subprocess.run(command, cwd=root, check=True, capture_output=True, text=True).stdout


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A repository whose data comes from a remote inside it, as the project's sample does."""
    root = tmp_path_factory.mktemp("template")
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("DVC_NO_ANALYTICS", "1")
        environment.setenv("DVC_SITE_CACHE_DIR", str(tmp_path_factory.mktemp("site")))
        environment.setenv("no_proxy", "127.0.0.1")
        run(root, "git", "init", "--quiet")
        run(root, "dvc", "init", "--quiet")
        run(root, "dvc", "remote", "add", "--quiet", "embedded", "embedded")
        add_other(image_set(root / "data", 5), "a.png")
        run(root, "dvc", "add", "--quiet", "data")
        pointer = yaml.safe_load((root / "data.dvc").read_text())
        pointer["outs"][0]["remote"] = "embedded"
        (root / "data.dvc").write_text(yaml.safe_dump(pointer))
        run(root, "dvc", "push", "--quiet", "data.dvc")
        yield root


@pytest.fixture
def project(template: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(template, tmp_path / "root"))


def out(root: Path) -> dict[str, object]:
    (only,) = yaml.safe_load((root / "data.dvc").read_text())["outs"]
    assert isinstance(only, dict)
    return only


def test_installed_folder_is_recorded_without_the_embedded_remote(project: Path, tmp_path: Path) -> None:
    source = image_set(tmp_path / "given", 3)
    old, pushed = out(project), snapshot(project / "embedded")
    assert pushed
    summary = install_folder(project, source)
    assert summary["unlabeled"] == 3
    assert out(project)["md5"] != old["md5"]
    assert "remote" not in out(project)
    assert run(project, "dvc", "status", "data.dvc").strip() == "Data and pipelines are up to date."
    subprocess.run([sys.executable, "-m", "dvc", "push"], cwd=project, capture_output=True)
    assert snapshot(project / "embedded") == pushed


def test_failure_of_dvc_is_reported_and_keeps_the_pointer(project: Path) -> None:
    before = (project / "data.dvc").read_bytes()
    (project / "data").rename(project / "elsewhere")
    with pytest.raises(DataError, match=r"data: .*`dvc add data`.*'data' does not exist.*run the command again"):
        track(project)
    assert (project / "data.dvc").read_bytes() == before
    (project / "elsewhere").rename(project / "data")
    track(project)
    assert "remote" not in out(project)


def test_first_data_of_a_project_is_recorded(project: Path) -> None:
    (project / "data.dvc").unlink()
    track(project)
    assert out(project)["path"] == "data"


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
        broken.setattr(download.sys, "executable", shutil.which("false"))
        with pytest.raises(DataError, match=r"expected `dvc add data` to record the new files.*data/ is as it was"):
            install_stl10(project, server.url, md5)
    assert out(project)["remote"] == "embedded"
    assert names(project / "work" / "download") == {"stl10_binary.tar.gz"}
    install_stl10(project, server.url, md5)
    assert len(server.ranges) == 1
    assert "remote" not in out(project)


def test_bad_archive_leaves_data_and_record(server: Server, project: Path) -> None:
    data, pointer = snapshot(project / "data"), (project / "data.dvc").read_bytes()
    with pytest.raises(DataError, match=r"cannot be unpacked"):
        install_stl10(project, server.url, MD5)
    assert snapshot(project / "data") == data
    assert (project / "data.dvc").read_bytes() == pointer
    assert names(project / "work" / "download") == {"stl10_binary.tar.gz"}


# A second pool


def test_a_folder_of_images_becomes_the_second_pool(project: Path, tmp_path: Path) -> None:
    source = tmp_path / "photos"
    add_other(source, "x.png", "deep/y.png")  # they lie in other/ below
    (source / "other" / "notes.txt").write_text("kept, for the audit to name")
    kept = {k: v for k, v in snapshot(project / "data").items() if not k.startswith("other/")}
    assert download.install_other(project, source / "other") == (2, ["notes.txt: no image by its name"])
    found = snapshot(project / "data")
    assert {k: v for k, v in found.items() if not k.startswith("other/")} == kept
    assert {k for k in found if k.startswith("other/")} == {"other/x.png", "other/deep/y.png", "other/notes.txt"}
    assert len(stl10.open_pool(project / "data", "other")) == 2
    assert "remote" not in out(project)
    assert run(project, "dvc", "status", "data.dvc").strip() == "Data and pipelines are up to date."


@pytest.mark.slow
def test_a_file_in_stl10s_format_becomes_the_second_pool_and_back(project: Path, tmp_path: Path) -> None:
    given = image_set(tmp_path / "given", 4) / "unlabeled_X.bin"
    assert download.install_other(project, given) == (4, [])
    assert not (project / "data" / "other").exists()
    assert image_set.check(project / "data")["other"] == 4
    assert stl10.open_pool(project / "data", "other")[1].shape == (96, 96, 3)
    # It stays when the set is replaced, like a folder.
    download.install_folder(project, image_set(tmp_path / "next", 3))
    assert image_set.check(project / "data")["other"] == 4
    add_other(tmp_path / "photos", "x.png")
    assert download.install_other(project, tmp_path / "photos" / "other") == (1, [])
    assert not (project / "data" / "other_X.bin").exists()


def test_a_file_of_a_set_of_another_side_is_no_second_pool(project: Path, tmp_path: Path) -> None:
    before = snapshot(project / "data")
    given = tmp_path / "given"
    given.mkdir()
    # As many bytes as sixteen images of 96×96, which they would be read as.
    write_images(given / "unlabeled_X.bin", np.zeros((9, 128, 128, 3), np.uint8), 128)
    (given / "import.json").write_text('{"name": "mine", "side": 128}')
    with pytest.raises(DataError, match=r"found images of 128×128 pixels, expected 96×96.*the folder of images"):
        download.install_other(project, given / "unlabeled_X.bin")
    assert snapshot(project / "data") == before


def test_a_set_of_another_side_keeps_it(tmp_path: Path) -> None:
    given = image_set(tmp_path / "given", 3)
    for split, count in {"train": 10, "test": 4, "unlabeled": 9}.items():
        write_images(given / f"{split}_X.bin", np.zeros((count, 128, 128, 3), np.uint8), 128)
    (given / "import.json").write_text('{"name": "mine", "side": 128}')
    download.install(given, tmp_path / "data")
    found = image_set.check(tmp_path / "data")
    assert (found["dataset"], found["side"], found["unlabeled"]) == ("mine", 128, 9)


def test_e_the_second_pool_counts_what_has_arrived(project: Path, tmp_path: Path) -> None:
    source = tmp_path / "photos" / "other"
    add_other(tmp_path / "photos", "a/x.png", "b/y.png", ".thumbnails/x.png", ".hidden.png")
    add_other(tmp_path / "else", "z.png")
    (source / "linked").symlink_to(tmp_path / "else" / "other")
    (source / "again").symlink_to("a")
    (source / "a" / "loop").symlink_to(source)
    (source / "one.png").symlink_to(source / "a" / "x.png")
    (source / "gone.png").symlink_to("nowhere.png")
    count, notes = download.install_other(project, source)
    arrived = snapshot(project / "data" / "other")
    assert set(arrived) == {"a/x.png", "b/y.png", "linked/z.png", "one.png"}
    assert count == len(arrived)
    assert not any(file.is_symlink() for file in (project / "data").rglob("*"))
    told = {note.split(": ")[0] for note in notes}
    assert told == {"again", "a/loop", "gone.png", ".thumbnails", ".hidden.png"}


def untouched(root: Path) -> bool:
    """Tell whether the data are those of the record, and the documented way back works."""
    done = "Data and pipelines are up to date."
    before = run(root, "dvc", "status", "data.dvc").strip() == done
    run(root, "dvc", "checkout", "data.dvc")
    return before and run(root, "dvc", "status", "data.dvc").strip() == done and not list(root.glob(".data*"))


@pytest.mark.slow
def test_j_names_that_dvc_cannot_record_are_refused_before_anything_moves(project: Path, tmp_path: Path) -> None:
    before, pointer = snapshot(project / "data"), (project / "data.dvc").read_bytes()
    add_other(tmp_path / "photos", "x.png", os.fsdecode(b"caf\xe9.png"))
    with pytest.raises(DataError, match=r"1 names that are not UTF-8, such as caf\\xe9\.png.*unchanged.*convmv"):
        download.install_other(project, tmp_path / "photos" / "other")
    whole = image_set(tmp_path / "whole", 3)
    add_other(whole, os.fsdecode(b"caf\xe9.png"))
    with pytest.raises(DataError, match=r"1 names that are not UTF-8"):
        install_folder(project, whole)
    assert snapshot(project / "data") == before
    assert (project / "data.dvc").read_bytes() == pointer
    assert untouched(project)


@pytest.mark.parametrize(
    ("had", "source"),
    [
        pytest.param(had, source, marks=[] if (had, source) == ("folder", "set") else [pytest.mark.slow])
        for had in ("folder", "file", "nothing")
        for source in ("folder", "file", "set")
    ],
)
def test_j_whatever_dvc_refuses_the_data_are_as_they_were(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, had: str, source: str
) -> None:
    given = image_set(tmp_path / "given", 3)
    if had != "folder":
        shutil.rmtree(project / "data" / "other")
    if had == "file":
        shutil.copy(given / "unlabeled_X.bin", project / "data" / stl10.OTHER_FILE)
    run(project, "dvc", "add", "--quiet", "data")
    before, pointer = snapshot(project / "data"), (project / "data.dvc").read_bytes()
    add_other(tmp_path / "photos", "x.png")
    real = subprocess.run

    def refuse(words: list[str], **options: Any) -> Any:
        if "add" in words:  # DVC has looked at the new files, and stops for some reason of its own
            assert snapshot(project / "data") != before
            return subprocess.CompletedProcess(words, 255, "", "ERROR: no")
        return real(words, **options)

    with monkeypatch.context() as patch:
        patch.setattr(subprocess, "run", refuse)
        with pytest.raises(DataError, match=r"`dvc add data`.*ERROR: no\. data/ is as it was"):
            if source == "set":
                install_folder(project, given)
            else:
                other = tmp_path / "photos" / "other" if source == "folder" else given / "test_X.bin"
                download.install_other(project, other)
    assert snapshot(project / "data") == before
    assert (project / "data.dvc").read_bytes() == pointer
    assert untouched(project)


@pytest.mark.slow
def test_j_an_interruption_while_dvc_works_leaves_data_and_record(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, pointer = snapshot(project / "data"), (project / "data.dvc").read_bytes()

    def interrupt(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(subprocess, "run", interrupt)
        with pytest.raises(KeyboardInterrupt):
            install_folder(project, image_set(tmp_path / "given", 3))
    assert snapshot(project / "data") == before
    assert (project / "data.dvc").read_bytes() == pointer
    assert untouched(project)


def test_what_is_no_pool_leaves_the_old_one(project: Path, tmp_path: Path) -> None:
    before = snapshot(project / "data")
    (tmp_path / "empty").mkdir()
    (tmp_path / "cut.bin").write_bytes(b"123")
    told = {"empty": "found no image", "cut.bin": "found 3 bytes", "none": "no such folder"}
    for name, message in told.items():
        with pytest.raises(DataError, match=message):
            download.install_other(project, tmp_path / name)
    assert snapshot(project / "data") == before
    assert out(project)["remote"] == "embedded"
