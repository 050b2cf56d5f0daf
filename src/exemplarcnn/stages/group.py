"""Stage ``group``: make a class table by clustering the features of another variant (docs/method.md, section 5).

``machine.processes`` processes share the search for near pairs.
"""

import logging

from exemplarcnn import distributed, paths
from exemplarcnn.classes import quality, tables
from exemplarcnn.classes.capacity import split_pool
from exemplarcnn.classes.grouping import group
from exemplarcnn.config.params import Config
from exemplarcnn.data import pools
from exemplarcnn.determinism import shared_operations
from exemplarcnn.files import read_array, rounded, write_json
from exemplarcnn.launching.launcher import main
from exemplarcnn.networks import saved

log = logging.getLogger(__name__)


def run(variant: str, config: Config) -> None:
    """Write ``classes/VARIANT.csv`` and ``metrics/VARIANT/clusters.json``."""
    params = config.variants.group[variant]
    name = config.variants.train[params.source].pool
    pool = pools.open_pool(paths.DATA, name)
    features = read_array(paths.cluster_features(params.source))
    truth = quality.read_truth(paths.TRUTH, len(pool)) if name == "unlabeled" else None
    # The grouping of the previous round; a table of single images is none.
    first = params.source in config.variants.seed
    before = None if first else tables.read(paths.class_table(params.source), len(pool))
    with distributed.processes():
        device = distributed.local_device(saved.pick_device(config.machine.device))
        with shared_operations():
            table, statistics, warnings = group(features, params, config.seed, config.machine.memory_gib, device)
        if distributed.rank() > 0:
            return
    for warning in warnings:
        log.warning("%s: %s", variant, warning)
    tables.check(table, len(pool))
    tables.write(paths.class_table(variant), table)
    clustered, _ = split_pool(len(pool), params.clustered_fraction, config.seed)
    measured = quality.measure(table, truth, clustered, before)
    write_json(paths.cluster_statistics(variant), rounded(statistics | measured))


if __name__ == "__main__":
    main(run, together=True)
