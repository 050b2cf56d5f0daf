"""An unfinished surrogate set: if the process is killed, drawn patches are kept and not drawn again.

Three small arrays lie beside the patches: the images' anchors, the histogram of each task's patches, and which tasks
are done. A task counts as done only when all its results are on disk.
"""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exemplarcnn.files import atomic_folder, write_array
from exemplarcnn.patches.allocation import Portion
from exemplarcnn.patches.errors import SurrogateError

IMAGES_A_TASK = 32


@dataclass(frozen=True)
class Task:
    """Some images in the order of their rows, and the folder of the arrays with these rows.

    ``kept`` names the arrays to write: in mode ``online`` training patches are drawn only for their statistics.
    """

    number: int
    portions: list[Portion]
    folder: Path
    kept: tuple[str, ...]


@dataclass(frozen=True)
class TaskResult:
    """What a task returns beside the patches.

    Attributes
    ----------
    task
        The task.
    anchors
        (images, anchors_per_image, 2) int64, row and column.
    histogram
        Of the training patches, (3, 256) int64.
    """

    task: Task
    anchors: NDArray[np.int64]
    histogram: NDArray[np.int64]


class PartialSet:
    """An unfinished surrogate set.

    Parameters
    ----------
    folder
        Folder of the unfinished set. One with the same identity is continued, another one is removed.
    plan, kept, side, anchors_per_image
        The rows, the arrays to write, the side of a patch in pixels, the number of anchors of an image.
    identity
        A hash of everything the bytes of the set depend on.

    Attributes
    ----------
    made
        The folder that becomes the set.
    tasks
        All tasks; ``done`` says which of them are done.

    Raises
    ------
    SurrogateError
        If the disk has no room for the patches.
    """

    def __init__(
        self,
        folder: Path,
        plan: list[Portion],
        kept: tuple[str, ...],
        side: int,
        anchors_per_image: int,
        identity: str,
    ):
        self.folder, self.made = folder, folder / "set"
        pieces = [plan[i : i + IMAGES_A_TASK] for i in range(0, len(plan), IMAGES_A_TASK)]
        self.tasks = [Task(number, some, self.made, kept) for number, some in enumerate(pieces)]
        # Written last and removed first: if it exists, the folder is complete.
        mark = folder / "identity"
        if not mark.exists() or mark.read_text() != identity:
            mark.unlink(missing_ok=True)
            shutil.rmtree(folder, ignore_errors=True)
            self.made.mkdir(parents=True)
            self._reserve({name: (getattr(plan[-1], name)[1], side, side, 3) for name in kept})
            # Not sparse: if the disk is full, writing to a mapped file kills the process without an error message.
            write_array(folder / "anchors.npy", np.zeros((len(plan), anchors_per_image, 2), np.int64))
            write_array(folder / "histogram.npy", np.zeros((len(self.tasks), 3, 256), np.int64))
            write_array(folder / "done.npy", np.zeros(len(self.tasks), np.bool_))
            mark.write_text(identity)
        opened = (
            np.load(folder / f"{name}.npy", mmap_mode="r+", allow_pickle=False)
            for name in ("anchors", "histogram", "done")
        )
        self.anchors: NDArray[np.int64]
        self.histogram: NDArray[np.int64]
        self.done: NDArray[np.bool_]
        self.anchors, self.histogram, self.done = opened

    def _reserve(self, shapes: dict[str, tuple[int, ...]]) -> None:
        """Create the arrays of patches, and allocate their disk space."""
        needed, free = sum(int(np.prod(shape)) for shape in shapes.values()), shutil.disk_usage(self.folder).free
        if needed > free:
            raise SurrogateError(
                f"cannot draw the set: its patches take {needed / 1e9:.1f} GB, and {self.folder.absolute()} has "
                f"{free / 1e9:.1f} GB free; free some space (you can remove unfinished sets in {self.folder.parent}), "
                "or lower the number of patches or classes"
            )
        for name, shape in shapes.items():
            path = self.made / f"{name}.npy"
            np.lib.format.open_memmap(path, "w+", np.uint8, shape).flush()
            if hasattr(os, "posix_fallocate"):  # not on macOS
                with path.open("r+b") as file:
                    os.posix_fallocate(file.fileno(), 0, path.stat().st_size)

    def finish(self, result: TaskResult) -> None:
        """Record a task whose patches are on disk."""
        number, first = result.task.number, result.task.number * IMAGES_A_TASK
        self.anchors[first : first + len(result.anchors)] = result.anchors
        self.histogram[number] = result.histogram
        _flush(self.anchors, self.histogram)
        self.done[number] = True
        _flush(self.done)

    def move_to(self, folder: Path) -> None:
        """Move the finished set to its place, and remove the working folder."""
        (self.folder / "identity").unlink()
        with atomic_folder(folder) as partial:
            for file in self.made.iterdir():
                shutil.move(file, partial / file.name)
        shutil.rmtree(self.folder)


def _flush(*arrays: NDArray[Any]) -> None:
    for array in arrays:
        assert isinstance(array, np.memmap)
        array.flush()
