"""The page: everything on it, nothing from elsewhere, and a message where there is nothing to show."""

import base64
import hashlib
import itertools
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from exemplarcnn import paths
from exemplarcnn.config import profiles
from exemplarcnn.config.params import Config
from exemplarcnn.data import stl10
from exemplarcnn.files import write_array
from exemplarcnn.reporting import differences, page
from exemplarcnn.reporting.embedding import picture
from exemplarcnn.reporting.page import LIMIT, WIDTHS, PageError, code, deviations
from exemplarcnn.reporting.results import ReportError
from exemplarcnn.tracking import lineage, timings
from exemplarcnn.tracking import runs as tracking
from tests.conftest import ROOT, profile_values

VOID = {"meta", "img", "br", "hr", "link", "input", "col"}


class Reader(HTMLParser):
    """Collects tags with their attributes, and checks that they close in order."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.opened: list[str] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag not in VOID:
            self.opened.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.opened.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.found if name == tag]


@pytest.fixture
def run(folder: Path) -> Path:
    """The committed results of the sample, as a fresh clone has them."""
    for name in ("conf", "metrics", "reports"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("index.html"))
    for name in ("params.yaml", "dvc.lock", "data.dvc"):
        shutil.copy(ROOT / name, folder)
    (folder / "classes").mkdir()
    (folder / "classes/clustered.csv").write_text("class_id,image_id,origin\n0,1,cluster\n0,2,cluster\n1,3,single\n")
    return folder


@pytest.fixture(scope="module")
def small() -> dict[bytes, str]:
    """Pictures that have been made small, by what was in their files: the sample's are the same in each test."""
    return {}


@pytest.fixture(autouse=True)
def composed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """All projects here have the profiles of this one."""

    def composed(conf: Path, name: str) -> dict[str, Any]:
        assert (conf / "profile" / f"{name}.yaml").read_bytes() == (ROOT / f"conf/profile/{name}.yaml").read_bytes()
        return profile_values(name)

    monkeypatch.setattr(profiles, "compose", composed)


@pytest.fixture(autouse=True)
def made_small_once(small: dict[bytes, str], monkeypatch: pytest.MonkeyPatch) -> None:
    def remembered(path: Path, widest: int) -> str:
        content = path.read_bytes()
        if content not in small:
            small[content] = picture(path, widest)
        return small[content]

    monkeypatch.setattr(page, "picture", remembered)


def written(run: Path) -> tuple[str, Reader]:
    config = Config.model_validate(profile_values("sample"))
    page.write(paths.PAGE, config, Path("conf"))
    text = paths.PAGE.read_text()
    reader = Reader()
    reader.feed(text)
    assert reader.opened == []
    return text, reader


def test_the_page_holds_all_there_is(run: Path, store: Any) -> None:
    timings.note("train@baseline", 81.26, 1_234_000_000)
    _, reader = written(run)
    said = " ".join(reader.text)
    results = json.loads(paths.RESULTS_JSON.read_text())
    for row in results["rows"]:
        assert row["title"].replace("'", "'") in said
        assert f"{row['accuracy_mean']:.2f}" in said
    for heading in ("Results", "Learning", "Surrogate classes", "The images", "Clusters", "Features", "Mistakes"):
        assert heading in said
    assert "train@baseline" in said
    assert "81.3" in said
    assert results["dataset"]["hash"] in said
    assert "Cutout" in said
    # Every link inside leads somewhere.
    places = {attributes.get("id") for _, attributes in reader.found}
    links = [attributes["href"] for attributes in reader.all("a")]
    assert links
    assert all(link and link.startswith("#") and link[1:] in places for link in links)
    shown = sum(1 for name in paths.REPORTS.rglob("*.png") if name.name != "results.png")
    assert len(reader.all("img")) >= shown // 2


def test_nothing_comes_from_elsewhere(run: Path, store: Any) -> None:
    text, reader = written(run)
    assert [attributes for attributes in reader.all("script") if "src" in attributes] == []
    assert reader.all("link") == []
    for tag, attributes in reader.found:
        for name in ("src", "href", "xlink:href"):
            address = attributes.get(name) or "#"
            assert address.startswith(("#", "data:image/webp;base64,")), (tag, address[:60])
    assert "@import" not in text
    assert not re.search(r"url\((?!#|data:image/webp;base64,)", text), "clip paths point inside"
    # No more than an XML namespace names a place in the network.
    assert set(re.findall(r"https?://[^\s\"'<>)]*", text)) <= {
        "http://www.w3.org/2000/svg",
        "http://www.w3.org/1999/xlink",
    }


def test_a_browser_runs_the_pages_own_script_and_no_other(run: Path, store: Any) -> None:
    text, reader = written(run)
    (policy,) = [each["content"] for each in reader.all("meta") if "http-equiv" in each]
    (script,) = re.findall("<script>(.*?)</script>", text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert policy is not None
    assert f"script-src 'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy


def test_the_page_is_small(run: Path, store: Any) -> None:
    text, _ = written(run)
    assert len(text.encode()) <= LIMIT
    assert len(text.encode()) > LIMIT / 10, "pictures are there, or this test is of no use"


@pytest.mark.slow
def test_the_pictures_of_a_large_page_get_fewer_pixels(
    run: Path, store: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    tried = []

    def noted(path: Path, widest: int) -> str:
        tried.append(widest)
        return "data:image/webp;base64," + "A" * widest

    monkeypatch.setattr(page, "picture", noted)
    written(run)
    assert set(tried) == {WIDTHS[0]}
    monkeypatch.setattr(page, "LIMIT", 1000)
    written(run)
    assert list(dict.fromkeys(tried)) == list(WIDTHS)
    assert "with many pictures; a browser may take long to open it" in caplog.text


def test_headings_do_not_skip_and_what_is_pressed_has_a_name(run: Path, store: Any) -> None:
    _, reader = written(run)
    levels = [int(tag[1]) for tag, _ in reader.found if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    zooms = [each for each in reader.all("button") if each.get("class") == "zoom"]
    # One more is in the dialog, empty until a picture opens.
    assert len(zooms) == len(reader.all("img")) - 1 > 10
    ids = [attributes["id"] for _, attributes in reader.found if attributes.get("id")]
    assert len(ids) == len(set(ids))


def test_differences_are_drawn_with_their_numbers(run: Path, store: Any) -> None:
    text, reader = written(run)
    said = " ".join(reader.text)
    found = json.loads(paths.RESULTS_JSON.read_text())
    shown = differences.in_full(found)
    for entry in shown:
        assert f"{entry['low']:+.2f} to {entry['high']:+.2f}" in said
    assert text.count('<i class="point') == len(shown)


def test_without_images_no_class_is_shown(run: Path, store: Any) -> None:
    _, reader = written(run)
    assert [each for each in reader.all("div") if each.get("class") == "browser"] == []


def with_images(run: Path, features: int = 4) -> None:
    (run / "data").mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (4, 96, 96, 3), dtype=np.uint8)
    stl10.write_images(run / "data/unlabeled_X.bin", pixels)
    (run / "data/truth.csv").write_text("index,class,original\n0,,\n1,<b>x</b>,\n2,,\n3,cat,\n")
    write_array(run / "features/baseline/cluster.npy", np.eye(features, dtype=np.float32))


def classes_of(reader: Reader) -> list[dict[str, str | None]]:
    return [each for each in reader.all("li") if "data-number" in each]


def test_classes_are_not_shown_beside_other_data(run: Path, store: Any) -> None:
    with_images(run)
    (run / "data.dvc").write_text("outs:\n- md5: other.dir\n  path: data\n")
    assert classes_of(written(run)[1]) == []


@pytest.mark.slow
def test_what_does_not_fit_together_is_left_out(run: Path, store: Any, caplog: pytest.LogCaptureFixture) -> None:
    with_images(run, features=3)
    assert classes_of(written(run)[1]) == []
    assert "cluster.npy is of other images; run `dvc repro`" in caplog.text
    (run / "data/unlabeled_X.bin").unlink()
    assert classes_of(written(run)[1]) == []
    assert "the page does not show the classes of clustered: " in caplog.text


def test_classes_are_shown_one_by_one(run: Path, store: Any) -> None:
    """Class 0 has two images of one cluster; a name that is markup is text."""
    with_images(run)
    text, reader = written(run)
    items = classes_of(reader)
    assert [(each["data-origin"], each["data-size"], each["data-width"]) for each in items] == [
        ("cluster", "2", "1.4142"),
        ("single", "1", ""),
    ]
    thumbs = [each["aria-label"] for each in reader.all("span") if each.get("class") == "thumb"]
    assert thumbs == ["Image 1, <b>x</b>", "Image 2", "Image 3, cat"]
    assert "<b>x" not in text
    assert "All 2 classes." in " ".join(reader.text)


def test_every_picture_has_words(run: Path, store: Any) -> None:
    _, reader = written(run)
    for attributes in reader.all("img"):
        assert len(attributes["alt"] or "") > 10 or "src" not in attributes
    drawn = [attributes for tag, attributes in reader.found if attributes.get("role") == "img"]
    assert len(drawn) >= 3
    assert all(len(attributes["aria-label"] or "") > 10 for attributes in drawn)


def test_names_are_text_not_markup(run: Path, store: Any) -> None:
    results = json.loads(paths.RESULTS_JSON.read_text())
    results["rows"][0]["title"] = "<b>Raw & co</b>"
    paths.RESULTS_JSON.write_text(json.dumps(results))
    text, _ = written(run)
    assert "<b>Raw" not in text
    assert "&lt;b&gt;Raw &amp; co&lt;/b&gt;" in text


def test_a_fresh_clone_has_a_page_of_what_is_committed(run: Path, store: Any) -> None:
    (run / "classes/clustered.csv").unlink()
    _, reader = written(run)
    said = " ".join(reader.text)
    assert "all results came from git or from DVC's cache" in said
    assert "images in a class" not in said


def test_without_a_store(run: Path, no_server: None) -> None:
    _, reader = written(run)
    assert "cannot be reached" in " ".join(reader.text)


def test_where_there_is_nothing_yet(run: Path) -> None:
    config = Config.model_validate(profile_values("tiny"))
    with pytest.raises(
        PageError, match=r"results\.json: found profile sample, expected tiny as in params\.yaml; run `dvc repro`"
    ):
        page.write(paths.PAGE, config, Path("conf"))
    paths.RESULTS_JSON.unlink()
    with pytest.raises(ReportError, match="`dvc repro` makes it"):
        page.write(paths.PAGE, config, Path("conf"))
    assert not paths.PAGE.exists()


# Parts


def test_large_pictures_become_small(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (400, 3200, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "p.png")
    address = picture(tmp_path / "p.png", WIDTHS[0])
    assert address.startswith("data:image/webp;base64,")
    assert len(address) < (tmp_path / "p.png").stat().st_size


def test_code_and_nothing_else_is_marked() -> None:
    assert code("set `a.b` <now> & `c`") == "set <code>a.b</code> &lt;now&gt; &amp; <code>c</code>"


def test_the_runs_are_those_of_the_results_that_are_shown(run: Path, store: Any) -> None:
    """Not the newest: another seed may have run since, and DVC has brought these results back."""
    found, records = json.loads(paths.RESULTS_JSON.read_text()), lineage.read_lock()
    experiment = store.create_experiment("shown")
    made = tracking._made(records["evaluate@baseline"])
    wanted = {"variant": "baseline", "kind": "evaluate", "profile": "sample", "data.md5": found["dataset"]["hash"]}
    shown = records["evaluate@baseline"].identity
    runs = []
    for identity, accuracy, results in ((shown, 12.345, made), ("of another seed", 99.0, {"md5.metrics": "other"})):
        run_id = store.create_run(experiment, tags=wanted | results | {"identity": identity}).info.run_id
        store.log_metric(run_id, "accuracy_mean", accuracy)
        store.log_param(run_id, "seed", "0")
        store.set_terminated(run_id)
        runs.append(run_id)
    table = page.runs(found)
    assert table is not None
    assert table[table["variant"] == "baseline"]["accuracy_mean"].tolist() == [12.34]
    # The same work on another kind of CPU, with another result.
    store.set_tag(runs[0], next(iter(made)), "0")
    table = page.runs(found)
    assert table is not None
    assert "baseline" not in table["variant"].tolist()


def test_deviations_from_the_paper() -> None:
    config = Config.model_validate(profile_values("sample"))
    found = {key: (here, there) for key, here, there in deviations(config, ROOT / "conf")}
    assert found["train.epochs"] == ("5", "110")
    assert found["variants.seed.baseline.classes"] == ("250", "16000")
    assert not any(key.startswith("machine") for key in found)
    assert "momentum" not in " ".join(found)
    paper = Config.model_validate(profile_values("paper"))
    assert deviations(paper, ROOT / "conf") == []


@pytest.mark.filterwarnings("error:Glyph")
def test_names_are_text_on_the_page(run: Path, store: Any) -> None:
    titles = ["</svg><script>alert(1)</script>", "$\\frac$", "_x", "a & b", "猫"]
    results = json.loads(paths.RESULTS_JSON.read_text())
    results["dataset"]["name"] = "<b>set</b>"
    renamed = dict(zip([entry["title"] for entry in results["learned"]], titles, strict=False))
    for entry in results["learned"] + results["rows"]:
        entry["title"] = renamed.get(entry["title"], entry["title"])
    for row in results["rows"]:
        row["class_accuracies"] = dict(zip(titles, row["class_accuracies"].values(), strict=False))
    paths.RESULTS_JSON.write_text(json.dumps(results))
    text, reader = written(run)
    assert "<script>alert" not in text
    assert "<b>set" not in text
    for title in titles:
        assert title in reader.text
    for title in renamed.values():
        assert reader.text.count(title) >= 3, "in two tables, and in the legend of the curves"
