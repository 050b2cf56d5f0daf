"""Stage ``neighbours``: images and what lies next to them in feature space, before and after clustering."""

from exemplarcnn import paths
from exemplarcnn.config import Config
from exemplarcnn.data import stl10
from exemplarcnn.files import read_array
from exemplarcnn.launching.launcher import main
from exemplarcnn.reporting import figures


def run(_: str, config: Config) -> None:
    """Write ``reports/neighbours.png``."""
    params = config.neighbours
    if config.variants.evaluate:
        pool = stl10.open_pool(paths.DATA, "test")
        features = {
            config.variants.evaluate[name].title: read_array(paths.eval_features(name, "test")) for name in params.of
        }
    else:
        pool = stl10.open_pool(paths.DATA, "unlabeled")
        features = {name: read_array(paths.cluster_features(name)) for name in params.of}
    queries = figures.spread(list(range(len(pool))), params.images)
    figures.neighbours(paths.NEIGHBOURS_PICTURE, pool, features, queries, params.nearest)


if __name__ == "__main__":
    main(run)
