"""Stage ``surrogate``: the patches of a class table."""

from exemplarcnn import classes, colours, figures, files, images, paths, stages, surrogate
from exemplarcnn.config import Config

PACKAGES = ("albumentations", "numpy", "opencv-python-headless", "torch")
# The code that patches depend on, named instead of imported: worker processes import this module, and need no torch.
DRAWING = (
    "surrogate",
    "portions",
    "online",
    "painting",
    "recipe",
    "recipe_dosovitskiy",
    "colours",
    "anchors",
    "rng",
    "images",
    "decoding",
    "walking",
    "classes",
    "files",
)


def run(variant: str, config: Config) -> None:
    """Write ``surrogates/VARIANT/``, going on from what lies in ``work/``, and a picture of some of its patches."""
    params = config.trained[variant]
    pool = images.open_pool(paths.DATA, params.pool)
    table = classes.read(paths.class_table(params.table), len(pool))
    mode = params.mode or config.surrogate.mode
    # What the bytes of patches depend on, whenever they are drawn.
    drawing = {
        "code": stages.code(*DRAWING),
        "packages": stages.packages(*PACKAGES),
        "data": images.data_digest(paths.DATA),
        "colours": files.digest(paths.colours(params.pool)),
        "surrogate": config.surrogate.model_dump(mode="json", exclude={"mode"}),
        "trained": params.model_dump(mode="json", exclude={"table", "mode", "cluster_features"}),
        "seed": config.seed,
    }
    axes = colours.read(paths.colours(params.pool))
    identity = files.digest_of(
        {
            "drawing": drawing,
            "code": stages.code("unfinished"),
            "pool": images.fingerprint(pool),
            "table": files.digest(paths.class_table(params.table)),
            "mode": mode,
        }
    )
    folder, work = paths.surrogate_set(variant), paths.WORK / "surrogate" / variant
    workers = config.machine.workers
    surrogate.write_set(
        folder,
        work,
        pool,
        table,
        config.surrogate,
        params,
        config.seed,
        workers,
        identity,
        mode,
        axes,
        images.side_of(paths.DATA),
    )
    if mode == "online":
        # Training draws from the data by this code: with this in the set, it is repeated when they change.
        files.write_json(folder / "drawing.json", drawing)
    figures.patches(paths.patches_picture(variant), pool, table, folder)


if __name__ == "__main__":
    stages.main(run, audited=True)
