"""What DVC knows of a stage, on a small pipeline that DVC runs for real."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from exemplarcnn.errors import PipelineError
from exemplarcnn.files import UnreadableError
from exemplarcnn.tracking import lineage, repository, stage_states
from exemplarcnn.tracking.lineage import LineageError, Record

PIPELINE = """
stages:
  seed:
    foreach: [a, b]
    do:
      cmd: cat data/x src/seed.py > classes/${item}.csv
      deps: [data, src/seed.py]
      params: [seed, "variants.seed.${item}"]
      outs: ["classes/${item}.csv"]
  train:
    foreach: [a, b]
    do:
      cmd: mkdir -p models/${item} && cp classes/${item}.csv models/${item}/w && echo 1 > metrics/${item}.csv
      deps: ["classes/${item}.csv"]
      params: [train]
      outs:
        - "models/${item}"
        - "metrics/${item}.csv":
            cache: false
  evaluate:
    foreach: [a, b]
    do:
      cmd: cp models/${item}/w metrics/${item}.json
      deps: ["models/${item}/w", "data"]
      params: [evaluate.C]
      outs:
        - "metrics/${item}.json":
            cache: false
  report:
    cmd: cat metrics/* > report
    deps: [metrics]
    outs: [report]
"""
PARAMS = {
    "seed": 0,
    "variants": {
        "seed": {"a": {"n": 1}, "b": {"n": 2}},
        "train": {"a": {}, "b": {}},
        "evaluate": {"a": {}, "b": {}},
    },
    "train": {"epochs": 3, "lr": 0.1},
    "evaluate": {"C": [1]},
}


def dvc(*words: str) -> str:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    done = subprocess.run(["dvc", *words], env=os.environ | {"PATH": path}, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the small pipeline has run."""
    folder = tmp_path_factory.mktemp("lineage")
    before = Path.cwd()
    os.chdir(folder)
    try:
        for name in ("data", "src", "classes", "models", "metrics"):
            Path(name).mkdir()
        Path("data/x").write_text("x")
        Path("src/seed.py").write_text("pass\n")
        Path("dvc.yaml").write_text(PIPELINE)
        Path("params.yaml").write_text(yaml.safe_dump(PARAMS))
        dvc("init", "--no-scm", "-q")
        dvc("add", "-q", "data")
        dvc("repro", "-q")
    finally:
        os.chdir(before)
    return folder


@pytest.fixture
def here(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it to work in."""
    folder = tmp_path / "copy"
    subprocess.run(["cp", "-r", str(finished), str(folder)], check=True)
    monkeypatch.chdir(folder)
    return folder


def change(file: str, edit: Callable[[Any], None]) -> None:
    values = yaml.safe_load(Path(file).read_text())
    edit(values)
    Path(file).write_text(yaml.safe_dump(values))


@pytest.mark.slow
def test_what_dvc_says_now_is_what_the_lock_says_afterwards(here: Path) -> None:
    records = lineage.read_lock()
    for stage in ("seed@a", "train@b", "evaluate@a"):
        assert lineage.current(stage) == records[stage]


def test_a_record(here: Path) -> None:
    record = lineage.read_lock()["train@b"]
    assert set(record.deps) == {"classes/b.csv"}
    assert record.params == {"train": {"epochs": 3, "lr": 0.1}}
    assert set(record.outs) == {"models/b", "metrics/b.csv"}
    assert record.outs["models/b"].endswith(".dir")


def test_the_identity_is_known_before_the_work_is_done(here: Path) -> None:
    identity = lineage.read_lock()["train@a"].identity
    Path("dvc.lock").unlink()
    subprocess.run(["rm", "-rf", "models/a", "metrics/a.csv"], check=True)
    now = lineage.current("train@a")
    assert now.outs == {}
    assert now.identity == identity


@pytest.mark.parametrize(
    "edit",
    [
        lambda: change("params.yaml", lambda v: v["train"].update(epochs=4)),
        lambda: Path("classes/a.csv").write_text("another table"),
    ],
    ids=["parameter", "dependency"],
)
def test_other_work_has_another_identity(here: Path, edit: Callable[[], None]) -> None:
    identity = lineage.current("train@a").identity
    edit()
    assert lineage.current("train@a").identity != identity


def test_variants_have_identities_of_their_own() -> None:
    a, b = (Record(name, {"d": "1"}, {"p": 1}, {}) for name in ("train@a", "train@b"))
    assert a.identity != b.identity
    assert a.identity == Record("train@a", {"d": "1"}, {"p": 1}, {"out": "made"}).identity


def test_a_stage_that_the_pipeline_no_longer_has_is_left_out(here: Path) -> None:
    before = lineage.read_lock()
    lock = yaml.safe_load(Path("dvc.lock").read_text())
    lock["stages"]["former@baseline"] = next(iter(lock["stages"].values()))
    Path("dvc.lock").write_text(yaml.safe_dump(lock))
    assert before
    assert lineage.read_lock() == before


def test_no_lock_no_records(tmp_path: Path) -> None:
    assert lineage.read_lock(tmp_path / "dvc.lock") == {}


CONFLICT = "<<<<<<< HEAD\n=======\n>>>>>>> other\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "",
            "found nothing, expected a mapping; `cp work/dvc.lock dvc.lock` brings back that of before the last stage, "
            "if one ran here; `git checkout HEAD -- dvc.lock` brings the committed one back; "
            "without the file `dvc repro`",
        ),
        ("{\n<<<<<<< HEAD\n=======\n>>>>>>> other\n}\n", "git left a conflict in it, at line 2; take one side"),
        ("stages:\n", "it records no stages; "),
        ("stages: {seed@a: }\n", "the entry of seed@a is not whole; "),
        ("stages: {seed@a: {deps: }}\n", "the entry of seed@a is not whole; "),
        ("stages: {seed@a: {outs: [{path: x}]}}\n", "the entry of seed@a is not whole; "),
        ("stages: {seed@a: {outs: [x]}}\n", "the entry of seed@a is not whole; "),
        ("stages: {seed@a: {params: {params.yaml: }}}\n", "the entry of seed@a is not whole; "),
        (
            f"schema: '2.0'\n{CONFLICT}",
            "git left a conflict in it, at line 2; take one side (`git",
        ),
        ("stages: [\n", "not valid YAML: "),
        ("stages: \xff", "byte 9 is not UTF-8; "),
    ],
)
def test_a_damaged_lock_is_named(here: Path, text: str, said: str) -> None:
    (here / "dvc.lock").write_bytes(text.encode("latin-1"))
    for ask in (lineage.read_lock, lambda: lineage.current("seed@a")):
        with pytest.raises(PipelineError, match=rf"^dvc\.lock: .*{re.escape(said)}"):
            ask()


def test_a_lock_that_is_cut_off_anywhere_is_read_or_named(here: Path) -> None:
    """DVC writes it in place; Ctrl-C at that moment leaves its beginning, which may be valid YAML."""
    text = (here / "dvc.lock").read_text()
    refused = 0
    for end in range(0, len(text), 5):
        (here / "dvc.lock").write_text(text[:end])
        try:
            lineage.read_lock()
            assert all(out["path"] for entry in lineage.lock_entries().values() for out in entry.get("outs", []))
        except UnreadableError:
            refused += 1
    assert 0 < refused < len(text)


def test_damaged_parameters_are_named(here: Path) -> None:
    (here / "params.yaml").write_text(CONFLICT)
    for ask in (lineage.read_lock, lambda: lineage.current("train@a")):
        with pytest.raises(PipelineError, match=r"^params\.yaml: git left a conflict in it, at line 1; "):
            ask()


def test_a_damaged_pointer_to_the_data_is_named(here: Path) -> None:
    (here / "data.dvc").write_text(CONFLICT)
    with pytest.raises(PipelineError, match=r"^data\.dvc: git left a conflict in it, at line 1; "):
        lineage.read_lock()


def test_a_lock_of_no_stages_is_whole(here: Path) -> None:
    """DVC takes it, too."""
    (here / "dvc.lock").write_text("schema: '2.0'\n")
    assert lineage.read_lock() == {}


def test_a_damaged_pipeline_is_named(here: Path) -> None:
    records = lineage.read_lock()
    with (here / "dvc.yaml").open("a") as file:
        file.write(CONFLICT)
    for ask in (lambda: lineage.current("seed@a"), lambda: lineage.changed_outs("seed@a", records)):
        with pytest.raises(PipelineError, match=r"^dvc\.yaml: git left a conflict in it, at line "):
            ask()


def test_what_dvc_refuses_is_said_in_its_words(here: Path) -> None:
    with pytest.raises(LineageError, match=r"^DVC: "):
        lineage.current("seed@nobody")
    shutil.rmtree(here / ".dvc")
    with pytest.raises(LineageError, match=r"^DVC: you are not inside of a DVC repository"):
        lineage.cache_folder()


def test_a_folder_without_git_is_told_what_dvc_wants(here: Path) -> None:
    """An unpacked archive: DVC's own words leave open what to do."""
    (here / ".dvc" / "config").write_text("")
    with pytest.raises(LineageError, match=r"is not a git repository; work in a `git clone`, or .*core\.no_scm true`"):
        lineage.cache_folder()


def test_the_chain_goes_back_to_the_data(here: Path) -> None:
    records = lineage.read_lock()
    names = [record.stage for record in lineage.chain(records["evaluate@a"], records)]
    assert names == ["evaluate@a", "train@a", "seed@a"]
    # A folder that several stages write into.
    every = {record.stage for record in lineage.chain(records["report"], records)}
    assert every == set(records)


def test_all_parameters_of_a_result(here: Path) -> None:
    records = lineage.read_lock()
    assert lineage.params(records["evaluate@b"], records) == {
        "evaluate.C": [1],
        "train": {"epochs": 3, "lr": 0.1},
        "seed": 0,
        "variants.seed.b": {"n": 2},
    }
    assert lineage.params(records["seed@a"], records) == {"seed": 0, "variants.seed.a": {"n": 1}}


# Does it still stand?


def test_a_finished_pipeline_is_up_to_date(here: Path) -> None:
    records = lineage.read_lock()
    assert [lineage.out_of_date(stage, records) for stage in records] == [None] * len(records)


def test_it_stands_without_data_and_large_results(here: Path) -> None:
    # As in a fresh clone, before anything is fetched.
    subprocess.run(["rm", "-rf", "data", "models", "classes"], check=True)
    assert lineage.out_of_date("evaluate@a", lineage.read_lock()) is None


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (lambda: change("params.yaml", lambda v: v.update(seed=1)), "says seed: 1, but seed@a ran with 0"),
        (lambda: change("params.yaml", lambda v: v.pop("seed")), "says seed: None, but seed@a ran with 0"),
        (lambda: change("params.yaml", lambda v: v["evaluate"].update(C=[2])), "says evaluate.C: [2], but evaluate@a"),
        (lambda: Path("src/seed.py").write_text("1\n"), "src/seed.py has changed since seed@a ran"),
        (lambda: Path("src/seed.py").unlink(), "src/seed.py has changed since seed@a ran"),
        (lambda: change("data.dvc", lambda v: v["outs"][0].update(md5="0.dir")), "other data than data.dvc names"),
        (
            lambda: change("dvc.lock", lambda v: v["stages"]["seed@a"]["outs"][0].update(md5="0")),
            "seed@a has run since train@a did",
        ),
        (lambda: Path("models/a/w").write_text("another network"), "train@a has run since evaluate@a did"),
    ],
    ids=["parameter", "parameter gone", "own parameter", "code", "code gone", "data", "other run", "part of an out"],
)
def test_what_makes_a_result_out_of_date(here: Path, edit: Callable[[], None], said: str) -> None:
    edit()
    reason = lineage.out_of_date("evaluate@a", lineage.read_lock())
    assert reason is not None
    assert said in reason


def test_what_it_does_not_depend_on_makes_no_difference(here: Path) -> None:
    change("params.yaml", lambda v: v["variants"]["seed"]["b"].update(n=9))
    assert lineage.out_of_date("evaluate@a", lineage.read_lock()) is None
    assert "variants.seed.b" in str(lineage.out_of_date("evaluate@b", lineage.read_lock()))


def test_variants_of_the_past_are_left_out(here: Path) -> None:
    # DVC keeps their entries in the lock; one of another kind may have made the very file that a new one makes.
    change("params.yaml", lambda v: v["variants"]["train"].pop("b"))
    assert set(lineage.read_lock()) == {"seed@a", "seed@b", "train@a", "evaluate@a", "evaluate@b", "report"}


def test_a_stage_that_has_not_run(here: Path) -> None:
    assert lineage.out_of_date("train@c", lineage.read_lock()) == "it has not run"


@pytest.mark.parametrize(
    ("here", "there", "expected"),
    [
        (1, 2, ("a", 1, 2)),
        ({"b": {"c": 1, "d": 3}}, {"b": {"c": 1, "d": 4}}, ("a.b.d", 3, 4)),
        ({}, {"b": None}, ("a.b", None, None)),
        ({"b": 1}, 2, ("a", {"b": 1}, 2)),
    ],
)
def test_the_entry_that_differs_is_named(here: object, there: object, expected: tuple[str, object, object]) -> None:
    assert lineage.first_difference("a", here, there) == expected


def test_many_questions_are_answered_as_each_alone_with_one_look(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from dvc.repo import Repo

    opened: list[int] = []
    real = Repo.__init__

    def counted(self: Repo, *args: Any, **kwargs: Any) -> None:
        opened.append(1)
        real(self, *args, **kwargs)

    monkeypatch.setattr(Repo, "__init__", counted)
    with lineage.Workspace() as folder:
        for stage in lineage.read_lock():
            assert folder.deps(stage) == folder.deps(stage)
        assert len(opened) == 1
        for stage in lineage.read_lock():
            assert folder.deps(stage) == lineage.current(stage).deps


# What is done, what DVC's cache has, what has to run


def of(state: str) -> set[str]:
    return {stage for stage, found in stage_states.states().items() if found == state}


def repro() -> set[str]:
    """Run the pipeline; return the stages that ran."""
    return set(re.findall(r"^Running stage '(\S+)'", dvc("repro"), re.MULTILINE))


EVERYTHING = {f"{kind}@{name}" for kind in ("seed", "train", "evaluate") for name in "ab"} | {"report"}


@pytest.mark.slow
def test_states(here: Path) -> None:
    assert of("done") == EVERYTHING
    change("params.yaml", lambda values: values["evaluate"].update(C=[2]))
    assert of("to run") == {"evaluate@a", "evaluate@b", "report"}
    change("params.yaml", lambda values: values["evaluate"].update(C=[1]))
    Path("classes/a.csv").unlink()
    assert of("cached") == {"seed@a"}
    assert of("done") == EVERYTHING - {"seed@a"}, "DVC puts back what they were made from"
    assert repro() == set()
    shutil.rmtree("models/a")
    assert of("cached") == set(), "one of its outs is in git, not in DVC's cache"
    assert {"train@a", "evaluate@a", "report"} <= of("to run")
    assert "train@a" in repro()


@pytest.mark.slow
def test_a_cache_without_the_object_is_none(here: Path) -> None:
    Path("classes/a.csv").unlink()
    shutil.rmtree(lineage.cache_folder())
    assert "seed@a" in of("to run")


@pytest.mark.slow
def test_a_damaged_record_of_a_run_is_left_to_dvc(here: Path) -> None:
    change("params.yaml", lambda values: values["variants"]["seed"]["a"].update(n=7))
    dvc("repro", "-q")
    change("params.yaml", lambda values: values["variants"]["seed"]["a"].update(n=1))
    assert "seed@a" in of("cached")
    damaged = [file for file in (here / ".dvc/cache/runs").rglob("*") if file.is_file() and "n: 1" in file.read_text()]
    assert damaged
    for file in damaged:
        file.write_text("{")
    for _ in range(2):
        assert "seed@a" in of("to run")
    assert "seed@a" in repro()


@pytest.mark.slow
def test_states_of_some_stages_and_those_before_them(here: Path) -> None:
    assert set(stage_states.states(["evaluate@a"])) == {"seed@a", "train@a", "evaluate@a"}
    assert set(stage_states.states(["train"])) == {f"{kind}@{name}" for kind in ("seed", "train") for name in "ab"}
    assert set(stage_states.states(["report"])) == EVERYTHING


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("dvc repro", []),
        ("python dvc repro train@a evaluate", ["train@a", "evaluate"]),
        ("python -m dvc repro dvc.yaml:train@b", ["train@b"]),
        ("dvc exp run -S train.epochs=3 -n better", []),
        ("dvc exp run -n train evaluate@a", ["evaluate@a"]),
        ("python dvc exp exec-run --infofile /tmp/x", None),
        ("dvc repro -f -s train@a", None),
        ("dvc repro --single-item train@a", None),
        ("dvc status train@a", None),
        ("python -m exemplarcnn.stages.train a", None),
    ],
)
def test_what_dvc_was_asked_for(
    words: str, expected: list[str] | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("dvc.yaml").write_text(PIPELINE)
    process = SimpleNamespace(cmdline=words.split)
    monkeypatch.setattr(repository, "ancestor", lambda fits: process if fits(words.split()) else None)
    assert stage_states.requested() == expected


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kinds", "expected"),
    [
        ("copy", "copy"),
        ("hardlink,copy", "hardlink"),
        ("hardlink,symlink", "hardlink"),
        ("symlink,hardlink", "symlink"),
        ("symlink,copy", "copy"),
    ],
)
def test_how_results_get_into_the_cache(here: Path, kinds: str, expected: str) -> None:
    dvc("config", "cache.type", kinds)
    assert lineage.cache_link() == expected
    Path("dvc.yaml").write_text("stages: {a: {cmd: mkdir made && echo unique > made/x, deps: [data], outs: [made]}}")
    dvc("repro", "-q")
    made = Path("made/x")
    found = "symlink" if made.is_symlink() else "hardlink" if made.stat().st_nlink > 1 else "copy"
    assert found == expected
