"""Arrays with a row for each image that take minutes or hours: after a kill the work goes on with the next row."""

import io
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exemplarcnn.data.types import Pixels
from exemplarcnn.networks.chunks import map_chunks
from exemplarcnn.progress import tqdm
from exemplarcnn.unfinished import Growing


def npy_pieces(count: int, blocks: Iterable[tuple[slice, NDArray[Any]]]) -> Iterator[tuple[int, bytes]]:
    """Turn blocks of rows into pieces of a ``.npy`` file, the first of them with its header.

    Parameters
    ----------
    count
        Rows that there will be in all.
    blocks
        Where each block goes, and its rows, in order.

    Yields
    ------
    rows, piece
        Rows in the file after each piece, and its bytes.
    """
    for rows, found in blocks:
        block = np.ascontiguousarray(found, found.dtype.newbyteorder("<"))
        piece = block.tobytes()
        if rows.start == 0:
            header = io.BytesIO()
            about = {"descr": block.dtype.str, "fortran_order": False, "shape": (count, *block.shape[1:])}
            np.lib.format.write_array_header_1_0(header, about)
            piece = header.getvalue() + piece
        yield rows.stop, piece


def kept_rows(
    folder: Path,
    name: str,
    read: Callable[[NDArray[np.int64]], Pixels],
    work: Callable[[Pixels], NDArray[Any]],
    count: int,
    batch_size: int,
    label: str,
) -> Path:
    """Compute a row for each image, from the first that is not recorded to be on the disk.

    Parameters
    ----------
    folder
        From `unfinished`.
    name
        Of the file, without its suffix.
    read, work, count, batch_size
        As for `chunks.map_chunks`.
    label
        Of the progress bar.

    Returns
    -------
    Path
        The complete ``.npy`` file, (count, ...) in the type that ``work`` returns.
    """
    path = folder / f"{name}.npy"
    if path.exists():
        return path
    partial = path.with_suffix(".partial")
    # Not a memory map: with one, a full disk kills the process without an error message.
    with Growing(partial) as file, tqdm(total=count, initial=file.progress, desc=label, unit="image") as bar:
        for done, piece in npy_pieces(count, map_chunks(read, work, count, batch_size, file.progress)):
            bar.update(done - file.progress)
            file.write(piece, done)
        file.record()
    partial.replace(path)
    return path
