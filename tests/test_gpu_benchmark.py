"""benchmarks/gpu.py, small and on the CPU: its checks pass, and each fails when there is a reason to."""

import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from exemplarcnn import threads
from exemplarcnn.planning import measuring
from exemplarcnn.training.checkpoint import Progress
from tests.conftest import ROOT

CPU = torch.device("cpu")
pytestmark = pytest.mark.slow


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    monkeypatch.setattr(measuring, "SECONDS", 0.0)
    import gpu

    return gpu


@pytest.fixture
def place(gpu: Any, tmp_path: Path) -> Any:
    config = gpu.parse(gpu.profiles.compose(ROOT / "conf", "tiny"), "tiny")
    made = gpu.Place(config, gpu.SMALL, CPU, gpu.stl10.open_pool(ROOT / "data", "unlabeled"), tmp_path)
    gpu.write_sets(made)
    return made


def test_every_check_runs_and_passes(gpu: Any, tmp_path: Path) -> None:
    rows = gpu.run(ROOT / "data", CPU, gpu.SMALL, tmp_path)
    threads.use(1)
    assert [row["passed"] for row in rows] == [True, True, True, *[None] * 5, True, None]
    assert len({row["what"] for row in rows}) == len(rows)
    for row in rows:
        assert row["found"]
        assert row["memory_gb"] > 0
    assert "audit" in rows[-1]["found"] or "train" in rows[-1]["found"]


def test_other_patches_are_noticed(gpu: Any, place: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert gpu.drawing(place)["passed"] is True
    draw = gpu.OnlinePatches.draw

    def darker(online: Any, rows: Any, epoch: int) -> Any:
        patches = draw(online, rows, epoch)
        return torch.clamp(patches, max=250) if online.in_torch else patches

    monkeypatch.setattr(gpu.OnlinePatches, "draw", darker)
    assert gpu.drawing(place)["passed"] is False


def test_other_steps_are_noticed(gpu: Any, place: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = gpu.Place.trainer

    def slower(place: Any, params: Any, device: Any, source: Any, name: str, dropout: bool = True) -> Any:
        made = trainer(place, params, device, source, name, dropout)
        for group in made.optimiser.param_groups:
            group["initial_lr"] *= 1.0 if name == "there" else 0.9
        return made

    monkeypatch.setattr(gpu.Place, "trainer", slower)
    assert gpu.steps(place)["passed"] is False


def test_a_resumption_that_differs_is_noticed(gpu: Any, place: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    load = gpu.Checkpoint.load

    def forgetful(checkpoint: Any) -> tuple[dict[str, Any], Progress]:
        tensors, progress = load(checkpoint)
        return {name: value for name, value in tensors.items() if not name.startswith("momentum")}, progress

    monkeypatch.setattr(gpu.Checkpoint, "load", forgetful)
    found = gpu.resumption(place)
    assert found["passed"] is False
    assert found["found"] == "other bits: torch names no operation"


def test_a_failed_check_ends_with_an_error(gpu: Any, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    row = {"what": "steps", "found": "0.5", "unit": "", "bar": "0.1", "passed": False, "memory_gb": 1.0, "seconds": 1.0}
    monkeypatch.setattr(gpu, "run", lambda *_: [row, row | {"what": "others", "passed": True}])
    monkeypatch.setattr(sys, "argv", ["gpu.py"])
    with pytest.raises(SystemExit, match=r"error: not as it should be: steps$"):
        gpu.main()
    assert '"benchmark": "gpu"' in capsys.readouterr().out
