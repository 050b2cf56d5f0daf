"""Check the data and all results byte by byte against ``data.dvc`` and ``dvc.lock``.

DVC does not detect corrupted cache files: ``dvc status`` and ``dvc checkout`` trust them as long as they are
write-protected. This module reads everything.
"""

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from exemplarcnn import paths
from exemplarcnn.errors import PipelineError
from exemplarcnn.files import md5_of, read_mapping
from exemplarcnn.progress import tqdm
from exemplarcnn.tracking import lineage


class IntegrityError(PipelineError):
    """No hashes are recorded to compare with."""


@dataclass(frozen=True)
class Damaged:
    """A file whose bytes differ from those recorded.

    Attributes
    ----------
    path
        The file: a result, or an object in DVC's cache.
    out
        The out that it belongs to: a stage's, or the data.
    cached
        Whether it is an object in the cache.
    """

    path: Path
    out: str
    cached: bool


@dataclass(frozen=True)
class _File:
    path: Path
    md5: str
    out: str


def verify(repair: bool = False) -> tuple[int, list[Damaged]]:
    """Read all results, and the objects of DVC's cache that hold them.

    Parameters
    ----------
    repair
        Remove damaged objects from the cache, and the results that were checked out from them; ``data/`` stays, since
        no stage makes it. A damaged result whose object is sound stays, too: you may have changed it on purpose.

    Returns
    -------
    int
        How many files were read.
    list of Damaged
        The damaged ones. A missing file does not count as damaged.

    Raises
    ------
    IntegrityError
        If neither ``data.dvc`` nor ``dvc.lock`` records anything.
    LineageError
        If this is no DVC repository.
    UnreadableError
        If ``data.dvc`` or ``dvc.lock`` is damaged.
    """
    read, damaged = 0, []
    cache = lineage.cache_folder()
    files = list(_files(cache))
    for file in tqdm(files, desc="verify", unit="file"):
        stored = cache / file.md5[:2] / file.md5[2:]
        for path in (stored, file.path):
            if path.is_file():
                read += 1
                if md5_of(path) != file.md5.removesuffix(".dir"):
                    damaged.append(Damaged(path, file.out, path == stored))
    damaged = list(dict.fromkeys(damaged))
    if repair:
        _remove(damaged)
    return read, damaged


def _files(cache: Path) -> Iterator[_File]:
    """Yield all recorded files, those inside folders one by one."""
    stages = [read_mapping(lineage.POINTER)] if lineage.POINTER.exists() else []
    stages += lineage.lock_entries().values()
    recorded: list[dict[str, str]] = [out for stage in stages for out in stage.get("outs", []) if out.get("md5")]
    if not recorded:
        raise IntegrityError(
            "cannot verify: neither data.dvc nor dvc.lock records anything in this folder; run `exemplarcnn verify` in "
            "the repository's root"
        )
    for out in recorded:
        name, md5 = out["path"], out["md5"]
        yield _File(Path(name), md5, name)
        listing = cache / md5[:2] / md5[2:]
        if md5.endswith(".dir") and listing.exists() and md5_of(listing) == md5.removesuffix(".dir"):
            for entry in json.loads(listing.read_text()):
                yield _File(Path(name) / entry["relpath"], entry["md5"], name)


def _remove(damaged: list[Damaged]) -> None:
    cached = [each for each in damaged if each.cached]
    for path in {each.path for each in cached}:
        path.unlink()
    # DVC trusts a result that it checked out; a missing one it restores or rebuilds. Several may share an object.
    for out in {each.out for each in cached} - {str(paths.DATA)}:
        if Path(out).is_dir():
            shutil.rmtree(out)
        else:
            Path(out).unlink(missing_ok=True)
