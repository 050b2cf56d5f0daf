"""What DVC records of the data, against a real DVC."""

import subprocess
import sys
from pathlib import Path

import pytest

from exemplarcnn.data.types import DataError
from exemplarcnn.errors import PipelineError
from exemplarcnn.importing.dvc_record import record_data
from exemplarcnn.importing.install import install_folder
from tests.importing.projects import image_set, out, run, snapshot


@pytest.mark.slow
def test_installed_folder_is_recorded_without_the_embedded_remote(project: Path, tmp_path: Path) -> None:
    source = image_set(tmp_path / "given", 3)
    old, pushed = out(project), snapshot(project / "embedded")
    assert pushed
    summary = install_folder(project, source)
    assert summary["unlabeled"] == 3
    assert out(project)["md5"] != old["md5"]
    assert "remote" not in out(project)
    assert run(project, "dvc", "status", "data.dvc").strip() == "Data and pipelines are up to date."
    subprocess.run([sys.executable, "-m", "dvc", "push"], cwd=project, capture_output=True)
    assert snapshot(project / "embedded") == pushed


@pytest.mark.slow
def test_failure_of_dvc_is_reported_and_keeps_the_pointer(project: Path) -> None:
    before = (project / "data.dvc").read_bytes()
    (project / "data").rename(project / "elsewhere")
    with pytest.raises(DataError, match=r"data: .*`dvc add data`.*'data' does not exist.*run the command again"):
        record_data(project)
    assert (project / "data.dvc").read_bytes() == before
    (project / "elsewhere").rename(project / "data")
    record_data(project)
    assert "remote" not in out(project)


def test_first_data_of_a_project_is_recorded(project: Path) -> None:
    (project / "data.dvc").unlink()
    record_data(project)
    assert out(project)["path"] == "data"


@pytest.mark.parametrize("text", ["", "outs:\n", "outs:\n- data\n", "<<<<<<< HEAD\nouts: []\n=======\n>>>>>>> x\n"])
def test_a_damaged_pointer_is_named_and_stays(tmp_path: Path, text: str) -> None:
    (tmp_path / "data.dvc").write_text(text)
    with pytest.raises(PipelineError, match=r"data\.dvc: .*`git checkout HEAD"):
        record_data(tmp_path)
    assert (tmp_path / "data.dvc").read_text() == text
