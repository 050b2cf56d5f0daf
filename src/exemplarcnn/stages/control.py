"""Stage ``control``: features that no network learned."""

from exemplarcnn import paths
from exemplarcnn.config import Config, RawPixels
from exemplarcnn.data import stl10
from exemplarcnn.evaluation.kmeans import kmeans_features
from exemplarcnn.launching.launcher import main
from exemplarcnn.networks.features import Describe, pixel_features, write_features


def run(name: str, config: Config) -> None:
    """Write ``features/NAME/eval/``."""
    describe = _describe(name, config)
    for split in ("train", "test"):
        pool = stl10.open_pool(paths.DATA, split)
        write_features(paths.eval_features(name, split), pool, describe, config.features.batch_size)


def _describe(name: str, config: Config) -> Describe:
    params = config.variants.control[name]
    if isinstance(params, RawPixels):
        return pixel_features(params.side)
    return kmeans_features(stl10.open_pool(paths.DATA, "unlabeled"), params, config.seed)


if __name__ == "__main__":
    main(run)
