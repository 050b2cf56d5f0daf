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
from exemplarcnn.files import read_array, rounded, write_json
from exemplarcnn.launching.dependencies import identity
from exemplarcnn.launching.launcher import main
from exemplarcnn.networks import saved
from exemplarcnn.unfinished import unfinished

log = logging.getLogger(__name__)


def run(variant: str, config: Config) -> None:
    """Write ``classes/VARIANT.csv`` and ``metrics/VARIANT/clusters.json``.

    Continue an interrupted search for near pairs in ``work/group/VARIANT/``.
    """
    params = config.variants.group[variant]
    name = config.variants.train[params.source].pool
    pool = pools.open_pool(paths.DATA, name)
    file = paths.cluster_features(params.source)
    features = read_array(file)
    truth = quality.read_truth(paths.TRUTH, len(pool)) if name == "unlabeled" else None
    # The grouping of the previous round; a table of single images is none.
    first = params.source in config.variants.seed
    before = None if first else tables.read(paths.class_table(params.source), len(pool))
    mark = identity(
        "stages.group",
        ("numpy", "torch"),
        features=[(about := file.stat()).st_size, about.st_mtime_ns],
        parameters=params.model_dump(mode="json"),
        seed=config.seed,
    )
    with distributed.processes(), unfinished(paths.WORK / "group" / variant, mark, distributed.on_rank_zero) as work:
        device = distributed.local_device(saved.pick_device(config.machine.device))
        table, statistics, warnings = group(features, params, config.seed, config.machine.memory_gib, device, work)
        if distributed.rank() == 0:
            for warning in warnings:
                log.warning("%s: %s", variant, warning)
            tables.check(table, len(pool))
            tables.write(paths.class_table(variant), table)
            clustered, _ = split_pool(len(pool), params.clustered_fraction, config.seed)
            measured = quality.measure(table, truth, clustered, before)
            write_json(paths.cluster_statistics(variant), rounded(statistics | measured))


if __name__ == "__main__":
    main(run, together=True)
