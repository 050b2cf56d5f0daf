"""Stage ``kmeans``: the control that learns single-layer features by k-means."""

from exemplarcnn import images, paths, stages
from exemplarcnn.config import Config
from exemplarcnn.features import write_features
from exemplarcnn.kmeans import kmeans_features


def run(_: str, config: Config) -> None:
    """Write ``features/kmeans/eval/``."""
    describe = kmeans_features(images.open_pool(paths.DATA, "unlabeled"), config.controls.kmeans, config.seed)
    for split in ("train", "test"):
        pool = images.open_pool(paths.DATA, split)
        write_features(paths.eval_features("kmeans", split), pool, describe, config.features.chunk)


if __name__ == "__main__":
    stages.main(run)
