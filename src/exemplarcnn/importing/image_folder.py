"""A folder of anybody's images as an image set in STL-10's layout (docs/own-images.md).

No draw decides which image goes where: images are ranked by the md5 of their files, so that the same files give the
same set on every machine, and an image mostly stays where it was when others come.
"""

import hashlib
from collections.abc import Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from exemplarcnn.config import Audit, Config
from exemplarcnn.data import audit, image_set, pools, stl10, walking
from exemplarcnn.data.decoding import DecodingError
from exemplarcnn.data.folder_walk import Passed
from exemplarcnn.data.folds import MOST_AT_ONCE
from exemplarcnn.data.image_set import Summary
from exemplarcnn.data.pools import ImageFolder
from exemplarcnn.data.types import DataError, Pixels
from exemplarcnn.errors import reason
from exemplarcnn.files import md5_of, write_json, write_table
from exemplarcnn.importing import download, folder_names
from exemplarcnn.progress import tqdm
from exemplarcnn.workers import in_order

PROVENANCE = "provenance.csv"
LEAST = 50  # images, or clustering a half of them says nothing
FOLD_SHARE = 0.2  # of the training images of a class, as in STL-10
NO_COLOUR = "no colour"
NOT_USED = "the label "
COPY = "the same bytes as "
FILES_A_TASK = 16


@dataclass(frozen=True)
class Imported:
    """What became of a folder.

    Attributes
    ----------
    summary
        What `exemplarcnn.data.image_set.check` says of the new set.
    said
        How the folders were understood, and the classes with their numbers of images, a line each.
    notes
        What was left out or is worth a word, and the reason, a line each; of many files with one harmless reason there
        is one line. Defects come first.
    """

    summary: Summary
    said: list[str]
    notes: list[str]


def import_folder(
    root: Path,
    source: Path,
    config: Config,
    name: str,
    test_share: float,
    unlabelled: bool,
    side: int = stl10.SIDE,
) -> Imported:
    """Make a folder of images the project's data, recorded in DVC.

    Parameters
    ----------
    root
        The project's root, which holds ``data/`` and ``data.dvc``.
    source
        Image files of any kind and size, at any depth, walked as `exemplarcnn.data.walking` says. A folder on the first
        level is the label of all that is in it, if there are two such at least; images beside these folders have none.
        A split that is there already is recognised (`exemplarcnn.importing.folder_names`).
    config
        What images can be used (``audit``), images a class that cross-validation needs, and processes.
    name
        What the set is called in reports.
    test_share
        Share of each class that is set aside for testing, 0–1, unless the folder is split already.
    unlabelled
        Take no folder for a label.
    side
        Of the images of the set, in pixels.

    Returns
    -------
    Imported
        The set, its classes, and what was left out.

    Raises
    ------
    DataError
        If the folders can be understood in two ways, if there are too few images, too many classes or no
        such side, or if the disk or DVC refuses; ``data/`` is then as it was.
    """
    stl10.check_side(side, "--side")
    if not source.is_dir():
        raise DataError(f"{source}: found no such folder, expected one of images; name the folder that holds them.")
    folder = ImageFolder(source)
    meaning = folder_names.read((file.relative_to(source).as_posix() for file in folder.files), source, unlabelled)
    staging = download.beside(root / "data", "import")
    download.remove(staging)
    try:
        staging.mkdir(parents=True)
        table = _mark_copies(_look(folder, staging / "all.bin", config, side))
        table = table.assign(side=meaning.sides, label=meaning.labels)
        table = _choose(table, config.evaluate.inner_folds, test_share)
        _write(staging, table, config.evaluate.inner_folds, side, folder.passed_over)
        seen = [
            each for each in folder.passed_over if each.why not in (folder_walk.HIDDEN_FILE, folder_walk.HIDDEN_FOLDER)
        ]
        about = {
            "name": folder_walk.readable(name),
            "files": len(table),
            "test_share": test_share,
            "labels": bool((table["part"] != "").any()),
            **stl10.side_entry(side),
        }
        write_json(staging / stl10.IMPORT_FILE, about | {"left_out": int((table["problem"] != "").sum()) + len(seen)})
        summary = download.install(
            staging, root / "data", move=True, keep_other=False, record=lambda: download.track(root)
        )
    except BrokenProcessPool:
        raise DataError(
            f"{source}: a worker that read images was killed, probably for lack of memory; data/ is "
            "unchanged. Lower machine.workers, then run the command again."
        ) from None
    except OSError as error:
        raise DataError(
            f"{staging}: expected to put images of {source} there, found {error}; data/ is unchanged. "
            "Make room or correct the permissions, then run the command again."
        ) from error
    finally:
        download.remove(staging)
    return Imported(summary, meaning.said + _classes(table), _notes(table, folder.passed_over))


def _look(folder: ImageFolder, store: Path, config: Config, side: int) -> pd.DataFrame:
    """Read every file once: what can be used is cut and resized and appended to `store`, side×side×3 bytes an image."""
    rows: list[dict[str, Any]] = []
    tasks = (folder.part(first, first + FILES_A_TASK) for first in range(0, len(folder), FILES_A_TASK))
    called = folder_walk.readable(folder.path.name)
    with store.open("wb") as file, tqdm(total=len(folder), desc=f"read {called}", unit="image") as bar:
        for some in in_order(_look_at_all, (config.audit, side), tasks, config.machine.workers):
            for row, square in some:
                if square is not None:
                    row["stored"] = file.tell() // square.nbytes
                    file.write(square.tobytes())
                rows.append(row | {"problem": folder_walk.readable(row["problem"])})
            bar.update(len(some))
    return pd.DataFrame(rows)


def _look_at_all(shared: tuple[Audit, int], folder: ImageFolder) -> list[tuple[dict[str, Any], Pixels | None]]:
    return [_look_at(folder, index, *shared) for index in range(len(folder))]


def _look_at(folder: ImageFolder, index: int, params: Audit, side: int) -> tuple[dict[str, Any], Pixels | None]:
    row: dict[str, Any] = {"file": folder.name(index), "md5": "", "height": 0, "width": 0}
    row |= {"problem": "", "note": "", "stored": -1}
    image, note = None, ""
    try:
        row["md5"] = md5_of(folder.files[index])
        height, width = folder.size(index)
        row |= {"height": height, "width": width, "problem": audit.size_problem(height, width, params)}
        if not row["problem"]:
            image, note = folder.read(index)
    except (DataError, OSError) as error:
        # The reason alone: where the folder lies is no part of the set.
        known = error.__cause__ if isinstance(error.__cause__, DecodingError) else error
        row["problem"] = f"cannot be read: {reason(known)}"
    if image is None:
        return row, None
    notes = [note] if note else []
    if audit.colourfulness(image) <= params.grey_up_to:
        notes.append(NO_COLOUR)
    row["note"] = "; ".join(notes)
    return row, pools.centre_square(image, side)


def _mark_copies(table: pd.DataFrame) -> pd.DataFrame:
    """Leave out files with the bytes of an earlier one: they could stand on both sides of a split."""
    whole = table[table["problem"] == ""]
    copies = whole.index[whole.duplicated("md5")]
    table.loc[copies, "problem"] = COPY + whole.groupby("md5")["file"].transform("first")[copies]
    return table.assign(note=table["problem"].where(table["problem"] != "", table["note"]))


def _choose(table: pd.DataFrame, least: int, test_share: float) -> pd.DataFrame:
    """Say of each image that can be used what part it is of: ``train``, ``test``, or none but the pool."""
    whole = table[table["problem"] == ""]
    if len(whole) < LEAST:
        raise DataError(f"found {len(whole)} images that can be used, expected {LEAST} at least; add some.")
    part = pd.Series("", index=table.index)
    for label, rows in whole[whole["label"] != ""].groupby("label"):
        ranked = rows.sort_values(["md5", "file"])
        count = max(1, round(test_share * len(rows)))
        tests = ranked.index[:count] if (ranked["side"] == "").all() else ranked.index[ranked["side"] == "test"]
        trains = ranked.index.difference(tests, sort=False)
        if len(trains) < least or not len(tests):
            said = f"{NOT_USED}{label} is not used: {len(trains)} training and {len(tests)} test images, at least "
            table.loc[rows.index, "note"] = f"{said}{least} and 1 are needed"
            continue
        part[tests], part[trains] = "test", "train"
    if table.loc[part == "train", "label"].nunique() < 2:
        part[:] = ""
    return table.assign(part=_thinned(part, table))


def _thinned(part: "pd.Series[str]", table: pd.DataFrame) -> "pd.Series[str]":
    """Keep as many training images as classifiers are trained on, of each class the same share; the rest is pool."""
    trains = table[part == "train"]
    if len(trains) > MOST_AT_ONCE:
        share = MOST_AT_ONCE / len(trains)
        for _, rows in trains.groupby("label"):
            ranked = rows.sort_values(["md5", "file"], ascending=False)
            part[ranked.index[max(1, int(share * len(rows))) :]] = ""
    return part


def _write(staging: Path, table: pd.DataFrame, least: int, side: int, passed_over: Sequence[Passed]) -> None:
    """Write the files of the layout, and a table of what came from where, with what was passed over at its end."""
    stored: Pixels = np.memmap(staging / "all.bin", np.uint8, "r").reshape(-1, side, side, 3)
    whole = table[table["problem"] == ""]
    chosen = {name: whole[whole["part"] == name] for name in ("train", "test") if (whole["part"] == name).any()}
    # What is tested on is never learned from, with labels or without.
    pool = whole[whole["part"] != "test"]
    for name, rows in {**chosen, "unlabeled": pool}.items():
        stl10.stream_images(staging / f"{name}_X.bin", _each(stored, rows, name))
    if chosen:
        names = sorted(set(chosen["train"]["label"]))
        for name, rows in chosen.items():
            stl10.write_labels(staging / f"{name}_y.bin", [names.index(label) for label in rows["label"]])
        stl10.write_class_names(staging / "class_names.txt", names)
        stl10.write_folds(staging / "fold_indices.txt", _folds(chosen["train"], least))
        known = pool["label"].where(pool["label"].isin(names), "")
        truth = {"index": np.arange(len(pool)), "class": known.to_numpy(), "original": ""}
        write_table(staging / "truth.csv", pd.DataFrame(truth))
    table = table.assign(index=-1, pool_index=-1)
    for rows in chosen.values():
        table.loc[rows.index, "index"] = np.arange(len(rows))
    table.loc[pool.index, "pool_index"] = np.arange(len(pool))
    columns = ["file", "md5", "height", "width", "label", "part", "index", "pool_index", "note"]
    nowhere = {"md5": "", "height": 0, "width": 0, "label": "", "part": "", "index": -1, "pool_index": -1}
    others = [nowhere | {"file": each.path, "note": each.said} for each in passed_over]
    write_table(staging / PROVENANCE, pd.concat([table[columns], pd.DataFrame(others, columns=columns)]))
    del stored
    (staging / "all.bin").unlink()


def _each(stored: Pixels, rows: pd.DataFrame, name: str) -> Iterator[Pixels]:
    for place in tqdm(rows["stored"], desc=f"write {name}", unit="image"):
        yield stored[place]


def _folds(train: pd.DataFrame, least: int) -> list[list[int]]:
    """Take a fifth of the training images of each class for each of ten folds, but what cross-validation needs."""
    places = train.reset_index(drop=True)
    folds = []
    for fold in range(stl10.FOLDS):
        ranks = places["md5"].map(lambda md5, fold=fold: hashlib.md5(f"{fold} {md5}".encode()).hexdigest())
        ordered = places.assign(rank=ranks).sort_values("rank")
        some = [rows.index[: max(least, round(FOLD_SHARE * len(rows)))] for _, rows in ordered.groupby("label")]
        folds.append(sorted(int(place) for rows in some for place in rows))
    return folds


def _classes(table: pd.DataFrame) -> list[str]:
    """Say which classes there are, and how many images each has on both sides of the split."""
    counts = table[table["part"] != ""].groupby("label")["part"].value_counts().unstack(fill_value=0)
    if len(counts):
        each = [f"{name} {row['train']:,} + {row['test']:,}" for name, row in counts.iterrows()]
        return [f"{len(each)} classes, training + test images: {', '.join(each)}"]
    if (table["label"] != "").any():
        return ["no image has a label: fewer than two classes have enough images"]
    return []


def _notes(table: pd.DataFrame, passed_over: Sequence[Passed]) -> list[str]:
    """Say what was left out or is worth a word: defects first and each by itself, then what there may be a lot of."""
    broken = table[(table["problem"] != "") & ~table["problem"].str.startswith(COPY)]
    copies = table[table["problem"].str.startswith(COPY)]
    said = [f"{file}: {problem}" for file, problem in zip(broken["file"], broken["problem"], strict=True)]
    said += folder_walk.lines(passed_over, harmless=False)
    few = len(copies) <= folder_walk.EACH
    said += _of_files(copies.assign(note=copies["note"] if few else f"{COPY}an earlier file"))
    noted = table[(table["problem"] == "") & (table["note"] != "")]
    labels = noted["note"].str.startswith(NOT_USED)
    return said + _of_files(noted[labels]) + folder_walk.lines(passed_over, harmless=True) + _of_files(noted[~labels])


def _of_files(rows: pd.DataFrame) -> list[str]:
    return folder_walk.lines(Passed(file, note, "files") for file, note in zip(rows["file"], rows["note"], strict=True))
