"""A folder of images becomes a data set: what goes where, what is left out, and that nothing is lost on the way."""

import hashlib
import json
import os
import pickle
import shlex
import shutil
import struct
import weakref
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import ExifTags, Image

from exemplarcnn.config.params import Config
from exemplarcnn.data import image_set, pools, stl10
from exemplarcnn.data.stl10 import ImageFile
from exemplarcnn.data.types import DataError
from exemplarcnn.evaluation import pseudo_labels
from exemplarcnn.importing import dvc_record, image_folder
from exemplarcnn.importing.image_folder import Imported, import_folder
from tests.conftest import profile_values

SIZES = {"ant": 30, "bee": 20, "cow": 14}


@pytest.fixture(scope="module")
def config() -> Config:
    values = profile_values("own")
    values["machine"]["workers"] = 1
    return Config.model_validate(values)


@pytest.fixture(autouse=True)
def tracked(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """DVC takes seconds; test_dvc_record.py has its part, tests/pipeline/test_own_images.py the whole."""
    roots: list[Path] = []
    monkeypatch.setattr(dvc_record, "record_data", roots.append)
    return roots


def draw(file: Path, number: int, height: int = 40, width: int = 52) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(number).integers(0, 256, (height, width, 3), np.uint8)
    Image.fromarray(pixels).save(file)


@pytest.fixture
def labelled(tmp_path: Path) -> Path:
    folder, number = tmp_path / "zoo", 0
    for name, count in SIZES.items():
        for _ in range(count):
            draw(folder / name / f"{number:03}.png", number)
            number += 1
    for _ in range(6):
        draw(folder / f"{number:03}.png", number)
        number += 1
    return folder


def done(root: Path, source: Path, config: Config, share: float = 0.3, unlabelled: bool = False) -> Imported:
    return import_folder(root, source, config, "zoo", share, unlabelled)


def provenance(root: Path) -> pd.DataFrame:
    return pd.read_csv(root / "data/provenance.csv", keep_default_na=False)


def test_every_image_is_where_the_table_says(
    tmp_path: Path, labelled: Path, config: Config, tracked: list[Path]
) -> None:
    found = done(tmp_path, labelled, config)
    assert tracked == [tmp_path]
    assert found.notes == []
    table = provenance(tmp_path)
    assert table["file"].tolist() == sorted(table["file"])
    assert len(table) == sum(SIZES.values()) + 6
    names = stl10.read_class_names(tmp_path / "data/class_names.txt")
    assert names == sorted(SIZES)
    written = {name: ImageFile(tmp_path / f"data/{name}_X.bin") for name in stl10.SPLITS}
    labels = {
        name: stl10.read_labels(tmp_path / f"data/{name}_y.bin", len(written[name])) for name in ("train", "test")
    }
    for row in table.to_dict("records"):
        with Image.open(labelled / row["file"]) as image:
            pixels = pools.centre_square(np.array(image))
        assert (row["height"], row["width"]) == (40, 52)
        if row["pool_index"] >= 0:
            assert np.array_equal(written["unlabeled"][row["pool_index"]], pixels)
        assert (row["pool_index"] < 0) == (row["part"] == "test"), "what is tested on is never learned from"
    for part in ("train", "test"):
        rows = table[table["part"] == part]
        assert rows["index"].tolist() == list(range(len(written[part])))
        assert [names[label] for label in labels[part]] == rows["label"].tolist()
        for file, index in zip(rows["file"], rows["index"], strict=True):
            with Image.open(labelled / file) as image:
                assert np.array_equal(written[part][index], pools.centre_square(np.array(image)))


def test_each_class_is_split_by_the_fraction(tmp_path: Path, labelled: Path, config: Config) -> None:
    summary = done(tmp_path, labelled, config).summary
    counts = provenance(tmp_path).groupby(["label", "part"]).size().to_dict()
    expected = {("", ""): 6}
    for name, size in SIZES.items():
        expected |= {(name, "test"): round(0.3 * size), (name, "train"): size - round(0.3 * size)}
    assert counts == expected
    assert (summary["train"], summary["test"], summary["unlabeled"]) == (45, 19, 51)
    assert summary["dataset"] == "zoo"
    about = json.loads((tmp_path / "data/import.json").read_text())
    assert about == {"name": "zoo", "files": 70, "test_share": 0.3, "labels": True, "left_out": 0}


def test_folds_have_of_each_class_what_cross_validation_needs(tmp_path: Path, labelled: Path, config: Config) -> None:
    done(tmp_path, labelled, config)
    train = provenance(tmp_path).query("part == 'train'")["label"].to_numpy()
    folds = stl10.read_folds(tmp_path / "data/fold_indices.txt", len(train))
    assert len({tuple(fold) for fold in folds}) > 1
    for fold in folds:
        names, counts = np.unique(train[fold], return_counts=True)
        assert names.tolist() == sorted(SIZES)
        assert counts.tolist() == [5, 5, 5]


def test_what_is_known_of_the_pool_is_the_labels_of_training_images(
    tmp_path: Path, labelled: Path, config: Config
) -> None:
    done(tmp_path, labelled, config)
    truth = pd.read_csv(tmp_path / "data/truth.csv", keep_default_na=False)
    pool = provenance(tmp_path).query("pool_index >= 0").sort_values("pool_index")
    assert truth["class"].tolist() == pool["label"].tolist()
    assert truth["index"].tolist() == list(range(len(pool)))


@pytest.mark.slow
def test_the_same_files_give_the_same_set_and_others_hardly_move_it(
    tmp_path: Path, labelled: Path, config: Config
) -> None:
    done(tmp_path, labelled, config)
    first = {file.name: file.read_bytes() for file in (tmp_path / "data").iterdir()}
    two = Config.model_validate(
        config.model_dump(by_alias=True) | {"machine": config.machine.model_copy(update={"workers": 2})}
    )
    done(tmp_path, labelled, two)
    assert {file.name: file.read_bytes() for file in (tmp_path / "data").iterdir()} == first
    before = provenance(tmp_path).set_index("file")["part"]
    for number in range(1000, 1010):
        draw(labelled / "ant" / f"{number}.png", number)
    done(tmp_path, labelled, config)
    after = provenance(tmp_path).set_index("file")["part"].reindex(before.index)
    assert (before != after).sum() <= 3, "a threshold moves by three images at most"


def test_without_folders_there_are_no_labels(tmp_path: Path, labelled: Path, config: Config) -> None:
    summary = done(tmp_path, labelled, config, unlabelled=True).summary
    assert (summary["train"], summary["test"], summary["unlabeled"]) == (0, 0, 70)
    assert (summary["fold_sizes"], summary["class_names"]) == ([], [])
    names = {file.name for file in (tmp_path / "data").iterdir()}
    assert names == {"unlabeled_X.bin", "provenance.csv", "import.json"}
    assert image_set.check(tmp_path / "data") == summary
    with pytest.raises(DataError, match=r"no labelled images.*own_unlabelled"):
        stl10.open_pool(tmp_path / "data", "train")


def test_one_folder_is_no_label(tmp_path: Path, labelled: Path, config: Config) -> None:
    for name in ("bee", "cow"):
        shutil.rmtree(labelled / name)
    for number in range(500, 520):
        draw(labelled / f"{number}.png", number)
    assert done(tmp_path, labelled, config).summary["train"] == 0


def test_a_class_that_is_too_small_goes_without_its_label_and_is_told(
    tmp_path: Path, labelled: Path, config: Config
) -> None:
    for number in range(500, 506):
        draw(labelled / "dodo" / f"{number}.png", number)
    found = done(tmp_path, labelled, config)
    assert found.summary["class_names"] == sorted(SIZES)
    why = "the label dodo is not used: 4 training and 2 test images, at least 5 and 1 are needed"
    assert found.notes == [f"6 files: {why}; the first is dodo/500.png"]
    assert found.said == ["3 classes, training + test images: ant 21 + 9, bee 14 + 6, cow 10 + 4"]
    dodo = provenance(tmp_path).query("label == 'dodo'")
    assert (dodo["pool_index"] >= 0).all(), "the images are used all the same"
    truth = pd.read_csv(tmp_path / "data/truth.csv", keep_default_na=False)
    assert "dodo" not in set(truth["class"])


def test_a_split_that_is_there_is_kept(tmp_path: Path, config: Config) -> None:
    folder, number = tmp_path / "split", 0
    for side, count in (("train", 15), ("val", 4)):
        for name in ("ant", "bee"):
            for _ in range(count):
                draw(folder / side / name / f"{number}.png", number)
                number += 1
    for _ in range(20):
        draw(folder / "unlabeled" / "any" / f"{number}.png", number)
        number += 1
    summary = done(tmp_path, folder, config, share=0.9).summary
    assert (summary["train"], summary["test"], summary["unlabeled"]) == (30, 8, 50)
    table = provenance(tmp_path)
    assert set(table.loc[table["part"] == "test", "file"].str.split("/").str[0]) == {"val"}
    assert summary["class_names"] == ["ant", "bee"]


def test_e_the_import_follows_links_and_names_what_it_does_not_enter(
    tmp_path: Path, labelled: Path, config: Config
) -> None:
    shutil.move(labelled / "cow", tmp_path / "cattle")
    (labelled / "cow").symlink_to(tmp_path / "cattle")
    (labelled / "ox").symlink_to(tmp_path / "cattle")
    (labelled / "ant/loop").symlink_to(labelled)
    (labelled / "ant/gone.png").symlink_to("nowhere.png")
    found = done(tmp_path, labelled, config)
    assert found.said == ["3 classes, training + test images: ant 21 + 9, bee 14 + 6, cow 10 + 4"]
    missing = "cannot be followed: No such file or directory"
    loop = "leads to a folder around it, not followed"
    same = "the same folder as cow, entered once"
    assert found.notes == [f"ant/gone.png: {missing}", f"ant/loop: {loop}", f"ox: {same}"]
    table = provenance(tmp_path)
    assert table["note"].tolist()[-3:] == [missing, loop, same]
    assert json.loads((tmp_path / "data/import.json").read_text())["left_out"] == 3


def test_f_hidden_copies_are_no_class_and_leave_the_real_files(tmp_path: Path, labelled: Path, config: Config) -> None:
    for hidden in (labelled / ".ipynb_checkpoints", labelled / "__MACOSX", labelled / "bee/@eaDir"):
        shutil.copytree(labelled / "ant", hidden)
    found = done(tmp_path, labelled, config)
    assert found.summary["class_names"] == sorted(SIZES)
    assert (found.summary["train"], found.summary["test"]) == (45, 19)
    why = "hidden or a tool's, not entered, 30 files inside"
    assert found.notes == [f"{name}: {why}" for name in (".ipynb_checkpoints", "__MACOSX", "bee/@eaDir")]


def test_g_a_split_with_usual_names_is_kept_and_its_classes_are_counted(tmp_path: Path, config: Config) -> None:
    number = 0
    for side, count in (("Training_set", 15), ("Test", 4), ("valid", 3)):
        for name in ("ant", "bee"):
            for _ in range(count):
                draw(tmp_path / "split" / side / name / f"{number}.png", number)
                number += 1
    for _ in range(8):
        draw(tmp_path / "split/unlabelled" / f"{number}.png", number)
        number += 1
    found = done(tmp_path, tmp_path / "split", config)
    assert (found.summary["train"], found.summary["test"], found.summary["unlabeled"]) == (36, 8, 44)
    assert found.said == [
        "unlabelled/: unlabelled, as the name says",
        "already split: Training_set/ for training, Test/ for testing",
        "valid/: for training too, since Test/ is there for testing",
        "2 classes, training + test images: ant 18 + 4, bee 18 + 4",
    ]


def test_g_a_question_comes_before_anything_is_read(
    tmp_path: Path, labelled: Path, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw(labelled / "Test/1.png", 900)
    monkeypatch.setattr(image_folder, "_read_images", None)
    with pytest.raises(
        DataError, match="cannot tell whether Test/ is a class, like ant/, bee/, cow/, or part of a split"
    ):
        done(tmp_path, labelled, config)
    assert not list(tmp_path.glob(".data*"))


def test_g_a_folder_around_all_says_why_there_are_no_labels(tmp_path: Path, labelled: Path, config: Config) -> None:
    for file in labelled.glob("*.png"):
        file.unlink()
    labelled.rename(tmp_path / "inner")
    (tmp_path / "outer").mkdir()
    (tmp_path / "inner").rename(tmp_path / "outer/inner")
    found = done(tmp_path, tmp_path / "outer", config)
    assert found.summary["fold_sizes"] == []
    assert found.said == [
        "no image has a label: all are in one folder, inner/. If the folders in it are classes, type "
        f"`exemplarcnn data import {shlex.quote(str(tmp_path / 'outer/inner'))}`"
    ]


def test_g_too_few_images_a_class_for_any_test_is_said(tmp_path: Path, config: Config) -> None:
    for number in range(60):
        draw(tmp_path / "two" / ("ant" if number < 57 else "bee") / f"{number}.png", number)
    found = done(tmp_path, tmp_path / "two", config)
    assert found.said == ["no image has a label: fewer than two classes have enough images"]
    assert found.summary["class_names"] == []


def test_h_names_stay_text_and_one_class_is_one_class(tmp_path: Path, config: Config) -> None:
    classes = ["NA", "null", "1", "01", "caf\u00e9", "cafe\u0301", "big\ncat"]
    for place, name in enumerate(classes):
        for number in range(10):
            draw(tmp_path / "odd" / name / f"{number}.png", 100 * place + number)
    found = done(tmp_path, tmp_path / "odd", config)
    names = ["01", "1", "NA", "big cat", "caf\u00e9", "null"]
    assert stl10.read_class_names(tmp_path / "data/class_names.txt") == found.summary["class_names"] == names
    table = provenance(tmp_path)
    train = table[table["part"] == "train"]
    labels = stl10.read_labels(tmp_path / "data/train_y.bin", len(train))
    assert [names[label] for label in labels] == train["label"].astype(str).tolist()
    files = train["file"].str.split("/").str[0].str.replace("e\u0301", "\u00e9").str.replace(r"\n", " ", regex=False)
    assert [names[label] for label in labels] == files.tolist()
    assert found.said[-1].endswith("caf\u00e9 14 + 6, null 7 + 3")
    known = pseudo_labels.true_labels(tmp_path / "data/truth.csv", names)
    assert known is not None
    pool = table[table["pool_index"] >= 0].sort_values("pool_index")
    assert [names[label] for label in known] == pool["label"].tolist()


def test_h_blanks_are_refused_with_the_path_in_the_given_folder_before_anything_is_written(
    tmp_path: Path, labelled: Path, config: Config
) -> None:
    draw(labelled / "ant " / "1.png", 900)
    with pytest.raises(
        DataError, match=f"'{labelled}/ant' and '{labelled}/ant ': found names that differ only in blanks"
    ):
        done(tmp_path, labelled, config)
    assert not (tmp_path / "data").exists()
    assert not list(tmp_path.glob(".data*"))


def test_j_names_that_are_not_utf8_are_imported(tmp_path: Path, labelled: Path, config: Config) -> None:
    (labelled / "ant").rename(labelled / os.fsdecode(b"fourmi\xe9"))
    draw(labelled / os.fsdecode(b"bee/caf\xe9.png"), 900)
    (labelled / os.fsdecode(b"bee/caf\xea.png")).write_bytes(b"no image")
    found = import_folder(tmp_path, labelled, config, os.fsdecode(b"zo\xe9"), 0.3, False)
    assert found.summary["dataset"] == r"zo\xe9"
    assert found.summary["class_names"] == ["bee", "cow", r"fourmi\xe9"]
    assert provenance(tmp_path).set_index("file").loc[r"bee/caf\xe9.png", "label"] == "bee"
    assert len(found.notes) == 1
    assert found.notes[0].startswith(r"bee/caf\xea.png: cannot be read: ")
    "\n".join(found.said + found.notes).encode()


@pytest.mark.slow
def test_notes_defects_come_first_and_other_files_are_grouped(tmp_path: Path, labelled: Path, config: Config) -> None:
    for number in range(2198):
        (labelled / "ant" / f"{number}.txt").touch()
    for number in range(5):
        shutil.copy(labelled / "ant/000.png", labelled / "bee" / f"copy {number}.png")
        Image.new("L", (60, 60), 90 + number).save(labelled / f"grey {number}.png")
    (labelled / "cow/broken.jpg").write_bytes(b"no image")
    (labelled / "cow/gone.jpg").symlink_to("nowhere.jpg")
    notes = done(tmp_path, labelled, config).notes
    assert notes[0].startswith("cow/broken.jpg: cannot be read: ")
    assert notes[1:] == [
        "cow/gone.jpg: cannot be followed: No such file or directory",
        "5 files: the same bytes as an earlier file; the first is bee/copy 0.png",
        "2,198 .txt: no image by its name; the first is ant/0.txt",
        "5 files: no colour; the first is grey 0.png",
    ]
    table = provenance(tmp_path)
    assert (table["note"] == "no image by its name").sum() == 2198
    assert (table["note"] == "the same bytes as ant/000.png").sum() == 5


def test_size_no_task_carries_the_list_of_files(
    tmp_path: Path, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: dict[int, set[int]] = {}

    def spy(work: Any, shared: Any, tasks: Any, workers: int) -> Any:
        for task in tasks:
            sizes.setdefault(count, set()).add(len(pickle.dumps((work, shared, task))))
            yield work(shared, task)

    monkeypatch.setattr(image_folder, "in_order", spy)
    for count in (64, 640):
        for number in range(count):
            draw(tmp_path / "many" / f"{number:03}.png", number, 33, 33)
        done(tmp_path, tmp_path / "many", config)
    assert len(sizes[64] | sizes[640]) == 1, "what is sent does not grow with the folder"


def test_size_pixels_are_never_held_for_more_than_one_task(
    tmp_path: Path, labelled: Path, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Read, they go to a file, and from there into others: memory grows with the table alone."""
    read: list[weakref.ref[Any]] = []
    inner, written = pools.centre_square, stl10.stream_images

    def square(*options: Any) -> Any:
        read.append(weakref.ref(squared := inner(*options)))
        held.append(sum(each() is not None for each in read))
        return squared

    def stream(path: Path, each: Any) -> None:
        assert sum(one() is not None for one in read) <= image_folder.FILES_A_TASK
        written(path, map(noted, each))

    def noted(image: Any) -> Any:
        sources.append(type(image))
        return image

    held: list[int] = []
    sources: list[type] = []
    monkeypatch.setattr(pools, "centre_square", square)
    monkeypatch.setattr(stl10, "stream_images", stream)
    done(tmp_path, labelled, config)
    assert max(held) <= 2 * image_folder.FILES_A_TASK < len(read), "the task before, until its images are written"
    assert set(sources) == {np.memmap}, "what is cut and resized is mapped from its file"


def test_size_a_process_that_the_system_ends_leaves_the_old_data(
    tmp_path: Path, labelled: Path, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    def end(*_: object) -> None:
        raise BrokenProcessPool

    monkeypatch.setattr(image_folder, "in_order", end)
    with pytest.raises(
        DataError, match=r"a process that read images was killed.*data/ is unchanged.*Lower machine\.workers"
    ):
        done(tmp_path, labelled, config)
    assert not list(tmp_path.glob(".data*"))


def test_odd_files_are_named_and_the_rest_is_used(tmp_path: Path, labelled: Path, config: Config) -> None:
    ant = labelled / "ant"
    (ant / "broken.jpg").write_bytes(b"no image")
    (ant / "notes.txt").write_text("no image")
    whole = ant / "cut.png"
    draw(whole, 700)
    whole.write_bytes(whole.read_bytes()[:2000])
    Image.new("L", (60, 60), 90).save(ant / "grey.png")
    Image.new("RGB", (8, 8)).save(ant / "tiny.png")
    Image.new("RGB", (9000, 6000)).save(ant / "huge.png")
    shutil.copy(ant / "000.png", labelled / "bee" / "copy.png")
    Image.new("RGBA", (50, 50), (200, 30, 30, 128)).save(ant / "clear.png")
    Image.fromarray(np.full((50, 50), 40_000, np.uint16)).save(ant / "deep.png")
    found = done(tmp_path, labelled, config)
    told = {note.split(": ")[0]: note.split(": ", 1)[1] for note in found.notes}
    assert told.pop("ant/broken.jpg") == "cannot be read: no sound JPEG, PNG, WEBP, TIFF, BMP, PPM, AVIF or GIF"
    assert told.pop("ant/cut.png").startswith("cannot be read: ")
    assert told.pop("ant/tiny.png").startswith("too small: 8×8")
    assert told.pop("ant/huge.png").startswith("too large: 6000×9000")
    assert told.pop("ant/notes.txt") == "no image by its name"
    assert told.pop("bee/copy.png") == "the same bytes as ant/000.png"
    assert {told.pop(name) for name in ("ant/grey.png", "ant/deep.png")} == {"no colour"}
    assert told.pop("ant/clear.png") == "transparent, put on white"
    assert told == {}
    table = provenance(tmp_path).set_index("file")
    for name in ("ant/broken.jpg", "ant/cut.png", "ant/tiny.png", "ant/huge.png", "bee/copy.png"):
        assert (table.loc[name, "part"], table.loc[name, "pool_index"]) == ("", -1)
    about = json.loads((tmp_path / "data/import.json").read_text())
    assert about["left_out"] == 6
    for name in ("ant/grey.png", "ant/clear.png", "ant/deep.png"):
        assert table.loc[name, "part"] in ("train", "test")


def test_a_file_that_the_system_does_not_give_ends_nothing(
    tmp_path: Path, labelled: Path, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    errors = {"locked.png": PermissionError(13, "Permission denied"), "bad.png": OSError(5, "Input/output error")}
    inner = Path.open

    def refuse(self: Path, *options: Any, **more: Any) -> Any:
        if self.name in errors:
            raise errors[self.name]
        return inner(self, *options, **more)

    for name in errors:
        draw(labelled / "ant" / name, 900)
    monkeypatch.setattr(Path, "open", refuse)
    found = done(tmp_path, labelled, config)
    assert sorted(found.notes) == [
        "ant/bad.png: cannot be read: Input/output error",
        "ant/locked.png: cannot be read: Permission denied",
    ]
    assert found.summary["unlabeled"] + found.summary["test"] == sum(SIZES.values()) + 6
    row = provenance(tmp_path).set_index("file").loc["ant/locked.png"]
    assert (row["md5"], row["part"], row["pool_index"]) == ("", "", -1)


def test_images_that_were_clipped_blackened_or_ended_the_import(tmp_path: Path, labelled: Path, config: Config) -> None:
    Image.fromarray((np.arange(4096).reshape(64, 64) * 16).astype("uint16")).save(labelled / "deep.png")
    Image.new("F", (64, 64), 0.5).save(labelled / "float.tif")
    logo = np.zeros((96, 96, 4), np.uint8)
    logo[20:40, 20:40, 3] = 255
    Image.fromarray(logo).save(labelled / "logo.png")
    shutil.copy(labelled / "logo.png", labelled / "logo.jpg")
    odd = b"Exif\0\0II*\0\x08\0\0\0\x02\0" + struct.pack("<HHI", 256, 2, 4) + b"abc\0"
    odd += struct.pack("<HHI", 274, 3, 1) + b"\6\0\0\0" + bytes(4)
    Image.new("RGB", (60, 40), (200, 30, 30)).save(labelled / "odd.jpg", exif=odd)
    (labelled / "script.jpg").write_bytes(
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 60 60\n%%EndComments\nshowpage\n"
    )
    found = done(tmp_path, labelled, config)
    assert found.notes == [
        "float.tif: cannot be read: values of mode F have no known range, 8 or 16 bits have",
        "script.jpg: cannot be read: no sound JPEG, PNG, WEBP, TIFF, BMP, PPM, AVIF or GIF",
        "logo.png: the same bytes as logo.jpg",
        "deep.png: no colour",
        "logo.jpg: transparent, put on white; no colour",
    ]
    rows, pool = provenance(tmp_path).set_index("file"), ImageFile(tmp_path / "data/unlabeled_X.bin")
    assert (rows.loc["odd.jpg", "height"], rows.loc["odd.jpg", "width"]) == (60, 40)
    stored = pool[int(rows["pool_index"]["logo.jpg"])]
    assert np.array_equal(stored, np.where(logo[..., 3:] == 255, 0, 255).repeat(3, 2))
    assert (pool[int(rows["pool_index"]["deep.png"])] == 255).mean() < 0.02


def test_photographs_are_turned_upright(tmp_path: Path, labelled: Path, config: Config) -> None:
    pixels = np.zeros((60, 40, 3), np.uint8)
    pixels[:30] = 255
    lying = Image.fromarray(np.rot90(pixels).copy())
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    lying.save(labelled / "photo.png", exif=exif)
    done(tmp_path, labelled, config)
    row = provenance(tmp_path).set_index("file").loc["photo.png"].to_dict()
    assert (row["height"], row["width"]) == (60, 40)
    upright = ImageFile(tmp_path / "data/unlabeled_X.bin")[int(row["pool_index"])]
    assert upright[:40].mean() > 250
    assert upright[-40:].mean() < 5


def test_too_few_images(tmp_path: Path, config: Config) -> None:
    for number in range(image_folder.MIN_IMAGES - 1):
        draw(tmp_path / "few" / f"{number}.png", number)
    with pytest.raises(DataError, match="found 49 usable images, expected at least 50"):
        done(tmp_path, tmp_path / "few", config)
    assert not (tmp_path / "data").exists()
    assert not list(tmp_path.glob(".data*")), "nothing unfinished stays"


def test_no_folder(tmp_path: Path, config: Config) -> None:
    with pytest.raises(DataError, match="nowhere: found no such folder, expected one of images"):
        done(tmp_path, tmp_path / "nowhere", config)


def test_too_many_folders(tmp_path: Path, config: Config) -> None:
    for number in range(256):
        draw(tmp_path / "many" / f"class {number}" / "one.png", number, 33, 33)
    with pytest.raises(DataError, match=r"found 256 folders of images, expected 255 classes at most.*--unlabelled"):
        done(tmp_path, tmp_path / "many", config)


def test_more_training_images_than_classifiers_take(
    tmp_path: Path, labelled: Path, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image_folder, "MAX_TRAINING_IMAGES", 30)
    summary = done(tmp_path, labelled, config).summary
    assert summary["train"] == 14 + 9 + 6
    assert summary["unlabeled"] == 51, "the others stay in the pool"
    truth = pd.read_csv(tmp_path / "data/truth.csv", keep_default_na=False)
    assert (truth["class"] != "").sum() == 45


@pytest.mark.parametrize(
    ("counts", "kept"),
    [
        ({"a": 300, "b": 300, "rare": 6}, {"a": 47, "b": 47, "rare": 6}),  # of which a hundredth would be none
        ({"a": 10, "b": 90, "c": 300}, {"a": 5, "b": 22, "c": 73}),
        ({"a": 50, "b": 50}, {"a": 50, "b": 50}),
        ({f"small {number}": 7 for number in range(14)} | {"large": 500}, None),
    ],
)
def test_small_classes_keep_what_a_fold_needs_and_the_whole_stays_below_the_limit(
    monkeypatch: pytest.MonkeyPatch, counts: dict[str, int], kept: dict[str, int] | None
) -> None:
    monkeypatch.setattr(image_folder, "MAX_TRAINING_IMAGES", 100)
    labels = [label for label, count in counts.items() for _ in range(count)]
    table = pd.DataFrame({"label": labels, "file": [f"{number:04}" for number in range(len(labels))]})
    table["md5"] = [hashlib.md5(name.encode()).hexdigest() for name in table["file"]]
    part = image_folder._limit_training(pd.Series("train", table.index), table, 5)
    found = table[part == "train"]["label"].value_counts()
    assert found.sum() <= 100
    assert found.min() >= 5
    assert set(found.index) == set(counts)
    if kept is not None:
        assert found.to_dict() == pytest.approx(kept, abs=1)
        assert found.sum() > 97


def test_a_full_disk_leaves_the_old_data(
    tmp_path: Path, labelled: Path, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    done(tmp_path, labelled, config)
    before = {file.name: hashlib.md5(file.read_bytes()).hexdigest() for file in (tmp_path / "data").iterdir()}

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(stl10, "stream_images", full)
    with pytest.raises(DataError, match=r"No space left.*the old data is unchanged"):
        done(tmp_path, labelled, config, unlabelled=True)
    assert {file.name: hashlib.md5(file.read_bytes()).hexdigest() for file in (tmp_path / "data").iterdir()} == before


def test_the_second_pool_of_other_data_does_not_stay(tmp_path: Path, labelled: Path, config: Config) -> None:
    draw(tmp_path / "data/other/1.png", 1)
    assert done(tmp_path, labelled, config).summary["other"] is None
    assert not (tmp_path / "data/other").exists()


@pytest.mark.parametrize("side", [64, 128])
def test_images_have_the_side_that_was_asked_for(tmp_path: Path, labelled: Path, config: Config, side: int) -> None:
    draw(labelled / "ant" / "large.png", 1, 300, 200)
    found = import_folder(tmp_path, labelled, config, "zoo", 0.3, False, side)
    assert found.summary["side"] == side
    assert json.loads((tmp_path / "data/import.json").read_text())["side"] == side
    assert image_set.check(tmp_path / "data") == found.summary
    written = {name: stl10.open_pool(tmp_path / "data", name) for name in stl10.SPLITS}
    table = provenance(tmp_path)
    assert [len(pool) for pool in written.values()] == [found.summary[name] for name in ("train", "test", "unlabeled")]
    for row in table.to_dict("records"):
        with Image.open(labelled / row["file"]) as image:
            pixels = pools.centre_square(np.array(image), side)
        assert pixels.shape == (side, side, 3)
        places = {row["part"]: row["index"], "unlabeled": row["pool_index"]}
        for name in {"train", "test", "unlabeled"} & {key for key, place in places.items() if place >= 0}:
            assert np.array_equal(written[name][places[name]], pixels), (row["file"], name)


def test_of_stl10s_side_nothing_is_said(tmp_path: Path, labelled: Path, config: Config) -> None:
    done(tmp_path, labelled, config)
    before = {file.name: file.read_bytes() for file in (tmp_path / "data").iterdir()}
    import_folder(tmp_path, labelled, config, "zoo", 0.3, False, 96)
    assert {file.name: file.read_bytes() for file in (tmp_path / "data").iterdir()} == before


@pytest.mark.parametrize("side", [31, 257, 0, "x", 64.0])
def test_a_side_that_cannot_be_is_refused_before_a_file_is_read(
    tmp_path: Path, labelled: Path, config: Config, side: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    done(tmp_path, labelled, config)
    before = {file.name: file.read_bytes() for file in (tmp_path / "data").iterdir()}
    monkeypatch.setattr(image_folder, "ImageFolder", None)
    with pytest.raises(DataError, match=r"--side: found .* for the side of images, expected .* from 32 to 256"):
        import_folder(tmp_path, labelled, config, "zoo", 0.3, False, side)
    assert {file.name: file.read_bytes() for file in (tmp_path / "data").iterdir()} == before
