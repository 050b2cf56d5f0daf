"""Stage ``regroup``: make a class table from another one, as a control (docs/method.md, section 5.7)."""

from exemplarcnn import paths
from exemplarcnn.classes import tables
from exemplarcnn.classes.regrouping import RULES
from exemplarcnn.config.params import Config
from exemplarcnn.data import pools
from exemplarcnn.launching.launcher import main


def run(variant: str, config: Config) -> None:
    """Write ``classes/VARIANT.csv``."""
    params = config.variants.regroup[variant]
    pool = pools.open_pool(paths.DATA, config.variants.pool_of(variant))
    table = tables.read(paths.class_table(params.table), len(pool))
    derived = RULES[params.rule](table, config.seed)
    tables.check(derived, len(pool), f"rule {params.rule}")
    tables.write(paths.class_table(variant), derived)


if __name__ == "__main__":
    main(run)
