"""Stage ``colours``: the principal axes of a pool's colours, where the recipe wants them."""

from exemplarcnn import audit, colours, images, paths, stages
from exemplarcnn.colours import Axes
from exemplarcnn.config import Config


def run(pool: str, config: Config) -> None:
    """Write ``colours/POOL.json``: null, and no image is read, unless the recipe is `dosovitskiy`."""
    colours.write(paths.colours(pool), _measured(pool) if config.surrogate.recipe == "dosovitskiy" else None)


def _measured(pool: str) -> Axes:
    usable = audit.usable(paths.audit(pool))
    return colours.measure(images.open_pool(paths.DATA, pool), usable)


if __name__ == "__main__":
    stages.main(run)
