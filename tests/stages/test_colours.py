"""Stage `colours`."""

from pathlib import Path

import pytest

from exemplarcnn import paths
from exemplarcnn.config.params import Config
from exemplarcnn.data import colour_axes
from exemplarcnn.data.audit_tables import AuditError
from exemplarcnn.stages import colours as stage
from tests.conftest import profile_values


def test_colours_are_measured_for_the_recipe_that_wants_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    values = profile_values("tiny")
    stage.run("unlabeled", Config.model_validate(values))  # there is no image here, nor an audit
    assert paths.colours("unlabeled").read_text() == "null\n"
    assert colour_axes.read(paths.colours("unlabeled")) is None
    values["surrogate"]["recipe"] = "dosovitskiy"
    with pytest.raises(AuditError, match="dvc repro audit"):
        stage.run("unlabeled", Config.model_validate(values))
