"""A plan's sums, what is done and cached, and what does not fit."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from exemplarcnn.planning import plan, table
from exemplarcnn.planning.holdings import Holdings
from exemplarcnn.planning.operations import Hash, Operation
from exemplarcnn.planning.plan import Plan, PlanError
from exemplarcnn.planning.works import Work, Works
from exemplarcnn.tracking import lineage, stage_states
from exemplarcnn.tracking.stage_states import CACHED, DONE, TO_RUN, States
from tests.planning.conftest import HELD, config, works

GB = 10**9


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, Any]:
    """A machine with a disk and a memory of any size, on which everything takes a second, and the paper's data."""
    found: dict[str, Any] = {
        "free": 100 * GB,
        "memory": 16 * GB,
        "states": {},
        "links": "copy",
        "asked": [],
        "measured": [],
        "lock": {},
        "bfloat16": True,
    }

    def measured(operations: set[Operation], *_: object) -> dict[Operation, float]:
        found["measured"] = list(operations)
        return dict.fromkeys(operations, 1.0) | {Hash(): 1e-9}

    def states(targets: list[str] | tuple[()] = ()) -> States:
        whole = {work.stage: TO_RUN for work in works("rehearsal").all()} | found["states"]
        return {stage: state for stage, state in whole.items() if not targets or stage in targets}

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=found["free"]))
    monkeypatch.setattr(plan, "memory_available", lambda: found["memory"])
    monkeypatch.setattr("exemplarcnn.processor.multiplies_bfloat16", lambda device: found["bfloat16"])
    monkeypatch.setattr(plan, "measured_costs", measured)
    monkeypatch.setattr(Holdings, "of", lambda *_: HELD)
    monkeypatch.setattr(stage_states, "states", states)
    monkeypatch.setattr(lineage, "cache_link", lambda: found["links"])
    monkeypatch.setattr(stage_states, "requested", lambda: found["asked"])
    monkeypatch.setattr(lineage, "cache_folder", lambda: tmp_path / ".dvc/cache")
    monkeypatch.setattr(lineage, "lock_entries", lambda: found["lock"])
    return found


def made(**options: Any) -> Plan:
    return plan.make(config("rehearsal"), **options)


def test_sums(here: dict[str, Any], rehearsal: Works) -> None:
    found = made()
    outs = sum(work.outs for work in rehearsal.all())
    scratch = max(work.scratch for work in rehearsal.all())
    assert found.disk == 2 * outs, "with the copies in DVC's cache"
    assert found.spaces[0].needed == 2 * outs + scratch > found.disk, "files that go when their stage ends"
    assert found.dvc_seconds == pytest.approx(outs * 1e-9)
    operations = sum(count for work in rehearsal.all() for _, count in work.parts)
    assert found.seconds == pytest.approx(operations + found.dvc_seconds)
    assert found.memory == max(work.memory for work in rehearsal.all())
    here["links"] = "hardlink"
    assert made().disk == outs


def test_without_bfloat16_maps_take_twice_the_memory(here: dict[str, Any]) -> None:
    def memory() -> dict[str, int]:
        return {line.work.stage: line.work.memory for line in made().lines}

    with_it = memory()
    here["bfloat16"] = False
    without = memory()
    more = {stage: without[stage] - with_it[stage] for stage in without if without[stage] != with_it[stage]}
    # What the maps of 128 images take in a ResNet-50, and those of 128 images in the paper's network.
    assert 5 * GB < more["resnet@supervised"] == more["resnet@semi_supervised"] < 6 * GB
    assert GB < more["embed@baseline"] == more["label@semi_supervised"] < 1.5 * GB
    # Those of patches: of 32×32 pixels, and of 96×96.
    assert 0.1 * GB < more["train@baseline"] == more["train@clustered"] < 0.3 * GB
    assert 1.5 * GB < more["train@imagenet"] < 2 * GB
    assert not any(stage.startswith(("group", "evaluate", "surrogate")) for stage in more)


def test_what_is_done_or_cached_takes_no_time(here: dict[str, Any]) -> None:
    everything = {line.work.stage: line for line in made().lines}
    here["states"] = {"surrogate@baseline": DONE, "train@baseline": CACHED}
    found = {line.work.stage: line for line in made().lines}
    assert (found["surrogate@baseline"].seconds, found["surrogate@baseline"].disk) == (0, 0)
    # It is copied out of the cache.
    weights = found["train@baseline"].work.outs
    assert (found["train@baseline"].seconds, found["train@baseline"].disk) == (0, weights)
    assert found["embed@baseline"] == everything["embed@baseline"]
    here["links"] = "hardlink"
    assert {line.work.stage: line.disk for line in made().lines}["train@baseline"] == 0
    assert [line.state for line in made(anew=True).lines] == [TO_RUN] * len(found)


def test_only_what_has_to_run_is_measured(here: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "_makes", lambda *_: TO_RUN)  # there are no tables to count
    here["states"] = dict.fromkeys((work.stage for work in works("rehearsal").all()), DONE)
    here["states"]["train@baseline"] = TO_RUN
    assert made().seconds > 0
    assert len(here["measured"]) == 2, "a step, and a patch of the validation"
    line = next(line for line in made().lines if line.work.stage == "train@baseline")
    # Of 1.6 million patches and as many validation patches an image as there are, 2,000 steps see a part once.
    assert line.parts == {"steps": 2_000, "validation": 160_000}
    assert line.mostly == "validation"


def test_a_disk_that_is_too_small(here: dict[str, Any], rehearsal: Works) -> None:
    works = rehearsal.all()
    needed = 2 * sum(work.outs for work in works) + max(work.scratch for work in works)
    enough = round(1.05 * needed) + 50_000_000
    here["free"] = enough
    assert made().problems() == []
    plan.check_disk(rehearsal.config)
    here["free"] -= 1_234
    (problem,) = made().problems()
    assert "1,234 bytes are missing" in problem
    assert "cache.type reflink" in problem
    with pytest.raises(PlanError, match=r"cannot run the pipeline: .* free: 1,234 bytes are missing; free some space"):
        plan.check_disk(rehearsal.config)
    here["links"] = "hardlink"
    assert made().problems() == []
    plan.check_disk(rehearsal.config)


def test_only_what_was_asked_for_has_to_fit(here: dict[str, Any], rehearsal: Works) -> None:
    here["free"] = 20 * GB
    here["asked"] = ["surrogate@baseline", "train@baseline"]
    plan.check_disk(rehearsal.config)
    here["asked"] = ["surrogate@clustered"]
    with pytest.raises(PlanError, match="bytes are missing"):
        plan.check_disk(rehearsal.config)
    here["states"] = {"surrogate@clustered": DONE}
    plan.check_disk(rehearsal.config)
    here["asked"], here["states"] = None, {}
    plan.check_disk(rehearsal.config)  # somebody runs a stage by hand


def test_memory_that_does_not_suffice(here: dict[str, Any]) -> None:
    here["memory"] = 1 * GB
    (problem,) = made().problems()
    assert "GB of memory, and 1.0 GB are available" in problem


def test_the_table_and_json_have_every_stage(here: dict[str, Any]) -> None:
    here["states"] = {"surrogate@baseline": DONE, "train@baseline": CACHED}
    here["memory"] = 1 * GB
    found = made()
    text = table.render(found)
    lines = {line.split()[0]: line for line in text.splitlines() if line}
    assert lines["surrogate@baseline"].split() == ["surrogate@baseline", "done", "16,000", "1,760,000"]
    assert lines["train@baseline"].split()[:5] == ["train@baseline", "cached", "16,000", "1,600,000", "2,000"]
    assert "Not enough: " in text
    assert "DVC copies results" in text
    values = json.loads(json.dumps(found.as_json()))
    assert [entry["stage"] for entry in values["stages"]] == [line.work.stage for line in found.lines]
    assert values["disk"] == found.disk
    assert lines["outliers"].endswith("products"), "everything takes a second, and products are counted one by one"
    outliers = next(entry for entry in values["stages"] if entry["stage"] == "outliers")
    assert sum(outliers["parts"].values()) == pytest.approx(outliers["seconds"])
    assert len(values["problems"]) == 1


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0 s"), (89.4, "89 s"), (90, "2 min"), (5_300, "88 min"), (5_400, "1 h 30 min")]
)
def test_durations(seconds: float, text: str) -> None:
    assert table.duration(seconds) == text


def test_a_container_has_less_memory_than_its_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "CGROUP", tmp_path)
    assert plan.memory_available() > 9_000_000, "there is no container"
    (tmp_path / "memory.max").write_text("15000000\n")
    (tmp_path / "memory.current").write_text("8000000\n")
    (tmp_path / "memory.stat").write_text("anon 3\ninactive_file 2000000\n")
    assert plan.memory_available() == 9_000_000, "with pages of files that are given back"
    (tmp_path / "memory.max").write_text("max\n")
    assert plan.memory_available() > 9_000_000


def test_earlier_results_make_room(here: dict[str, Any], rehearsal: Works) -> None:
    (outs,) = (work.outs for work in rehearsal.all() if work.stage == "train@baseline")
    Path("models/baseline").mkdir(parents=True)
    there = [{"path": "models/baseline", "size": outs - 100}, {"path": "models/gone", "size": 10**9}]
    here["lock"] = {"train@baseline": {"outs": there}}
    (line,) = (line for line in made().lines if line.work.stage == "train@baseline")
    assert (line.here, line.there) == (100, outs), "DVC removes them before the stage runs; its cache keeps them"
    here["links"] = "hardlink"
    (line,) = (line for line in made().lines if line.work.stage == "train@baseline")
    assert (line.here, line.there) == (0, outs)


def test_a_set_that_is_being_drawn_has_its_space(here: dict[str, Any], rehearsal: Works) -> None:
    (outs,) = (work.outs for work in rehearsal.all() if work.stage == "surrogate@imagenet")
    begun = Path("work/surrogate/imagenet/set")
    begun.mkdir(parents=True)
    (begun / "train.npy").write_bytes(bytes(1_000))
    (line,) = (line for line in made().lines if line.work.stage == "surrogate@imagenet")
    assert (line.here, line.there) == (outs - 1_000, outs)
    here["links"] = "symlink"
    (line,) = (line for line in made().lines if line.work.stage == "surrogate@imagenet")
    assert (line.here, line.there) == (0, outs - 1_000)


def test_a_cache_on_another_disk(here: dict[str, Any], rehearsal: Works, monkeypatch: pytest.MonkeyPatch) -> None:
    outs = sum(work.outs for work in rehearsal.all())
    big = Path("/proc")  # another file system, wherever there is one
    if not big.exists():
        pytest.skip("no other file system to look at")
    monkeypatch.setattr(lineage, "cache_folder", lambda: big / "cache")
    scratch = max(work.scratch for work in rehearsal.all())
    here["free"] = round(1.05 * (outs + scratch)) + 50_000_000
    assert [(space.folder, space.needed) for space in made().spaces] == [(Path(), outs + scratch), (big, outs)]
    assert made().problems() == []
    here["free"] -= 1
    assert len(made().problems()) == 1
    here["free"] = round(1.05 * outs) + 50_000_000 - 1
    assert len(made().problems()) == 2
    here["links"] = "symlink"
    assert [space.needed for space in made().spaces] == [scratch, outs]


def test_a_stage_without_parts_takes_nothing(here: dict[str, Any]) -> None:
    (report,) = (line for line in made().lines if line.work.stage == "report")
    assert report.work == Work("report")
    assert (report.seconds, report.disk) == (0, 0)
