"""Check an image set in STL-10's layout, and put it in place of ``data/``.

docs/method.md, section 1, lists the files. New data is completed beside the old data before it takes its place, so a
failure at any point leaves the old data unchanged.
"""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from exemplarcnn.data import image_set, pools, stl10
from exemplarcnn.data.file_names import is_utf8, readable
from exemplarcnn.data.folder_walk import walk
from exemplarcnn.data.image_set import Summary
from exemplarcnn.data.stl10_folder import REQUIRED, binary_folder
from exemplarcnn.data.types import DataError
from exemplarcnn.importing import dvc_record
from exemplarcnn.progress import tqdm

PROVENANCE = "provenance.csv"
OPTIONAL = ("truth.csv", "sample.json", stl10.IMPORT_FILE, PROVENANCE)


def install_folder(root: Path, folder: Path) -> Summary:
    """Copy a folder in STL-10's layout in place of the project's data, and record it in DVC.

    Parameters
    ----------
    root : Path
        The project's root, which holds ``data/`` and ``data.dvc``.
    folder : Path
        The folder with the binary files, or one that holds them in ``stl10_binary/``. It is not changed.

    Returns
    -------
    Summary
        What `exemplarcnn.data.image_set.check` says of the new data.

    Raises
    ------
    DataError
        If the set is incomplete or inconsistent, or the disk or DVC fails; ``data/`` is then unchanged.
    """
    return install(folder, root / "data", record=lambda: dvc_record.record_data(root))


def install(
    source_folder: Path,
    data: Path,
    *,
    move: bool = False,
    keep_other: bool = True,
    record: Callable[[], None] = lambda: None,
) -> Summary:
    """Check a set of images and put it in place of the data folder.

    The new folder is completed beside the old one and then takes its name. No existing file is overwritten in place: it
    may be a link into a cache.

    Parameters
    ----------
    source_folder : Path
        The folder with the binary files, or one that holds them in ``stl10_binary/``.
    data : Path
        The data folder; it need not exist.
    move : bool
        Move the files instead of copying them, to save space.
    keep_other : bool
        Keep a second pool ``other/`` of the old data if the source has none.
    record
        Called when the new files are in place. If it fails, the old files are restored.

    Returns
    -------
    Summary
        What `exemplarcnn.data.image_set.check` says of the new data.

    Raises
    ------
    DataError
        If the source is incomplete or inconsistent, or the disk or `record` fails; `data` is then unchanged.
    """
    _undo_half_swap(data)
    source = binary_folder(source_folder)
    summary = image_set.check(source)
    with staging_folder(data, "incoming", source) as staging:
        for file, target in tqdm(_copies(source, data if keep_other else source, staging), desc="install", unit="file"):
            target.parent.mkdir(parents=True, exist_ok=True)
            if move and file.is_relative_to(source):
                shutil.move(file, target)
            else:
                shutil.copyfile(file, target)  # without permissions: a cache's files are read-only
        if pools.has_other(staging):
            summary["other"] = len(pools.open_pool(staging, "other"))
        with replaced(data, staging, _beside(data, "old")):
            record()
    return summary


@contextmanager
def staging_folder(data: Path, purpose: str, source: Path) -> Iterator[Path]:
    """Yield an empty folder beside the data folder for unfinished work; remove it at the end.

    Parameters
    ----------
    data
        The data folder.
    purpose
        Part of the folder's name, which begins with a dot.
    source
        Where the images come from, for messages.

    Raises
    ------
    DataError
        For an OSError inside the block.
    """
    staging = _beside(data, purpose)
    remove(staging)
    try:
        staging.mkdir(parents=True)
        yield staging
    except OSError as error:
        raise DataError(
            f"{data}: cannot put the images of {source} there: {error}; the old data is unchanged. "
            "Free some space or correct the permissions, then run the command again."
        ) from error
    finally:
        remove(staging)


def _copies(source: Path, fallback: Path, staging: Path) -> list[tuple[Path, Path]]:
    """List each file to install with its place in the staging folder; ``fallback`` may have a second pool."""
    files = [source / name for name in (*REQUIRED, *OPTIONAL) if (source / name).is_file()]
    plan = [(file, staging / file.name) for file in files]
    home = source if pools.has_other(source) else fallback
    if (file := home / stl10.OTHER_FILE).is_file():
        plan.append((file, staging / file.name))
    if (home / pools.OTHER).is_dir():
        plan += files_to_copy(home / pools.OTHER, staging / pools.OTHER).items()
    return plan


@contextmanager
def replaced(place: Path, new: Path, old: Path) -> Iterator[None]:
    """Put `new`, if it exists, in a place while `old` keeps what was there; restore that if the block fails."""
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


def _undo_half_swap(data: Path) -> None:
    """Restore the old data after a swap that was interrupted between its two steps."""
    old = _beside(data, "old")
    if old.exists() and not data.exists():
        old.rename(data)


def _beside(data: Path, purpose: str) -> Path:
    """Return the hidden place beside the data folder for something unfinished."""
    return data.with_name(f".{data.name}.{purpose}")


def remove(path: Path) -> None:
    """Remove a file or a folder, if it is there."""
    if path.is_symlink() or path.is_file():
        path.unlink()
    else:
        shutil.rmtree(path, ignore_errors=True)  # leftovers do no harm: the next install tries again


def files_to_copy(folder: Path, place: Path) -> dict[Path, Path]:
    """Map the files of a folder to their new places; DataError if DVC could not record a name."""
    names = walk(folder).files
    if odd := [readable(name) for name in names if not is_utf8(name)]:
        raise DataError(
            f"{folder}: found {len(odd):,} names that are not UTF-8, such as {', '.join(odd[:3])}, expected names that "
            "DVC can record; data/ is unchanged. Rename them, for instance with "
            "`convmv -f latin1 -t utf8 -r --notest FOLDER`."
        )
    return {folder / name: place / name for name in names}
