"""Stage ``audit``: what is wrong with the images, told from their pixels."""

import logging

import pandas as pd

from exemplarcnn import paths
from exemplarcnn.config import Config
from exemplarcnn.data import audit, audit_tables, image_set, near_duplicates, pools, stl10
from exemplarcnn.data.types import Pool
from exemplarcnn.files import atomic_folder, rounded, write_json, write_table
from exemplarcnn.launching.launcher import main
from exemplarcnn.reporting import figures

# Of each gallery, at most.
BORDERS, GROUPS = 32, 24

log = logging.getLogger(__name__)


def run(_: str, config: Config) -> None:
    """Write ``audit/POOL.csv`` for each pool, ``audit/duplicates.csv``, ``metrics/audit.json`` and galleries."""
    image_set.check(paths.DATA)
    labelled = ("train", "test") if stl10.has_labels(paths.DATA) else ()
    names = dict.fromkeys((*config.pools, *labelled))
    pools = {name: pools.open_pool(paths.DATA, name) for name in names}
    found = {name: audit.inspect(pool, config.audit) for name, pool in pools.items()}
    whole = {name: table.loc[table["problem"] == "", "image_id"].to_numpy() for name, table in found.items()}
    groups = near_duplicates.find(
        {name: (pool, whole[name]) for name, pool in pools.items()}, config.audit.duplicates, config.machine.memory_gib
    )
    tables = {name: audit.add_flags(table, name, groups, config.audit) for name, table in found.items()}
    with atomic_folder(paths.AUDIT) as partial:
        for name, table in tables.items():
            audit_tables.write_flags(partial / paths.audit(name).name, table)
        write_table(partial / paths.DUPLICATES.name, groups)
    summaries = {name: audit.summary(tables[name], pools[name]) for name in names}
    for name, summary in summaries.items():
        for line in summary["unusable"] + summary["noticed"] + summary["passed_over"]:
            log.warning("%s: %s", name, line)
    marks = audit.score_detection(tables["unlabeled"], groups, paths.TRUTH) if "unlabeled" in tables else None
    write_json(paths.AUDIT_JSON, rounded({"pools": summaries, "marks": marks}))
    _galleries(pools, tables, groups)


def _galleries(pools: dict[str, Pool], tables: dict[str, pd.DataFrame], groups: pd.DataFrame) -> None:
    with atomic_folder(paths.AUDIT_PICTURES) as partial:
        for name, pool in pools.items():
            bordered = figures.spread(audit.widest_borders(tables[name]), BORDERS)
            tiles = [[(pool[image], f"image {image}\n{widths}")] for image, widths in bordered]
            title = f"Black borders in {name}, from the widest to the narrowest"
            figures.gallery(partial / f"borders-{name}.png", title, figures.lines(tiles))
            empty = tables[name].loc[tables[name]["empty"] == 1, "image_id"].tolist()
            tiles = [[(pool[image], f"image {image}")] for image in figures.spread(empty, BORDERS)]
            figures.gallery(partial / f"empty-{name}.png", f"Empty images in {name}", figures.lines(tiles))
        members = [rows for _, rows in groups.groupby("group", sort=True)]
        within = [rows for rows in members if rows["pool"].nunique() == 1]
        across = [rows for rows in members if rows["pool"].nunique() > 1]
        for file, title, some in (
            ("duplicates.png", "Near duplicates", within),
            ("leaks.png", "Near duplicates in several pools", across),
        ):
            chosen = figures.spread(sorted(some, key=lambda rows: -rows["similarity"].max()), GROUPS)
            figures.gallery(
                partial / file, f"{title}, from the most to the least alike", figures.lines(_tiles(pools, chosen))
            )


def _tiles(pools: dict[str, Pool], members: list[pd.DataFrame]) -> list[list[figures.Tile]]:
    columns = ["group", "pool", "image_id", "similarity"]
    return [
        [
            (pools[pool][image], f"group {group}: {alike:.2f}\n{pool} {image}")
            for group, pool, image, alike in rows[columns].head(figures.TILES).itertuples(index=False)
        ]
        for rows in members
    ]


if __name__ == "__main__":
    main(run)
