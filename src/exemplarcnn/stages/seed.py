"""Stage ``seed``: make a class table of single images."""

from exemplarcnn import paths
from exemplarcnn.classes import seeding, tables
from exemplarcnn.config.params import Config
from exemplarcnn.data import audit_tables, image_set, pools
from exemplarcnn.launching.launcher import main


def run(variant: str, config: Config) -> None:
    """Write ``classes/VARIANT.csv``."""
    params = config.variants.seed[variant]
    image_set.check(paths.DATA)
    pool = pools.open_pool(paths.DATA, params.pool)
    usable = audit_tables.usable_images(paths.audit(params.pool), params.leave_out)
    count = seeding.seed_count(params, len(usable), len(pool))
    tables.write(paths.class_table(variant), seeding.seed_table(len(pool), count, config.seed, usable))


if __name__ == "__main__":
    main(run, audited=True)
