"""Stage ``audit``: find images that are unusable, damaged or duplicated (docs/method.md, sections 1.1 and 1.2)."""

import logging

from exemplarcnn import paths
from exemplarcnn.config.params import Config
from exemplarcnn.data import audit, audit_tables, image_set, near_duplicates, stl10
from exemplarcnn.data.pools import open_pool, passed_over
from exemplarcnn.files import atomic_folder, rounded, write_json, write_table
from exemplarcnn.launching.launcher import main

log = logging.getLogger(__name__)


def run(_: str, config: Config) -> None:
    """Write ``audit/POOL.csv`` for each pool, ``audit/duplicates.csv`` and ``metrics/audit.json``."""
    image_set.check(paths.DATA)
    labelled = ("train", "test") if stl10.has_labels(paths.DATA) else ()
    names = dict.fromkeys((*config.pools, *labelled))
    pools = {name: open_pool(paths.DATA, name) for name in names}
    found = {name: audit.inspect(pool, config.audit) for name, pool in pools.items()}
    whole = {name: table.loc[table["problem"] == "", "image_id"].to_numpy() for name, table in found.items()}
    usable = {name: (pool, whole[name]) for name, pool in pools.items()}
    groups = near_duplicates.find(usable, config.audit.duplicates, config.machine.memory_gib)
    tables = {name: audit.add_flags(table, name, groups, config.audit) for name, table in found.items()}
    with atomic_folder(paths.AUDIT) as partial:
        for name, table in tables.items():
            audit_tables.write_flags(partial / paths.audit(name).name, table)
        write_table(partial / paths.DUPLICATES.name, groups)
    summaries = {name: audit.summary(tables[name], passed_over(pools[name])) for name in names}
    for name, summary in summaries.items():
        for line in summary["unusable"] + summary["noticed"] + summary["passed_over"]:
            log.warning("%s: %s", name, line)
    marks = audit.score_detection(tables["unlabeled"], groups, paths.TRUTH) if "unlabeled" in tables else None
    write_json(paths.AUDIT_JSON, rounded({"pools": summaries, "marks": marks}))


if __name__ == "__main__":
    main(run)
