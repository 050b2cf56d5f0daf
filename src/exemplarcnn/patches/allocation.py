"""How many patches are drawn of each image of a class table, and which rows of a surrogate set they take."""

from dataclasses import dataclass

import pandas as pd

from exemplarcnn.classes.tables import sizes
from exemplarcnn.config.variants import TrainEntry
from exemplarcnn.patches.errors import SurrogateError


@dataclass(frozen=True)
class Portion:
    """The patches of one image, and the rows that they take.

    Attributes
    ----------
    image
        Index into the pool.
    train, valid
        First row, and last row + 1, of its patches in the two arrays.
    """

    image: int
    train: tuple[int, int]
    valid: tuple[int, int]


def portions(table: pd.DataFrame, trained: TrainEntry, valid_per_image: int) -> list[Portion]:
    """Assign the rows of the two arrays to the images of a class table (docs/method.md, section 2.3).

    With ``patches_per_class`` a class's patches are dealt to its images in turn, so that their numbers differ by one at
    most. With ``total_patches`` all patches are first dealt to the classes in the same way.

    Raises
    ------
    SurrogateError
        If there are fewer patches in all than classes.
    """
    result: list[Portion] = []
    row = 0
    class_sizes = sizes(table)
    check_budget(trained, len(class_sizes))
    place_in_class = table.groupby("class_id").cumcount()
    rows = zip(table["class_id"], table["image_id"], place_in_class, strict=True)
    for position, (class_id, image, place) in enumerate(rows):
        if trained.patches_per_image is not None:
            number = trained.patches_per_image
        else:
            of_class = trained.patches_per_class or _dealt(trained.total_patches or 0, len(class_sizes), class_id)
            number = _dealt(of_class, int(class_sizes[class_id]), place)
        valid = (position * valid_per_image, (position + 1) * valid_per_image)
        result.append(Portion(int(image), (row, row + number), valid))
        row += number
    return result


def check_budget(trained: TrainEntry, classes: int) -> None:
    """Refuse a total of patches that leaves a class without any.

    Raises
    ------
    SurrogateError
        If ``total_patches`` is set and lower than the number of classes.
    """
    if trained.total_patches is not None and trained.total_patches < classes:
        raise SurrogateError(
            f"cannot deal {trained.total_patches} patches to {classes} classes: each needs at least one; "
            f"set total_patches to {classes} or more, or lower the number of classes"
        )


def _dealt(number: int, takers: int, place: int) -> int:
    """Return how many of ``number`` things the taker at ``place`` gets if they are dealt in turn."""
    share, rest = divmod(number, takers)
    return share + (place < rest)
