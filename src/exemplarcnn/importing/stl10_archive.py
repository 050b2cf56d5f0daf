"""Download the official STL-10 archive, unpack it, and put it in place of ``data/``."""

import http.client
import tarfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO, cast

from exemplarcnn.data.image_set import Summary
from exemplarcnn.data.stl10_folder import BINARY_FOLDER, REQUIRED
from exemplarcnn.data.types import DataError
from exemplarcnn.files import md5_of
from exemplarcnn.importing import dvc_record
from exemplarcnn.importing.install import install, remove
from exemplarcnn.progress import tqdm

URL = "http://ai.stanford.edu/~acoates/stl10/stl10_binary.tar.gz"
MD5 = "91f7769df0f17e558f3565bffb0c7dfb"
OTHERWISE = "copy STL-10's unpacked folder here by other means and run `exemplarcnn data use FOLDER`"
BLOCK = 1 << 20  # bytes to read from the server at once
TIMEOUT = 60.0  # seconds without a byte


def install_stl10(root: Path, url: str = URL, md5: str = MD5) -> Summary:
    """Download STL-10, put it in place of the project's data, and record it in DVC.

    The archive stays in ``work/download`` until everything is done, so a second try does not download it again.

    Parameters
    ----------
    root : Path
        The project's root, which holds ``data/`` and ``data.dvc``.
    url, md5 : str
        Address of the archive (or of a mirror), and its checksum.

    Returns
    -------
    Summary
        What `exemplarcnn.data.image_set.check` says of the new data.

    Raises
    ------
    DataError
        If any step fails; ``data/`` is then unchanged.
    """
    folder = root / "work" / "download"
    archive, unpacked = folder / "stl10_binary.tar.gz", folder / "unpacked"
    fetch(archive, url, md5)
    remove(unpacked)
    try:
        unpack(archive, unpacked)
        summary = install(unpacked, root / "data", move=True, record=lambda: dvc_record.record_data(root))
    finally:
        remove(unpacked)
    remove(archive)
    return summary


def fetch(archive: Path, url: str = URL, md5: str = MD5) -> Path:
    """Download the official archive, continuing a broken download, and check its md5.

    The download goes into a file ending in ``.part`` until it is complete and its checksum is right. If the right
    archive is already there, nothing is downloaded.

    Parameters
    ----------
    archive : Path
        Where to put the archive; missing folders are made.
    url, md5 : str
        Its address, and its checksum.

    Returns
    -------
    Path
        `archive`.

    Raises
    ------
    DataError
        If the server cannot be reached or the connection breaks (the next call continues), or if the checksum
        is wrong (the bad file is removed, and the next call starts again).
    """
    if archive.is_file() and md5_of(archive) == md5:
        return archive
    part = archive.with_name(archive.name + ".part")
    try:
        part.parent.mkdir(parents=True, exist_ok=True)
        _download(url, part)
    except OSError as error:  # errors of the network have become DataError further down
        raise DataError(
            f"{part}: cannot store the archive there: {error}; free some space or correct the "
            "permissions, then run the command again."
        ) from error
    found = md5_of(part)
    if found != md5:
        part.unlink()
        raise DataError(
            f"{url}: found an archive with md5 {found}, expected {md5}; the bad download was removed. "
            f"Run the command again. If it stays wrong, {OTHERWISE}."
        )
    part.replace(archive)
    return archive


def _download(url: str, part: Path) -> None:
    have = part.stat().st_size if part.is_file() else 0
    response = _request(url, have)
    if response is None:
        return
    with response:
        start = have if response.status == http.HTTPStatus.PARTIAL_CONTENT else 0
        length = response.headers.get("Content-Length")
        total = start + int(length) if length else None
        with (
            part.open("ab" if start else "wb") as file,
            tqdm(initial=start, total=total, desc=part.stem, unit="B", unit_scale=True) as bar,
        ):
            for block in _blocks(response, url):
                file.write(block)
                bar.update(len(block))
    arrived = part.stat().st_size
    if total is not None and arrived < total:
        raise DataError(
            f"{url}: the connection broke after {arrived:,} of {total:,} bytes; run the command "
            f"again, it continues from {part}."
        )


def _request(url: str, have: int) -> http.client.HTTPResponse | None:
    """Request the bytes from `have` on; None if the server says that none are left."""
    try:
        request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
        response: http.client.HTTPResponse = urllib.request.urlopen(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        with error:
            if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and have:
                return None
            raise DataError(
                f"{url}: cannot download the archive: the server answered {error.code} {error.reason}; "
                f"try again later, or {OTHERWISE}."
            ) from error
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise _unreachable(url, error) from error
    content_range = response.headers.get("Content-Range", "")
    if have and response.status == http.HTTPStatus.PARTIAL_CONTENT and f"bytes {have}-" not in content_range:
        response.close()  # a part, but not the requested one
        return _request(url, 0)
    return response


def _blocks(response: http.client.HTTPResponse, url: str) -> Iterator[bytes]:
    try:
        while block := response.read(BLOCK):
            yield block
    except (OSError, http.client.HTTPException) as error:
        raise _unreachable(url, error) from error


def _unreachable(url: str, error: Exception) -> DataError:
    return DataError(
        f"{url}: cannot download the archive: no working connection ({error}). Check the address, the network "
        "and any proxy setting, then run the command again: it continues where it stopped. "
        f"Without a network, {OTHERWISE}."
    )


def unpack(archive: Path, folder: Path) -> Path:
    """Unpack the files of STL-10 from its archive, and nothing else.

    Damaged pixels are not detected here, but by the md5 that `fetch` checks.

    Parameters
    ----------
    archive : Path
        The archive ``stl10_binary.tar.gz``.
    folder : Path
        A new or empty folder.

    Returns
    -------
    Path
        The folder with the binary files, ``folder/stl10_binary``.

    Raises
    ------
    DataError
        If the archive is damaged or incomplete, holds a link or device, or a path that leads out of `folder`.
    """
    if folder.exists() and any(folder.iterdir()):
        raise DataError(f"{folder}: found files, expected an empty folder to unpack into; move them away.")
    folder.mkdir(parents=True, exist_ok=True)
    expected = {f"{BINARY_FOLDER}/{name}" for name in REQUIRED}
    try:
        with (
            archive.open("rb") as file,
            tqdm.wrapattr(file, "read", total=archive.stat().st_size, desc="unpack") as metered,
            tarfile.open(fileobj=cast(IO[bytes], metered), mode="r|gz") as tar,
        ):
            for member in tar:
                _refuse_unsafe(archive, member)
                name = str(PurePosixPath(member.name))  # without a leading ./
                if member.isfile() and name in expected:
                    tar.extract(member, folder, filter="data")
                    expected.remove(name)
    except (tarfile.TarError, OSError) as error:
        raise DataError(
            f"{archive}: cannot unpack it into {folder}: {error}; "
            "if the disk is not full, remove the archive and download it again."
        ) from error
    if expected:
        raise DataError(
            f"{archive}: found no {', '.join(sorted(expected))}, expected all of STL-10's files; "
            "remove the archive and download it again."
        )
    return folder / BINARY_FOLDER


def _refuse_unsafe(archive: Path, member: tarfile.TarInfo) -> None:
    path = PurePosixPath(member.name)
    if path.is_absolute() or ".." in path.parts or not (member.isfile() or member.isdir()):
        raise DataError(
            f"{archive}: found the member {member.name!r}, expected only files and folders inside "
            f"{BINARY_FOLDER}/; this is not STL-10's archive: remove it and download it again."
        )
