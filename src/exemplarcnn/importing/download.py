"""Put an image set in place of ``data/``: the official STL-10 archive, or a folder in its layout.

The files are those of docs/method.md, section 1. New data is complete beside the old before it takes its
place, so that a failure at any point leaves the old data as it was.
"""

import http.client
import logging
import shutil
import subprocess
import sys
import tarfile
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, cast

import yaml

from exemplarcnn.data import image_set, pools, stl10, walking
from exemplarcnn.data.image_set import Summary
from exemplarcnn.data.types import DataError, Pool
from exemplarcnn.files import atomic_write, md5_of
from exemplarcnn.progress import tqdm

STL10_URL = "http://ai.stanford.edu/~acoates/stl10/stl10_binary.tar.gz"
STL10_ARCHIVE_MD5 = "91f7769df0f17e558f3565bffb0c7dfb"

BINARY_FOLDER = "stl10_binary"
REQUIRED = (
    "train_X.bin",
    "train_y.bin",
    "test_X.bin",
    "test_y.bin",
    "unlabeled_X.bin",
    "class_names.txt",
    "fold_indices.txt",
)
OPTIONAL = ("truth.csv", "sample.json", stl10.IMPORT_FILE, "provenance.csv")

OTHERWISE = "bring STL-10's unpacked folder by other means and install that"
_CHUNK = 1 << 20
_TIMEOUT = 60.0  # seconds without a byte

log = logging.getLogger(__name__)


def install_stl10(root: Path, url: str = STL10_URL, md5: str = STL10_ARCHIVE_MD5) -> Summary:
    """Download STL-10 and make it the project's data, recorded in DVC.

    The archive is kept in ``work/download`` until all is done, so that a second try does not load it again.

    Parameters
    ----------
    root : Path
        The project's root, which holds ``data/`` and ``data.dvc``.
    url, md5 : str
        Where the archive lies (a mirror, for instance) and its checksum.

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
    fetch_stl10(archive, url, md5)
    remove(unpacked)
    try:
        unpack(archive, unpacked)
        summary = install(unpacked, root / "data", move=True, record=lambda: track(root))
    finally:
        remove(unpacked)
    remove(archive)
    return summary


def install_folder(root: Path, folder: Path) -> Summary:
    """Make a copy of a folder in STL-10's layout the project's data, recorded in DVC.

    Parameters
    ----------
    root : Path
        The project's root, which holds ``data/`` and ``data.dvc``.
    folder : Path
        The folder with the binary files, or one that holds them in ``stl10_binary/``. It is only read.

    Returns
    -------
    Summary
        What `exemplarcnn.data.image_set.check` says of the new data.

    Raises
    ------
    DataError
        As for `install_stl10`.
    """
    return install(folder, root / "data", record=lambda: track(root))


def install_other(root: Path, source: Path) -> tuple[int, list[str]]:
    """Make a folder of images, or a file in STL-10's format, the second pool of the data, and record it in DVC.

    Parameters
    ----------
    root : Path
        The project's root, which holds ``data/`` and ``data.dvc``.
    source : Path
        The folder, or the file. A folder is walked as `exemplarcnn.data.walking` says; files of other kinds are copied
        too, for the audit to name.

    Returns
    -------
    int
        How many images have arrived.
    list of str
        What of the folder is no image, a line each.

    Raises
    ------
    DataError
        If there is no image, if a file has images of another side than STL-10's, if a name is none that DVC can record,
        or if the disk or DVC refuses; ``data/`` is then as it was.
    """
    data = root / "data"
    pool: Pool = _other_file(source) if source.is_file() else pools.ImageFolder(source)
    files = {source: Path(stl10.OTHER_FILE)} if source.is_file() else _listed(source, Path("other"))
    staging = beside(data, "other")
    remove(staging)
    try:
        for file, place in tqdm(files.items(), desc="copy", unit="file"):
            (staging / place).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, staging / place)
        with ExitStack() as stack:
            for name in ("other", stl10.OTHER_FILE):
                stack.enter_context(_replaced(data / name, staging / name, staging / f"old-{name}"))
            count = len(stl10.open_pool(data, "other"))
            track(root)
    except OSError as error:
        raise DataError(
            f"{data}: expected to put the images of {source} there, found {error}; the old data is unchanged. "
            "Make room or correct the permissions, then run the command again."
        ) from error
    finally:
        remove(staging)
    return count, folder_walk.lines(pool.passed_over)


def _listed(folder: Path, place: Path) -> dict[Path, Path]:
    """List the files of a folder, each with its place; DataError if DVC could not record a name."""
    names = folder_walk.walk(folder).files
    if odd := [folder_walk.readable(name) for name in names if not folder_walk.is_utf8(name)]:
        raise DataError(
            f"{folder}: found {len(odd):,} names that are not UTF-8, such as {', '.join(odd[:3])}, expected what DVC "
            "can record; data/ is unchanged. Rename them, for instance with "
            "`convmv -f latin1 -t utf8 -r --notest FOLDER`."
        )
    return {folder / name: place / name for name in names}


def _other_file(source: Path) -> stl10.ImageFile:
    """Open a file of other images; DataError if they are not of STL-10's side, which nothing in ``data/`` would say."""
    pool = stl10.open_file(source)
    if pool.side != stl10.SIDE:
        raise DataError(
            f"{source}: found images of {pool.side}×{pool.side} pixels, expected {stl10.SIDE}×{stl10.SIDE}, as in "
            "STL-10's format; give the folder of images that the set was imported from."
        )
    return pool


def fetch_stl10(destination_archive: Path, url: str = STL10_URL, md5: str = STL10_ARCHIVE_MD5) -> Path:
    """Download the official archive, continuing a broken download, and check its md5.

    What has arrived is kept in a file ending in ``.part`` until it is complete and its checksum is right. An
    archive that is already there and right is left alone.

    Parameters
    ----------
    destination_archive : Path
        Where the archive goes; missing folders are made.
    url, md5 : str
        Where it lies, and its checksum.

    Returns
    -------
    Path
        `destination_archive`.

    Raises
    ------
    DataError
        If the server cannot be reached or the connection breaks (the next call continues), or if the checksum
        is wrong (the bad file is removed, so that the next call starts afresh).
    """
    if destination_archive.is_file() and md5_of(destination_archive) == md5:
        return destination_archive
    part = destination_archive.with_name(destination_archive.name + ".part")
    try:
        part.parent.mkdir(parents=True, exist_ok=True)
        _download(url, part)
    except OSError as error:  # the network's are told apart further down
        raise DataError(
            f"{part}: expected to store the archive there, found {error}; make room or correct the "
            "permissions, then run the command again."
        ) from error
    found = md5_of(part)
    if found != md5:
        part.unlink()
        raise DataError(
            f"{url}: found an archive with md5 {found}, expected {md5}; the bad download was removed. "
            f"Run the command again. If it stays wrong, {OTHERWISE}."
        )
    part.replace(destination_archive)
    return destination_archive


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
            for chunk in _chunks(response, url):
                file.write(chunk)
                bar.update(len(chunk))
    arrived = part.stat().st_size
    if total is not None and arrived < total:
        raise DataError(
            f"{url}: found {arrived:,} bytes when the connection broke, expected {total:,}; run the command "
            f"again, it continues from {part}."
        )


def _request(url: str, have: int) -> http.client.HTTPResponse | None:
    """Ask for the bytes from `have` on; None if the server says that there are none left."""
    try:
        request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
        response: http.client.HTTPResponse = urllib.request.urlopen(request, timeout=_TIMEOUT)
    except urllib.error.HTTPError as error:
        with error:
            if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and have:
                return None
            raise DataError(
                f"{url}: expected the archive, found the server's answer {error.code} {error.reason}; "
                f"try again later, or {OTHERWISE}."
            ) from error
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise _unreachable(url, error) from error
    content_range = response.headers.get("Content-Range", "")
    if have and response.status == http.HTTPStatus.PARTIAL_CONTENT and f"bytes {have}-" not in content_range:
        response.close()  # a part, but not the one asked for
        return _request(url, 0)
    return response


def _chunks(response: http.client.HTTPResponse, url: str) -> Iterator[bytes]:
    try:
        while chunk := response.read(_CHUNK):
            yield chunk
    except (OSError, http.client.HTTPException) as error:
        raise _unreachable(url, error) from error


def _unreachable(url: str, error: Exception) -> DataError:
    return DataError(
        f"{url}: expected the archive, found no working connection ({error}). Check the address, the network "
        "and any proxy setting and run the command again: it continues where it stopped. "
        f"Without a network, {OTHERWISE}."
    )


def unpack(archive: Path, folder: Path) -> Path:
    """Unpack the files of STL-10 from its archive, and nothing else.

    Pixels damaged on the way are not noticed here but by the md5 that `fetch_stl10` checks.

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
        raise DataError(f"{folder}: found files, expected an empty folder to unpack into; remove it.")
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
            f"{archive}: expected STL-10's archive, found one that cannot be unpacked into {folder} "
            f"({error}); if the disk has room, remove the archive and download it again."
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


def install(
    source_folder: Path,
    data: Path,
    *,
    move: bool = False,
    keep_other: bool = True,
    record: Callable[[], None] = lambda: None,
) -> Summary:
    """Check a set of images and put it in place of the data folder.

    The new folder is completed beside the old one and then takes its name. No existing file is written to: it may be a
    link into a cache.

    Parameters
    ----------
    source_folder : Path
        The folder with the binary files, or one that holds them in ``stl10_binary/``.
    data : Path
        The data folder; it need not exist.
    move : bool
        Take the files out of the source instead of copying them, to save the space.
    keep_other : bool
        Keep a second pool ``other/`` of the old data if the source has none.
    record
        What is done when the new files are in place. If it fails, the old ones come back.

    Returns
    -------
    Summary
        What `exemplarcnn.data.image_set.check` says of the new data.

    Raises
    ------
    DataError
        If the source is incomplete or inconsistent, or the disk or `record` refuses; `data` is then as it was.
    """
    _recover(data)
    source = binary_folder(source_folder)
    summary = image_set.check(source)
    staging = beside(data, "incoming")
    remove(staging)
    try:
        staging.mkdir(parents=True)
        for file, target in tqdm(_plan(source, data if keep_other else source, staging), desc="install", unit="file"):
            target.parent.mkdir(parents=True, exist_ok=True)
            if move and file.is_relative_to(source):
                shutil.move(file, target)
            else:
                shutil.copyfile(file, target)  # without its permissions, which may be a cache's, read-only
        if pools.has_other(staging):
            summary["other"] = len(stl10.open_pool(staging, "other"))
        with _replaced(data, staging, beside(data, "old")):
            record()
    except OSError as error:
        raise DataError(
            f"{data}: expected to put the files of {source} there, found {error}; the old data is unchanged. "
            "Make room or correct the permissions, then run the command again."
        ) from error
    finally:
        remove(staging)
    return summary


def binary_folder(folder: Path) -> Path:
    """Return the folder that holds the binary files: this one, or its ``stl10_binary``; DataError if neither does."""
    for candidate in (folder, folder / BINARY_FOLDER):
        if any((candidate / name).is_file() for name in ("train_X.bin", "unlabeled_X.bin")):
            return candidate
    raise DataError(
        f"{folder}: found no {REQUIRED[0]}, there or in {BINARY_FOLDER}/, expected a folder with "
        f"{', '.join(REQUIRED)}; name the folder that holds them."
    )


def _plan(source: Path, fallback: Path, staging: Path) -> list[tuple[Path, Path]]:
    """List each file to install with its place in the staging folder; a second pool is in one of two places."""
    files = [source / name for name in (*REQUIRED, *OPTIONAL) if (source / name).is_file()]
    plan = [(file, staging / file.name) for file in files]
    home = source if pools.has_other(source) else fallback
    if (file := home / stl10.OTHER_FILE).is_file():
        plan.append((file, staging / file.name))
    if (home / "other").is_dir():
        plan += _listed(home / "other", staging / "other").items()
    return plan


@contextmanager
def _replaced(place: Path, new: Path, old: Path) -> Iterator[None]:
    """Put something new in a place, or nothing if there is none; if the block fails, what was there comes back."""
    remove(old)
    if place.exists():
        place.rename(old)
    try:
        if new.exists():
            new.rename(place)
        yield
    except BaseException:
        if place.exists():
            place.rename(new)
        if old.exists():
            old.rename(place)
        raise
    remove(old)


def _recover(data: Path) -> None:
    """Give the old data its name back, after a swap that was cut off between its two steps."""
    old = beside(data, "old")
    if old.exists() and not data.exists():
        old.rename(data)


def beside(data: Path, purpose: str) -> Path:
    """Return where something unfinished is kept beside the data folder, out of sight."""
    return data.with_name(f".{data.name}.{purpose}")


def remove(path: Path) -> None:
    """Remove a file or a folder, if it is there."""
    if path.is_symlink() or path.is_file():
        path.unlink()
    else:
        shutil.rmtree(path, ignore_errors=True)  # what stays does no harm: the next install tries again


def track(root: Path) -> None:
    """Record the data folder in DVC, without the remote that serves the embedded sample alone.

    ``data.dvc`` of the sample names a remote inside the git repository. That name goes before anything is
    added, or the next ``dvc push`` would fill the repository with the new data.

    Parameters
    ----------
    root : Path
        The project's root, which holds ``data/``.

    Raises
    ------
    DataError
        If DVC fails; ``data.dvc`` is then as it was.
    """
    pointer = root / "data.dvc"
    before = pointer.read_bytes() if pointer.is_file() else None
    try:
        if before is not None:
            _drop_remote(pointer)
        log.info("recording %s in DVC", root / "data")
        done = subprocess.run([sys.executable, "-m", "dvc", "add", "data"], cwd=root, capture_output=True, text=True)
        if done.returncode:
            raise DataError(
                f"{root / 'data'}: expected `dvc add data` to record the new files, found its error: "
                f"{done.stderr.strip()}. data/ is as it was; correct that and run the command again."
            )
    except BaseException:
        if before is not None:
            _replace(pointer, before)
        raise


def _drop_remote(pointer: Path) -> None:
    content = yaml.safe_load(pointer.read_text(encoding="utf-8"))
    for out in content["outs"]:
        out.pop("remote", None)
    _replace(pointer, yaml.safe_dump(content, sort_keys=False).encode())


def _replace(file: Path, content: bytes) -> None:
    with atomic_write(file) as partial:
        partial.write_bytes(content)
