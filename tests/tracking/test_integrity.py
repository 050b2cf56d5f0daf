"""Results compared with what is recorded of them, byte by byte."""

import json
from hashlib import md5
from pathlib import Path

import pytest
import yaml

from exemplarcnn.errors import PipelineError
from exemplarcnn.tracking import lineage
from exemplarcnn.tracking.integrity import Damaged, IntegrityError, verify


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(lineage, "cache_folder", lambda: Path("cache"))
    return Path("cache")


def keep(cache: Path, content: bytes, suffix: str = "") -> str:
    name = md5(content).hexdigest() + suffix
    (cache / name[:2]).mkdir(parents=True, exist_ok=True)
    (cache / name[:2] / name[2:]).write_bytes(content)
    return name


@pytest.fixture
def results(cache: Path) -> dict[str, str]:
    """Data and a model in the cache and checked out, and a figure that is in git alone."""
    hashes = {name: keep(cache, name.encode()) for name in ("data/a.bin", "models/v/w")}
    for folder in ("data", "models/v"):
        Path(folder).mkdir(parents=True)
        inner = [{"md5": h, "relpath": p.removeprefix(f"{folder}/")} for p, h in hashes.items() if p.startswith(folder)]
        hashes[folder] = keep(cache, json.dumps(inner).encode(), ".dir")
    for name in ("data/a.bin", "models/v/w", "figure.json"):
        Path(name).write_text(name)
    hashes["figure.json"] = md5(b"figure.json").hexdigest()
    Path("data.dvc").write_text(yaml.safe_dump({"outs": [{"path": "data", "md5": hashes["data"]}]}))
    outs = [{"path": name, "md5": hashes[name]} for name in ("models/v", "figure.json")]
    Path("dvc.lock").write_text(yaml.safe_dump({"schema": "2.0", "stages": {"s": {"outs": outs}, "t": {}}}))
    return hashes


def stored(cache: Path, name: str) -> Path:
    return cache / name[:2] / name[2:]


def test_what_is_whole_is_read_whole(cache: Path, results: dict[str, str]) -> None:
    # Two listings, two files twice, one figure.
    assert verify() == (7, [])


def test_a_damaged_object_and_what_came_from_it_are_found_and_removed(cache: Path, results: dict[str, str]) -> None:
    place = stored(cache, results["models/v/w"])
    place.write_text("rot")
    Path("models/v/w").write_text("rot")
    found = [Damaged(place, "models/v", True), Damaged(Path("models/v/w"), "models/v", False)]
    assert verify()[1] == found
    assert place.exists(), "looking changes nothing"
    assert verify(repair=True)[1] == found
    assert not place.exists()
    assert not Path("models/v").exists()
    assert verify() == (5, [])


def test_an_object_that_several_results_share_goes_with_all_of_them(cache: Path, results: dict[str, str]) -> None:
    listing = keep(cache, json.dumps([{"md5": results["models/v/w"], "relpath": "x"}]).encode(), ".dir")
    values = yaml.safe_load(Path("dvc.lock").read_text())
    values["stages"]["u"] = {"outs": [{"path": "models/u", "md5": listing}]}
    Path("dvc.lock").write_text(yaml.safe_dump(values))
    Path("models/u").mkdir()
    for path in (stored(cache, results["models/v/w"]), Path("models/v/w"), Path("models/u/x")):
        path.write_text("rot")
    verify(repair=True)
    assert not Path("models/v").exists()
    assert not Path("models/u").exists()
    assert verify()[1] == []


def test_data_is_never_removed_but_its_damaged_object_is(cache: Path, results: dict[str, str]) -> None:
    place = stored(cache, results["data/a.bin"])
    place.write_text("rot")
    assert [each.path for each in verify(repair=True)[1]] == [place]
    assert not place.exists()
    assert Path("data/a.bin").read_text() == "data/a.bin"


def test_a_damaged_listing_is_found_and_not_believed(cache: Path, results: dict[str, str]) -> None:
    stored(cache, results["models/v"]).write_text("[}")
    assert [each.path for each in verify()[1]] == [stored(cache, results["models/v"])]


@pytest.mark.parametrize("name", ["models/v/w", "figure.json"])
def test_what_somebody_changed_is_named_and_stays(cache: Path, results: dict[str, str], name: str) -> None:
    Path(name).write_text("mine")
    assert [each.path for each in verify(repair=True)[1]] == [Path(name)]
    assert Path(name).read_text() == "mine"


def test_what_is_not_there_is_not_damaged(cache: Path, results: dict[str, str]) -> None:
    stored(cache, results["models/v/w"]).unlink()
    Path("figure.json").unlink()
    assert verify()[1] == []


@pytest.mark.parametrize("name", ["dvc.lock", "data.dvc"])
def test_a_damaged_record_is_named(cache: Path, results: dict[str, str], name: str) -> None:
    for text in ("", "<<<<<<< HEAD\n=======\n>>>>>>> other\n"):
        Path(name).write_text(text)
        with pytest.raises(PipelineError, match=f"^{name}: .*`git checkout HEAD -- {name}` brings"):
            verify()


def test_where_nothing_is_recorded_that_is_said(cache: Path) -> None:
    with pytest.raises(IntegrityError, match="run `exemplarcnn verify` in the repository's root"):
        verify()
