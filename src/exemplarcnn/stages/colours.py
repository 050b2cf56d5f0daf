"""Stage ``colours``: the principal axes of a pool's colours."""

from exemplarcnn import audit, colours, images, paths, stages
from exemplarcnn.config import Config


def run(pool: str, config: Config) -> None:
    """Write ``colours/POOL.json``."""
    usable = audit.usable(paths.audit(pool))
    colours.write(paths.colours(pool), colours.measure(images.open_pool(paths.DATA, pool), usable))


if __name__ == "__main__":
    stages.main(run)
