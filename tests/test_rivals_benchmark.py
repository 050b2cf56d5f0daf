"""benchmarks/rivals.py and its SimCLR: rows are compared seed by seed, and what is done is not done again."""

import inspect
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
import yaml
from safetensors import safe_open
from torch import nn

from exemplarcnn.config.params import Config
from exemplarcnn.data import stl10
from exemplarcnn.errors import PipelineError
from tests.conftest import ROOT, profile_values

DATA = ROOT / "data"


@pytest.fixture
def rivals(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import rivals

    return rivals


@pytest.fixture
def simclr(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import _simclr

    threads = torch.get_num_threads()
    yield _simclr
    torch.set_num_threads(threads)


def line(seed: int, share: float, minutes: float | None = 9.0) -> dict[str, Any]:
    right = np.zeros((10, 200), bool)
    right[:, : round(200 * share)] = True
    found = {"trial": {"seed": seed}, "right": right, "accuracy": 100 * share, "minutes": minutes}
    return found | {"alone": True, "failed": False, "ends": seed}


def failed(seed: int) -> dict[str, Any]:
    return {"name": "10 broken", "trial": {"seed": seed}, "right": None, "minutes": None, "failed": True}


def test_rows_are_compared_with_the_first_of_their_budget_seed_by_seed(rivals: Any) -> None:
    found = {
        "10 modern": [line(0, 0.6), line(1, 0.7)],
        "10 simclr": [line(0, 0.5), line(1, 0.5)],
        "30 modern": [line(0, 0.8), line(1, 0.8, None)],
    }
    table = rivals.summary(found).set_index("row")
    assert table.loc["10 simclr", ["accuracy", "seed 0", "seed 1"]].tolist() == pytest.approx([50, 50, 50])
    assert table.loc["10 simclr", "gain"] == pytest.approx(-15)
    assert table.loc["10 simclr", "gain low"] < -15 < table.loc["10 simclr", "gain high"]
    assert np.isnan(table.loc["10 modern", "gain"])
    assert np.isnan(table.loc["30 modern", "gain"]), "it is the first of its budget"
    assert table.loc["10 simclr", "ends"] == 1


def test_minutes_are_the_mean_of_those_that_are_known(rivals: Any) -> None:
    found = {
        "10 modern": [line(0, 0.6, 10.4), line(1, 0.7, None), line(2, 0.7, 10.5)],
        "10 slow": [line(0, 0.5, 10.6), line(1, 0.5, 10.6), line(2, 0.5, 10.4)],
        "10 unknown": [line(seed, 0.5, None) for seed in range(3)],
        "30 slow": [line(seed, 0.5, 31.6) for seed in range(3)],
    }
    table = rivals.summary(found).set_index("row")
    assert table["minutes"].tolist() == pytest.approx([10.45, 10.533, np.nan, 31.6], abs=0.001, nan_ok=True)
    assert table["known"].tolist() == ["2 of 3", "3 of 3", "0 of 3", "3 of 3"]
    assert table["budget"].fillna("").tolist() == ["", "over its budget", "", "over its budget"]


def test_seeds_that_fail_are_left_out_and_counted(rivals: Any) -> None:
    found = {
        "10 modern": [failed(0), line(1, 0.7)],
        "10 simclr": [line(0, 0.9), line(1, 0.5)],
        "10 broken": [failed(0), failed(1)],
        "10 late": [line(0, 0.9), failed(1)],
    }
    table = rivals.summary(found).set_index("row")
    assert table["failed"].tolist() == [1, 0, 2, 1]
    assert table.loc["10 modern", ["accuracy", "seed 1"]].tolist() == pytest.approx([70, 70])
    assert table.loc["10 simclr", "gain"] == pytest.approx(-20), "only seed 1 can be compared"
    assert table.loc[["10 broken", "10 late"], "gain"].isna().all()


@pytest.mark.slow
def test_it_says_who_is_ahead(rivals: Any) -> None:
    found = {
        "10 modern": [line(0, 0.6), line(1, 0.6)],
        "30 modern": [line(0, 0.6), line(1, 0.6)],
        "10 simclr": [line(0, 0.5), line(1, 0.5)],
        "10 kmeans": [line(0, 0.55), line(1, 0.55)],
        "30 simclr": [line(0, 0.7), line(1, 0.7)],
        "90 modern": [line(0, 0.7), line(1, 0.7)],
    }
    first, second = rivals.ahead(rivals.summary(found))
    assert first.startswith("10 minutes: 10 modern is ahead; next is 10 kmeans, at -5.00 (")
    assert second.startswith("30 minutes: 30 simclr is ahead of 30 modern by 10.00 (")
    assert rivals.ahead(rivals.summary({"90 modern": found["90 modern"]})) == []


def test_the_picture_leaves_out_what_has_no_time(rivals: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = {
        "10 modern": [line(0, 0.6), line(1, 0.7)],
        "10 other": [line(0, 0.8, None), line(1, 0.8, None)],
        "10 broken": [failed(0), failed(1)],
    }
    drawn: list[Any] = []
    save = rivals.Figure.savefig

    def kept(figure: Any, *given: Any, **named: Any) -> None:
        drawn.append(figure)
        save(figure, *given, **named)

    monkeypatch.setattr(rivals.Figure, "savefig", kept)
    rivals.draw(tmp_path / "a" / "rivals.png", rivals.summary(found))
    assert [text.get_text() for text in drawn[0].axes[0].texts] == ["10 modern"]
    assert (tmp_path / "a" / "rivals.png").stat().st_size > 5_000


def test_every_row_of_the_file_is_of_this_version(rivals: Any, simclr: Any) -> None:
    import _trials

    trials = yaml.safe_load((ROOT / "benchmarks" / "rivals.yaml").read_text())
    assert next(iter(trials)) == "10 modern", "what the others are compared with"
    for name in trials:
        assert rivals.budget(name) == 10
        trial = _trials.resolved(trials, name)
        if "simclr" in trial:
            simclr.Settings(**trial["simclr"])
            continue
        values = profile_values(trial["profile"])
        _trials.put(values, trial["set"])
        assert trial["row"] in Config.model_validate(values).variants.evaluate


@pytest.fixture
def main(rivals: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Run the command on rows of which nothing runs but what a test puts in place of `measure`."""

    class Workspace:
        folder = tmp_path / "work"
        checked: ClassVar[list[str]] = []

    monkeypatch.setattr(rivals, "Workspace", lambda *_: Workspace)
    monkeypatch.setattr(rivals, "check", lambda workspace, trials, names: workspace.checked.extend(names))
    monkeypatch.setattr(rivals, "binary_folder", lambda folder: folder)

    def run(names: list[str]) -> None:
        (tmp_path / "r.yaml").write_text(yaml.safe_dump({name: {"simclr": {"steps": 1}} for name in names}))
        monkeypatch.setattr(sys, "argv", ["rivals.py", str(tmp_path), str(tmp_path / "r.yaml"), "--seeds", "0", "1"])
        rivals.main()

    return run


def test_a_row_that_fails_stops_no_other(
    rivals: Any, main: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def measure(workspace: Any, name: str, trial: dict[str, Any], alone: bool) -> dict[str, Any]:
        assert workspace.checked == ["10 broken", "10 modern"], "before any runs"
        if name == "10 broken":
            return failed(trial["seed"])
        return line(trial["seed"], 0.5) | {"name": name, "seconds": {f"train {trial['seed']}": 1800.0}}

    monkeypatch.setattr(rivals, "measure", measure)
    with pytest.raises(SystemExit, match="error: 10 broken, seed 0, failed; 10 broken, seed 1, failed"):
        main(["10 broken", "10 modern"])
    said = capsys.readouterr().out
    assert "10 modern, seed 1: 50.00 %, 9.0 minutes" in said
    assert "1.0 hours in all; what several share counts once; without parts of 2" in said


def test_a_row_needs_a_budget(main: Any, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["10 modern", "modern"])
    assert "modern must begin with its budget in minutes" in capsys.readouterr().err


# SimCLR


def test_views_depend_on_seed_and_place_alone(simclr: Any) -> None:
    pool = stl10.open_pool(DATA, "unlabeled")
    settings = simclr.Settings(steps=2, side=24, batch_size=4)
    order = np.array([5, 3, 5])
    first, again = (simclr.Views(pool, order, settings, 7) for _ in range(2))
    backwards = [again[place] for place in (2, 1, 0)][::-1]
    for mine, theirs in zip([first[place] for place in range(3)], backwards, strict=True):
        assert len(mine) == 2
        assert mine[0].shape == (3, 24, 24)
        assert not torch.equal(mine[0], mine[1])
        assert all(map(torch.equal, mine, theirs))
    assert not torch.equal(first[0][0], first[2][0]), "the same image, another step"
    assert not torch.equal(first[0][0], simclr.Views(pool, order, settings, 8)[0][0])


def test_the_views_are_lightlys_and_their_blur_and_jitter_are_settings(simclr: Any) -> None:
    made: list[dict[str, Any]] = []
    transform = simclr.SimCLRTransform
    defaults = inspect.signature(transform.__init__).parameters
    settings = simclr.Settings(steps=1)
    assert settings.blur == defaults["gaussian_blur"].default
    assert settings.strength == defaults["cj_strength"].default
    simclr.SimCLRTransform = lambda **given: made.append(given)
    try:
        simclr.Views([], np.arange(0), simclr.Settings(steps=1, side=32, blur=0.0, strength=0.5), 0)
    finally:
        simclr.SimCLRTransform = transform
    assert made == [{"input_size": 32, "gaussian_blur": 0.0, "cj_strength": 0.5}]


def test_a_stem_for_small_images_keeps_their_size(simclr: Any) -> None:
    images = torch.zeros(2, 3, 32, 32)
    shapes = {}
    for small in (False, True):
        network = simclr.backbone(simclr.Settings(steps=1, side=32, small_stem=small)).eval()
        stem = nn.Sequential(network.conv1, network.bn1, network.relu, network.maxpool)
        shapes[small] = stem(images).shape[-1]
        assert network(images).shape == (2, 512)
    assert shapes == {False: 8, True: 32}


@pytest.mark.slow
def test_training_makes_the_loss_fall_and_gives_the_same_bits(
    simclr: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    losses: list[float] = []

    class Watched(simclr.NTXentLoss):  # type: ignore[misc]
        def forward(self, *outputs: Any) -> Any:
            loss = super().forward(*outputs)
            losses.append(loss.item())
            return loss

    monkeypatch.setattr(simclr, "NTXentLoss", Watched)
    monkeypatch.setattr(simclr, "WORKERS", 1)
    # Of 16 pixels the last maps have one, where oneDNN's gradients in bfloat16 differ from run to run.
    settings = simclr.Settings(steps=12, side=32, batch_size=16, strength=0.5)
    pool = stl10.open_pool(DATA, "unlabeled")
    checkpoint = simclr.Checkpoint(tmp_path / "simclr.safetensors", "a")
    found = [simclr.train(pool, settings, 3, checkpoint)[0].state_dict() for _ in range(2)]
    assert not checkpoint.path.exists(), "it took less than the time between checkpoints"
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])
    assert losses[:12] == losses[12:]
    assert np.mean(losses[8:12]) < losses[0] - 0.2


@pytest.fixture
def tiny(simclr: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Trains a small network for six steps, with a checkpoint after each; returns its tensors."""

    class Stopped(simclr.NTXentLoss):  # type: ignore[misc]
        left = 1000

        def forward(self, *outputs: Any) -> Any:
            Stopped.left -= 1
            if not Stopped.left:
                raise KeyboardInterrupt
            return super().forward(*outputs)

    def network(settings: Any) -> nn.Module:
        return nn.Sequential(nn.Conv2d(3, 512, 8, 8), nn.BatchNorm2d(512), nn.AdaptiveAvgPool2d(1), nn.Flatten())

    monkeypatch.setattr(simclr, "backbone", network)
    monkeypatch.setattr(simclr, "NTXentLoss", Stopped)
    monkeypatch.setattr(simclr, "WORKERS", 1)
    monkeypatch.setattr(simclr, "SECONDS", 0.0)

    def train(checkpoint: Any, stop: int = 1000) -> tuple[dict[str, torch.Tensor], float]:
        Stopped.left = stop
        pool = stl10.open_pool(DATA, "unlabeled")
        found, seconds = simclr.train(pool, simclr.Settings(steps=6, side=32, batch_size=8), 3, checkpoint)
        return found.state_dict(), seconds

    return train


def test_a_resumed_training_gives_the_same_bits(simclr: Any, tiny: Any, tmp_path: Path) -> None:
    whole, seconds = tiny(simclr.Checkpoint(tmp_path / "whole.safetensors", "a"))
    assert seconds == 0
    checkpoint = simclr.Checkpoint(tmp_path / "a" / "simclr.safetensors", "a")
    kept = []
    for stop, done in ((3, 2), (2, 3)):
        with pytest.raises(KeyboardInterrupt):
            tiny(checkpoint, stop)
        with safe_open(checkpoint.path, "pt") as file:
            about = file.metadata()
        assert about["step"] == str(done)
        kept.append(float(about["seconds"]))
    assert 0 < kept[0] < kept[1], "they add up"
    resumed, seconds = tiny(checkpoint)
    assert seconds == kept[1]
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


@pytest.mark.parametrize("content", [b"", b"PK half of it", b"text"])
def test_a_checkpoint_that_is_damaged_or_of_another_training_is_ignored(
    simclr: Any, tmp_path: Path, content: bytes
) -> None:
    checkpoint = simclr.Checkpoint(tmp_path / "simclr.safetensors", "a")
    network = nn.Linear(2, 3)
    optimiser = torch.optim.SGD(network.parameters(), 0.5, momentum=0.9)
    assert checkpoint.restore(network, optimiser) == (0, 0.0)
    checkpoint.path.write_bytes(content)
    assert checkpoint.restore(network, optimiser) == (0, 0.0)
    network(torch.ones(2)).sum().backward()
    optimiser.step()
    checkpoint.save(network, optimiser, 5, 7.0)
    assert checkpoint.restore(network, optimiser) == (5, 7.0)
    assert simclr.Checkpoint(checkpoint.path, "b").restore(network, optimiser) == (0, 0.0)
    checkpoint.path.write_bytes(checkpoint.path.read_bytes()[:-40])
    assert checkpoint.restore(network, optimiser) == (0, 0.0)


def test_a_training_that_diverges_leaves_no_checkpoint(
    simclr: Any, tiny: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = simclr.Checkpoint(tmp_path / "simclr.safetensors", "a")
    with pytest.raises(KeyboardInterrupt):
        tiny(checkpoint, 3)
    monkeypatch.setattr(simclr.NTXentLoss, "forward", lambda self, one, other: one.sum() * torch.nan)
    with pytest.raises(PipelineError, match="the loss of SimCLR is nan"):
        tiny(checkpoint)
    assert not checkpoint.path.exists()


def test_features_are_those_of_the_image_at_the_size_of_the_views(simclr: Any) -> None:
    seen: list[torch.Tensor] = []

    class Network(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            seen.append(images)
            return images.mean(dim=(2, 3)) + 3

    pool = stl10.open_pool(DATA, "test")
    whole, small = (simclr.described(Network(), pool, side) for side in (96, 32))
    assert {images.shape[-1] for images in seen} == {96, 32}
    images = np.stack([pool[i] for i in range(len(pool))]) / 255
    expected = (images.mean(axis=(1, 2)) - simclr.MEAN) / simclr.STD + 3
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(whole, expected, atol=1e-5)
    np.testing.assert_allclose(small, expected, atol=0.01)


@pytest.fixture
def workspace(rivals: Any, tmp_path: Path) -> Any:
    """A workspace with the sample, in which DVC has nothing to do."""
    from _common import Workspace

    (tmp_path / "conf").symlink_to(ROOT / "conf")
    (tmp_path / "data").symlink_to(DATA)
    shutil.copy(ROOT / "dvc.yaml", tmp_path)
    (tmp_path / "data.dvc").write_text("outs: []\n")
    made = object.__new__(Workspace)
    made.folder = tmp_path
    return made


def test_a_result_is_kept_by_settings_and_parameters(
    simclr: Any, workspace: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import _trials

    labels = {
        count: stl10.read_labels(DATA / f"{name}_y.bin", count) for name, count in (("train", 300), ("test", 500))
    }
    monkeypatch.setattr(
        simclr, "described", lambda network, pool, side: np.eye(10, dtype=np.float32)[labels[len(pool)]]
    )
    trained: list[int] = []

    def train(pool: Any, settings: Any, seed: int, checkpoint: Any) -> tuple[nn.Module, float]:
        assert len(pool) == len(stl10.open_pool(DATA, "unlabeled"))
        trained.append(seed)
        checkpoint.path.parent.mkdir(parents=True, exist_ok=True)
        checkpoint.path.touch()
        return nn.Identity(), 1000.0

    def result(settings: dict[str, Any], seed: int) -> dict[str, Any]:
        _trials.prepare(workspace, {"simclr": settings, "seed": seed})
        found: dict[str, Any] = simclr.result(tmp_path, workspace.identity(), settings, train)
        return found

    settings = {"steps": 1, "side": 32}
    first = result(settings, 0)
    assert first["right"].shape == (10, 500)
    assert first["right"].all(), "these features are the labels"
    assert 1000 < first["seconds"] < 1100, "with those before a kill"
    assert not list((tmp_path / "work").glob("*")), "the checkpoint is not needed any more"
    assert np.isin(first["C"], [0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0]).all()
    again = result(dict(reversed(settings.items())), 0)
    assert trained == [0]
    assert again["seconds"] == first["seconds"]
    result(settings, 1)
    result(settings | {"lr": 0.1}, 1)
    assert trained == [0, 1, 1]
    (tmp_path / "dvc.yaml").write_text("stages: {}\n")
    result(settings, 0)
    assert trained == [0, 1, 1, 0]


# Trials that train it


def test_a_trial_of_simclr_needs_no_profile(rivals: Any, workspace: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import _trials

    trials: dict[str, Any] = {
        "a": {"simclr": {"steps": 100, "side": 96}},
        "b": {"like": "a", "simclr": {"side": 32}},
        "c": {"like": "a", "profile": "core"},
    }
    assert _trials.resolved(trials, "b") == {"seed": 0, "simclr": {"steps": 100, "side": 32}}
    with pytest.raises(SystemExit, match="trial c has a profile and simclr"):
        _trials.resolved(trials, "c")
    right = np.ones((10, 4), bool)
    ran: list[int] = []

    def result(workspace: Any, trial: dict[str, Any]) -> dict[str, Any]:
        ran.append(trial["simclr"]["side"])
        file = _trials._simclr().file_of(workspace.folder, workspace.identity(), trial["simclr"])
        file.parent.mkdir(exist_ok=True)
        np.savez(file, right=right)
        return {"right": right, "seconds": np.array(90.0), "C": np.array([0.03] * 4 + [1.0] * 6)}

    monkeypatch.setattr(_trials, "resnet_result", result)
    for _ in range(2):
        found = rivals.measure(workspace, "10 b", _trials.resolved(trials, "b"), True)
        assert (found["accuracy"], found["minutes"], found["step"], ran) == (100, 1.5, 100, [32])
        assert found["ends"] == 4
    assert _trials.about(workspace, _trials.resolved(trials, "a"))["identity"] != found["identity"]
    assert "0.0 hours" in _trials.hours([found])

    def diverges(workspace: Any, trial: dict[str, Any]) -> dict[str, Any]:
        raise PipelineError("the loss is nan")

    monkeypatch.setattr(_trials, "resnet_result", diverges)
    found = rivals.measure(workspace, "10 a", _trials.resolved(trials, "a"), True)
    assert found["failed"]
    assert found["right"] is None


def test_a_rows_figures_are_those_of_its_own_run(rivals: Any, workspace: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also after another trial with the same rows has run in the folder, and under another name."""
    import _common
    import _trials

    def evaluated(workspace: Any, row: str) -> dict[str, Any]:
        steps = yaml.safe_load((workspace.folder / "params.yaml").read_text())["train"]["steps"]
        right = np.zeros((10, 100), bool)
        right[:, :steps] = True
        file = _common.result_file(workspace, workspace.identity(), row)
        file.parent.mkdir(parents=True, exist_ok=True)
        np.savez(file, right=right)
        ran.append(steps)
        return {"right": right}

    ran: list[int] = []
    monkeypatch.setattr(_trials, "evaluated", evaluated)
    monkeypatch.setattr(workspace, "dvc", lambda *_: None, raising=False)
    trials = {
        name: {"profile": "core", "row": "baseline", "seed": 0, "set": {"train.steps": n}}
        for name, n in (("a", 10), ("b", 1))
    }
    first = rivals.measure(workspace, "10 a", trials["a"], True)
    other = rivals.measure(workspace, "10 b", trials["b"], True)
    again = rivals.measure(workspace, "10 a with another name", trials["a"], True)
    assert (first["accuracy"], other["accuracy"], again["accuracy"]) == (10, 1, 10)
    np.testing.assert_array_equal(again["right"], first["right"])
    assert ran == [10, 1]
    assert rivals.measure(workspace, "10 c", trials["a"] | {"row": "clustered"}, True)["identity"] != first["identity"]
    assert rivals.measure(workspace, "10 d", trials["a"] | {"seed": 1}, True)["identity"] != first["identity"]
    assert ran == [10, 1, 10, 10]
