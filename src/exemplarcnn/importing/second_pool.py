"""Install the second pool of the data: a folder of images of any size, or a file in STL-10's format."""

import shutil
from contextlib import ExitStack
from pathlib import Path

from exemplarcnn.data import folder_walk, pools, stl10
from exemplarcnn.data.types import DataError, Pool
from exemplarcnn.importing import dvc_record
from exemplarcnn.importing.install import files_to_copy, replaced, staging_folder
from exemplarcnn.progress import tqdm


def install_other(root: Path, source: Path) -> tuple[int, list[str]]:
    """Copy a folder of images, or a file in STL-10's format, in place of the second pool, and record it in DVC.

    Parameters
    ----------
    root : Path
        The project's root, which holds ``data/`` and ``data.dvc``.
    source : Path
        The folder, or the file. `exemplarcnn.data.folder_walk` lists the folder; files that are not images are copied,
        too, so that the audit can name them.

    Returns
    -------
    int
        Number of images in the new pool.
    list of str
        What in the folder is not an image, one per line.

    Raises
    ------
    DataError
        If there is no image, a file has images of another side than STL-10's, DVC cannot record a name, or the disk or
        DVC fails; ``data/`` is then unchanged.
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
    """Open the images; DataError for a file of another side than STL-10's, which ``data/`` would not record."""
    pool = pools.open_path(source)
    if isinstance(pool, stl10.ImageFile) and pool.side != stl10.SIDE:
        raise DataError(
            f"{source}: found images of {pool.side}×{pool.side} pixels, expected {stl10.SIDE}×{stl10.SIDE}, as in "
            "STL-10's format; give the folder of images that the set was imported from."
        )
    return pool
