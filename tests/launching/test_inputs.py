"""What a stage was made from must still be there when it ends, or DVC would record something else."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from exemplarcnn.launching import launcher, preflight
from exemplarcnn.launching.inputs import ChangedError, Inputs
from exemplarcnn.planning import plan
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
      cmd: '"%s" stage.py train@${key}'
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
    before = Inputs.of(stage)
    before.check()
    change()
    with pytest.raises(ChangedError, match=said):
        before.check()


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
    before = Inputs.of("train@a")
    assert set(before.params) == {"train", "variants.train.a.groups"}
    assert set(before.files) == {"src/exemplarcnn/train.py"}
    change()
    before.check()


def test_an_edit_of_the_pipeline_is_none_of_its_inputs(here: Path) -> None:
    """DVC has read dvc.yaml before; nor does it matter that the file is half written when the stage ends."""
    before = Inputs.of("train@a")
    for text in ((here / "dvc.yaml").read_text().replace("        - train\n", ""), "stages: {", ""):
        (here / "dvc.yaml").write_text(text)
        before.check()
    (here / "params.yaml").write_text("train: {")
    with pytest.raises(ChangedError, match=r"^params\.yaml has changed while train@a worked"):
        before.check()


def test_the_launcher_notices(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("dvc.yaml", "params.yaml"):
        (here / name).write_text((ROOT / name).read_text())
    for module, name in ((preflight, "check"), (plan, "check_disk"), (launcher, "use_threads")):
        monkeypatch.setattr(module, name, lambda *_, **__: None)
    monkeypatch.setattr(launcher, "_name", lambda variant: f"train@{variant}")
    monkeypatch.setattr(sys, "argv", ["stage", "baseline"])
    launcher.main(lambda variant, config: None)
    with pytest.raises(SystemExit, match=r"train\.momentum: 0\.8, and 0\.9 when the stage began"):
        launcher.main(lambda variant, config: edit("momentum: 0.9", "momentum: 0.8")())


def test_a_stage_that_the_pipeline_does_not_have_depends_on_nothing_known(here: Path) -> None:
    assert Inputs.of("another@a") == Inputs("another@a", {}, {})
    (here / "dvc.yaml").unlink()
    assert Inputs.of("train@a") == Inputs("train@a", {}, {})


def test_every_parameter_of_the_pipeline_is_found() -> None:
    """No other template than these two is in dvc.yaml's parameters."""
    for stage in yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"].values():
        for key in stage.get("do", stage).get("params", []):
            assert "$" not in key.replace("${key}", "").replace("${item}", "")


STAGE = """
import sys
from pathlib import Path
from exemplarcnn.launching.inputs import ChangedError, Inputs
before = Inputs.of(sys.argv[1])
if Path("edit").exists():  # somebody edits while it works
    Path("edit").unlink()
    Path("params.yaml").write_text(Path("params.yaml").read_text().replace("epochs: 20", "epochs: 40"))
Path("model-a").write_text("of 20 epochs")
try:
    before.check()
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
