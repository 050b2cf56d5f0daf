"""What is refused before any work: parameters that do not go with the images in ``data/``."""

from pathlib import Path

from exemplarcnn import images
from exemplarcnn.config import Config
from exemplarcnn.images import DataError


def check(config: Config, data: Path) -> None:
    """Check that parameters and images go together, from the data's small files alone.

    Raises
    ------
    DataError
        If images are tested on that have no labels, or a parameter asks for more pixels than the images have.
    """
    if config.rows and not images.has_labels(data):
        raise DataError(images.NO_LABELS)
    side = images.side_of(data)
    # Patches of a second pool are cut from images of any size, but their networks describe these.
    sizes = {f"trained.{name}.patch": trained.patch for name, trained in config.trained.items()}
    sizes |= {f"controls.{name}.side": control.side for name, control in config.controls.items()}
    sizes["audit.smallest_side"] = config.audit.smallest_side
    if large := [f"{name} is {size}" for name, size in sizes.items() if size > side]:
        raise DataError(
            f"{data}: found images of {side}×{side} pixels, and {', '.join(large)}; set {side} at most there, or "
            "import larger images with `exemplarcnn data import FOLDER --side N`."
        )
