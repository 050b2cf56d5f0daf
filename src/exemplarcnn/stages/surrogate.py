"""Stage ``surrogate``: the patches of a class table."""

from exemplarcnn import classes, figures, images, paths, stages, surrogate
from exemplarcnn.config import Config
from exemplarcnn.files import whole_folder


def run(variant: str, config: Config) -> None:
    """Write ``surrogates/VARIANT/`` and a picture of some of its patches."""
    params = config.trained[variant]
    pool = images.open_pool(paths.DATA, params.pool)
    table = classes.read(paths.class_table(params.table), len(pool))
    folder = paths.surrogate_set(variant)
    with whole_folder(folder) as partial:
        surrogate.write_set(partial, pool, table, config.surrogate, params, config.seed, config.machine.workers)
    figures.patches(paths.patches_picture(variant), pool, table, folder)


if __name__ == "__main__":
    stages.main(run)
