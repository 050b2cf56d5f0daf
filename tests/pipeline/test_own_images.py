"""One's own images: from a folder to the report, with no edit but a profile, with labels and without."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from .conftest import ROOT, Project

CLASSES = {"hot": (230, 60, 40), "cold": (40, 90, 220), "odd": (60, 200, 60)}
TRAINED = ["baseline", "clustered"]


def draw(folder: Path, labelled: bool) -> None:
    """Draw 25 images a class: blocks of its colour on noise, of several sizes."""
    for label, colour in CLASSES.items():
        for number in range(25):
            generator = np.random.default_rng((len(label), number))
            height, width = generator.integers(40, 130, 2)
            pixels = generator.integers(0, 120, (height, width, 3), np.uint8)
            top, left = generator.integers(0, 20, 2)
            pixels[top : top + 20, left : left + 20] = colour
            file = folder / (label if labelled else ".") / f"{label}{number}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(file)


def shrink(values: dict[str, Any]) -> None:
    """Make profile `own` small enough for a test; what a person would not do."""
    values["network"] |= {"widths": [4, 6, 8], "dense": 16}
    values["train"]["epochs"] = 1
    values["evaluate"]["C"] = [0.1, 1.0]
    values["machine"] |= {"threads": 1, "workers": 1}
    for each in values["variants"]["train"].values():
        each["patches_per_image"] = 2
    if kmeans := values["variants"]["control"].get("kmeans"):
        kmeans |= {"images": 40, "patches_per_image": 10, "centres": 20}


@pytest.fixture(scope="module")
def project(fresh: Project) -> Project:
    return fresh


def imported(project: Project, source: Path, profile: str, *options: str) -> str:
    said = project.run("exemplarcnn", "data", "import", str(source), *options).stdout
    assert f"exemplarcnn profile {profile} && make demo" in said
    project.run("exemplarcnn", "profile", profile)
    project.run("exemplarcnn", "check")
    project.change(shrink)
    return said


def test_a_labelled_folder_to_the_report_and_the_served_model(project: Project, tmp_path: Path) -> None:
    """Of another side than STL-10's, with odd files in it."""
    source = tmp_path / "weather"
    draw(source, labelled=True)
    (source / "hot/broken.jpg").write_bytes(b"no image")
    (source / "hot/notes.txt").write_text("no image")
    Image.new("RGB", (8, 8)).save(source / "cold/tiny.png")
    Image.new("L", (120, 120), 90).save(source / "cold/grey.png")
    for number, size in enumerate([(200, 900), (1500, 700)]):
        pixels = np.random.default_rng(number).integers(0, 256, (*size, 3), np.uint8)
        Image.fromarray(pixels).save(source / f"hot/large{number}.png")
    said = imported(project, source, "own", "--side", "128")
    for name in ("hot/broken.jpg", "hot/notes.txt", "cold/tiny.png", "cold/grey.png"):
        assert f"  {name}: " in said
    assert "data/: weather; 54 unlabelled, 54 training and 24 test images; 10 folds of 15" in said
    assert "; 128×128 pixels\n" in said
    assert not (project.folder / "data/other").exists()
    project.repro()
    results = json.loads((project.folder / "reports/results.json").read_text())
    assert [row["variant"] for row in results["rows"]] == ["raw_pixels", "kmeans", "random_network", *TRAINED]
    assert results["dataset"]["name"] == "weather"
    raw = results["rows"][0]
    assert raw["accuracy_mean"] > 60, "colours tell these classes apart"
    assert set(raw["class_accuracies"]) == set(CLASSES)
    text = (project.folder / "reports/results.md").read_text()
    assert "; 128×128 pixels. Profile" in text
    assert "## Published results" not in text, "what others report is of STL-10"
    seeds = pd.read_csv(project.folder / "classes/baseline.csv")
    assert len(seeds) <= 54, "as many classes as there are images, where `own` would have up to 1,000"
    assert project.repro() == []
    project.run("exemplarcnn", "page")
    assert "weather" in (project.folder / "reports/index.html").read_text()

    project.run("exemplarcnn", "embed", str(source), "--model", "clustered", "--out", "features.npy")
    table = pd.read_csv(project.folder / "data/provenance.csv", keep_default_na=False).set_index("file")
    table = table[table["index"] >= 0]
    files = pd.read_csv(project.folder / "features.csv")["file"]
    assert sorted(files) == sorted(table.index)
    sides = {name: np.load(project.folder / f"features/clustered/eval/{name}.npy") for name in ("train", "test")}
    expected = np.stack([sides[table.loc[file, "part"]][table.loc[file, "index"]] for file in files])
    np.testing.assert_allclose(np.load(project.folder / "features.npy"), expected, atol=1e-6)
    project.run("exemplarcnn", "register", "clustered")
    code = """
import mlflow, numpy as np
from pathlib import Path
from exemplarcnn.data import stl10
model = mlflow.pyfunc.load_model("models:/exemplarcnn-encoder@champion")
assert model.metadata.signature.inputs.inputs[0].shape == (-1, 128, 128, 3), model.metadata.signature
pool = stl10.open_pool(Path("data"), "test")
np.save("served.npy", model.predict(pool.batch(range(len(pool))).astype(np.float32)))
"""
    store = f"sqlite:///{project.folder}/mlflow.db"
    project.run("python", "-c", code, MLFLOW_TRACKING_URI=store)
    np.testing.assert_allclose(np.load(project.folder / "served.npy"), sides["test"], atol=1e-5)


def test_a_patch_larger_than_the_images_is_refused_before_any_work(project: Project, tmp_path: Path) -> None:
    draw(tmp_path / "small", labelled=True)
    project.run("exemplarcnn", "data", "import", str(tmp_path / "small"), "--side", "32")
    project.run("exemplarcnn", "profile", "own")
    project.change(lambda values: values["variants"]["train"]["clustered"].update(patch=64))
    done = project.dvc("repro", check=False)
    assert done.returncode != 0
    assert "images of 32×32 pixels, but variants.train.clustered.patch is 64; set 32 or less" in done.stderr
    assert done.stdout.count("Running stage") == 1


def test_a_folder_without_labels_ends_with_features_and_clusters(project: Project, tmp_path: Path) -> None:
    source = tmp_path / "photos"
    draw(source, labelled=False)
    said = imported(project, source, "own_unlabelled")
    assert "data/: photos; 75 unlabelled images, none with a label" in said
    done = project.dvc("repro")
    assert "nothing was tested" in done.stderr
    for name in TRAINED:
        features = np.load(project.folder / f"features/{name}/cluster.npy", mmap_mode="r", allow_pickle=False)
        assert len(features) == 75
    classes = pd.read_csv(project.folder / "classes/clustered.csv")
    assert classes["image_id"].is_unique
    results = json.loads((project.folder / "reports/results.json").read_text())
    assert results["rows"] == []
    assert [entry["variant"] for entry in results["learned"]] == TRAINED
    for picture in ("results.png", "neighbours.png", "clusters/clustered.png", "audit/duplicates.png"):
        assert (project.folder / "reports/pictures" / picture).exists()
    assert project.repro() == []
    said = project.run("exemplarcnn", "log").stdout
    assert all(f"train@{name}: there already" in said for name in TRAINED)
    project.run("exemplarcnn", "page")
    page = (project.folder / "reports/index.html").read_text()
    assert "The images have no labels, so nothing was tested" in page
    assert "Confusion matrix" not in page, "those of the labelled images before still lie there"
    assert "The images have no labels" in project.run("exemplarcnn", "show").stdout
    project.run("exemplarcnn", "embed", str(source), "--model", "clustered", "--out", "features.npy")
    assert len(pd.read_csv(project.folder / "features.csv")) == 75
    said = project.run("exemplarcnn", "register", check=False).stderr
    assert "no labels" in said


def test_a_profile_that_tests_is_refused_before_any_work(project: Project, tmp_path: Path) -> None:
    if (project.folder / "data/train_X.bin").exists():
        draw(tmp_path / "photos", labelled=False)
        project.run("exemplarcnn", "data", "import", str(tmp_path / "photos"))
    project.run("exemplarcnn", "profile", "own")
    done = project.dvc("repro", check=False)
    assert done.returncode != 0
    assert "run `exemplarcnn profile own_unlabelled`" in done.stderr
    assert done.stdout.count("Running stage") == 1
    assert "run `exemplarcnn profile own_unlabelled`" in project.run("exemplarcnn", "check", check=False).stderr


def test_the_tutorials_images(project: Project) -> None:
    text = (ROOT / "docs/own-images.md").read_text()
    script = project.folder / "work/digits.py"
    script.parent.mkdir(exist_ok=True)
    script.write_text(text.partition("```python\n")[2].partition("```")[0])
    project.run("python", "work/digits.py")
    said = project.run("exemplarcnn", "data", "import", "work/digits").stdout
    told = text.partition("that no image has colour, and `")[2].partition("`")[0]
    assert told.startswith("data/: digits; ")
    assert told in said
    assert "  1,797 files: no colour; the first is 0/0000.png\n" in said
