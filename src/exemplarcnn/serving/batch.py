"""A trained network on a folder of images: what `exemplarcnn embed` and `exemplarcnn predict` do."""

import logging
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd

from exemplarcnn import paths
from exemplarcnn.config import Config
from exemplarcnn.data import audit, pools, stl10, walking
from exemplarcnn.data.types import Pool
from exemplarcnn.files import read_array, write_array, write_table
from exemplarcnn.networks.features import write_features
from exemplarcnn.serving import packed_model, registry
from exemplarcnn.serving.packed_model import Encoder, EncoderError, Squares

log = logging.getLogger(__name__)


def embed(source: Path, out: Path, model: str, config: Config) -> str:
    """Write the features of images.

    Parameters
    ----------
    source
        A folder of image files of any size, or a file in STL-10's format. Each image is cut to its middle square and
        resized to the side that the model takes.
    out
        ``.npy``: (images, features) float32, with a table ``file`` beside it that has the same name and ends in
        ``.csv``; ``.csv``: ``file``, then a column for each feature.
    model
        A variant trained here, or the address of a registered model.
    config
        What images can be used (``audit``), the device, and the features of a variant trained here.

    Returns
    -------
    str
        What was done, for a person.

    Raises
    ------
    PipelineError
        If there is no such model or no image, or ``out`` has another ending.
    """
    _check(out)
    with _opened(model, config) as ready:
        pool = _pool(source, config, ready.side)
        if out.suffix == ".npy":
            write_features(out, pool, ready.embed, ready.params.batch_size)
            write_table(out.with_suffix(".csv"), _files(pool))
        else:
            table = pd.DataFrame(_features(pool, ready), columns=[f"feature_{i}" for i in range(ready.size)])
            write_table(out, pd.concat([_files(pool), table], axis=1))
        return f"{out}: {ready.size:,} features of {len(pool):,} images"


def predict(source: Path, out: Path, model: str, config: Config) -> str:
    """Write the classes of images.

    Parameters
    ----------
    source, model, config
        As in `embed`.
    out
        ``.csv``: ``file``, ``class`` and ``score_NAME`` for each class; ``.npy``: the scores, (images, classes)
        float32, with the table ``file``, ``class`` beside it.

    Returns
    -------
    str
        What was done, for a person.

    Raises
    ------
    PipelineError
        As `embed`; and if the model has no classifier.
    """
    _check(out)
    with _opened(model, config) as ready:
        if not ready.classes:
            raise EncoderError(f"{model} has no classifier; `exemplarcnn embed` gives its features")
        pool = _pool(source, config, ready.side)
        scores = ready.scores(_features(pool, ready))
        table = pd.concat([_files(pool), packed_model.as_table(scores, ready.classes)], axis=1)
        if out.suffix == ".npy":
            write_array(out, scores)
            write_table(out.with_suffix(".csv"), table[["file", "class"]])
        else:
            write_table(out, table)
        return f"{out}: classes of {len(pool):,} images"


def _check(out: Path) -> None:
    if out.suffix not in (".csv", ".npy"):
        raise EncoderError(f"{out}: name a file that ends in .csv or .npy")


@contextmanager
def _opened(model: str, config: Config) -> Iterator[Encoder]:
    """Make a model ready: one that was trained here, or a registered one."""
    with tempfile.TemporaryDirectory() as folder:
        if ":" in model:
            packed = registry.fetch(model, Path(folder))
        else:
            packed = Path(folder)
            if model not in config.variants.train:
                raise EncoderError(
                    f"no variant {model!r}; there are {', '.join(config.variants.train)}, and registered models by "
                    "their address, such as models:/exemplarcnn-classifier@champion"
                )
            svm = paths.classifiers(model) / "all.safetensors"
            # Where nothing is evaluated, one of other images may lie there still.
            tested = model in config.variants.evaluate and svm.exists()
            names = stl10.read_class_names(paths.CLASS_NAMES) if tested else []
            packed_model.pack(packed, paths.model(model), config.features, svm if tested else None, names)
        yield Encoder(packed, config.machine.device)


def _pool(source: Path, config: Config, side: int) -> Squares:
    """Open images, and leave out what cannot be used, by name."""
    pool: Pool = stl10.open_file(source) if source.is_file() else pools.ImageFolder(source)
    for line in folder_walk.lines(pool.passed_over):
        log.warning("passed over: %s", line)
    table = audit.inspect(pool, config.audit)
    usable = table.loc[table["problem"] == "", "image_id"].to_numpy()
    for name, problem in table.loc[table["problem"] != "", ["name", "problem"]].itertuples(index=False):
        log.warning("%s left out: %s", name, problem)
    for name, note in table.loc[table["note"] != "", ["name", "note"]].itertuples(index=False):
        log.warning("%s: %s", name, note)
    if not len(usable):
        raise EncoderError(f"{source}: none of its {len(pool):,} images can be used, see above")
    return Squares(pool, usable, side)


def _files(pool: Squares) -> pd.DataFrame:
    return pd.DataFrame({"file": [pool.name(index) for index in range(len(pool))]})


def _features(pool: Squares, ready: Encoder) -> "np.ndarray[tuple[int, int], np.dtype[np.float32]]":
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / pool.path.name / "features.npy"  # the progress bar shows both names
        write_features(file, pool, ready.embed, ready.params.batch_size)
        return np.array(read_array(file))
