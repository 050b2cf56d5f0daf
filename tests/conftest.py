"""A pipeline's results and an MLflow store to send them to."""

import gc
import json
import signal
from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import asdict
from functools import cache, partial
from hashlib import md5
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image

from exemplarcnn import paths, threads
from exemplarcnn.config.params import Config
from exemplarcnn.config.profiles import compose
from exemplarcnn.files import md5_of, read_json, write_json
from exemplarcnn.tracking import lineage
from exemplarcnn.tracking.lineage import Record
from exemplarcnn.training.learning_curve import Epoch

DATA_MD5 = "90d23bc2d7e3159cfa83604dd862094f.dir"  # 36 characters, as many as MLflow takes for a digest
ROOT = Path(__file__).parents[1]
CONF = ROOT / "conf"
UNSET = (
    "MLFLOW_TRACKING_URI",
    "MLFLOW_RUN_ID",
    "MLFLOW_EXPERIMENT_NAME",
    "DVC_ROOT",
    "DVC_EXP_NAME",
    "DVC_EXP_BASELINE_REV",
)
SUMMARY = {
    "accuracy_mean": 60.0,
    "accuracy_std": 1.5,
    "fold_accuracies": [58.5, 61.5],
    "chosen": [0.1, 10.0],
    "leaky": {"accuracy_mean": 62.0, "accuracy_std": 1.0, "value": 1.0},
    "others": {"full": {"accuracy_mean": 70.0, "accuracy_std": 0.0}},
    "class_accuracies": {"cat": 70.0, "dog": 50.0},
}


_composed_once = cache(partial(compose, CONF))


def profile_values(profile: str) -> dict[str, Any]:
    """Return a profile's parameters, to be changed at will; Hydra takes a tenth of a second for them, once."""
    return deepcopy(_composed_once(profile))


def one_fast(cases: Sequence[Any], fast: Any = None) -> list[Any]:
    """Return a test's cases, of which `make test-fast` has one, the first unless told, and `make test` all."""
    chosen = cases[0] if fast is None else fast
    return [pytest.param(case, marks=[] if case == chosen else [pytest.mark.slow]) for case in cases]


def write_yaml(path: Path, values: dict[str, Any]) -> None:
    """Write YAML as `yaml.safe_dump` does, in a tenth of its time."""
    path.write_text(yaml.dump(values, Dumper=yaml.CSafeDumper))


def pytest_configure() -> None:
    """Let the processes that tests start be interrupted, though a shell's job in the background ignores Ctrl-C."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_finish() -> None:
    """Keep what the imports have made out of each search for garbage: a million objects."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """Whatever an earlier test has set: with several, what they do is in no fixed order."""
    threads.use(1)


@pytest.fixture
def bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compute in bfloat16 where parameters say so, on a processor without such instructions too (slowly)."""
    monkeypatch.setattr("exemplarcnn.networks.precision.multiplies_bfloat16", lambda device: True)


@pytest.fixture(scope="session")
def store_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One store for all tests: making its tables takes seconds. Each test has an identity of its own."""
    return tmp_path_factory.mktemp("store") / "mlflow.db"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder without git and without any of MLflow's variables."""
    monkeypatch.chdir(tmp_path)
    for name in UNSET:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    return tmp_path


@pytest.fixture
def store(store_file: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    import mlflow

    uri = f"sqlite:///{store_file}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    yield mlflow.MlflowClient(uri)


@pytest.fixture(scope="module")
def config() -> Config:
    return Config.model_validate(profile_values("tiny_bench"))


class Pipeline:
    """What a finished pipeline leaves behind, with hashes of its own so that each test has runs of its own."""

    def __init__(self, folder: Path, mark: str, values: dict[str, Any]):
        self.folder, self.mark, self.values = folder, mark, values
        (folder / "data.dvc").write_text(f"outs:\n- md5: {DATA_MD5}\n  path: data\n")
        write_yaml(folder / "params.yaml", values)
        self.records: dict[str, Record] = {}
        self.add("surrogate", "baseline", {"data": DATA_MD5}, {"surrogates/baseline": f"{mark}.dir"}, "surrogate")

    def add(self, kind: str, variant: str, deps: dict[str, str], outs: dict[str, str], *params: str) -> Record:
        params_now = json.loads(json.dumps({key: self.values[key] for key in params}))
        record = Record(f"{kind}@{variant}", deps, params_now, outs)
        self.records[record.stage] = record
        lock = {
            name: {
                "cmd": name,
                "deps": [{"path": path, "md5": md5} for path, md5 in each.deps.items()],
                "params": {"params.yaml": each.params},
                "outs": [{"path": path, "md5": md5} for path, md5 in each.outs.items()],
            }
            for name, each in self.records.items()
        }
        write_yaml(self.folder / "dvc.lock", {"schema": "2.0", "stages": lock})
        return record

    def train(self, variant: str = "baseline", epochs: int = 2) -> Record:
        curve = paths.learning_curve(variant)
        curve.parent.mkdir(parents=True, exist_ok=True)
        pd.DataFrame([asdict(epoch(number)) for number in range(1, epochs + 1)]).to_csv(curve, index=False)
        model = {str(paths.model(variant)): f"{self.mark}{variant}.dir"}
        self.draw(paths.patches_picture(variant), f"{self.mark}.dir")
        self.draw(paths.filters_picture(variant), *model.values())
        outs = {**model, str(curve): md5_of(curve)}
        deps = {f"surrogates/{variant}": f"{self.mark}.dir"}
        return self.add("train", variant, deps, outs, "seed", "train", "network")

    def evaluate(self, variant: str) -> Record:
        path = paths.evaluation(variant)
        write_json(path, SUMMARY)
        tables = [paths.confusion(variant), paths.mistakes(variant)]
        for table in tables:
            table.write_text(f"{table} of {self.mark}\n")
        self.draw(paths.confusion_picture(variant), md5_of(tables[0]))
        self.draw(paths.mistakes_picture(variant), DATA_MD5, md5_of(tables[1]))
        outs = {str(paths.classifiers(variant)): f"{self.mark}{variant}.dir"}
        outs |= {str(made): md5_of(made) for made in (path, *tables)}
        deps = {"data": DATA_MD5, f"models/{variant}": f"{self.mark}{variant}.dir"}
        return self.add("evaluate", variant, deps, outs, "seed", "evaluate")

    def resnet(self, name: str) -> Record:
        outs = self.train(name).outs | self.evaluate(name).outs
        write_json(paths.evaluation(name), SUMMARY | {"chosen": [], "leaky": None, "others": {}})
        del self.records[f"train@{name}"], self.records[f"evaluate@{name}"]
        outs[str(paths.evaluation(name))] = md5_of(paths.evaluation(name))
        deps = {"data": DATA_MD5, f"labels/{name}.csv": self.mark}
        return self.add("resnet", name, deps, outs, "seed", "resnet")

    def everything(self, config: Config) -> None:
        for variant in config.variants.train:
            self.train(variant)
        for variant in config.variants.evaluate:
            self.evaluate(variant)
        for name in config.variants.label:
            self.resnet(name)
        rows = [{"variant": name, "fold_accuracies": SUMMARY["fold_accuracies"]} for name in config.rows]
        write_json(paths.RESULTS_JSON, {"dataset": {"hash": DATA_MD5}, "rows": rows})
        for path in (paths.RESULTS_PICTURE, paths.DIFFERENCES_PICTURE):
            self.draw(path, md5_of(paths.RESULTS_JSON))

    def draw(self, picture: Path, *sources: str) -> None:
        """Draw a picture of something, told by hashes, as the stage `draw` does."""
        picture.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(picture)
        before = read_json(paths.PICTURE_SOURCES) if paths.PICTURE_SOURCES.exists() else {}
        write_json(paths.PICTURE_SOURCES, before | {picture.relative_to(paths.PICTURES).as_posix(): sources})


@pytest.fixture
def pipeline(folder: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Pipeline:
    made = Pipeline(folder, md5(request.node.nodeid.encode()).hexdigest()[:8], profile_values("tiny_bench"))
    # Asking DVC takes a repository and a second; tests/tracking/test_lineage.py does.
    monkeypatch.setattr(lineage, "current", lambda stage: made.records[stage])
    return made


@pytest.fixture
def no_server(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "2")
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


def epoch(number: int) -> Epoch:
    return Epoch(number, 10 * number, 0.05, 3.0 / number, 0.1 * number, 3.5 / number, 0.09 * number)
