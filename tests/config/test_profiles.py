"""Profiles: every one composes and parses, and wrong ones are refused by name."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from exemplarcnn.cli import HEADER
from exemplarcnn.config import profiles
from exemplarcnn.config.base import ConfigError
from exemplarcnn.config.params import load, parse
from exemplarcnn.config.profiles import compose
from exemplarcnn.errors import PipelineError
from tests.config.parameters import FREE
from tests.conftest import CONF, ROOT, one_fast


@pytest.mark.parametrize("profile", profiles.names(CONF))
def test_every_profile_composes_and_parses(profile: str) -> None:
    values = compose(CONF, profile)
    assert values["profile"] == profile
    parsed = parse(values, profile)
    base = yaml.safe_load((CONF / "config.yaml").read_text())
    base.pop("defaults")
    # A profile changes numbers of config.yaml but keeps its keys.
    assert set(base) | {"profile"} == set(values)
    assert set(base["variants"]) == set(FREE) == set(values["variants"])
    assert set(parsed.variants.evaluate) >= {"raw_pixels", "random_network"} or profile == "own_unlabelled"


def test_there_are_profiles_for_tests_sample_and_benchmark() -> None:
    assert {"tiny", "sample", "bench"} <= set(profiles.names(CONF))


def test_a_profile_overrides_and_the_rest_stays() -> None:
    base = yaml.safe_load((CONF / "config.yaml").read_text())
    tiny = yaml.safe_load((CONF / "profile" / "tiny.yaml").read_text())
    values = compose(CONF, "tiny")
    assert values["train"]["epochs"] == tiny["train"]["epochs"] != base["train"]["epochs"]
    assert values["train"]["momentum"] == base["train"]["momentum"]
    assert values["surrogate"] == base["surrogate"]


def test_an_unknown_profile_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ConfigError) as error:
        compose(CONF, "nobody")
    assert str(error.value).endswith(f"choose one of {', '.join(profiles.names(CONF))}")
    assert "no profile 'nobody'" in str(error.value)


def test_a_profile_that_is_not_valid_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "profile").mkdir()
    (tmp_path / "config.yaml").write_text((CONF / "config.yaml").read_text())
    for folder in ("rows", "entry"):
        shutil.copytree(CONF / folder, tmp_path / folder)
    sample = (CONF / "profile" / "sample.yaml").read_text()
    (tmp_path / "profile" / "broken.yaml").write_text(sample.replace("dense: 256", "dense: 0"))
    (tmp_path / "profile" / "stray.yaml").write_text(sample + "surprise: 1\n")
    with pytest.raises(ConfigError, match=r"(?s)profile broken: .*network\.dense: .*got 0"):
        compose(tmp_path, "broken")
    with pytest.raises(ConfigError, match="surprise: unknown parameter"):
        compose(tmp_path, "stray")


@pytest.fixture
def conf(tmp_path: Path) -> Path:
    """A copy of the profiles' folder."""
    return Path(shutil.copytree(CONF, tmp_path / "conf"))


def test_a_profile_has_the_name_of_its_file(conf: Path) -> None:
    """Or its results would stand under the name of the one that it was copied from."""
    shutil.copy(conf / "profile/core.yaml", conf / "profile/mine.yaml")
    with pytest.raises(ConfigError, match=r"mine\.yaml says profile: core, .* write profile: mine"):
        compose(conf, "mine")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("profile: mine\n\tseed: 1\n", r"profile/mine\.yaml: not valid YAML"),
        ("profile: {mine\n", r"profile/mine\.yaml: not valid YAML"),
        ("<<<<<<< HEAD\nseed: 1\n=======\nseed: 2\n>>>>>>> other\n", r"git left a conflict in it, at line 1"),
        ("defaults: [nobody]\nprofile: mine\n", r"cannot compose .*mine\.yaml: .*nobody"),
        ("# @package _global_\nprofile: mine\nseed: ${nothing}\n", r"cannot compose .*mine\.yaml: .*nothing"),
    ],
)
def test_a_mistake_in_a_profile_of_ones_own_is_named(conf: Path, text: str, said: str) -> None:
    (conf / "profile/mine.yaml").write_text(text)
    with pytest.raises(PipelineError, match=said):
        compose(conf, "mine")


@pytest.mark.parametrize("name", ["2024", "1e5", "true", "null"])
def test_a_name_that_yaml_takes_for_something_else_is_a_name(conf: Path, name: str) -> None:
    text = (conf / "profile/core.yaml").read_text().replace("profile: core", f"profile: '{name}'")
    (conf / f"profile/{name}.yaml").write_text(text)
    assert compose(conf, name)["profile"] == name


@pytest.mark.parametrize("name", ["größe", "a,b", "a b"])
def test_a_name_that_hydra_cannot_read_is_refused(conf: Path, name: str) -> None:
    shutil.copy(conf / "profile/core.yaml", conf / f"profile/{name}.yaml")
    with pytest.raises(ConfigError, match="cannot be composed: rename its file"):
        compose(conf, name)


def test_committed_params_are_the_sample_profile(composed: dict[str, Any]) -> None:
    text = (ROOT / "params.yaml").read_text()
    assert yaml.safe_load(text) == composed
    assert text.startswith(HEADER.format(name="sample"))
    load(ROOT / "params.yaml")


# Sections read without Hydra


@pytest.mark.parametrize("profile", one_fast(profiles.names(CONF), "tiny_bench"))
def test_a_section_is_what_hydra_composes(profile: str) -> None:
    composed = compose(CONF, profile)
    for name in ("surrogate", "network", "train", "features", "cluster", "outliers", "resnet"):
        assert profiles.section(CONF, profile, name) == composed[name]


def test_sections_of_unknown_profiles_are_refused() -> None:
    with pytest.raises(ConfigError, match="no profile 'nobody'"):
        profiles.section(CONF, "nobody", "features")


def test_the_packages_profiles_are_the_projects() -> None:
    assert profiles.PACKAGED.resolve() == CONF.resolve()
