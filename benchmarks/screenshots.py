"""Take pictures of what people look at: the page of results, the MLflow UI, and the documentation's site.

    make docs && exemplarcnn page && exemplarcnn log    # site/, the page, and a store with runs
    pip install playwright==1.65.2 pypdfium2==5.15.2
    python benchmarks/screenshots.py FOLDER

    --only page|mlflow|site     only these; may be given several times
    --page, --site, --store     other places than reports/index.html, site/ and the store of this checkout
    --chromium                  the browser; by default the first of chromium, google-chrome on the PATH

Chromium itself comes from your system (`apt-get install chromium`); playwright drives it, and pypdfium2 reads what it
prints. The MLflow server is the environment's own: it starts on a free port, and is stopped at the end. Pictures are
PNG files with a palette, mostly below 150 KB. docs/screenshots/ keeps those of before and after a change.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pypdfium2
from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

from _servers import HOST, fail, free_ports, serving

ROOT = Path(__file__).resolve().parents[1]
WIDE, NARROW = (1280, 900), (390, 844)  # a laptop's window, and a phone's
UI = ((1280, 900), (1920, 1080))
SITE_PAGES = ("index", "docs/results", "docs/method", "docs/api/clustering", "docs/gallery/plot_surrogate_class")
# Of the page, each taken from its beginning; its last part names the machine and its folders.
PARTS = "section[id]:not(#run), h3[id], h4[id]"
PRINTED = 4  # pages of the print that are kept
COLOURS = 64
COMPARED = ("baseline", "clustered")  # variants whose runs are shown
TRAINING = "workflowType=machine_learning"  # MLflow's pages about training, not those about language models
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
# No request leaves this machine, so no picture depends on the network.
SWITCHES = ("--no-sandbox", "--disable-gpu", f"--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE {HOST}")


class Camera:
    """A browser that takes pictures into a folder."""

    def __init__(self, browser: Browser, folder: Path):
        self.browser, self.folder = browser, folder

    @contextmanager
    def window(self, size: tuple[int, int], dark: bool = False) -> Iterator[Page]:
        """Open a window of a size in CSS pixels."""
        context = self.browser.new_context(
            viewport={"width": size[0], "height": size[1]},
            color_scheme="dark" if dark else "light",
            reduced_motion="reduce",
        )
        try:
            yield context.new_page()
        finally:
            context.close()

    def take(self, page: Page, name: str) -> None:
        """Write what the window shows."""
        page.wait_for_timeout(300)  # until pictures that have just come into view are decoded
        path = self.folder / f"{name}.png"
        page.screenshot(path=path)
        with Image.open(path) as taken:
            shrink(taken, path)


def shrink(image: Image.Image, path: Path) -> None:
    """Write a picture with few colours."""
    image.convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE).save(path, optimize=True)
    print(f"{path}: {path.stat().st_size / 1e3:.0f} KB", flush=True)


def results_page(camera: Camera, file: Path) -> None:
    """Take the page section by section, on a laptop and on a phone, in the dark, and as printed."""
    if not file.exists():
        fail(f"cannot take the page: {file} is missing; `exemplarcnn page` writes it")
    for size, dark in ((WIDE, False), (NARROW, False), (WIDE, True), (NARROW, True)):
        with camera.window(size, dark) as page:
            page.goto(file.resolve().as_uri())
            kind = f"page-{size[0]}{'-dark' if dark else ''}"
            camera.take(page, kind)
            for name in page.eval_on_selector_all(PARTS, "found => found.map(each => each.id)"):
                page.evaluate("name => document.getElementById(name).scrollIntoView()", name)
                if not dark or name.startswith(("results", "differences", "classes")):
                    camera.take(page, f"{kind}-{name}")
            if page.locator(".zoom").count():
                page.locator("#clusters .zoom").first.click()
                camera.take(page, f"{kind}-enlarged")
    with camera.window(WIDE) as page, tempfile.TemporaryDirectory() as place:
        page.goto(file.resolve().as_uri())
        printed = Path(place) / "page.pdf"
        margin = dict.fromkeys(("top", "right", "bottom", "left"), "12mm")
        page.pdf(path=printed, format="A4", print_background=False, margin=margin)
        pages = pypdfium2.PdfDocument(printed)
        print(f"printed: {len(pages)} pages", flush=True)
        for number in range(min(PRINTED, len(pages))):
            picture = pages[number].render(scale=1.1).to_pil()
            shrink(picture, camera.folder / f"page-print-{number + 1}.png")
        pages.close()


def mlflow_ui(camera: Camera, store: str) -> None:
    """Take the list of runs, its saved views, a run, and two runs compared."""
    (port,) = free_ports(1)
    words = ["mlflow", "server", "--workers", "1", "--host", HOST, "--port", str(port), "--backend-store-uri", store]
    with (
        tempfile.TemporaryDirectory() as place,
        serving(Path(place), port, "/health", *words, MLFLOW_SERVER_ENABLE_JOB_EXECUTION="false"),
    ):
        address = f"http://{HOST}:{port}"
        runs = newest_runs(address)
        experiment = runs[0]["info"]["experiment_id"]
        tags = [{tag["key"]: tag["value"] for tag in run["data"]["tags"]} for run in runs]
        ids = [run["info"]["run_id"] for run in runs]
        kinds = [(tag.get("kind"), tag.get("variant")) for tag in tags]
        named = dict(zip(kinds[::-1], ids[::-1], strict=True))  # the newest comes first, and is kept
        trained, tested = ([named[kind, name] for name in COMPARED] for kind in ("train", "evaluate"))
        within = f"experiments/{experiment}/runs"
        shown = {
            "runs": f"{within}?{TRAINING}",
            "evaluations": f"{within}?{TRAINING}&viewStateShareKey=evaluations",
            "trainings": f"{within}?{TRAINING}&viewStateShareKey=trainings",
            "run": f"{within}/{tested[1]}?{TRAINING}",
            "curves": f"{within}/{trained[1]}/model-metrics?{TRAINING}",
            "compare": f"compare-runs?runs={_list(trained)}&experiments={_list([experiment])}&{TRAINING}",
            "compare-evaluations": f"compare-runs?runs={_list(tested)}&experiments={_list([experiment])}&{TRAINING}",
        }
        for size in UI:
            with camera.window(size) as page:
                for name, view in shown.items():
                    page.goto("about:blank")  # the address's part after # alone would not load the page anew
                    page.goto(f"{address}/#/{view}")
                    if name.startswith("compare"):
                        page.get_by_text("Comparing 2 Runs").wait_for(timeout=120_000)
                    wait_until_still(page)
                    camera.take(page, f"mlflow-{size[0]}-{name}")
                    if name == "run":
                        page.get_by_text("Show more").first.click()
                        wait_until_still(page)
                        camera.take(page, f"mlflow-{size[0]}-run-description")


def _list(values: list[str]) -> str:
    return json.dumps(values, separators=(",", ":")).replace('"', "%22")


def wait_until_still(page: Page, patience: int = 60) -> None:
    """Wait until a page that asks its server again and again has shown the same for three seconds.

    ``patience`` is the most seconds to wait.
    """
    before, same = "", 0
    for _ in range(patience):
        page.wait_for_timeout(1000)
        now = page.evaluate("document.body.innerText + document.body.querySelectorAll('*').length")
        same = same + 1 if now == before and len(now) > 200 else 0
        before = now
        if same == 3:
            return
    print(f"{page.url} still changes after {patience} s", flush=True)


def newest_runs(address: str) -> list[dict[str, Any]]:
    """Return the runs of the experiment that has the newest one."""

    def ask(what: str, **values: Any) -> dict[str, Any]:
        request = urllib.request.Request(
            f"{address}/api/2.0/mlflow/{what}", json.dumps(values).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            found: dict[str, Any] = json.load(answer)
            return found

    experiments = [each["experiment_id"] for each in ask("experiments/search", max_results=100)["experiments"]]
    runs: list[dict[str, Any]] = ask("runs/search", experiment_ids=experiments, max_results=200).get("runs", [])
    if not runs:
        fail("cannot take the MLflow UI: the store has no runs; `exemplarcnn log` sends those of this folder")
    runs.sort(key=lambda run: -int(run["info"]["start_time"]))
    return [run for run in runs if run["info"]["experiment_id"] == runs[0]["info"]["experiment_id"]]


def site(camera: Camera, folder: Path) -> None:
    """Take pages of the documentation."""
    if not (folder / "index.html").exists():
        fail(f"cannot take the site: {folder} has no index.html; `make docs` builds it")
    (port,) = free_ports(1)
    words = [sys.executable, "-m", "http.server", str(port), "--bind", HOST, "--directory", str(folder.resolve())]
    with tempfile.TemporaryDirectory() as place, serving(Path(place), port, "/", *words):
        for size in (WIDE, NARROW):
            for name in SITE_PAGES:
                with camera.window(size) as page:
                    answer = page.goto(f"http://{HOST}:{port}/{name}.html")
                    if answer is None or not answer.ok:
                        print(f"the site has no page /{name}.html", flush=True)
                        continue
                    page.wait_for_load_state("networkidle")
                    camera.take(page, f"site-{size[0]}-{Path(name).name}")


def own_store() -> str:
    """Return the address of this checkout's MLflow store."""
    done = subprocess.run(["exemplarcnn", "store"], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    if done.returncode != 0:
        fail("cannot take the MLflow UI: `exemplarcnn store` failed; see above")
    return done.stdout.strip()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", action="append", choices=["page", "mlflow", "site"])
    parser.add_argument("--page", type=Path, default=ROOT / "reports/index.html")
    parser.add_argument("--site", type=Path, default=ROOT / "site")
    parser.add_argument("--store")
    parser.add_argument("--chromium", default=next(filter(None, map(shutil.which, BROWSERS)), None))
    wanted = parser.parse_args()
    if not wanted.chromium:
        fail("cannot take pictures: no Chromium on the PATH; install it with `apt-get install chromium`")
    if wanted.store is None and "mlflow" in (wanted.only or ["mlflow"]):
        wanted.store = own_store()
    kinds: dict[str, Callable[[Camera], None]] = {
        "page": lambda camera: results_page(camera, wanted.page),
        "mlflow": lambda camera: mlflow_ui(camera, wanted.store),
        "site": lambda camera: site(camera, wanted.site),
    }
    # Without --only, the site is taken if it is there.
    chosen = wanted.only or [kind for kind in kinds if kind != "site" or wanted.site.exists()]
    wanted.folder.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=wanted.chromium, args=list(SWITCHES))
        for kind in chosen:
            kinds[kind](Camera(browser, wanted.folder))
        browser.close()


if __name__ == "__main__":
    main()
