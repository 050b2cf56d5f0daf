"""The second pool of the data: a folder of images of any size, or a file in STL-10's format."""

import shutil
from contextlib import ExitStack
from pathlib import Path

from exemplarcnn.data import folder_walk, pools, stl10
from exemplarcnn.data.types import DataError, Pool
from exemplarcnn.importing import dvc_record
from exemplarcnn.importing.install import files_to_copy, replaced, staging_folder
from exemplarcnn.progress import tqdm


def install_other(root: Path, source: Path) -> tuple[int, list[str]]:
    """Make a folder of images, or a file in STL-10's format, the second pool of the data, and record it in DVC.

    Parameters
    ----------
    root : Path
        The project's root, which holds ``data/`` and ``data.dvc``.
    source : Path
        The folder, or the file. A folder is walked as `exemplarcnn.data.folder_walk` says; files of other kinds are
        copied too, for the audit to name.

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
    pool = _open(source)
    files = {source: Path(stl10.OTHER_FILE)} if source.is_file() else files_to_copy(source, Path(pools.OTHER))
    with staging_folder(data, pools.OTHER, source) as staging:
        for file, place in tqdm(files.items(), desc="copy", unit="file"):
            (staging / place).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, staging / place)
        with ExitStack() as stack:
            for name in (pools.OTHER, stl10.OTHER_FILE):
                stack.enter_context(replaced(data / name, staging / name, staging / f"old-{name}"))
            count = len(pools.open_pool(data, pools.OTHER))
            dvc_record.record_data(root)
    return count, folder_walk.summary_lines(pools.passed_over(pool))


def _open(source: Path) -> Pool:
    """Open the images; DataError for a file of another side than STL-10's, which nothing in ``data/`` would say."""
    pool = pools.open_path(source)
    if isinstance(pool, stl10.ImageFile) and pool.side != stl10.SIDE:
        raise DataError(
            f"{source}: found images of {pool.side}×{pool.side} pixels, expected {stl10.SIDE}×{stl10.SIDE}, as in "
            "STL-10's format; give the folder of images that the set was imported from."
        )
    return pool
