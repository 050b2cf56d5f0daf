"""Stage ``derive``: a class table made of another one, as a control."""

from exemplarcnn import classes, images, paths, stages
from exemplarcnn.config import Config
from exemplarcnn.derived import RULES


def run(variant: str, config: Config) -> None:
    """Write ``classes/VARIANT.csv``."""
    params = config.derived[variant]
    pool = images.open_pool(paths.DATA, config.pool_of(variant))
    table = classes.read(paths.class_table(params.table), len(pool))
    derived = RULES[params.rule](table, config.seed)
    classes.check(derived, len(pool), f"rule {params.rule}")
    classes.write(paths.class_table(variant), derived)


if __name__ == "__main__":
    stages.main(run)
