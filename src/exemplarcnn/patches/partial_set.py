"""A surrogate set in the making: what is drawn stays so if the process is killed, and is not drawn again.

Three small arrays lie beside the patches: the images' anchors, the histogram of each task's patches, and which tasks
are done. A task counts as done only when all it leaves is on disk.
"""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exemplarcnn.files import atomic_folder, write_array
from exemplarcnn.patches.allocation import Portion, SurrogateError

IMAGES_A_TASK = 32


@dataclass(frozen=True)
class Task:
    """Some images in the order of their rows, and the folder of the arrays with these rows.

    ``kept`` names the arrays: in mode ``online`` training patches are drawn for their statistics alone.
    """

    number: int
    portions: list[Portion]
    folder: Path
    kept: tuple[str, ...]


@dataclass(frozen=True)
class Drawn:
    """What a task leaves beside the patches: anchors (images, anchors_per_image, 2), histogram (3, 256), both int64."""

    task: Task
    anchors: NDArray[np.int64]
    histogram: NDArray[np.int64]


class Unfinished:
    """The set in the making.

    Parameters
    ----------
    folder
        Where. It is continued in if it was made under the same identity, else emptied.
    plan, kept, side, anchors_per_image
        The rows, the arrays that are written, the side of a patch, anchors an image.
    identity
        What the bytes of the set depend on.

    Attributes
    ----------
    made
        The folder that becomes the set.
    tasks
        All of them; ``done`` says which are.

    Raises
    ------
    SurrogateError
        If there is no room for the patches.
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
        # It is written last and removed first: where it is, everything is.
        mark = folder / "identity"
        if not mark.exists() or mark.read_text() != identity:
            shutil.rmtree(folder, ignore_errors=True)
            self.made.mkdir(parents=True)
            self._reserve({name: (getattr(plan[-1], name)[1], side, side, 3) for name in kept})
            # Not sparse: writing to a mapped file for which there is no room ends the process without a word.
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
        """Create the arrays of patches, their room included."""
        needed, free = sum(int(np.prod(shape)) for shape in shapes.values()), shutil.disk_usage(self.folder).free
        if needed > free:
            raise SurrogateError(
                f"the patches take {needed / 1e9:.1f} GB, and {self.folder.absolute()} has room for {free / 1e9:.1f}: "
                f"make room (unfinished sets in {self.folder.parent} can go), or lower the number of patches or classes"
            )
        for name, shape in shapes.items():
            path = self.made / f"{name}.npy"
            np.lib.format.open_memmap(path, "w+", np.uint8, shape).flush()
            if hasattr(os, "posix_fallocate"):  # not on macOS
                with path.open("r+b") as file:
                    os.posix_fallocate(file.fileno(), 0, path.stat().st_size)

    def finish(self, drawn: Drawn) -> None:
        """Take note of a task whose patches are on disk."""
        number, first = drawn.task.number, drawn.task.number * IMAGES_A_TASK
        self.anchors[first : first + len(drawn.anchors)] = drawn.anchors
        self.histogram[number] = drawn.histogram
        _flush(self.anchors, self.histogram)
        self.done[number] = True
        _flush(self.done)

    def hand_over(self, folder: Path) -> None:
        """Move the set to its place, and remove what is left."""
        (self.folder / "identity").unlink()
        with atomic_folder(folder) as partial:
            for file in self.made.iterdir():
                shutil.move(file, partial / file.name)
        shutil.rmtree(self.folder)


def _flush(*arrays: NDArray[Any]) -> None:
    for array in arrays:
        assert isinstance(array, np.memmap)
        array.flush()
