"""Parameters that do not go with the images in ``data/`` are refused before any work."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from exemplarcnn import images, preflight, stages
from exemplarcnn.config import Config, compose
from exemplarcnn.images import DataError

CONF = Path(__file__).parents[1] / "conf"


def values(**changed: Any) -> dict[str, Any]:
    """Profile `own` with keys, given by their dotted path, changed."""
    made = compose(CONF, "own")
    for path, value in changed.items():
        *above, key = path.split("__")
        place = made
        for name in above:
            place = place[name]
        place[key] = value
    return made


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    images.write_class_names(folder / "class_names.txt", ["a", "b"])
    return folder


def says(data: Path, side: int) -> None:
    (data / "import.json").write_text(json.dumps({"name": "mine", "side": side}))


@pytest.mark.parametrize("side", [32, 64, 96, 128, 256])
def test_profile_own_goes_with_every_side(data: Path, side: int) -> None:
    says(data, side)
    preflight.check(Config.model_validate(values()), data)


LARGE = {
    "trained__baseline__patch": "trained.baseline.patch",
    "controls__raw_pixels__side": "controls.raw_pixels.side",
    "controls__kmeans__side": "controls.kmeans.side",
    "audit__smallest_side": "audit.smallest_side",
}


@pytest.mark.parametrize("side", [48, 96, 128])
@pytest.mark.parametrize("key", LARGE)
def test_more_pixels_than_images_have_are_refused_by_name(data: Path, key: str, side: int) -> None:
    says(data, side)
    preflight.check(Config.model_validate(values(**{key: side})), data)
    with pytest.raises(DataError, match=rf"images of {side}×{side} pixels, and {LARGE[key]} is {side + 1}; set {side}"):
        preflight.check(Config.model_validate(values(**{key: side + 1})), data)


def test_all_that_is_too_large_is_named_at_once(data: Path) -> None:
    says(data, 32)
    config = Config.model_validate(values(trained__clustered__patch=64, controls__kmeans__side=40))
    with pytest.raises(DataError, match=r"and trained\.clustered\.patch is 64, controls\.kmeans\.side is 40; set 32"):
        preflight.check(config, data)


def test_images_without_labels_cannot_be_tested_on(data: Path) -> None:
    (data / "class_names.txt").unlink()
    images.write_images(data / "unlabeled_X.bin", np.zeros((1, 96, 96, 3), np.uint8))
    with pytest.raises(DataError, match="own_unlabelled"):
        preflight.check(Config.model_validate(values()), data)
    preflight.check(Config.model_validate(compose(CONF, "own_unlabelled")), data)


def test_the_first_stage_refuses_before_it_works(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["stage"])
    monkeypatch.setattr(stages, "use_threads", lambda threads: None)
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(values(trained__baseline__patch=40)))
    ran: list[str] = []
    says(data, 40)
    stages.main(lambda variant, config: ran.append(variant))
    assert ran == [""]
    says(data, 39)
    with pytest.raises(SystemExit, match=r"error: data: .*39×39 pixels, and trained\.baseline\.patch is 40"):
        stages.main(lambda variant, config: ran.append(variant))
    assert ran == [""]
