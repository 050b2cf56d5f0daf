"""Registered models: what they answer, over HTTP and on folders, and that wrong requests leave the server alive."""

import json
import os
import signal
import socket
import subprocess
import sys
import sysconfig
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import onnxruntime
import pandas as pd
import pytest
import torch
import yaml
from PIL import Image
from safetensors.numpy import load_file

from exemplarcnn.data.stl10 import ImageFile, read_class_names

from .conftest import Project

CLASSIFIER, ENCODER = "exemplarcnn-classifier", "exemplarcnn-encoder"
BATCH, MOST_IMAGES = 50, 60


@pytest.fixture(scope="module")
def project(finished: Project) -> Project:
    """The finished project, with its variants registered."""
    finished.run("exemplarcnn", "register")
    return finished


def client_of(project: Project) -> mlflow.MlflowClient:
    return mlflow.MlflowClient(f"sqlite:///{project.folder}/mlflow.db")


def mean_accuracy(project: Project, variant: str) -> float:
    return float(json.loads((project.folder / f"metrics/{variant}/eval.json").read_text())["accuracy_mean"])


def champion(project: Project) -> str:
    """Which of the two trained variants is better; the first of equals."""
    return max(("baseline", "clustered"), key=lambda name: mean_accuracy(project, name))


def expected(project: Project) -> tuple[np.ndarray, np.ndarray]:
    """Features of the test images and their scores, of the champion as the pipeline has them."""
    name = champion(project)
    features = np.load(project.folder / f"features/{name}/eval/test.npy")
    svm = load_file(project.folder / f"classifiers/{name}/all.safetensors")
    return features, features.astype(np.float64) @ svm["weights"].T.astype(np.float64) + svm["intercept"]


def test_the_classifier_of_all_labels_is_the_one_that_was_evaluated(project: Project) -> None:
    _, scores = expected(project)
    labels = np.fromfile(project.folder / "data/test_y.bin", np.uint8).astype(int) - 1
    summary = json.loads((project.folder / f"metrics/{champion(project)}/eval.json").read_text())
    assert 100 * (scores.argmax(axis=1) == labels).mean() == pytest.approx(summary["others"]["full"]["accuracy_mean"])


def test_every_variant_is_a_version_once_and_the_best_is_champion(project: Project) -> None:
    client = client_of(project)
    for model in (CLASSIFIER, ENCODER):
        versions = client.search_model_versions(f"name = '{model}'")
        assert sorted(each.tags["variant"] for each in versions) == ["baseline", "clustered"]
        for each in versions:
            accuracy = mean_accuracy(project, each.tags["variant"])
            assert float(each.tags["accuracy_mean"]) == pytest.approx(accuracy, abs=1e-3)
            assert each.run_id is not None
            assert client.get_run(each.run_id).data.tags["variant"] == each.tags["variant"]
            assert client.get_run(each.run_id).info.status == "FINISHED"
        assert client.get_model_version_by_alias(model, "champion").tags["variant"] == champion(project)
        second = next(each for each in versions if each.tags["variant"] == "clustered")
        gain = mean_accuracy(project, "clustered") - mean_accuracy(project, "baseline")
        assert float(second.tags["champion.gain"]) == pytest.approx(gain, abs=1e-3)
    again = project.run("exemplarcnn", "register").stdout
    assert again.count("(already registered)") == 4
    assert len(client.search_model_versions("")) == 4


def test_what_is_not_what_dvc_made_is_not_registered(project: Project) -> None:
    file = project.folder / "models/baseline/weights.safetensors"
    aside = file.rename(file.with_suffix(".aside"))
    try:
        done = project.run("exemplarcnn", "register", "baseline", check=False)
    finally:
        aside.rename(file)
    assert done.returncode == 1
    assert "models/baseline is not what `dvc repro` made; `dvc checkout` restores that" in done.stderr
    project.change(lambda values: values["features"].update(pool=1))
    done = project.run("exemplarcnn", "register", "baseline", check=False)
    project.reset()
    assert "params.yaml says features.pool: 1, but" in done.stderr
    done = project.run("exemplarcnn", "register", "nobody", check=False)
    assert "no trained and evaluated variant 'nobody'; name one of baseline, clustered" in done.stderr


def test_a_model_works_where_this_package_is_not_installed(project: Project, tmp_path: Path) -> None:
    images = ImageFile(project.folder / "data/test_X.bin").batch(range(20))
    np.save(tmp_path / "images.npy", images.astype(np.float32))
    code = f"""
import importlib.util, numpy as np, mlflow
assert importlib.util.find_spec("exemplarcnn") is None
model = mlflow.pyfunc.load_model("models:/{ENCODER}@champion")
assert "exemplarcnn" in __import__("sys").modules
np.save(r"{tmp_path}/features.npy", model.predict(np.load(r"{tmp_path}/images.npy")))
"""
    # -S leaves out the .pth file of the editable installation, not the libraries.
    environment = {
        **{key: value for key, value in project.environment.items() if key != "PYTHONPATH"},
        "PYTHONPATH": sysconfig.get_paths()["purelib"],
        "MLFLOW_TRACKING_URI": f"sqlite:///{project.folder}/mlflow.db",
    }
    done = subprocess.run(
        [sys.executable, "-S", "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    features, _ = expected(project)
    np.testing.assert_allclose(np.load(tmp_path / "features.npy"), features[:20], atol=1e-5)


def test_nothing_of_a_model_is_a_pickle(project: Project, tmp_path: Path) -> None:
    for model in (CLASSIFIER, ENCODER):
        words = ["mlflow", "artifacts", "download", "-u", f"models:/{model}@champion", "-d", str(tmp_path / model)]
        project.run(*words, MLFLOW_TRACKING_URI=f"sqlite:///{project.folder}/mlflow.db")
        files = [file for file in (tmp_path / model).rglob("*") if file.is_file()]
        assert {"weights.safetensors", "pyfunc.py", "MLmodel"} <= {file.name for file in files}
        assert not [file for file in files if file.suffix in (".pkl", ".pickle", ".pt", ".pth", ".joblib", ".bin")]
        assert not [file for file in files if file.suffix != ".safetensors" and file.read_bytes()[:1] == b"\x80"]


class Server:
    """`mlflow models serve` on a free port."""

    def __init__(self, project: Project, model: str):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        words = ["mlflow", "models", "serve", "-m", f"models:/{model}@champion", "-p", str(self.port)]
        environment = project.environment | {"MLFLOW_TRACKING_URI": f"sqlite:///{project.folder}/mlflow.db"}
        # MLflow gives a request a minute, in which a busy machine does not read a thousand images from JSON.
        environment |= {"MLFLOW_SCORING_SERVER_REQUEST_TIMEOUT": "600"}
        self.log = project.folder.parent / f"{model}.log"
        self.process = subprocess.Popen(
            [*words, "--env-manager=local"],
            cwd=project.folder.parent,
            env=environment,
            stdout=self.log.open("w"),
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        started = time.monotonic()
        while not self.alive():
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() - started < 180, self.log.read_text()
            time.sleep(0.5)

    def alive(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/ping", timeout=5) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, TimeoutError):
            return False

    def ask(self, body: bytes, kind: str = "application/json") -> tuple[int, Any]:
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}/invocations", body, {"Content-Type": kind})
        try:
            with urllib.request.urlopen(request, timeout=600) as answer:
                return answer.status, json.loads(answer.read())
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def close(self) -> None:
        os.killpg(self.process.pid, signal.SIGTERM)
        self.process.wait(30)


@pytest.fixture(scope="module")
def server(project: Project) -> Iterator[Server]:
    """A server of a model that takes fewer images at once: MLflow reads a thousand from JSON in half a minute."""
    version = client_of(project).get_model_version_by_alias(CLASSIFIER, "champion")
    about = Path(
        mlflow.artifacts.download_artifacts(
            client_of(project).get_model_version_download_uri(CLASSIFIER, version.version)
        ),
        "MLmodel",
    )
    values = yaml.safe_load(about.read_text())
    values["flavors"]["python_function"]["config"] = {"most_images": MOST_IMAGES}
    about.write_text(yaml.safe_dump(values))
    made = Server(project, CLASSIFIER)
    yield made
    made.close()


def body(images: np.ndarray) -> bytes:
    return json.dumps({"inputs": images.tolist()}).encode()


def test_the_served_model_has_the_numbers_of_the_pipeline(project: Project, server: Server) -> None:
    pool = ImageFile(project.folder / "data/test_X.bin")
    names = read_class_names(project.folder / "data/class_names.txt")
    rows: list[dict[str, Any]] = []
    for start in range(0, 3 * BATCH, BATCH):
        code, answer = server.ask(body(pool.batch(range(start, start + BATCH))))
        assert code == 200, answer
        rows += answer["predictions"]
    scores = expected(project)[1][: 3 * BATCH]
    assert len(rows) == len(scores)
    np.testing.assert_allclose([[row[f"score_{name}"] for name in names] for row in rows], scores, atol=1e-5)
    assert [row["class"] for row in rows] == [names[best] for best in scores.argmax(axis=1)]


WRONG = {
    "no JSON": (b"{", "valid JSON"),
    "nothing": (b"", "valid JSON"),
    "no key": (b"[1]", "must be a JSON dictionary"),
    "another key": (b'{"images": []}', "must be"),
    "no image": (b'{"inputs": []}', "Failed to enforce schema"),
    "text": (b'{"inputs": "cat.png"}', "Failed to convert data `cat.png` to type `Tensor('float32', (-1, 96, 96, 3))`"),
    "texts": (b'{"inputs": ["a", "b"]}', "could not convert string to float"),
    "ragged": (b'{"inputs": [[1], [2, 3]]}', "inhomogeneous"),
    "one image": (body(np.zeros((96, 96, 3), int)), "does not match expected shape"),
    "channels first": (body(np.zeros((1, 3, 96, 96), int)), "does not match expected shape"),
    "small": (body(np.zeros((2, 32, 32, 3), int)), "does not match expected shape"),
    "scaled": (body(np.full((1, 96, 96, 3), 0.5)), "expected whole numbers from 0 to 255"),
    "too bright": (body(np.full((1, 96, 96, 3), 256)), "expected whole numbers from 0 to 255"),
    "not a number": (body(np.full((1, 96, 96, 3), np.nan)), "expected whole numbers from 0 to 255"),
    "null": (b'{"inputs": null}', ""),
    "a table": (b'{"dataframe_split": {"columns": ["x"], "data": [[1]]}}', ""),
}


@pytest.mark.parametrize("kind", WRONG)
def test_a_wrong_request_is_refused_with_a_message(server: Server, kind: str) -> None:
    text, message = WRONG[kind]
    code, answer = server.ask(text)
    assert 400 <= code < 500, answer
    assert message in answer
    assert "Traceback" not in answer


def test_too_many_images_are_refused_and_the_server_lives_on(project: Project, server: Server) -> None:
    code, answer = server.ask(body(np.zeros((MOST_IMAGES + 1, 96, 96, 3), int)))
    assert (code, "found 61 images, expected 60 at most" in answer) == (400, True), answer
    right = body(ImageFile(project.folder / "data/test_X.bin").batch([0]))
    before = server.ask(right)
    for number in range(200):
        text, _ = list(WRONG.values())[number % len(WRONG)]
        code, _ = server.ask(text, "application/json" if number % 50 else "text/plain")
        assert 400 <= code < 500
    # MLflow's server has no words for this one, but survives it.
    assert server.ask(b'{"inputs": ' + b"[" * 100_000 + b"]" * 100_000 + b"}")[0] == 500
    assert server.process.poll() is None
    assert server.ask(right) == before


@pytest.fixture(scope="module")
def folder(project: Project, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Some test images as files, one of them large, and files that are none."""
    made = tmp_path_factory.mktemp("images")
    pool = ImageFile(project.folder / "data/test_X.bin")
    for number in range(5):
        Image.fromarray(pool[number]).save(made / f"{number}.png")
    Image.fromarray(np.repeat(np.repeat(pool[0], 3, 0), 5, 1)).save(made / "wide.png")
    (made / "broken.png").write_bytes(b"no image")
    (made / "notes.txt").write_text("no image")
    return made


@pytest.mark.parametrize("from_store", [False, True])
def test_a_folder_gets_the_features_of_the_pipeline(
    project: Project, folder: Path, tmp_path: Path, from_store: bool
) -> None:
    model = f"models:/{ENCODER}@champion" if from_store else champion(project)
    done = project.run("exemplarcnn", "embed", str(folder), "--model", model, "--out", str(tmp_path / "features.npy"))
    assert "broken.png left out" in done.stderr
    files = pd.read_csv(tmp_path / "features.csv")["file"].tolist()
    assert files == [*(f"{number}.png" for number in range(5)), "wide.png"]
    features, _ = expected(project)
    assert np.array_equal(np.load(tmp_path / "features.npy")[:5], features[:5])
    project.run("exemplarcnn", "embed", str(folder), "--model", model, "--out", str(tmp_path / "table.csv"))
    table = pd.read_csv(tmp_path / "table.csv")
    np.testing.assert_allclose(table.drop(columns="file").to_numpy()[:5], features[:5], atol=1e-6)


def test_a_folder_gets_the_classes_of_the_pipeline(project: Project, folder: Path, tmp_path: Path) -> None:
    words = ["exemplarcnn", "predict", str(folder), "--model", f"models:/{CLASSIFIER}@champion"]
    project.run(*words, "--out", str(tmp_path / "classes.csv"))
    table = pd.read_csv(tmp_path / "classes.csv")
    names = read_class_names(project.folder / "data/class_names.txt")
    _, scores = expected(project)
    np.testing.assert_allclose(table[[f"score_{name}" for name in names]].to_numpy()[:5], scores[:5], atol=1e-5)
    assert table["class"].tolist()[:5] == [names[best] for best in scores[:5].argmax(axis=1)]
    project.run(*words, "--out", str(tmp_path / "scores.npy"))
    assert np.load(tmp_path / "scores.npy").shape == (6, 10)


def test_an_exported_file_has_the_features_of_the_pipeline(project: Project, tmp_path: Path) -> None:
    """One of a variant, and one of a registered model, beside which it is logged."""
    images = ImageFile(project.folder / "data/test_X.bin").batch(range(20))
    features, _ = expected(project)
    done = project.run("exemplarcnn", "export", champion(project), "--out", str(tmp_path / "one.pt2"))
    assert f"to features (n, {features.shape[1]}) float32" in done.stdout
    program = torch.export.load(tmp_path / "one.pt2").module()
    np.testing.assert_allclose(program(torch.from_numpy(images)).detach(), features[:20], rtol=0, atol=1e-5)

    address = f"sqlite:///{project.folder}/mlflow.db"
    done = project.run("exemplarcnn", "export", f"models:/{ENCODER}@champion", MLFLOW_TRACKING_URI=address)
    file = project.folder / "exports" / f"{ENCODER}-champion.onnx"
    (found,) = onnxruntime.InferenceSession(file).run(None, {"images": images})
    np.testing.assert_allclose(found, features[:20], rtol=0, atol=1e-5)
    uri = done.stdout.strip().rpartition(" logged as ")[2]
    words = ["mlflow", "artifacts", "download", "-u", uri, "-d", str(tmp_path / "logged")]
    project.run(*words, MLFLOW_TRACKING_URI=address)
    (logged,) = (tmp_path / "logged").rglob("*.onnx")
    assert logged.read_bytes() == file.read_bytes()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("export", "nobody"), "no variant 'nobody'; name one of baseline, clustered"),
        (("export", "baseline", "--out", "net.pt"), "found ending '.pt'; name a file that ends in .onnx or .pt2"),
        (("export", "models:/nobody@champion"), "`exemplarcnn register` makes models"),
        (("embed", ".", "--model", "nobody", "--out", "x.npy"), "no variant 'nobody'; name one of baseline, clustered"),
        (("embed", ".", "--model", "models:/nobody@champion", "--out", "x.npy"), "`exemplarcnn register` makes models"),
        (("embed", ".", "--model", "baseline", "--out", "x.txt"), "name a file that ends in .csv or .npy"),
        (("embed", "nowhere", "--model", "baseline", "--out", "x.npy"), "nowhere: found no such folder"),
        (("predict", ".", "--model", f"models:/{ENCODER}@champion", "--out", "x.npy"), "has no classifier"),
    ],
)
def test_what_cannot_be_done_is_said(project: Project, words: tuple[str, ...], message: str) -> None:
    done = project.run("exemplarcnn", *words, check=False)
    assert done.returncode == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr
