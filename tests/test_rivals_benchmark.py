"""benchmarks/rivals.py and its SimCLR: rows are compared seed by seed, and what is done is not done again."""

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from torch import nn

from exemplarcnn.config.params import Config
from exemplarcnn.data import stl10
from tests.conftest import ROOT, profile_values

DATA = ROOT / "data"
CODE = "code and data"


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
    return {"trial": {"seed": seed}, "right": right, "accuracy": 100 * share, "minutes": minutes, "alone": True}


def test_rows_are_compared_with_the_first_of_their_group_seed_by_seed(rivals: Any) -> None:
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
    assert np.isnan(table.loc["30 modern", "gain"]), "it is the first of its group"
    assert table.loc["10 modern", "minutes"] == 9
    assert np.isnan(table.loc["30 modern", "minutes"]), "one of them was interrupted"


def test_the_picture_leaves_out_what_has_no_time(rivals: Any, tmp_path: Path) -> None:
    found = {"10 modern": [line(0, 0.6), line(1, 0.7)], "10 other": [line(0, 0.8), line(1, 0.8, None)]}
    rivals.draw(tmp_path / "a" / "rivals.png", rivals.summary(found))
    assert (tmp_path / "a" / "rivals.png").stat().st_size > 5_000


def test_every_row_of_the_file_is_of_this_version(rivals: Any, simclr: Any) -> None:
    import search

    trials = yaml.safe_load((ROOT / "benchmarks" / "rivals.yaml").read_text())
    for name in trials:
        trial = search.resolved(trials, name)
        if "simclr" in trial:
            simclr.Settings(**trial["simclr"])
            continue
        values = profile_values(trial["profile"])
        search.put(values, trial["set"])
        assert trial["row"] in Config.model_validate(values).variants.evaluate


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
def test_training_makes_the_loss_fall_and_gives_the_same_bits(simclr: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    losses: list[float] = []

    class Watched(simclr.NTXentLoss):  # type: ignore[misc]
        def forward(self, *outputs: Any) -> Any:
            loss = super().forward(*outputs)
            losses.append(loss.item())
            return loss

    monkeypatch.setattr(simclr, "NTXentLoss", Watched)
    monkeypatch.setattr(simclr, "WORKERS", 1)
    # Of 16 pixels the last maps have one, where oneDNN's gradients in bfloat16 differ from run to run.
    settings = simclr.Settings(steps=12, side=32, batch_size=16)
    pool = stl10.open_pool(DATA, "unlabeled")
    found = [simclr.train(pool, settings, 3).state_dict() for _ in range(2)]
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])
    assert losses[:12] == losses[12:]
    assert np.mean(losses[8:12]) < losses[0] - 0.2


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


def test_a_result_is_kept_by_settings_and_seed(simclr: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(DATA, tmp_path / "data")
    (tmp_path / "data.dvc").write_text("outs: []\n")
    labels = {
        count: stl10.read_labels(DATA / f"{name}_y.bin", count) for name, count in (("train", 300), ("test", 500))
    }
    monkeypatch.setattr(
        simclr, "described", lambda network, pool, side: np.eye(10, dtype=np.float32)[labels[len(pool)]]
    )
    trained: list[int] = []

    def train(pool: Any, settings: Any, seed: int) -> nn.Module:
        assert len(pool) == len(stl10.open_pool(DATA, "unlabeled"))
        trained.append(seed)
        return nn.Identity()

    settings = {"steps": 1, "side": 32}
    first = simclr.result(tmp_path, CODE, settings, 0, train)
    assert first["right"].shape == (10, 500)
    assert first["right"].all(), "these features are the labels"
    assert first["seconds"] > 0
    again = simclr.result(tmp_path, CODE, dict(reversed(settings.items())), 0, train)
    assert trained == [0]
    assert again["seconds"] == first["seconds"]
    simclr.result(tmp_path, CODE, settings, 1, train)
    simclr.result(tmp_path, CODE, settings | {"lr": 0.1}, 1, train)
    assert trained == [0, 1, 1]
    simclr.result(tmp_path, "other code", settings, 0, train)
    assert trained == [0, 1, 1, 0]


# Trials of search.py that train it


def test_a_trial_of_simclr_needs_no_profile(rivals: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import search

    trials: dict[str, Any] = {
        "a": {"simclr": {"steps": 100, "side": 96}},
        "b": {"like": "a", "simclr": {"side": 32}},
        "c": {"like": "a", "profile": "core"},
    }
    assert search.resolved(trials, "b") == {"seed": 0, "simclr": {"steps": 100, "side": 32}}
    with pytest.raises(SystemExit, match="trial c has a profile and simclr"):
        search.resolved(trials, "c")
    right = np.ones((10, 4), bool)
    ran: list[int] = []

    def result(workspace: Any, trial: dict[str, Any]) -> dict[str, Any]:
        ran.append(trial["simclr"]["side"])
        file = search.simclr_file(workspace, trial)
        file.parent.mkdir(exist_ok=True)
        np.savez(file, right=right)
        return {"right": right, "seconds": np.array(90.0)}

    monkeypatch.setattr(search, "simclr_result", result)
    folder: Any = SimpleNamespace(folder=tmp_path, code=lambda: CODE)  # no stage of the pipeline has a part in it
    for _ in range(2):
        found = rivals.measure(folder, "10 b", search.resolved(trials, "b"), True)
        assert (found["accuracy"], found["minutes"], found["step"], ran) == (100, 1.5, 100, [32])
    assert search.about(folder, search.resolved(trials, "a"))["identity"] != found["identity"]
    folder.code = lambda: "other code"
    assert search.rights(folder, found) is None, "other code made it"


def test_a_rows_figures_are_those_of_its_own_run(rivals: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also after another trial with the same rows has run in the folder, and under another name."""
    import _common
    import search

    state: dict[str, Any] = {"steps": 0}

    def evaluated(workspace: Any, row: str) -> dict[str, Any]:
        right = np.zeros((10, 100), bool)
        right[:, : state["steps"]] = True
        file = _common.result_file(workspace, workspace.identity(), row)
        file.parent.mkdir(parents=True, exist_ok=True)
        np.savez(file, right=right)
        return {"right": right}

    stages: dict[str, Any] = {f"evaluate@{row}": {"deps": [], "params": {}} for row in ("baseline", "clustered")}
    monkeypatch.setattr(search, "evaluated", evaluated)
    monkeypatch.setattr(search, "prepare", lambda workspace, trial: state.update(steps=trial["set"]["steps"]) or [])
    monkeypatch.setattr(search, "keep_times", lambda *_: None)
    monkeypatch.setattr(search, "locked", lambda workspace: stages)
    monkeypatch.setattr(
        search, "known_times", lambda _: {search.key(stage, entry): times() for stage, entry in stages.items()}
    )
    monkeypatch.setattr(rivals, "prepare", search.prepare)

    def times() -> dict[str, Any]:
        return {"seconds": 60.0 * state["steps"], "alone": True, "whole": True}

    folder: Any = SimpleNamespace(folder=tmp_path, code=lambda: CODE, identity=lambda: f"steps {state['steps']}")
    (tmp_path / "found").mkdir()
    trials = {
        name: {"profile": "core", "row": "baseline", "seed": 0, "set": {"steps": n}}
        for name, n in (("a", 10), ("b", 1))
    }
    first = rivals.measure(folder, "a", trials["a"], True)
    other = rivals.measure(folder, "b", trials["b"], True)
    again = rivals.measure(folder, "a with another name", trials["a"], True)
    assert (first["minutes"], other["minutes"], again["minutes"]) == (10, 1, 10)
    assert (first["accuracy"], other["accuracy"], again["accuracy"]) == (10, 1, 10)
    assert rivals.measure(folder, "c", trials["a"] | {"row": "clustered"}, True)["identity"] != first["identity"]
    assert not list(tmp_path.glob("running-*"))
    # Killed between the result and its figures, after which another trial ran.
    (tmp_path / "found" / f"figures-{first['identity']}.json").unlink()
    rivals.measure(folder, "d", trials["b"] | {"seed": 1}, True)
    found = rivals.measure(folder, "a", trials["a"], True)
    assert (found["accuracy"], found["minutes"]) == (10, None)
