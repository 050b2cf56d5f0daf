"""Turn a folder of any images into a set in STL-10's layout (docs/own-images.md).

Nothing is drawn at random. Images are ranked by the md5 of their files: the same files give the same set on every
machine, and most images stay where they were when you add others.
"""

import hashlib
from collections.abc import Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from exemplarcnn.config.params import Config
from exemplarcnn.config.sections import Audit
from exemplarcnn.data import audit, folder_walk, pools, stl10
from exemplarcnn.data.decoding import DecodingError
from exemplarcnn.data.file_names import readable
from exemplarcnn.data.folder_walk import PassedOver
from exemplarcnn.data.folds import MAX_TRAINING_IMAGES
from exemplarcnn.data.image_set import Summary
from exemplarcnn.data.pools import ImageFolder
from exemplarcnn.data.types import DataError, Pixels
from exemplarcnn.errors import reason
from exemplarcnn.files import md5_of, write_json, write_table
from exemplarcnn.importing import dvc_record, folder_labels
from exemplarcnn.importing.install import PROVENANCE, install, staging_folder
from exemplarcnn.progress import tqdm
from exemplarcnn.workers import in_order

MIN_IMAGES = 50  # with fewer, clusters of half of them mean nothing
FOLD_FRACTION = 0.2  # of each class's training images, as in STL-10
NO_COLOUR = "no colour"
LABEL_NOT_USED = "the label "
COPY = "the same bytes as "
FILES_A_TASK = 16
PIXELS = "all.bin"  # pixels of all usable images, in the staging folder


@dataclass(frozen=True)
class Imported:
    """The outcome of an import.

    Attributes
    ----------
    summary
        What `exemplarcnn.data.image_set.check` says of the new set.
    said
        How the folders were understood, and the classes with their numbers of images, a line each.
    notes
        What was left out or is worth a remark, with the reason, one per line; many files with the same harmless reason
        share a line. Defects come first.
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
    """Turn a folder of images into the project's data, and record it in DVC.

    Parameters
    ----------
    root
        The project's root, which holds ``data/`` and ``data.dvc``.
    source
        Image files of any kind and size, at any depth, listed by `exemplarcnn.data.folder_walk`. If there are two or
        more folders on the first level, each is the label of everything in it; images beside them have no label. An
        existing split is recognised (`exemplarcnn.importing.folder_labels`).
    config
        Which images can be used (``audit``), how many images per class cross-validation needs, and processes.
    name
        Name of the set in reports.
    test_share
        Fraction of each class to set aside for testing, 0–1, unless the folder is already split.
    unlabelled
        Ignore folders: no image has a label.
    side
        Side of the set's images, in pixels.

    Returns
    -------
    Imported
        The set, its classes, and what was left out.

    Raises
    ------
    DataError
        If the folders can be understood in two ways, there are too few images or too many classes, the side is not
        possible, or the disk or DVC fails; ``data/`` is then unchanged.
    """
    stl10.check_side(side, "--side")
    if not source.is_dir():
        raise DataError(f"{source}: found no such folder, expected one of images; name the folder that holds them.")
    folder = ImageFolder(source)
    understood = folder_labels.read((file.relative_to(source).as_posix() for file in folder.files), source, unlabelled)
    min_training = config.evaluate.inner_folds
    with staging_folder(root / "data", "import", source) as staging:
        table = _leave_out_copies(_read_images(folder, staging / PIXELS, config, side))
        table = table.assign(split=understood.splits, label=understood.labels)
        table = _split_classes(table, min_training, test_share)
        _write_set(staging, table, min_training, side, folder.passed_over)
        about = {"name": readable(name), "files": len(table), "test_share": test_share}
        about |= {"labels": bool((table["part"] != "").any()), **stl10.side_entry(side)}
        write_json(staging / stl10.IMPORT_FILE, about | {"left_out": _count_left_out(table, folder.passed_over)})
        summary = install(
            staging, root / "data", move=True, keep_other=False, record=lambda: dvc_record.record_data(root)
        )
    return Imported(summary, understood.said + _class_lines(table), _note_lines(table, folder.passed_over))


def _read_images(folder: ImageFolder, store: Path, config: Config, side: int) -> pd.DataFrame:
    """Read every file once; crop and resize usable images and append them to `store`, side×side×3 bytes each."""
    rows: list[dict[str, Any]] = []
    tasks = (folder.subset(first, first + FILES_A_TASK) for first in range(0, len(folder), FILES_A_TASK))
    called = readable(folder.path.name)
    with store.open("wb") as file, tqdm(total=len(folder), desc=f"read {called}", unit="image") as bar:
        try:
            for some in in_order(_read_task, (config.audit, side), tasks, config.machine.workers):
                for row, square in some:
                    if square is not None:
                        row["stored"] = file.tell() // square.nbytes
                        file.write(square.tobytes())
                    rows.append(row | {"problem": readable(row["problem"])})
                bar.update(len(some))
        except BrokenProcessPool:
            raise DataError(
                f"{folder.path}: a process that read images was killed, probably for lack of memory; data/ is "
                "unchanged. Lower machine.workers, then run the command again."
            ) from None
    return pd.DataFrame(rows)


def _read_task(shared: tuple[Audit, int], folder: ImageFolder) -> list[tuple[dict[str, Any], Pixels | None]]:
    return [_read_image(folder, index, *shared) for index in range(len(folder))]


def _read_image(folder: ImageFolder, index: int, params: Audit, side: int) -> tuple[dict[str, Any], Pixels | None]:
    """Return a file's row of the table and its image, cropped and resized, or None if it cannot be used."""
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
        # Only the reason: the folder's place must not become part of the set.
        known = error.__cause__ if isinstance(error.__cause__, DecodingError) else error
        row["problem"] = f"cannot be read: {reason(known)}"
    if image is None:
        return row, None
    notes = [note] if note else []
    if audit.colourfulness(image) <= params.grey_up_to:
        notes.append(NO_COLOUR)
    row["note"] = "; ".join(notes)
    return row, pools.centre_square(image, side)


def _leave_out_copies(table: pd.DataFrame) -> pd.DataFrame:
    """Leave out files with the bytes of an earlier one: they could be on both sides of a split."""
    usable = table[table["problem"] == ""]
    copies = usable.index[usable.duplicated("md5")]
    table.loc[copies, "problem"] = COPY + usable.groupby("md5")["file"].transform("first")[copies]
    return table.assign(note=table["problem"].where(table["problem"] != "", table["note"]))


def _split_classes(table: pd.DataFrame, min_training: int, test_share: float) -> pd.DataFrame:
    """Add each image's ``part``: ``train``, ``test``, or empty if it is only in the pool or cannot be used."""
    usable = table[table["problem"] == ""]
    if len(usable) < MIN_IMAGES:
        raise DataError(f"found {len(usable)} usable images, expected at least {MIN_IMAGES}; add some.")
    part = pd.Series("", index=table.index)
    for label, rows in usable[usable["label"] != ""].groupby("label"):
        ranked = rows.sort_values(["md5", "file"])
        count = max(1, round(test_share * len(rows)))
        tests = ranked.index[:count] if (ranked["split"] == "").all() else ranked.index[ranked["split"] == "test"]
        trains = ranked.index.difference(tests, sort=False)
        if len(trains) < min_training or not len(tests):
            table.loc[rows.index, "note"] = (
                f"{LABEL_NOT_USED}{label} is not used: {len(trains)} training and {len(tests)} test images, at least "
                f"{min_training} and 1 are needed"
            )
            continue
        part[tests], part[trains] = "test", "train"
    if table.loc[part == "train", "label"].nunique() < 2:
        part[:] = ""
    return table.assign(part=_limit_training(part, table, min_training))


def _limit_training(part: "pd.Series[str]", table: pd.DataFrame, least: int) -> "pd.Series[str]":
    """Keep at most as many training images as classifiers can take.

    Keeps the same fraction of each class, but no fewer images of one than ``least``: what small classes keep beyond
    their fraction, the others give up.
    """
    trains = table[part == "train"]
    if len(trains) > MAX_TRAINING_IMAGES:
        counts = trains["label"].value_counts()

        def kept(fraction: float) -> "pd.Series[int]":
            return (fraction * counts).astype(int).clip(lower=least).clip(upper=counts)

        fractions = np.linspace(MAX_TRAINING_IMAGES / len(trains), 0, 10_001)
        fraction = next((each for each in fractions if kept(each).sum() <= MAX_TRAINING_IMAGES), None)
        if fraction is None:
            raise DataError(
                f"{len(counts)} classes with {least} training images each are more than the {MAX_TRAINING_IMAGES} "
                "images that classifiers can take; lower evaluate.inner_folds, or import fewer folders."
            )
        for label, count in kept(fraction).items():
            ranked = trains[trains["label"] == label].sort_values(["md5", "file"], ascending=False)
            part[ranked.index[count:]] = ""
    return part


def _write_set(
    staging: Path, table: pd.DataFrame, min_training: int, side: int, passed_over: Sequence[PassedOver]
) -> None:
    """Write the files of the layout, and a table of where each image came from."""
    stored: Pixels = np.memmap(staging / PIXELS, np.uint8, "r").reshape(-1, side, side, 3)
    usable = table[table["problem"] == ""]
    labelled = {name: usable[usable["part"] == name] for name in ("train", "test") if (usable["part"] == name).any()}
    # Nothing is learned from test images, with or without labels.
    pool = usable[usable["part"] != "test"]
    for name, rows in {**labelled, "unlabeled": pool}.items():
        stl10.stream_images(staging / f"{name}_X.bin", _stored_images(stored, rows, name))
    if labelled:
        names = sorted(set(labelled["train"]["label"]))
        for name, rows in labelled.items():
            stl10.write_labels(staging / f"{name}_y.bin", [names.index(label) for label in rows["label"]])
        stl10.write_class_names(staging / "class_names.txt", names)
        stl10.write_folds(staging / "fold_indices.txt", _choose_folds(labelled["train"], min_training))
        known = pool["label"].where(pool["label"].isin(names), "")
        truth = {"index": np.arange(len(pool)), "class": known.to_numpy(), "original": ""}
        write_table(staging / "truth.csv", pd.DataFrame(truth))
    write_table(staging / PROVENANCE, _provenance(table, labelled, pool, passed_over))
    del stored
    (staging / PIXELS).unlink()


def _stored_images(stored: Pixels, rows: pd.DataFrame, name: str) -> Iterator[Pixels]:
    for place in tqdm(rows["stored"], desc=f"write {name}", unit="image"):
        yield stored[place]


def _choose_folds(train: pd.DataFrame, min_training: int) -> list[list[int]]:
    """Choose ten folds: a fifth of the training images of each class, at least as many as cross-validation needs."""
    places = train.reset_index(drop=True)
    folds = []
    for fold in range(stl10.FOLDS):
        ranks = places["md5"].map(lambda md5, fold=fold: hashlib.md5(f"{fold} {md5}".encode()).hexdigest())
        ordered = places.assign(rank=ranks).sort_values("rank")
        by_class = [rows for _, rows in ordered.groupby("label")]
        chosen = [rows.index[: max(min_training, round(FOLD_FRACTION * len(rows)))] for rows in by_class]
        folds.append(sorted(int(place) for rows in chosen for place in rows))
    return folds


def _count_left_out(table: pd.DataFrame, passed_over: Sequence[PassedOver]) -> int:
    """Count unusable files and files that are not images; hidden ones were not meant to be images."""
    hidden = (folder_walk.HIDDEN_FILE, folder_walk.HIDDEN_FOLDER)
    return int((table["problem"] != "").sum()) + sum(each.why not in hidden for each in passed_over)


def _provenance(
    table: pd.DataFrame, labelled: dict[str, pd.DataFrame], pool: pd.DataFrame, passed_over: Sequence[PassedOver]
) -> pd.DataFrame:
    """Return one row per image file with its place in the set, then one for everything that was skipped."""
    table = table.assign(index=-1, pool_index=-1)
    for rows in labelled.values():
        table.loc[rows.index, "index"] = np.arange(len(rows))
    table.loc[pool.index, "pool_index"] = np.arange(len(pool))
    columns = ["file", "md5", "height", "width", "label", "part", "index", "pool_index", "note"]
    nowhere = {"md5": "", "height": 0, "width": 0, "label": "", "part": "", "index": -1, "pool_index": -1}
    others = [nowhere | {"file": each.path, "note": each.said} for each in passed_over]
    return pd.concat([table[columns], pd.DataFrame(others, columns=columns)])


def _class_lines(table: pd.DataFrame) -> list[str]:
    """List the classes with their numbers of training and test images."""
    counts = table[table["part"] != ""].groupby("label")["part"].value_counts().unstack(fill_value=0)
    if len(counts):
        each = [f"{name} {row['train']:,} + {row['test']:,}" for name, row in counts.iterrows()]
        return [f"{len(each)} classes, training + test images: {', '.join(each)}"]
    if (table["label"] != "").any():
        return ["no image has a label: fewer than two classes have enough images"]
    return []


def _note_lines(table: pd.DataFrame, passed_over: Sequence[PassedOver]) -> list[str]:
    """List what was left out or is worth a remark: defects first, one by one, then what there may be many of."""
    broken = table[(table["problem"] != "") & ~table["problem"].str.startswith(COPY)]
    copies = table[table["problem"].str.startswith(COPY)]
    said = [f"{file}: {problem}" for file, problem in zip(broken["file"], broken["problem"], strict=True)]
    said += folder_walk.summary_lines(passed_over, harmless=False)
    few = len(copies) <= folder_walk.NAMED_SINGLY
    said += _file_lines(copies.assign(note=copies["note"] if few else f"{COPY}an earlier file"))
    noted = table[(table["problem"] == "") & (table["note"] != "")]
    labels = noted["note"].str.startswith(LABEL_NOT_USED)
    said += _file_lines(noted[labels])
    return said + folder_walk.summary_lines(passed_over, harmless=True) + _file_lines(noted[~labels])


def _file_lines(rows: pd.DataFrame) -> list[str]:
    files = zip(rows["file"], rows["note"], strict=True)
    return folder_walk.summary_lines(PassedOver(file, note, "files") for file, note in files)
