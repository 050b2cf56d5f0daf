"""What can be known of objectives without computing anything (docs/method.md, section 3.3).

:mod:`exemplarcnn.training.objectives` has the objectives themselves.
"""

from importlib.util import find_spec

from exemplarcnn.config.base import ConfigError
from exemplarcnn.config.sections import Surrogate, Train
from exemplarcnn.config.variants import TrainEntry

TURNS = 4
PAIRED = ("simclr", "vicreg")
NAMES = ("exemplar", "rotation", *PAIRED)
LIGHTLY = (
    "its loss comes from the package lightly, which is not installed; `pip install lightly` installs it, and exemplar "
    "and rotation do without"
)


def outputs(name: str, classes: int, params: Train) -> int:
    """Return how many numbers the last layer gives for a patch, for so many surrogate classes."""
    return {"exemplar": classes, "rotation": TURNS}.get(name, params.pairs.outputs)


def check(entry: TrainEntry, params: Train, surrogate: Surrogate) -> None:
    """Check before any work that a network's objective can be used.

    Raises
    ------
    ConfigError
        If nothing has that name, patches cannot be paired, or a package is missing.
    """
    name = entry.objective
    if name not in NAMES:
        raise ConfigError(f"no objective {name!r}; name one of {', '.join(NAMES)}")
    if name not in PAIRED:
        return
    if params.batch_size % 2 or params.batch_size < 4:
        raise ConfigError(f"{name} takes two patches of a class: set train.batch_size to an even number from 4 on")
    if surrogate.valid_patches_per_image < 2 or 1 in (entry.patches_per_image, entry.patches_per_class):
        raise ConfigError(
            f"{name} takes two patches of a class: set surrogate.valid_patches_per_image and the patches of this entry "
            "to 2 or more"
        )
    if find_spec("lightly") is None:
        raise ConfigError(f"cannot train with {name}: {LIGHTLY}")
