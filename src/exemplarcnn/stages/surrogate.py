"""Stage ``surrogate``: the patches of a class table."""

from importlib.metadata import version

from exemplarcnn import (
    anchors,
    classes,
    figures,
    files,
    images,
    paths,
    portions,
    recipe,
    rng,
    stages,
    surrogate,
    unfinished,
)
from exemplarcnn.config import Config

PACKAGES = ("albumentations", "numpy", "opencv-python-headless")


def run(variant: str, config: Config) -> None:
    """Write ``surrogates/VARIANT/``, going on from what lies in ``work/``, and a picture of some of its patches."""
    params = config.trained[variant]
    pool = images.open_pool(paths.DATA, params.pool)
    table = classes.read(paths.class_table(params.table), len(pool))
    identity = files.digest_of(
        {
            "code": stages.code(surrogate, portions, unfinished, recipe, anchors, rng, images, classes, files),
            "packages": {name: version(name) for name in PACKAGES},
            "table": files.digest(paths.class_table(params.table)),
            "pool": images.fingerprint(pool),
            "surrogate": config.surrogate.model_dump(mode="json"),
            "trained": params.model_dump(mode="json", exclude={"table", "cluster_features"}),
            "seed": config.seed,
        }
    )
    folder, work = paths.surrogate_set(variant), paths.WORK / "surrogate" / variant
    surrogate.write_set(
        folder, work, pool, table, config.surrogate, params, config.seed, config.machine.workers, identity
    )
    figures.patches(paths.patches_picture(variant), pool, table, folder)


if __name__ == "__main__":
    stages.main(run)
