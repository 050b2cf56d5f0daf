"""Stage ``seed``: a class table of single images."""

from exemplarcnn import audit, classes, images, paths, stages
from exemplarcnn.config import Config


def run(variant: str, config: Config) -> None:
    """Write ``classes/VARIANT.csv``."""
    params = config.seeded[variant]
    images.check(paths.DATA)
    pool = images.open_pool(paths.DATA, params.pool)
    usable = audit.usable(paths.audit(params.pool), params.leave_out)
    count = classes.seed_count(params, len(usable), len(pool))
    classes.write(paths.class_table(variant), classes.seed_table(len(pool), count, config.seed, usable))


if __name__ == "__main__":
    stages.main(run, audited=True)
