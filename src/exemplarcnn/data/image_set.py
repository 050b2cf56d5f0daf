"""Check a whole data folder: which set it is, and whether its files agree (docs/method.md, section 1)."""

from pathlib import Path
from typing import TypedDict

from exemplarcnn.data import pools, stl10
from exemplarcnn.files import md5_of

STL10_COUNTS = {"train": 5_000, "test": 8_000, "unlabeled": 100_000}
STL10_MD5 = {  # smallest first, so that another set is recognised before the large files are read
    "train_y.bin": "5a34089d4802c674881badbb80307741",
    "test_y.bin": "36f9794fa4beb8a2c72628de14fa638e",
    "train_X.bin": "918c2871b30a85fa023e0c44e0bee87f",
    "test_X.bin": "7f263ba9f9e0b06b93213547f721ac82",
    "unlabeled_X.bin": "5242ba1fed5e4be9e1e742405eb56ca4",
}
STL10_FOLDS_MD5 = "4bbf8cd098ab9f87fe03fbcb37c06b28"


class Summary(TypedDict):
    """What `check` found: name and side of the set, images per pool, folds and class names (none without labels)."""

    dataset: str
    side: int
    train: int
    test: int
    unlabeled: int
    other: int | None
    fold_sizes: list[int]
    folds_official: bool
    class_names: list[str]


def check(data: Path) -> Summary:
    """Check a whole data folder and describe it (docs/method.md, section 1).

    Only a set with the sizes of STL-10 is hashed, to tell the original from another set of these sizes.

    Parameters
    ----------
    data : Path
        Folder in STL-10's layout, with or without ``other/``; or with unlabelled images only.

    Returns
    -------
    Summary
        ``dataset`` is ``STL-10`` if the five ``.bin`` files have the published md5s; the name of an imported set;
        ``sample`` if ``sample.json`` is beside the files; else ``custom``.

    Raises
    ------
    DataError
        If any file is missing or disagrees with another.
    """
    labelled = stl10.has_labels(data)
    splits = stl10.SPLITS if labelled else ("unlabeled",)
    counts = {split: len(stl10.open_pool(data, split)) for split in splits}
    summary = Summary(
        dataset="",
        side=stl10.side_of(data),
        train=counts.get("train", 0),
        test=counts.get("test", 0),
        unlabeled=counts["unlabeled"],
        other=len(pools.open_pool(data, "other")) if pools.has_other(data) else None,
        fold_sizes=[],
        folds_official=False,
        class_names=[],
    )
    if labelled:
        for split in ("train", "test"):
            stl10.read_labels(data / f"{split}_y.bin", counts[split])
        folds = data / "fold_indices.txt"
        summary["fold_sizes"] = [len(fold) for fold in stl10.read_folds(folds, counts["train"])]
        summary["folds_official"] = folds_are_official(folds)
        summary["class_names"] = stl10.read_class_names(data / "class_names.txt")
    summary["dataset"] = _dataset(data, counts)
    return summary


def _dataset(data: Path, counts: dict[str, int]) -> str:
    if counts == STL10_COUNTS and all(md5_of(data / name) == md5 for name, md5 in STL10_MD5.items()):
        return "STL-10"
    if name := stl10.read_import(data).get("name"):
        return str(name)
    return "sample" if (data / "sample.json").is_file() else "custom"


def folds_are_official(path: Path) -> bool:
    """Tell whether a fold file is STL-10's own, by its md5."""
    return md5_of(path) == STL10_FOLDS_MD5
