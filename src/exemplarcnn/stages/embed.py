"""Stage ``embed``: compute a trained network's features of labelled images and, if configured, for clustering."""

from exemplarcnn import paths
from exemplarcnn.config.params import Config
from exemplarcnn.data import pools, stl10
from exemplarcnn.launching.launcher import main
from exemplarcnn.networks import saved
from exemplarcnn.networks.features import cluster_features, eval_features, write_features


def run(variant: str, config: Config) -> None:
    """Write ``features/VARIANT/eval/`` if there are labelled images, and ``cluster.npy`` beside it if configured."""
    params = config.variants.train[variant]
    network = saved.load(paths.model(variant))
    device = saved.pick_device(config.machine.device)
    extract = eval_features(network, config.features, device)
    for split in ("train", "test") if stl10.has_labels(paths.DATA) else ():
        labelled = stl10.open_pool(paths.DATA, split)
        write_features(paths.eval_features(variant, split), labelled, extract, config.features.batch_size)
    if params.cluster_features:
        extract = cluster_features(network, config.cluster, config.features.dense_stride, device)
        pool = pools.open_pool(paths.DATA, params.pool)
        write_features(paths.cluster_features(variant), pool, extract, config.features.batch_size)


if __name__ == "__main__":
    main(run)
