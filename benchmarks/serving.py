"""Serve the champion over HTTP and compare its answers on the whole test set with the pipeline's own numbers.

    python benchmarks/serving.py            # after `make demo`; a minute
    python benchmarks/serving.py --fresh    # in an environment with only the model's requirements; some minutes, 5 GB

Prints the largest difference between scores; images per second over HTTP, in requests of 50 images one after the other,
and without HTTP; and what became of 1,000 requests of wrong shape, type or size. The project's own store is not
touched.
"""

import argparse
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from safetensors.numpy import load_file

from _common import ROOT, finish
from exemplarcnn import paths
from exemplarcnn.config.params import load
from exemplarcnn.data import stl10
from exemplarcnn.files import read_array, read_json
from exemplarcnn.serving.packed_model import PackedModel, pack

MODEL = "exemplarcnn-classifier"
BATCH = 50
PACKAGE = "exemplarcnn"


def wrong_requests() -> dict[str, bytes]:
    """Return requests that the server must refuse."""
    return {
        "shape": body(np.zeros((1, 3, 96, 96), int)),
        "no batch": body(np.zeros((96, 96, 3), int)),
        "scaled to 0-1": body(np.full((1, 96, 96, 3), 0.5)),
        "text": b'{"inputs": "cat"}',
        "no JSON": b"{",
        "too many": body(np.zeros((1001, 96, 96, 3), np.uint8)),
    }


def body(batch: NDArray[np.generic]) -> bytes:
    """Return a batch as a request."""
    return json.dumps({"inputs": batch.tolist()}).encode()


def ask(port: int, text: bytes) -> tuple[int, str]:
    """Send a request; return the answer's status and text."""
    request = urllib.request.Request(f"http://127.0.0.1:{port}/invocations", text, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=300) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


@contextmanager
def served(
    binaries: Path, environment: dict[str, str], folder: Path
) -> Iterator[tuple[int, "subprocess.Popen[bytes]"]]:
    """Run `mlflow models serve` while the block runs."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = [str(binaries / "mlflow"), "models", "serve", "-m", f"models:/{MODEL}@champion", "-p", str(port)]
    path = os.pathsep.join([str(binaries), environment["PATH"]])
    with (folder / "server.log").open("w") as log:
        server = subprocess.Popen(
            [*words, "--env-manager=local"],
            cwd=folder,
            env=environment | {"PATH": path},
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        while True:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/ping", timeout=5):
                    break
            except (urllib.error.URLError, TimeoutError):
                if server.poll() is not None:
                    sys.exit(f"error: the server ended; its log:\n{(folder / 'server.log').read_text()}")
                time.sleep(0.5)
        yield port, server
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(60)


def fresh_environment(folder: Path, environment: dict[str, str]) -> Path:
    """Install what the model requires, and nothing else; return the folder of commands."""
    import mlflow

    mlflow.set_tracking_uri(environment["MLFLOW_TRACKING_URI"])
    local = mlflow.artifacts.download_artifacts(artifact_uri=f"models:/{MODEL}@champion")
    subprocess.run([sys.executable, "-m", "venv", str(folder / "venv")], check=True)
    words = [str(folder / "venv/bin/pip"), "install", "-q", "-r", f"{local}/requirements.txt"]
    subprocess.run(words, check=True)
    if (
        subprocess.run([str(folder / "venv/bin/python"), "-c", f"import {PACKAGE}"], capture_output=True).returncode
        == 0
    ):
        sys.exit(f"error: {PACKAGE} is installed in the fresh environment, where only the model may bring it")
    return folder / "venv/bin"


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fresh", action="store_true", help="serve with only the model's requirements installed")
    arguments = parser.parse_args()
    os.chdir(ROOT)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        environment = os.environ | {"MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db"}
        environment["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), environment["PATH"]])
        subprocess.run(["exemplarcnn", "register"], check=True, env=environment)
        binaries = fresh_environment(folder, environment) if arguments.fresh else Path(sys.executable).parent
        rows = {name: read_json(paths.evaluation(name))["accuracy_mean"] for name in load().variants.train}
        champion = max(rows, key=lambda name: rows[name])
        pool = stl10.open_pool(paths.DATA, "test")
        parts = [pool.batch(range(i, min(i + BATCH, len(pool)))) for i in range(0, len(pool), BATCH)]
        features = read_array(paths.eval_features(champion, "test")).astype(np.float64)
        svm = load_file(paths.classifiers(champion) / "all.safetensors")
        expected = features @ svm["weights"].T.astype(np.float64) + svm["intercept"]
        names = stl10.read_class_names(paths.CLASS_NAMES)

        pack(
            folder / "packed",
            paths.model(champion),
            load().features,
            paths.classifiers(champion) / "all.safetensors",
            names,
        )
        ready = PackedModel(folder / "packed")
        begin = time.monotonic()
        for part in parts:
            ready.scores(ready.embed(part, padded=False))
        direct = len(pool) / (time.monotonic() - begin)

        with served(binaries, environment, folder) as (port, server):
            requests, found = [body(part) for part in parts], []
            begin = time.monotonic()
            for request in requests:
                status, text = ask(port, request)
                if status != 200:
                    sys.exit(f"error: the server answered with status {status}: {text}")
                found += json.loads(text)["predictions"]
            by_http = len(pool) / (time.monotonic() - begin)
            scores = np.array([[row[f"score_{name}"] for name in names] for row in found])
            wrong, statuses = wrong_requests(), Counter[str]()
            kinds = [name for name in wrong if name != "too many"]
            for number in range(1000):
                name = "too many" if number % 250 == 0 else kinds[number % len(kinds)]
                status, _ = ask(port, wrong[name])
                statuses[f"{name}: {status}"] += 1
            alive = server.poll() is None and ask(port, requests[0])[0] == 200
    table = pd.DataFrame(
        {
            "variant": [champion],
            "images": [len(pool)],
            "largest difference": [float(np.abs(scores - expected).max())],
            "same class": [
                float(np.mean([row["class"] == names[i] for row, i in zip(found, expected.argmax(1), strict=True)]))
            ],
            "images/s over HTTP": [round(by_http, 1)],
            "images/s direct": [round(direct, 1)],
            "alive": [alive],
        }
    )
    print(json.dumps(dict(statuses), indent=2))
    figures = {str(name): value for name, value in table.to_dict("records")[0].items()}
    finish(table, "serving", fresh=arguments.fresh, wrong=dict(statuses), **figures)


if __name__ == "__main__":
    main()
