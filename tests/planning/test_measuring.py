"""How long operations take: each is measured, and more work takes longer."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from exemplarcnn.data.types import DataError
from exemplarcnn.planning import measuring
from exemplarcnn.planning.holdings import Holdings, listed
from exemplarcnn.planning.measuring import Bench, measure
from exemplarcnn.planning.operations import (
    Describe,
    DrawPatch,
    Eigen,
    Hash,
    Inspect,
    KMeansDescribe,
    Multiply,
    Operation,
    Resemble,
    ResNetClassify,
    ResNetStep,
    Step,
    Validate,
)
from exemplarcnn.planning.works import Works
from tests.conftest import ROOT
from tests.planning.conftest import config

TINY = config("tiny_bench")
KMEANS = TINY.variants.control["kmeans"]
OPERATIONS: list[Operation] = [
    Inspect("unlabeled"),
    Inspect("other"),
    DrawPatch("unlabeled", 32),
    Step(32, 30),
    Step(32, 30, "unlabeled"),
    Validate(32, 30),
    Describe(TINY.features, 32, 30),
    Describe("cluster", 32, 30),
    Resemble(),
    ResNetStep(),
    ResNetClassify(),
    KMeansDescribe(KMEANS),  # type: ignore[arg-type]  # one of two kinds of controls
    Multiply("near pairs"),
    Multiply("float32"),
    Multiply("float64"),
    Eigen(),
    Hash(),
]


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Bench:
    monkeypatch.setattr(measuring, "SECONDS", 0.0)
    return Bench(TINY, ROOT / "data", torch.device("cpu"))


@pytest.mark.slow
@pytest.mark.parametrize("operation", OPERATIONS, ids=repr)
def test_each_operation_is_measured(bench: Bench, operation: Operation) -> None:
    assert 0 < measure(operation, bench) < 60


def test_no_stage_has_an_operation_that_is_not_measured() -> None:
    held = Holdings.of(ROOT / "data", TINY)
    parts = {type(what) for work in Works(TINY, held, listed(TINY, held)).all() for what, _ in work.parts}
    assert parts <= {type(operation) for operation in OPERATIONS}


@pytest.mark.slow
def test_a_larger_network_takes_longer(bench: Bench) -> None:
    assert measure(Step(96, 30), bench) > measure(Step(32, 30), bench)


def test_files_that_cannot_be_read_are_passed_over(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    for number in range(3):
        (tmp_path / f"other/{number}.png").write_bytes((ROOT / "data/other").glob("*").__next__().read_bytes())
    (tmp_path / "other/broken.png").write_bytes(b"no image")
    assert len(Bench(TINY, tmp_path, torch.device("cpu")).some("other")) == 3


def test_a_pool_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other/broken.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"other: none of 40 images can be read, so nothing can be measured"):
        Bench(TINY, tmp_path, torch.device("cpu")).some("other")


def test_what_takes_long_is_done_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measuring, "SECONDS", 0.02)
    calls: list[float] = []
    monkeypatch.setattr(measuring, "time", SimpleNamespace(perf_counter=lambda: sum(calls)))

    def work(seconds: float) -> None:
        calls.append(seconds)

    assert measuring._seconds(lambda: work(0.05), 10) == pytest.approx(0.005)
    assert calls == [0.05]
    assert measuring._seconds(lambda: work(0.006)) == pytest.approx(0.006)
    assert len(calls) == 6, "once apart, then until so many seconds have passed"
