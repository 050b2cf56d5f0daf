"""Stage ``embed``: compute a trained network's features of labelled images and, if configured, for clustering."""

import shutil
from pathlib import Path

from exemplarcnn import paths
from exemplarcnn.config.params import Config
from exemplarcnn.data import pools, stl10
from exemplarcnn.launching.dependencies import identity
from exemplarcnn.launching.launcher import main
from exemplarcnn.networks import saved
from exemplarcnn.networks.features import cluster_features, eval_features
from exemplarcnn.networks.kept_rows import kept_rows
from exemplarcnn.unfinished import unfinished


def run(variant: str, config: Config) -> None:
    """Write ``features/VARIANT/eval/`` if there are labelled images, and ``cluster.npy`` beside it if configured.

    Continue from the features in ``work/embed/VARIANT/`` if there are any.
    """
    params, size = config.variants.train[variant], config.features.batch_size
    network = saved.load(paths.model(variant))
    device = saved.pick_device(config.machine.device)
    mark = identity(
        "stages.embed",
        ("numpy", "torch"),
        data=stl10.data_digest(paths.DATA),
        model=saved.digest(paths.model(variant)),
        parameters=[config.features.model_dump(mode="json"), config.cluster.model_dump(mode="json"), params.pool],
        device=device.type,
    )
    made: dict[Path, Path] = {}
    with unfinished(paths.WORK / "embed" / variant, mark) as work:
        extract = eval_features(network, config.features, device)
        for split in ("train", "test") if stl10.has_labels(paths.DATA) else ():
            pool = stl10.open_pool(paths.DATA, split)
            found = kept_rows(work, f"eval-{split}", pool.batch, extract, len(pool), size, f"{variant}, {split}")
            made[found] = paths.eval_features(variant, split)
        if params.cluster_features:
            extract = cluster_features(network, config.cluster, config.features.dense_stride, device)
            source = pools.open_pool(paths.DATA, params.pool)
            found = kept_rows(work, "cluster", source.batch, extract, len(source), size, f"{variant}, {params.pool}")
            made[found] = paths.cluster_features(variant)
        for found, place in made.items():
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.move(found, place)


if __name__ == "__main__":
    main(run)
