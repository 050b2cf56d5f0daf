"""Stage ``derive``: a class table made of another one, as a control."""

from exemplarcnn import classes, images, paths, stages
from exemplarcnn.config import Config


def run(variant: str, config: Config) -> None:
    """Write ``classes/VARIANT.csv``."""
    params = config.derived[variant]
    pool = images.open_pool(paths.DATA, config.pool_of(variant))
    table = classes.read(paths.class_table(params.table), len(pool))
    derived = classes.derive(table, params.rule, config.seed)
    classes.check(derived, len(pool))
    classes.write(paths.class_table(variant), derived)


if __name__ == "__main__":
    stages.main(run)
