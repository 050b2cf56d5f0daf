"""What `exemplarcnn plan` says is done or cached, against what DVC then does; and a disk that is too small."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from .conftest import Project


def planned(project: Project) -> dict[str, dict[str, Any]]:
    found = json.loads(project.run("exemplarcnn", "plan", "--json").stdout)
    return {line["stage"]: line for line in found["stages"]}


def of_state(project: Project, state: str) -> set[str]:
    return {stage for stage, line in planned(project).items() if line["state"] == state}


def test_what_is_done_costs_nothing(finished: Project) -> None:
    found = planned(finished)
    assert set(found) == set(json.loads((finished.folder / "work/timings.json").read_text()))
    for line in found.values():
        assert (line["state"], line["seconds"], line["disk"]) == ("done", 0, 0)
    sets = {path.parent.name: json.loads(path.read_text()) for path in finished.folder.glob("surrogates/*/set.json")}
    for name, about in sets.items():
        assert found[f"surrogate@{name}"]["patches"] == about["train_patches"] + about["valid_patches"]
        curve = (finished.folder / f"metrics/{name}/train.csv").read_text().splitlines()
        assert found[f"train@{name}"]["steps"] == int(curve[-1].split(",")[1])
    text = finished.run("exemplarcnn", "plan").stdout
    assert re.search(r"^train@clustered +done", text, re.MULTILINE)


def test_what_dvc_then_does(scratch: Project) -> None:
    # How long anything takes is not what is asked here.
    scratch.edit("src/exemplarcnn/planning/measuring.py", "\nSECONDS = 1.5\n", "\nSECONDS = 0.0\n")
    scratch.change(lambda values: values["variants"]["train"]["clustered"].update(patches_per_image=3))
    after = {f"{stage}@clustered" for stage in ("surrogate", "train", "embed", "evaluate")} | {"report", "draw"}
    assert of_state(scratch, "to run") == after
    assert set(scratch.repro()) == after
    # Back to parameters whose results DVC has: in its cache of runs, if all that a stage makes is there.
    scratch.reset()
    said, cached = of_state(scratch, "to run"), of_state(scratch, "cached")
    assert {"surrogate@clustered", "train@clustered", "embed@clustered"} <= cached
    output = scratch.dvc("repro").stdout
    assert set(re.findall(r"^Stage '(\S+)' is cached", output, re.MULTILINE)) == cached
    assert set(re.findall(r"^Running stage '(\S+)'", output, re.MULTILINE)) == said
    # Parts of results that are not here, but in the cache.
    for folder in ("features", "models"):
        shutil.rmtree(scratch.folder / folder)
    cached = of_state(scratch, "cached")
    assert {"train@baseline", "embed@baseline", "embed@clustered"} <= cached
    output = scratch.dvc("repro").stdout
    assert set(re.findall(r"^Stage '(\S+)' is cached", output, re.MULTILINE)) == cached
    assert "Running stage" not in output


def test_a_run_that_does_not_fit_on_the_disk_is_refused_before_any_work(commands: Path, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=400m", "tmpfs", str(disk)], capture_output=True).returncode:
        pytest.skip("mounting a small file system takes root")
    try:
        project = Project(disk / "project", commands)
        project.run("exemplarcnn", "profile", "sample")
        # In processes that import everything themselves: each asks what command it belongs to.
        done = project.run("dvc", "repro", check=False, cold=True)
        assert done.returncode != 0
        assert done.stdout.count("Running stage") == 1
        assert re.search(r"error: cannot run the pipeline: .* free: [\d,]{9,} bytes are missing; free", done.stderr)
        assert not (project.folder / "audit").exists()
        # A part of it fits.
        project.run("dvc", "repro", "audit", cold=True)
    finally:
        subprocess.run(["umount", str(disk)], check=True)
