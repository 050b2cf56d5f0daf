"""Stage ``embed``: compute a trained network's features of labelled images and, if configured, for clustering."""

import shutil

from exemplarcnn import paths
from exemplarcnn.config.params import Config
from exemplarcnn.data import pools, stl10
from exemplarcnn.data.types import Pool
from exemplarcnn.launching.dependencies import identity
from exemplarcnn.launching.launcher import main
from exemplarcnn.networks import saved
from exemplarcnn.networks.features import cluster_features, eval_features
from exemplarcnn.networks.kept_rows import kept_rows
from exemplarcnn.networks.precision import computed
from exemplarcnn.unfinished import unfinished


def run(variant: str, config: Config) -> None:
    """Write ``features/VARIANT/eval/`` if there are labelled images, and ``cluster.npy`` beside it if configured.

    Continue from the features in ``work/embed/VARIANT/`` if there are any.
    """
    params, size = config.variants.train[variant], config.features.batch_size
    found: dict[str, Pool] = {}
    if stl10.has_labels(paths.DATA):
        found |= {split: stl10.open_pool(paths.DATA, split) for split in ("train", "test")}
    if params.cluster_features:
        found["cluster"] = pools.open_pool(paths.DATA, params.pool)
    network = saved.load(paths.model(variant))
    device = saved.pick_device(config.machine.device)
    mark = identity(
        "stages.embed",
        ("numpy", "opencv-python-headless", "pillow", "torch"),
        data=[stl10.data_digest(paths.DATA), *map(pools.fingerprint, found.values())],
        model=saved.digest(paths.model(variant)),
        parameters=[config.features.model_dump(mode="json"), config.cluster.model_dump(mode="json"), params.pool],
        device=device.type,
        computed=[computed(each.precision, device) for each in (config.features, config.cluster)],
    )
    extracts = {
        name: cluster_features(network, config.cluster, config.features.dense_stride, device)
        if name == "cluster"
        else eval_features(network, config.features, device)
        for name in found
    }
    with unfinished(paths.WORK / "embed" / variant, mark) as work:
        made = {
            name: kept_rows(work, name, pool.batch, extracts[name], len(pool), size, f"{variant}, {name}")
            for name, pool in found.items()
        }
        for name, file in made.items():
            place = paths.cluster_features(variant) if name == "cluster" else paths.eval_features(variant, name)
            place.parent.mkdir(parents=True, exist_ok=True)
            place.unlink(missing_ok=True)  # it may be a hard link into DVC's cache
            shutil.move(file, place)


if __name__ == "__main__":
    main(run)
