"""What folders say of images: classes, splits, and names (letters G and H of the folders that are misread)."""

from pathlib import Path

import pytest

from exemplarcnn.data.types import DataError
from exemplarcnn.importing.folder_labels import FolderLabels, kind_of, read


def understood(*files: str, unlabelled: bool = False, source: str = "zoo") -> FolderLabels:
    return read(files, Path(source), unlabelled)


def pairs(*files: str) -> list[tuple[str, str]]:
    found = understood(*files)
    return list(zip(found.splits, found.labels, strict=True))


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        (
            "train",
            "train Train TRAINING training_set train-set TrainSet train2017 trainval train_data a-train",
        ),
        ("test", "test Testing test_set testset test_images Test2 seg_test"),
        ("valid", "val valid Validation validation_set val2017 eval Evaluation dev valset"),
        ("unlabelled", "unlabeled Unlabelled unlabeled_images train_unlabeled"),
        (None, "trains contest latest steam value values device evaluator strain cat"),
    ],
)
def test_g_names_of_splits(kind: str | None, names: str) -> None:
    assert {name: kind_of(name) for name in names.split()} == dict.fromkeys(names.split(), kind)


def test_g_a_class_may_have_a_word_of_a_split_in_its_name() -> None:
    assert kind_of("steam train", strictly=True) is None
    assert kind_of("Test Images 2", strictly=True) == "test"
    assert understood("steam train/1.png", "test tubes/2.png", unlabelled=True).labels == ["", ""]


@pytest.mark.parametrize(
    ("train", "test"),
    [("Train", "Test"), ("training_set", "test_set"), ("TRAINING", "testing"), ("train", "valid"), ("train", "eval")],
)
def test_g_a_split_is_recognised_whatever_its_names(train: str, test: str) -> None:
    files = [f"{train}/cat/1.png", f"{train}/dog/x/2.png", f"{test}/cat/3.png", f"{test}/dog/4.png", "5.png"]
    files += ["unlabelled/any/6.png", f"{train}/7.png"]
    known = [("train", "cat"), ("train", "dog"), ("test", "cat"), ("test", "dog")]
    assert pairs(*files)[:5] == [*known, ("", "")]
    assert [label for _, label in pairs(*files)[5:]] == ["", ""]
    assert understood(*files).said == [
        "unlabelled/: unlabelled, as the name says",
        f"already split: {train}/ for training, {test}/ for testing",
    ]


def test_g_validation_images_train_where_there_are_test_images() -> None:
    files = ["train/a/1.png", "train/b/2.png", "val/a/3.png", "test/b/4.png", "extra/5.png"]
    assert pairs(*files) == [("train", "a"), ("train", "b"), ("train", "a"), ("test", "b"), ("", "")]
    assert understood(*files).said[1:] == [
        "val/: for training too, since test/ is there for testing",
        "extra/: unlabelled, since it is not part of the split",
    ]


def test_g_test_images_without_classes_have_no_labels() -> None:
    files = ["train/a/1.png", "train/b/2.png", "val/a/3.png", "test/4.png"]
    assert pairs(*files) == [("train", "a"), ("train", "b"), ("test", "a"), ("", "")]
    assert understood(*files).said[-1] == "test/: unlabelled, since it has no folders of classes"
    with pytest.raises(DataError, match=r"no folders of classes in test/.*`exemplarcnn data import 'my zoo/train'`"):
        understood(*files[:2], files[3], source="my zoo")


def test_g_training_images_beside_unlabelled_ones() -> None:
    files = ["Train/a/1.png", "Train/b/2.png", "unlabeled/3.png"]
    assert pairs(*files) == [("", "a"), ("", "b"), ("", "")]


def test_g_a_split_within_the_classes() -> None:
    files = ["a/Train/1.png", "a/Test/2.png", "a/val/x/3.png", "b/Train/4.png", "b/Test/5.png", "a/6.png"]
    expected = [("train", "a"), ("test", "a"), ("train", "a"), ("train", "b"), ("test", "b"), ("", "a")]
    assert pairs(*files) == expected
    assert pairs("a/train/1.png", "b/train/2.png", "a/val/3.png") == [("train", "a"), ("train", "b"), ("test", "a")]


@pytest.mark.parametrize(
    "files",
    [
        ["Train/1.png", "Test/2.png"],
        ["train/only/1.png", "test/only/2.png"],
        ["car/1.png", "train/2.png", "test/3.png"],
    ],
)
def test_g_a_split_without_classes_is_asked_about(files: list[str]) -> None:
    with pytest.raises(DataError, match=r"are parts of a split: .*rename them; .*add --unlabelled"):
        understood(*files)
    assert understood(*files, unlabelled=True) == FolderLabels([""] * len(files), [""] * len(files), [])


@pytest.mark.parametrize(
    ("odd", "files"),
    [
        ("test", ["cat/1.png", "dog/2.png", "test/3.png"]),
        ("test_set", ["test_set/a/1.png", "val_set/a/2.png"]),
        ("Train", ["Train/a/1.png", "Train/b/2.png", "more/3.png"]),
    ],
)
def test_g_what_may_be_a_class_or_a_part_of_a_split_is_asked_about(odd: str, files: list[str]) -> None:
    with pytest.raises(
        DataError, match=rf"zoo: cannot tell whether {odd}/ is a class, like .*/, or part of a split: .*--unlabelled"
    ):
        understood(*files)


def test_g_a_class_may_be_called_train() -> None:
    assert understood("car/1.png", "train/2.png", "ship/3.png").labels == ["car", "train", "ship"]


def test_g_unlabelled_images_beside_classes() -> None:
    found = understood("a/1.png", "b/2.png", "Unlabeled/3.png", "4.png")
    assert found.labels == ["a", "b", "", ""]
    assert found.said == ["Unlabeled/: unlabelled, as the name says"]


@pytest.mark.parametrize(
    ("files", "why"),
    [
        (["1.png", "2.png"], "no image has a label: none is in the folder of a class"),
        (["a/1.png", "2.png"], "no image has a label: a single folder, a/, is not a class; it takes two or more"),
        (["a/1.png", "a/b/2.png"], "no image has a label: a single folder, a/, is not a class; it takes two or more"),
        (
            ["my set/in/cat/1.png", "my set/in/dog/2.png"],
            "no image has a label: all are in one folder, my set/in/. If the folders in it are classes, type "
            "`exemplarcnn data import 'zoo/my set/in'`",
        ),
    ],
)
def test_g_why_there_are_no_labels(files: list[str], why: str) -> None:
    assert understood(*files) == FolderLabels(["", ""], ["", ""], [why])


def test_h_names_that_look_like_numbers_or_nothing_stay_text() -> None:
    names = ["NA", "null", "1", "01", "1.0", "nan", "None", "True"]
    assert understood(*(f"{name}/x.png" for name in names)).labels == names


def test_h_two_spellings_of_unicode_are_one_class() -> None:
    found = understood("caf\u00e9/1.png", "cafe\u0301/2.png", "tea/3.png")
    assert found.labels == ["caf\u00e9", "caf\u00e9", "tea"]
    assert found.said == [
        "'zoo/cafe\u0301' and 'zoo/caf\u00e9': one class, caf\u00e9; the names differ only in Unicode composition"
    ]
    assert understood("Train/cafe\u0301/1.png", "Train/a/2.png", "Test/caf\u00e9/3.png").labels == ["café", "a", "café"]


def test_h_line_ends_and_control_characters_become_a_blank() -> None:
    found = understood("big\ncat/1.png", "dog\x1b\x85/2.png", "a\u2028 b/3.png")
    assert found.labels == ["big cat", "dog", "a b"]
    assert r"'zoo/big\ncat': the class is called big cat" in found.said


@pytest.mark.parametrize("other", ["cat ", " cat", "cat\n", "cat\u00a0"])
def test_h_names_that_differ_in_blanks_are_refused_with_the_real_paths(other: str) -> None:
    with pytest.raises(DataError, match="differ only in blanks") as refused:
        understood("cat/1.png", f"{other}/2.png", "dog/3.png")
    assert repr("zoo/cat") in str(refused.value)
    assert repr(f"zoo/{other}") in str(refused.value)
    with pytest.raises(DataError, match="'zoo/test/cat ' and 'zoo/train/cat'"):
        understood("train/cat/1.png", "train/dog/2.png", "test/cat /3.png")
    with pytest.raises(DataError, match="found a name of blanks only"):
        understood("cat/1.png", " /2.png")


def test_j_a_class_whose_name_is_not_utf8() -> None:
    assert understood("caf\udce9/1.png", "tea/2.png").labels == [r"caf\xe9", "tea"]
