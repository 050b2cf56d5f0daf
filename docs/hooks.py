"""What `mkdocs.yml` cannot say: the site's files are the repository's, at their own paths, with GitHub's anchors."""

import subprocess
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files
from pymdownx.slugs import slugify

ROOT = Path(__file__).parents[1]


def on_config(config: Any) -> Any:
    """Name anchors as GitHub does, and leave pages out of the menu that are not there."""
    config.mdx_configs["toc"]["slugify"] = slugify(case="lower")
    config.nav = [{title: _present(entry)} for section in config.nav for title, entry in section.items()]
    return config


def _present(entry: Any) -> Any:
    if isinstance(entry, str):
        return entry
    return [page for page in entry if (ROOT / (page if isinstance(page, str) else next(iter(page.values())))).exists()]


def on_files(files: Files, config: Any) -> Files:
    """Take the files that git knows, and new ones of docs/, in place of those of one folder."""
    for file in list(files.src_uris.values()):
        if file.src_dir == config.docs_dir:
            files.remove(file)
    for path in [*_listed(), *_listed("--others", "--exclude-standard", "docs")]:
        if not path.startswith((".", "sample-images/")) and (ROOT / path).is_file():
            files.append(File.generated(config, path, abs_src_path=str(ROOT / path)))
    return files


def _listed(*arguments: str) -> list[str]:
    command = ["git", "ls-files", "-z", *arguments]
    listing = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return listing.split("\0")[:-1]
