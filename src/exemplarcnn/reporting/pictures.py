"""Draw all pictures: which there are, which outs each shows, and which function draws it.

All are drawn from outs, after everything is computed. ``sources.json`` beside them has for each picture the hashes of
what it was drawn from, as in ``dvc.lock``. They tell which result a picture shows, wherever it is and whenever it was
drawn.
"""

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

from safetensors import safe_open

from exemplarcnn import paths
from exemplarcnn.classes import tables
from exemplarcnn.config.params import Config
from exemplarcnn.data import audit_tables, pools, stl10
from exemplarcnn.data.types import Pool
from exemplarcnn.files import atomic_folder, md5_of, read_array, read_json, read_table, write_json
from exemplarcnn.progress import tqdm
from exemplarcnn.reporting import differences
from exemplarcnn.reporting.figures import audit as audit_figures
from exemplarcnn.reporting.figures import (
    clusters,
    confusion,
    filters,
    forest,
    labels,
    neighbours,
    outliers,
    patches,
    results,
)
from exemplarcnn.reporting.figures.sheet import spread
from exemplarcnn.reporting.results import titles


@dataclass(frozen=True)
class Picture:
    """A picture to draw.

    Attributes
    ----------
    path
        Its file.
    sources
        The outs that it shows, and the data if it shows images: if their bytes differ, the picture may differ.
    draw
        The function that draws it to a path.
    """

    path: Path
    sources: tuple[Path, ...]
    draw: Callable[[Path], None]


def draw(config: Config) -> None:
    """Draw all pictures, replacing earlier ones, and write ``sources.json``."""
    hashed = cache(_md5)
    sources: dict[str, list[str]] = {}
    with atomic_folder(paths.PICTURES) as folder:
        for picture in tqdm(list(_pictures(config)), desc="pictures", unit="picture"):
            place = picture.path.relative_to(paths.PICTURES)
            picture.draw(folder / place)
            sources[place.as_posix()] = [hashed(path) for path in picture.sources]
        write_json(folder / paths.PICTURE_SOURCES.name, sources)


def _md5(path: Path) -> str:
    """Return the hash of a file or folder as DVC records it."""
    if path == paths.DATA:
        return stl10.data_digest(path)
    if path.is_file():
        return md5_of(path)
    files = sorted((each.relative_to(path).as_posix(), each) for each in path.rglob("*") if each.is_file())
    listing = [{"md5": md5_of(file), "relpath": name} for name, file in files]
    return hashlib.md5(json.dumps(listing, sort_keys=True).encode(), usedforsecurity=False).hexdigest() + ".dir"


def _pictures(config: Config) -> Iterator[Picture]:
    variants = config.variants
    yield from _of_audit(config)
    for name, trained in variants.train.items():
        shown = (paths.DATA, paths.class_table(trained.table), paths.surrogate_set(name))
        yield Picture(paths.patches_picture(name), shown, partial(_draw_patches, config, name))
        yield Picture(paths.filters_picture(name), (paths.model(name),), partial(_draw_filters, name))
    for name, grouped in variants.group.items():
        shown = (paths.DATA, paths.class_table(name), paths.features(grouped.source))
        yield Picture(paths.clusters_picture(name), shown, partial(_draw_clusters, config, name))
    for name in config.rows:
        yield Picture(paths.confusion_picture(name), (paths.confusion(name),), partial(_draw_confusion, name))
        yield Picture(paths.mistakes_picture(name), (paths.DATA, paths.mistakes(name)), partial(_draw_mistakes, name))
    for name in variants.label:
        yield Picture(paths.labels_picture(name), (paths.DATA, paths.labels(name)), partial(_draw_labels, name))
    yield from _of_outliers()
    sources = (paths.DATA, *map(paths.features, config.neighbours.of))
    yield Picture(paths.NEIGHBOURS_PICTURE, sources, partial(_draw_neighbours, config))
    yield Picture(paths.RESULTS_PICTURE, (paths.RESULTS_JSON,), _draw_results)
    if len(config.rows) > 1:
        yield Picture(paths.DIFFERENCES_PICTURE, (paths.RESULTS_JSON,), _draw_differences)


def _pool(name: str) -> Pool:
    return pools.open_pool(paths.DATA, name)


def _of_audit(config: Config) -> Iterator[Picture]:
    labelled = ("train", "test") if stl10.has_labels(paths.DATA) else ()
    opened = {name: _pool(name) for name in dict.fromkeys((*config.pools, *labelled))}
    sources = (paths.DATA, paths.AUDIT)
    for name, pool in opened.items():
        table = audit_tables.read_flags(paths.audit(name))
        for kind, figure in (("borders", audit_figures.draw_borders), ("empty", audit_figures.draw_empty)):
            path = paths.AUDIT_PICTURES / f"{kind}-{name}.png"
            yield Picture(path, sources, partial(figure, pool=pool, table=table, name=name))
    groups = audit_tables.read_duplicates(paths.DUPLICATES)
    for kind, across in (("duplicates", False), ("leaks", True)):
        figure = partial(audit_figures.draw_duplicates, pools=opened, groups=groups, across=across)
        yield Picture(paths.AUDIT_PICTURES / f"{kind}.png", sources, figure)


def _of_outliers() -> Iterator[Picture]:
    sources, pool = (paths.DATA, paths.OUTLIERS), _pool("unlabeled")
    if stl10.has_labels(paths.DATA):
        scores = read_table(paths.OUTLIERS / "images.csv", integers=["image_id"], floats=["score"])
        for kind, figure in (("farthest", outliers.draw_farthest), ("nearest", outliers.draw_nearest)):
            path = paths.OUTLIERS_PICTURES / f"{kind}.png"
            yield Picture(path, sources, partial(figure, pool=pool, scores=scores))
    pairs = read_table(paths.OUTLIERS / "pairs.csv", integers=["first", "second"], floats=["distance"])
    yield Picture(paths.OUTLIERS_PICTURES / "pairs.png", sources, partial(outliers.draw_pairs, pool=pool, pairs=pairs))


def _draw_patches(config: Config, variant: str, path: Path) -> None:
    params = config.variants.train[variant]
    pool = _pool(params.pool)
    patches.draw(path, pool, tables.read(paths.class_table(params.table), len(pool)), paths.surrogate_set(variant))


def _draw_filters(variant: str, path: Path) -> None:
    with safe_open(paths.model(variant) / "weights.safetensors", framework="numpy") as weights:
        filters.draw(path, weights.get_tensor("conv1.weight"))


def _draw_clusters(config: Config, variant: str, path: Path) -> None:
    source = config.variants.group[variant].source
    pool = _pool(config.variants.train[source].pool)
    table = tables.read(paths.class_table(variant), len(pool))
    clusters.draw(path, pool, table, read_array(paths.cluster_features(source)))


def _draw_confusion(variant: str, path: Path) -> None:
    confusion.draw_matrix(path, read_table(paths.confusion(variant), floats=["percent"]), variant)


def _draw_mistakes(variant: str, path: Path) -> None:
    table = read_table(paths.mistakes(variant), integers=["image_id"], floats=["margin"])
    confusion.draw_mistakes(path, _pool("test"), table)


def _draw_labels(name: str, path: Path) -> None:
    table = read_table(paths.labels(name), integers=["image_id", "label"], floats=["margin"])
    shown = {pool: _pool(pool) for pool in table["pool"].unique()}
    labels.draw(path, shown, table, stl10.read_class_names(paths.CLASS_NAMES))


def _draw_neighbours(config: Config, path: Path) -> None:
    """Draw test images and their neighbours; unlabelled images if nothing is evaluated."""
    params = config.neighbours
    if rows := config.variants.evaluate:
        pool = _pool("test")
        features = {rows[name].title: read_array(paths.eval_features(name, "test")) for name in params.of}
    else:
        pool = _pool("unlabeled")
        features = {name: read_array(paths.cluster_features(name)) for name in params.of}
    neighbours.draw(path, pool, features, spread(list(range(len(pool))), params.images), params.nearest)


def _draw_results(path: Path) -> None:
    results.draw(path, read_json(paths.RESULTS_JSON))


def _draw_differences(path: Path) -> None:
    found = read_json(paths.RESULTS_JSON)
    forest.draw(path, differences.in_full(found), titles(found))
