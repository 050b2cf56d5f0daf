"""Whether results are what ``dvc.lock`` says, byte by byte.

DVC trusts the objects of its cache as long as they are write-protected: a disk that turns a bit is not noticed, neither
by ``dvc status`` nor by ``dvc checkout``. Here everything is read.
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


class VerifyError(PipelineError):
    """There is nothing to compare with."""


@dataclass(frozen=True)
class Damaged:
    """A file with other bytes than recorded.

    Attributes
    ----------
    path
        The file: a result, or an object of DVC's cache.
    out
        The out of a stage, or the data, that it belongs to.
    cached
        Whether it is an object of the cache.
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
    """Read all results, and all objects of DVC's cache that they are kept as.

    Parameters
    ----------
    repair
        Remove damaged objects of the cache, and the results that were checked out from them. A result whose object is
        sound stays: somebody may have changed it on purpose.

    Returns
    -------
    int
        How many files were read.
    list of Damaged
        Those that are not what they should be. What is not there is not damaged.

    Raises
    ------
    VerifyError
        If there is neither ``dvc.lock`` nor ``data.dvc``.
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
    """All files that are recorded, those inside of folders one by one."""
    stages = [read_mapping(lineage.POINTER)] if lineage.POINTER.exists() else []
    stages += lineage.lock_entries().values()
    recorded: list[dict[str, str]] = [out for stage in stages for out in stage.get("outs", [])]
    if not recorded:
        raise VerifyError("neither data.dvc nor dvc.lock records anything here: run it in the repository's root")
    for out in recorded:
        name, md5 = out["path"], out["md5"]
        yield _File(Path(name), md5, name)
        listing = cache / md5[:2] / md5[2:]
        if md5.endswith(".dir") and listing.exists() and md5_of(listing) == md5.removesuffix(".dir"):
            for entry in json.loads(listing.read_text()):
                yield _File(Path(name) / entry["relpath"], entry["md5"], name)


def _remove(damaged: list[Damaged]) -> None:
    objects = {each.path: each.out for each in damaged if each.cached}
    for path, out in objects.items():
        path.unlink()
        # DVC takes a result that it made itself at its word; one that is not there it makes anew.
        if out == str(paths.DATA):
            continue
        if Path(out).is_dir():
            shutil.rmtree(out)
        else:
            Path(out).unlink(missing_ok=True)
