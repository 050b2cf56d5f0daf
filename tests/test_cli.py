"""The `exemplarcnn` command, in a folder of its own."""

import io
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import typer
import yaml
from typer.testing import CliRunner

from exemplarcnn import cli
from exemplarcnn.config import profiles
from exemplarcnn.config.params import load
from exemplarcnn.data import stl10
from exemplarcnn.sample import generate
from exemplarcnn.tracking import comparison, sending

ROOT = Path(__file__).parents[1]
run = CliRunner().invoke


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(ROOT / "conf", tmp_path / "conf")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def commands(command: object, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    yield path
    for name, inner in getattr(command, "commands", {}).items():
        yield from commands(inner, (*path, name))


COMMANDS = list(commands(typer.main.get_command(cli.app)))


def test_there_are_commands() -> None:
    assert {("profile",), ("check",), ("show",), ("data", "sample"), ("data", "use"), ("log",), ("compare",)} <= set(
        COMMANDS
    )


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_has_help(command: tuple[str, ...], home: Path) -> None:
    result = run(cli.app, [*command, "--help"])
    assert result.exit_code == 0
    assert "Usage:" in result.stdout
    assert [path.name for path in home.iterdir()] == ["conf"]


def test_profile_without_a_name_lists_the_profiles(home: Path) -> None:
    (home / "conf" / "profile" / "mine.yaml").write_text("")
    result = run(cli.app, ["profile"])
    assert result.exit_code == 0
    assert result.stdout.split() == sorted(["mine", *profiles.names(ROOT / "conf")])
    assert not (home / "params.yaml").exists()


@pytest.mark.parametrize("name", ["tiny", "sample"])
def test_profile_writes_params(home: Path, name: str) -> None:
    (home / "params.yaml").write_text("old")
    result = run(cli.app, ["profile", name])
    assert result.exit_code == 0
    assert result.stdout == f"params.yaml holds profile {name}; `dvc repro` runs it\n"
    text = (home / "params.yaml").read_text()
    assert text.startswith("# Written by `exemplarcnn profile " + name)
    assert yaml.safe_load(text) == profiles.compose(ROOT / "conf", name)
    assert load(home / "params.yaml").profile == name


def test_sample_profile_is_the_committed_file_byte_for_byte(home: Path) -> None:
    run(cli.app, ["profile", "sample"])
    assert (home / "params.yaml").read_bytes() == (ROOT / "params.yaml").read_bytes()


def test_unknown_profile_is_refused_and_changes_nothing(home: Path) -> None:
    (home / "params.yaml").write_text("old")
    result = run(cli.app, ["profile", "nobody"])
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr.startswith("error: no profile 'nobody'")
    assert all(name in result.stderr for name in ("tiny", "sample", "bench"))
    assert (home / "params.yaml").read_text() == "old"


def test_profile_with_a_wrong_parameter_is_refused_and_changes_nothing(home: Path) -> None:
    path = home / "conf" / "config.yaml"
    path.write_text(path.read_text().replace("batch_size: 128", "batch_size: 0"))
    result = run(cli.app, ["profile", "tiny"])
    assert result.exit_code == 1
    assert "train.batch_size" in result.stderr
    assert "Traceback" not in result.output
    assert not (home / "params.yaml").exists()


def test_check_without_params_says_what_writes_them() -> None:
    result = run(cli.app, ["check"])
    assert result.exit_code == 1
    assert result.stderr == "error: params.yaml: not found; 'exemplarcnn profile sample' writes it\n"


def test_check_names_a_wrong_parameter(home: Path) -> None:
    run(cli.app, ["profile", "tiny"])
    text = (home / "params.yaml").read_text()
    (home / "params.yaml").write_text(text.replace("momentum: 0.9", "momentum: 9"))
    result = run(cli.app, ["check"])
    assert result.exit_code == 1
    assert "train.momentum: " in result.stderr


@pytest.mark.parametrize("command", [["check"], ["data", "check"]])
def test_check_without_data_is_refused_without_a_traceback(command: list[str]) -> None:
    run(cli.app, ["profile", "tiny"])
    result = run(cli.app, command)
    assert result.exit_code == 1
    assert result.stderr.startswith("error: data/")
    assert "Traceback" not in result.output


def small_set(folder: Path) -> None:
    folder.mkdir()
    for split, number in {"train": 20, "test": 3, "unlabeled": 1234}.items():
        stl10.write_images(folder / f"{split}_X.bin", np.zeros((number, 96, 96, 3), np.uint8))
    stl10.write_labels(folder / "train_y.bin", [*range(10), *range(10)])
    stl10.write_labels(folder / "test_y.bin", [0, 1, 2])
    stl10.write_folds(folder / "fold_indices.txt", [[fold, fold + 10] for fold in range(10)])
    stl10.write_class_names(folder / "class_names.txt", list("abcdefghij"))


def test_check_describes_params_and_data(home: Path) -> None:
    run(cli.app, ["profile", "own_unlabelled"])
    small_set(home / "data")
    result = run(cli.app, ["check"])
    assert result.exit_code == 0, result.output
    first, second = result.stdout.splitlines()
    assert first == "params.yaml: profile own_unlabelled, seed 0, trains baseline, clustered"
    assert second == (
        "data/: custom; 1,234 unlabelled, 20 training and 3 test images; 10 folds of 2 labels, not the official ones "
        "of STL-10"
    )
    assert run(cli.app, ["data", "check"]).stdout.splitlines() == [second]


def test_check_says_what_would_end_a_later_stage(home: Path) -> None:
    run(cli.app, ["profile", "tiny"])
    small_set(home / "data")
    result = run(cli.app, ["check"])
    assert result.exit_code == 1
    assert result.stderr == (
        "error: fold 0 has 0 image(s) of class 1; cross-validation needs evaluate.inner_folds=5 of each: "
        "add some, or lower it\n"
    )


def test_the_side_of_images_is_said_where_it_is_not_stl10s(home: Path) -> None:
    small_set(home / "data")
    for split, number in {"train": 20, "test": 3, "unlabeled": 7}.items():
        stl10.write_images(home / f"data/{split}_X.bin", np.zeros((number, 64, 64, 3), np.uint8), 64)
    (home / "data/import.json").write_text('{"name": "mine", "side": 64}')
    said = run(cli.app, ["data", "check"]).stdout
    assert said.startswith("data/: mine; 7 unlabelled, 20 training and 3 test images; ")
    assert said.endswith("; 64×64 pixels\n")


def test_check_refuses_what_asks_for_more_pixels_than_images_have(home: Path) -> None:
    run(cli.app, ["profile", "own_unlabelled"])
    small_set(home / "data")
    assert run(cli.app, ["check"]).exit_code == 0
    params = (home / "params.yaml").read_text()
    (home / "params.yaml").write_text(params.replace("smallest_side: 32", "smallest_side: 97"))
    result = run(cli.app, ["check"])
    assert result.exit_code == 1
    assert "error: data: found images of 96×96 pixels, but audit.smallest_side is 97; set 96" in result.stderr


@pytest.mark.parametrize(
    ("side", "code", "said"),
    [
        ("31", 1, "found 31 for the side"),
        ("257", 1, "found 257 for the side"),
        ("x", 2, "Invalid value for '--side': "),
    ],
)
def test_import_refuses_a_side_that_cannot_be(home: Path, side: str, code: int, said: str) -> None:
    run(cli.app, ["profile", "own"])
    (home / "photos").mkdir()
    result = run(cli.app, ["data", "import", "photos", "--side", side])
    assert result.exit_code == code
    assert said in " ".join(result.stderr.replace("│", " ").split())
    assert not (home / "data").exists()


def test_help_names_the_sides_that_there_are() -> None:
    said = " ".join(run(cli.app, ["data", "import", "--help"], terminal_width=200).stdout.split())
    assert f"from {stl10.MIN_SIDE} to {stl10.MAX_SIDE}" in said
    assert f"[default: {stl10.SIDE}]" in said


def test_show_without_results_says_what_makes_them() -> None:
    result = run(cli.app, ["show"])
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr == "error: reports/results.json is not there yet; `dvc repro` makes it\n"


def test_outdated_results_are_told_of(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / "dvc.yaml").touch()
    monkeypatch.setattr("exemplarcnn.tracking.lineage.read_lock", dict)
    for why, said in ((None, ""), ("it has not run", "warning: these results are out of date: it has not run; `dvc")):
        monkeypatch.setattr("exemplarcnn.tracking.lineage.out_of_date", lambda stage, records, why=why: why)
        monkeypatch.setattr("exemplarcnn.reporting.results.read", dict)
        monkeypatch.setattr("exemplarcnn.reporting.summary.render", lambda results: "table")
        result = run(cli.app, ["show"])
        assert (result.exit_code, result.stdout) == (0, "table\n")
        assert result.stderr.startswith(said)
        assert bool(result.stderr) == bool(said)


CONFLICT = "{\n<<<<<<< HEAD\n=======\n>>>>>>> other\n}\n"


@pytest.mark.parametrize("command", [["show"], ["page"]])
def test_damaged_results_are_named(home: Path, command: list[str]) -> None:
    shutil.copy(ROOT / "params.yaml", home)
    (home / "reports").mkdir()
    (home / "reports" / "results.json").write_text(CONFLICT)
    result = run(cli.app, command)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == (
        "error: reports/results.json: git left a conflict in it, at line 2; take one side (`git checkout "
        "--ours reports/results.json` during a merge), or remove it, and `dvc checkout` or `dvc repro` brings it "
        "back\n"
    )


@pytest.mark.parametrize("command", ["check", "page", "log", "register"])
def test_damaged_parameters_are_named_by_every_command(home: Path, command: str) -> None:
    (home / "params.yaml").write_bytes("title: Zürich".encode("latin-1"))
    result = run(cli.app, [command])
    assert result.exit_code == 1
    assert result.stderr == (
        "error: params.yaml: byte 9 is not UTF-8; fix it, or let `exemplarcnn profile NAME` write it again\n"
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "found nothing, expected a mapping; `cp work/dvc.lock dvc.lock` brings back"),
        (CONFLICT, "git left a conflict in it, at line 2; take"),
    ],
)
def test_a_damaged_lock_is_named_not_mlflow(home: Path, monkeypatch: pytest.MonkeyPatch, text: str, said: str) -> None:
    shutil.copy(ROOT / "params.yaml", home)
    (home / "dvc.lock").write_text(text)
    monkeypatch.setattr("exemplarcnn.tracking.store.connect", lambda: None)
    for command in ("log", "register"):
        result = run(cli.app, [command])
        assert result.exit_code == 1
        assert result.stderr.startswith(f"error: dvc.lock: {said}")


def test_check_says_what_dvc_wants_in_a_folder_without_git(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the data is not there yet: its own advice, `dvc pull`, would fail there."""
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(home.parent))
    shutil.copy(ROOT / "params.yaml", home)
    (home / ".dvc").mkdir()
    result = run(cli.app, ["check"])
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == (
        f"error: DVC: {home} is not a git repository; work in a `git clone`, or tell DVC to work without git: "
        "`dvc config --local core.no_scm true`\n"
    )


def test_a_file_that_cannot_be_opened_is_named(home: Path) -> None:
    (home / "params.yaml").mkdir()
    result = run(cli.app, ["check"])
    assert result.exit_code == 1
    assert result.stderr.startswith("error: params.yaml: Is a directory; ")


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_data_sample_leaves_what_is_there_alone(home: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    def never(*arguments: object) -> None:
        raise AssertionError("drew a sample")

    monkeypatch.setattr(generate, "write_sample", never)
    there = home / "there"
    if kind == "folder":
        there.mkdir()
        (there / "mine").write_text("x")
    else:
        there.write_text("x")
    result = run(cli.app, ["data", "sample", "there"])
    assert result.exit_code == 1
    assert result.stderr == "error: there already exists; name a new folder\n"
    assert not there.is_dir() or [path.name for path in there.iterdir()] == ["mine"]


def test_data_sample_draws_with_the_seed_given(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[Path, int]] = []
    monkeypatch.setattr(generate, "write_sample", lambda folder, seed: calls.append((folder, seed)))
    assert run(cli.app, ["data", "sample", "new"]).exit_code == 0
    result = run(cli.app, ["data", "sample", "new", "--seed", "3"])
    assert result.exit_code == 0
    assert result.stdout == "new written; `exemplarcnn data use new` puts it in place of data/\n"
    assert calls == [(Path("new"), 0), (Path("new"), 3)]


def test_data_use_of_nothing_is_refused_without_a_traceback() -> None:
    result = run(cli.app, ["data", "use", "nowhere"])
    assert result.exit_code == 1
    assert result.stderr.startswith("error: ")
    assert "nowhere" in result.stderr


def test_an_unknown_command_is_refused() -> None:
    assert run(cli.app, ["nonsense"]).exit_code == 2


# The MLflow store; what is sent and compared is in tests/tracking.


@pytest.fixture
def no_store(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "2")


def test_log_that_broke_off_is_a_failure(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(cli.app, ["profile", "tiny"])
    monkeypatch.setattr(sending, "send", lambda config: {"train@baseline": sending.BROKEN})
    assert run(cli.app, ["log"]).exit_code == 1


def test_log_without_results_says_so(no_store: None, home: Path) -> None:
    run(cli.app, ["profile", "tiny"])
    result = run(cli.app, ["log"])
    assert result.exit_code == 0
    assert {line.partition(": ")[2] for line in result.stdout.splitlines()} == {"it has not run"}


def test_log_says_what_became_of_each_result(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(cli.app, ["profile", "tiny"])
    monkeypatch.setattr(sending, "send", lambda config: {f"train@{name}": "sent" for name in config.variants.train})
    result = run(cli.app, ["log"])
    assert result.exit_code == 0
    assert result.stdout.splitlines() == ["train@baseline: sent", "train@clustered: sent"]


def test_a_store_out_of_reach_is_an_error(no_store: None) -> None:
    result = run(cli.app, ["compare"])
    assert result.exit_code == 1
    assert "error: MLflow store http://127.0.0.1:9" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.fixture
def two_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    runs = []
    for name, accuracy in (("a", 48.421), ("b", 40.0)):
        tags = {"variant": "baseline", "profile": "tiny", "mlflow.source.git.commit": "c" * 40, "data.md5": "d" * 32}
        metrics = {"accuracy_mean": accuracy, "accuracy_std": 1.5}
        data = SimpleNamespace(tags=tags, metrics=metrics, params={"seed": "0"})
        info = SimpleNamespace(run_id=name * 32, experiment_id="1", start_time=1_577_836_800_000)
        runs.append(SimpleNamespace(data=data, info=info))
    monkeypatch.setattr(comparison, "found", lambda variants=None, profile=None: [] if variants else runs)


@pytest.mark.usefixtures("two_runs")
def test_compare_prints_a_table() -> None:
    result = run(cli.app, ["compare"])
    assert "48.42 " in result.stdout
    assert "ccccccc " in result.stdout
    assert "cccccccc" not in result.stdout


@pytest.mark.usefixtures("two_runs")
def test_compare_says_where_mlflow_compares_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://somewhere:5000")
    result = run(cli.app, ["compare"])
    assert "somewhere" not in result.stdout
    assert result.stderr.startswith("to compare these in MLflow: http://somewhere:5000/#/compare-runs?")
    for words in (["compare", "--csv"], ["compare", "--json"], ["compare", "none"]):
        assert run(cli.app, words).stderr == ""


@pytest.mark.usefixtures("two_runs")
def test_compare_for_programs() -> None:
    text = run(cli.app, ["compare", "--csv"]).stdout
    assert pd.read_csv(io.StringIO(text))["commit"].tolist() == ["c" * 40] * 2
    row, _ = json.loads(run(cli.app, ["compare", "--json"]).stdout)
    assert (row["accuracy_mean"], row["started"][:10]) == (48.421, "2020-01-01")


@pytest.mark.usefixtures("two_runs")
def test_compare_with_nothing_to_show() -> None:
    said = run(cli.app, ["compare", "none"]).stdout
    assert "no evaluation in the MLflow store matches; it has the variants baseline and the profiles tiny;" in said
    assert json.loads(run(cli.app, ["compare", "none", "--json"]).stdout) == []
