"""What a stage was made from must still be there when it ends, or DVC would record something else."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from exemplarcnn.launching import inputs
from exemplarcnn.launching.inputs import ChangedError, check_unchanged, tracked
from tests.conftest import ROOT

PIPELINE = """
stages:
  seed:
    cmd: python stage.py seed
    deps: [data, src/exemplarcnn/seed.py]
    params: [seed]
    outs: [table]
  train:
    foreach: ${variants.train}
    do:
      cmd: %s stage.py train@${key}
      deps: [src/exemplarcnn/train.py, table]
      params:
        - train
        - variants.train.${key}.groups
      outs:
        - model-${key}
"""
PARAMS = {"seed": 0, "train": {"epochs": 20, "lr": 0.1}, "variants": {"train": {"a": {"groups": None, "patch": 32}}}}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "src/exemplarcnn").mkdir(parents=True)
    for name in ("seed", "train"):
        (tmp_path / f"src/exemplarcnn/{name}.py").write_text("pass\n")
    (tmp_path / "dvc.yaml").write_text(PIPELINE % sys.executable)
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(PARAMS))
    (tmp_path / "data.dvc").write_text("outs: []\n")
    (tmp_path / "table").write_text("1\n")
    return tmp_path


def edit(old: str, new: str, file: str = "params.yaml") -> Callable[[], None]:
    def change() -> None:
        text = Path(file).read_text()
        assert old in text
        Path(file).write_text(text.replace(old, new))

    return change


@pytest.mark.parametrize(
    ("stage", "change", "said"),
    [
        (
            "train@a",
            edit("epochs: 20", "epochs: 40"),
            r"params\.yaml \(train\.epochs: 40, and 20 when the stage began\)",
        ),
        ("train@a", edit("groups: null", "groups: {}"), r"params\.yaml \(variants\.train\.a\.groups: \{\}, and None"),
        ("train@a", edit("pass", "1", "src/exemplarcnn/train.py"), r"^src/exemplarcnn/train\.py has changed while"),
        ("train@a", Path("src/exemplarcnn/train.py").unlink, r"^src/exemplarcnn/train\.py has changed while train@a"),
        ("seed", edit("[]", "[1]", "data.dvc"), r"^data\.dvc has changed while seed worked"),
        ("seed", edit("seed: 0", "seed: 1"), r"`dvc commit --force seed` records the result; or `dvc repro` makes"),
    ],
)
def test_what_changes_while_a_stage_works_is_named(
    here: Path, stage: str, change: Callable[[], None], said: str
) -> None:
    before = tracked(stage)
    check_unchanged(stage, before)
    change()
    with pytest.raises(ChangedError, match=said):
        check_unchanged(stage, before)


@pytest.mark.parametrize(
    "change",
    [
        edit("patch: 32", "patch: 64"),
        edit("seed: 0", "seed: 1"),
        edit("pass", "1", "src/exemplarcnn/seed.py"),
        edit("[]", "[1]", "data.dvc"),
    ],
)
def test_what_a_stage_does_not_depend_on_may_change(here: Path, change: Callable[[], None]) -> None:
    before = tracked("train@a")
    assert set(before) == {"train", "variants.train.a.groups", "src/exemplarcnn/train.py"}
    change()
    check_unchanged("train@a", before)


def test_a_stage_that_the_pipeline_does_not_have_depends_on_nothing_known(here: Path) -> None:
    assert tracked("another@a") == {}
    (here / "dvc.yaml").unlink()
    assert tracked("train@a") == {}


def test_every_parameter_of_the_pipeline_is_found() -> None:
    """No other template than these two is in dvc.yaml's parameters."""
    for stage in yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"].values():
        for key in stage.get("do", stage).get("params", []):
            assert "$" not in key.replace("${key}", "").replace("${item}", "")


STAGE = """
import sys
from pathlib import Path
from exemplarcnn.launching.inputs import ChangedError, check_unchanged, tracked
stage = sys.argv[1]
before = tracked(stage)
if Path("edit").exists():  # somebody edits while it works
    Path("edit").unlink()
    Path("params.yaml").write_text(Path("params.yaml").read_text().replace("epochs: 20", "epochs: 40"))
Path("model-a").write_text("of 20 epochs")
try:
    check_unchanged(stage, before)
except ChangedError as error:
    sys.exit(f"error: {error}")
"""


@pytest.mark.slow
def test_dvc_does_not_record_it_and_the_way_back_is_the_one_that_is_named(here: Path) -> None:
    def dvc(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "dvc", *words]
        return subprocess.run(command, cwd=here, capture_output=True, text=True)

    (here / "stage.py").write_text(STAGE)
    (here / "edit").touch()
    dvc("init", "--no-scm", "-q")
    failed = dvc("repro", "--single-item", "train@a")
    assert failed.returncode != 0
    assert "train.epochs: 40, and 20 when the stage began" in failed.stderr
    assert not (here / "dvc.lock").exists()
    assert dvc("status", "train@a").stdout.strip() != "Data and pipelines are up to date."
    edit("epochs: 40", "epochs: 20")()
    assert dvc("commit", "--force", "train@a").returncode == 0
    assert dvc("status", "train@a").stdout.strip() == "Data and pipelines are up to date."
    entry = yaml.safe_load((here / "dvc.lock").read_text())["stages"]["train@a"]
    assert entry["params"]["params.yaml"]["train"]["epochs"] == 20
    assert (here / "model-a").read_text() == "of 20 epochs"
    assert inputs.tracked("train@a")["train"] == PARAMS["train"]
