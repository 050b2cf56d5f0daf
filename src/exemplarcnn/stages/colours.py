"""Stage ``colours``: measure the principal axes of a pool's colours, if the recipe needs them."""

from exemplarcnn import paths
from exemplarcnn.config.params import Config
from exemplarcnn.data import audit_tables, colour_axes, pools
from exemplarcnn.data.colour_axes import Axes
from exemplarcnn.launching.launcher import main
from exemplarcnn.patches.recipes import needs


def run(pool: str, config: Config) -> None:
    """Write ``colours/POOL.json``; it is null, and no image is read, if the recipe needs no axes."""
    needed = config.surrogate.recipe in needs.COLOUR_AXES
    colour_axes.write(paths.colours(pool), _measured(pool) if needed else None)


def _measured(pool: str) -> Axes:
    usable = audit_tables.usable_images(paths.audit(pool))
    return colour_axes.measure(pools.open_pool(paths.DATA, pool), usable)


if __name__ == "__main__":
    main(run)
