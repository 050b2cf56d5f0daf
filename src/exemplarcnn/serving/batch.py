"""Apply a trained network to a folder of images: `exemplarcnn embed` and `exemplarcnn predict`."""

import logging
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from exemplarcnn import paths
from exemplarcnn.config.params import Config
from exemplarcnn.data import audit, folder_walk, pools, stl10
from exemplarcnn.data.types import Indices, Pixels, Pool
from exemplarcnn.determinism import use_threads
from exemplarcnn.files import read_array, write_array, write_table
from exemplarcnn.networks.chunks import map_chunks
from exemplarcnn.networks.features import write_features
from exemplarcnn.progress import tqdm
from exemplarcnn.serving import packed_model, registry
from exemplarcnn.serving.packed_model import PackedModel, PackedModelError
from exemplarcnn.tracking import lineage

log = logging.getLogger(__name__)


def embed(source: Path, out: Path, model: str, config: Config) -> str:
    """Write the features of images.

    Parameters
    ----------
    source
        A folder of image files of any size, or a file in STL-10's format. Each image is cut to its middle square and
        resized to the side that the model takes.
    out
        ``.npy``: (images, features) float32, beside a table with the column ``file`` that has the same name and ends
        in ``.csv``; ``.csv``: ``file``, then one column per feature.
    model
        A variant trained here, or the address of a registered model.
    config
        Which images can be used (``audit``), the device, and how a variant trained here computes features.

    Returns
    -------
    str
        What was done, in words.

    Raises
    ------
    PipelineError
        If there is no such model or no usable image, or ``out`` has another ending.
    """
    _check_suffix(out)
    with loaded(model, config) as packed:
        pool = _usable_images(source, config, packed.side)
        if out.suffix == ".npy":
            write_features(out, pool, packed.embed, packed.batch_size)
            write_table(out.with_suffix(".csv"), _files(pool))
        else:
            table = pd.DataFrame(_features(pool, packed), columns=[f"feature_{i}" for i in range(packed.size)])
            write_table(out, pd.concat([_files(pool), table], axis=1))
        return f"{out}: {packed.size:,} features of {len(pool):,} images"


def predict(source: Path, out: Path, model: str, config: Config) -> str:
    """Write the classes of images.

    Parameters
    ----------
    source, model, config
        As in `embed`.
    out
        ``.csv``: ``file``, ``class``, then ``score_NAME`` for each class; ``.npy``: the scores, (images, classes)
        float32, beside a table with ``file`` and ``class`` that has the same name and ends in ``.csv``.

    Returns
    -------
    str
        What was done, in words.

    Raises
    ------
    PipelineError
        As `embed`; and if the model has no classifier, or a variant's classifier does not belong to the parameters,
        the data or the network here.
    """
    _check_suffix(out)
    with loaded(model, config) as packed:
        if not packed.classes:
            raise PackedModelError(f"cannot predict: {model} has no classifier; `exemplarcnn embed` gives its features")
        if ":" not in model:
            _check_classifier(model, config)
        pool = _usable_images(source, config, packed.side)
        scores = _scores(pool, packed)
        table = pd.concat([_files(pool), packed.table(scores)], axis=1)
        if out.suffix == ".npy":
            write_array(out, scores)
            write_table(out.with_suffix(".csv"), table[["file", "class"]])
        else:
            write_table(out, table)
        return f"{out}: classes of {len(pool):,} images"


def _check_classifier(variant: str, config: Config) -> None:
    """Refuse a classifier of other features or classes than those here; warn if it is out of date otherwise."""
    if not lineage.LOCK.exists():
        return
    records = lineage.read_lock()
    if reason := _mismatch(variant, config, records):
        raise PackedModelError(
            f"cannot predict: the classifier of {variant} does not belong to what is here: {reason}; "
            f"`dvc repro evaluate@{variant}` trains it anew, or take the change back"
        )
    if reason := lineage.out_of_date(f"evaluate@{variant}", records):
        log.warning("%s; `dvc repro evaluate@%s` brings the classifier of %s up to date", reason, variant, variant)


def _mismatch(variant: str, config: Config, records: dict[str, lineage.Record]) -> str | None:
    stages = [f"{kind}@{variant}" for kind in ("train", "embed", "evaluate")]
    for stage in stages:
        if stage not in records:
            return f"{stage} has not run"
    trained, embedded, evaluated = (records[stage] for stage in stages)
    here, there = config.features.model_dump(mode="json"), embedded.params["features"]
    if here != there:
        name, now, then = lineage.first_difference("features", here, there)
        return f"{paths.PARAMS} says {name}: {now}, but {embedded.stage} ran with {then}"
    if evaluated.deps[str(paths.DATA)] != stl10.data_digest(paths.DATA):
        return f"{evaluated.stage} ran on other data than {paths.DATA}.dvc names"
    with lineage.Workspace() as folder:
        for record in (embedded, evaluated):
            if reason := lineage.superseded(record, records, folder):
                return reason
    altered = [out for record in (trained, evaluated) for out in lineage.changed_outs(record.stage, records)]
    files = [out for out in altered if out in (str(paths.model(variant)), str(paths.classifiers(variant)))]
    return f"{files[0]} is not what `dvc repro` made" if files else None


def _check_suffix(out: Path) -> None:
    if out.suffix not in (".csv", ".npy"):
        raise PackedModelError(f"{out}: found ending {out.suffix!r}; name a file that ends in .csv or .npy")


@contextmanager
def loaded(model: str, config: Config) -> Iterator[PackedModel]:
    """Load a model: one that was trained here, by its variant's name, or a registered one, by its address."""
    use_threads(config.machine.threads)
    with tempfile.TemporaryDirectory() as folder:
        if ":" in model:
            packed = registry.fetch(model, Path(folder))
        else:
            packed = Path(folder)
            if model not in config.variants.train:
                raise PackedModelError(
                    f"no variant {model!r}; name one of {', '.join(config.variants.train)}, or a registered model by "
                    "its address, such as models:/exemplarcnn-classifier@champion"
                )
            svm = packed_model.classifier_of(model, config)
            # Without a classifier, as before its evaluation, a network still has features.
            packed_model.pack_variant(packed, model, config, svm if svm and svm.exists() else None)
        yield PackedModel(packed, config.machine.device)


class CentreCrops:
    """Some images of a pool, each cut to its middle square and resized.

    Parameters
    ----------
    pool
        Images of any size.
    chosen
        Indices of the images, (n,) int64.
    side
        The side to resize them to, in pixels.
    """

    def __init__(self, pool: Pool, chosen: NDArray[np.int64], side: int):
        self.pool, self.chosen, self.side, self.path = pool, chosen, side, pool.path

    def __len__(self) -> int:
        return len(self.chosen)

    def __getitem__(self, index: int) -> Pixels:
        """Return one image, (side, side, 3) uint8."""
        return self.read(index)[0]

    def read(self, index: int) -> tuple[Pixels, str]:
        """Return one image, (side, side, 3) uint8, and a note on how it was read, or an empty string."""
        image, note = self.pool.read(int(self.chosen[index]))
        return pools.centre_square(image, self.side), note

    def size(self, index: int) -> tuple[int, int]:
        """Return height and width in pixels: both are ``side``."""
        return self.side, self.side

    def name(self, index: int) -> str:
        """Return the file of an image, or its number if all images are in one file."""
        place = int(self.chosen[index])
        return self.pool.name(place) or str(place)

    def batch(self, indices: Indices) -> Pixels:
        """Return several images, (n, side, side, 3) uint8."""
        return np.stack([self[int(index)] for index in indices])


def _usable_images(source: Path, config: Config, side: int) -> CentreCrops:
    """Open images; leave out those that cannot be used, with a warning for each."""
    pool = pools.open_path(source)
    for line in folder_walk.summary_lines(pools.passed_over(pool)):
        log.warning("passed over: %s", line)
    table = audit.inspect(pool, config.audit)
    usable = table.loc[table["problem"] == "", "image_id"].to_numpy()
    for name, problem in table.loc[table["problem"] != "", ["name", "problem"]].itertuples(index=False):
        log.warning("%s left out: %s", name, problem)
    for name, note in table.loc[table["note"] != "", ["name", "note"]].itertuples(index=False):
        log.warning("%s: %s", name, note)
    if not len(usable):
        raise PackedModelError(
            f"{source}: found {len(pool):,} images, none of which can be used; the warnings above say why"
        )
    return CentreCrops(pool, usable, side)


def _files(pool: CentreCrops) -> pd.DataFrame:
    return pd.DataFrame({"file": [pool.name(index) for index in range(len(pool))]})


def _scores(pool: CentreCrops, packed: PackedModel) -> NDArray[np.float32]:
    """Compute scores a batch at a time: features of many images would not fit into memory."""
    found = np.empty((len(pool), len(packed.classes)), np.float32)

    def score(pixels: Pixels) -> NDArray[np.float32]:
        return packed.scores(packed.embed(pixels))

    with tqdm(total=len(pool), desc=f"{pool.path.name}/classes", unit="image") as bar:
        for rows, scores in map_chunks(pool.batch, score, len(pool), packed.batch_size):
            found[rows] = scores
            bar.update(len(scores))
    return found


def _features(pool: CentreCrops, packed: PackedModel) -> NDArray[np.float32]:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / pool.path.name / "features.npy"  # the progress bar shows both names
        write_features(file, pool, packed.embed, packed.batch_size)
        return np.array(read_array(file))
