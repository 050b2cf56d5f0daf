"""How many patches each image of a class table gives, and in which rows of a surrogate set they lie."""

from dataclasses import dataclass

import pandas as pd

from exemplarcnn.classes.tables import sizes
from exemplarcnn.config.variants import TrainEntry
from exemplarcnn.patches.errors import SurrogateError


@dataclass(frozen=True)
class Portion:
    """What is drawn of one image, and where it goes.

    Attributes
    ----------
    image
        Index into the pool.
    train, valid
        First and last + 1 row of its patches in the two arrays.
    """

    image: int
    train: tuple[int, int]
    valid: tuple[int, int]


def portions(table: pd.DataFrame, trained: TrainEntry, valid_per_image: int) -> list[Portion]:
    """Share out the rows of the two arrays among the images of a class table.

    With ``patches_per_class`` a class's patches are dealt to its images in turn, so that their numbers differ
    by one at most; with ``patches`` first all patches to the classes in the same way.
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
    """Refuse a number of patches in all that leaves a class without any."""
    if trained.total_patches is not None and trained.total_patches < classes:
        raise SurrogateError(f"{trained.total_patches} patches for {classes} classes: at least one each is needed")


def _dealt(number: int, takers: int, place: int) -> int:
    """How many of a number of things the taker at a place gets if they are dealt in turn."""
    share, rest = divmod(number, takers)
    return share + (place < rest)
