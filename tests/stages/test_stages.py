"""Stages, run in this process one after another on a small set: what each passes on to the next."""

import csv
import json
import os
import re
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from exemplarcnn import paths, stages
from exemplarcnn.classes import seeding, tables
from exemplarcnn.config.params import Config
from exemplarcnn.config.variants import ClusterEntry
from exemplarcnn.data import colour_axes, stl10
from exemplarcnn.evaluation.classifiers import FeatureSet
from exemplarcnn.evaluation.protocols import evaluate
from exemplarcnn.files import md5_of
from exemplarcnn.networks import resnet, saved
from exemplarcnn.networks.features import eval_features
from exemplarcnn.reporting import pictures
from exemplarcnn.stages import group, surrogate
from exemplarcnn.tracking import runs, sending
from tests.conftest import profile_values

CLASSES = ("hot", "cold", "odd")
# In an order in which each finds what it reads; the graph itself is DVC's, see tests/pipeline.
ORDER = (
    "audit",
    "seed baseline",
    "seed imagenet",
    "colours unlabeled",
    "colours other",
    "surrogate baseline",
    "surrogate imagenet",
    "train baseline",
    "train imagenet",
    "embed baseline",
    "embed imagenet",
    "group clustered",
    "regroup random",
    "surrogate clustered",
    "surrogate random",
    "train clustered",
    "train random",
    "embed clustered",
    "embed random",
    "control raw_pixels",
    "control kmeans",
    "describe random_network",
    "evaluate raw_pixels",
    "evaluate kmeans",
    "evaluate random_network",
    "evaluate baseline",
    "evaluate clustered",
    "evaluate random",
    "evaluate imagenet",
    "outliers",
    "label semi_supervised",
    "label supervised",
    "resnet semi_supervised",
    "resnet supervised",
    "report",
    "draw",
)


def draw(generator: np.random.Generator, labels: list[int]) -> np.ndarray:
    """Images of noise with a bright square in the colour of their class."""
    pixels = generator.integers(0, 120, (len(labels), 96, 96, 3), np.uint8)
    for image, label in zip(pixels, labels, strict=True):
        top, left = generator.integers(0, 50, 2)
        image[top : top + 40, left : left + 40, label] = 255
    return pixels


def write_data(data: Path) -> None:
    generator = np.random.default_rng(0)
    data.mkdir()
    for name, count in (("unlabeled", 42), ("train", 60), ("test", 30)):
        labels = [number % len(CLASSES) for number in range(count)]
        stl10.write_images(data / f"{name}_X.bin", draw(generator, labels))
        if name != "unlabeled":
            stl10.write_labels(data / f"{name}_y.bin", labels)
    stl10.write_class_names(data / "class_names.txt", CLASSES)
    # Each fold has five images a class, and no two folds are the same.
    stl10.write_folds(data / "fold_indices.txt", [np.arange(15) + 5 * fold // 2 for fold in range(stl10.FOLDS)])
    (data / "other").mkdir()
    for number, picture in enumerate(draw(generator, [0, 1, 2] * 4)):
        Image.fromarray(picture).resize((120, 96 + number)).save(data / "other" / f"{number:02}.png")
    (data.parent / "data.dvc").write_text("outs:\n- md5: 00000000000000000000000000000000.dir\n  path: data\n")


def values() -> dict[str, Any]:
    made = profile_values("tiny_bench")
    made["machine"] |= {"threads": 1, "workers": 1}
    made["variants"]["seed"]["baseline"] |= {"classes": 15}
    made["variants"]["seed"]["imagenet"] |= {"classes": 6}
    made["variants"]["group"]["clustered"] |= {"classes": 8}
    # The one rate of a variant's own: a first layer that stays as it was.
    rates = json.loads(json.dumps(made["train"]["groups"]))
    rates["conv1"]["lr"] = 1e-30
    made["variants"]["train"]["clustered"]["groups"] = rates
    made["variants"]["train"]["random"]["init_from"] = "models/baseline/weights.safetensors"
    made["train"]["epochs"] = 1
    made["variants"]["control"]["kmeans"] |= {"images": 20, "centres": 8}
    made["evaluate"] |= {"C": [1.0], "k": [1]}
    made["outliers"]["pairs"] = 5
    made["resnet"] |= {"epochs": 1, "epoch_images": 16, "batch_size": 16}
    return made


@contextmanager
def untracked(kind: str, variant: str, config: Config) -> Iterator[runs.Run]:
    yield runs.Run()


@pytest.fixture(scope="module")
def config() -> Config:
    return Config.model_validate(values())


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, config: Config) -> Iterator[Path]:
    """A folder in which every stage has run, and which is the working folder: it is read only."""
    folder, before = tmp_path_factory.mktemp("stages"), Path.cwd()
    sent: list[Config] = []
    os.chdir(folder)
    write_data(folder / "data")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runs, "run", untracked)
        patch.setattr(sending, "send_if_possible", sent.append)
        patch.setattr(resnet, "CHUNK", 30)
        for line in ORDER:
            stage, _, variant = line.partition(" ")
            import_module(f"exemplarcnn.stages.{stage}").run(variant, config)
    assert sent == [config], "stage draw sends what there is, once"
    yield folder
    os.chdir(before)


def test_every_stage_is_run_here() -> None:
    modules = {path.stem for path in Path(stages.__file__).parent.glob("[a-z]*.py")}
    assert {line.partition(" ")[0] for line in ORDER} == modules


def test_the_report_has_every_row(project: Path, config: Config) -> None:
    results = json.loads(paths.RESULTS_JSON.read_text())
    assert [row["variant"] for row in results["rows"]] == list(config.rows)
    assert all(0 < row["accuracy_mean"] <= 100 for row in results["rows"])
    text = paths.RESULTS_MD.read_text()
    assert all(row["title"] in text for row in results["rows"])


def test_every_picture_is_drawn_and_says_from_what(project: Path, config: Config) -> None:
    sources = json.loads(paths.PICTURE_SOURCES.read_text())
    assert set(sources) == {path.relative_to(paths.PICTURES).as_posix() for path in paths.PICTURES.rglob("*.png")}
    variants = config.variants
    drawn: dict[str, Iterable[str]] = {"patches": variants.train, "filters": variants.train}
    drawn |= {"clusters": variants.group, "labels": variants.label, "confusion": config.rows, "mistakes": config.rows}
    for kind, names in drawn.items():
        assert {name for name in sources if name.startswith(f"{kind}/")} == {f"{kind}/{name}.png" for name in names}
    pools = ("unlabeled", "other", "train", "test")
    expected = {f"{kind}-{pool}" for kind in ("borders", "empty") for pool in pools} | {"duplicates", "leaks"}
    assert {path.stem for path in paths.AUDIT_PICTURES.iterdir()} == expected
    assert {path.stem for path in paths.OUTLIERS_PICTURES.iterdir()} == {"farthest", "nearest", "pairs"}
    data = "0" * 32 + ".dir"
    assert sources["confusion/kmeans.png"] == [md5_of(paths.confusion("kmeans"))]
    assert sources["labels/supervised.png"] == [data, md5_of(paths.labels("supervised"))]
    assert sources["mistakes/kmeans.png"] == [data, md5_of(paths.mistakes("kmeans"))]
    assert sources["results.png"] == [md5_of(paths.RESULTS_JSON)]


@pytest.mark.slow
def test_pictures_of_what_is_no_longer_asked_for_go(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, config: Config
) -> None:
    shutil.copytree(project, tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
    before = {path: path.read_bytes() for path in paths.PICTURES.rglob("*.png")}
    pictures.draw(config.model_copy(update={"variants": config.variants.model_copy(update={"label": {}})}))
    after = {path: path.read_bytes() for path in paths.PICTURES.rglob("*.png")}
    gone = {path.relative_to(paths.PICTURES).as_posix() for path in before.keys() - after.keys()}
    names = ("semi_supervised", "supervised")
    assert gone == {f"{kind}/{name}.png" for kind in ("confusion", "labels", "mistakes") for name in names}
    assert after == {path: content for path, content in before.items() if path in after}, "the same bytes"


def figures_in(path: Path) -> list[str]:
    """All numbers of a file that are not whole, as they are written."""
    if path.suffix == ".json":
        found: list[str] = []
        json.loads(path.read_text(), parse_float=found.append)
        return found
    cells = [cell for row in csv.reader(path.read_text().splitlines()) for cell in row]
    return [cell for cell in cells if re.fullmatch(r"-?\d+\.\d+(e-?\d+)?|-?\d+e-?\d+", cell)]


def digits(figure: str) -> int:
    """Significant digits of a number: 0.0120 has two."""
    return len(figure.partition("e")[0].lstrip("-").replace(".", "").strip("0"))


def test_figures_in_git_have_six_digits_and_no_more(project: Path) -> None:
    """What comes after is a matter of the CPU, and would be a change in git."""
    files = [path for folder in (paths.METRICS, paths.REPORTS) for path in folder.rglob("*.[cj]s*[vn]")]
    by_file = {str(path): figures_in(path) for path in files}
    for name in (
        "train.csv",
        "confusion.csv",
        "mistakes.csv",
        "eval.json",
        "clusters.json",
        "outliers.json",
        "results.json",
    ):
        assert any(path.endswith(name) and found for path, found in by_file.items())
    long = {path: [figure for figure in found if digits(figure) > 6] for path, found in by_file.items()}
    assert not {path: found for path, found in long.items() if found}
    assert max(digits(figure) for found in by_file.values() for figure in found) == 6
    # What is computed with has all its digits.
    search = paths.classifiers("baseline") / "search.json"
    assert max(map(digits, figures_in(search))) > 6


def test_a_variant_trains_with_rates_of_its_own(project: Path) -> None:
    moved = {}
    for variant in ("baseline", "clustered"):
        first, last = (load_file(paths.model(variant) / f"{name}.safetensors") for name in ("initial", "weights"))
        moved[variant] = {name: float((last[name] - first[name]).abs().max()) for name in first if "weight" in name}
    assert all(amount > 1e-6 for amount in moved["baseline"].values())
    assert moved["clustered"].pop("conv1.weight") == 0
    assert all(amount > 1e-6 for amount in moved["clustered"].values())


def test_a_variant_starts_from_the_weights_of_another(project: Path) -> None:
    there = load_file(paths.model("baseline") / "weights.safetensors")
    here = {variant: load_file(paths.model(variant) / "initial.safetensors") for variant in ("random", "clustered")}
    for name, tensor in there.items():
        if name.startswith(("conv", "dense1")):
            assert torch.equal(here["random"][name], tensor)
            assert not torch.equal(here["clustered"][name], tensor)
    about = json.loads((paths.surrogate_set("random") / "set.json").read_text())
    assert here["random"]["mean"].flatten().tolist() == pytest.approx(about["mean"])
    assert len(here["random"]["dense2.bias"]) == about["classes"]
    assert not torch.equal(
        load_file(paths.model("random") / "weights.safetensors")["conv1.weight"], there["conv1.weight"]
    )


def test_the_random_network_is_the_one_before_its_first_step(project: Path, config: Config) -> None:
    pixels = stl10.open_pool(paths.DATA, "test").batch(range(30))
    for variant, file in (("random_network", "initial.safetensors"), ("baseline", "weights.safetensors")):
        describe = eval_features(saved.load(paths.model("baseline"), file), config.features, torch.device("cpu"))
        found = np.load(paths.eval_features(variant, "test"))
        np.testing.assert_allclose(found, describe(pixels), atol=1e-5)
    assert not np.allclose(found, np.load(paths.eval_features("random_network", "test")), atol=1e-3)


@pytest.mark.parametrize("variant", ["raw_pixels", "baseline"])
def test_each_fold_has_a_classifier_of_its_own_images(project: Path, config: Config, variant: str) -> None:
    train, test = (np.load(paths.eval_features(variant, split)) for split in ("train", "test"))
    labels = stl10.read_labels(paths.TRAIN_LABELS, len(train))
    folds = stl10.read_folds(paths.FOLDS, len(train))
    predictions = np.load(paths.classifiers(variant) / "predictions.npy")
    weights = load_file(paths.classifiers(variant) / "svm.safetensors")["weights"]
    for number, fold in enumerate(folds):
        # With one C to choose from, a fold's classifier depends on its images alone.
        alone = evaluate(FeatureSet(train, labels, [fold], test, len(CLASSES)), config.evaluate, config.seed, 1)
        (result,) = alone[config.evaluate.protocols[0].name]
        np.testing.assert_array_equal(predictions[number], result.predictions)
        assert result.linear is not None
        np.testing.assert_array_equal(weights[number], result.linear.weights)
    assert len({each.numpy().tobytes() for each in weights}) == len(folds)
    truth = stl10.read_labels(paths.TEST_LABELS, len(test))
    found = json.loads(paths.evaluation(variant).read_text())["fold_accuracies"]
    assert found == pytest.approx([100 * float((row == truth).mean()) for row in predictions])


def test_groups_are_made_of_the_features_they_name(project: Path, config: Config) -> None:
    table = pd.read_csv(paths.class_table("clustered"))
    entry = config.variants.group["clustered"]
    assert isinstance(entry, ClusterEntry)
    assert table["class_id"].nunique() == entry.classes
    assert not table["image_id"].duplicated().any()
    random = pd.read_csv(paths.class_table("random"))
    assert set(random["image_id"]) == set(table["image_id"])
    assert random["class_id"].tolist() == table["class_id"].tolist()
    assert np.load(paths.cluster_features("baseline")).shape[0] == 42


def test_images_too_far_from_the_classes_are_counted(project: Path, config: Config) -> None:
    found = json.loads(paths.OUTLIERS_JSON.read_text())
    counted = found["counted"]
    assert (counted["inside"], counted["inside_above"]) == (30, 1), "the test images, and 5 % of them"
    scores = pd.read_csv(paths.OUTLIERS / "images.csv")["score"]
    assert counted["images"] == (scores > counted["threshold"]).sum()
    assert counted["share"] == pytest.approx(counted["images"] / 42, rel=1e-5)
    assert f"{counted['images']} unlabelled images (" in paths.RESULTS_MD.read_text()


def test_fewer_classes_than_wanted_are_told(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.copytree(project, tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
    made = values()
    made["variants"]["group"]["clustered"] |= {"classes": 50, "or_fewer": True}
    group.run("clustered", Config.model_validate(made))
    told = "of up to 50 classes: the 21 held-out images suffice for 7 single ones with 3"
    assert told in caplog.text
    caplog.clear()
    group.run("clustered", Config.model_validate(values()))
    assert not caplog.text


def test_labels_are_the_folds_or_the_classifiers(project: Path) -> None:
    given, guessed = (pd.read_csv(paths.labels(name)) for name in ("supervised", "semi_supervised"))
    fold = stl10.read_folds(paths.FOLDS, 60)[0]
    assert given["image_id"].tolist() == sorted(fold.tolist())
    assert given["label"].tolist() == (np.sort(fold) % len(CLASSES)).tolist()
    assert set(guessed["pool"]) == {"unlabeled"}
    for name in ("supervised", "semi_supervised"):
        assert len(pd.read_csv(paths.learning_curve(name))) == 1
        assert np.load(paths.classifiers(name) / "predictions.npy").shape == (1, 30)


def test_a_surrogate_set_says_the_side_of_the_data_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, config: Config
) -> None:
    """By it the network, and whoever describes files with it, know what side to resize to."""
    monkeypatch.chdir(tmp_path)
    pixels = np.random.default_rng(0).integers(0, 256, (4, 64, 64, 3), np.uint8)
    stl10.write_images(paths.DATA / "unlabeled_X.bin", pixels, 64)
    (paths.DATA / stl10.IMPORT_FILE).write_text('{"name": "mine", "side": 64}')
    table = config.variants.train["baseline"].table
    tables.write(paths.class_table(table), seeding.seed_table(4, 4, 0, np.arange(4)))
    colour_axes.write(paths.colours("unlabeled"), None)
    surrogate.run("baseline", config)
    assert json.loads((paths.surrogate_set("baseline") / "set.json").read_text())["side"] == 64


def test_the_nearest_class_of_an_image_is_its_own(project: Path) -> None:
    """The colour of the square, which any network's features tell: labels in another order would show."""
    table = pd.read_csv(paths.OUTLIERS / "images.csv")
    own = np.array(CLASSES)[table["image_id"] % len(CLASSES)]
    assert (table["nearest"] == own).mean() > 0.8
    assert table.loc[table["nearest"] == own, "score"].mean() < 0


def test_guessed_labels_are_those_of_the_images(project: Path) -> None:
    table = pd.read_csv(paths.labels("semi_supervised"))
    guessed = table[table["pool"] == "unlabeled"]
    assert len(guessed) > 10
    assert (guessed["label"] == guessed["image_id"] % len(CLASSES)).mean() > 0.8
