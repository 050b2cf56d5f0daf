"""docs/variants.md, followed to the letter in a copy of the finished project."""

import json
import re
import shlex

import pandas as pd
import pytest
import yaml

from .conftest import ROOT, Project

PAGE = (ROOT / "docs" / "variants.md").read_text()
PARAMETERS_ALONE = "## By parameters alone"
NEW_RULE = "## A new rule"
MOST_LINES = 20
DERIVED = "src/exemplarcnn/classes/regrouping.py"
PROFILE = "conf/profile/tiny.yaml"
ROWS_OF_ALL = {"report", "draw"}  # what shows all rows, and so follows each new one


def blocks(heading: str, language: str) -> list[str]:
    """Return the code blocks of a chapter."""
    chapter = PAGE[PAGE.index(f"\n{heading}") + 1 :].split("\n## ")[0]
    return re.findall(rf"^```{language}\n(.*?)^```$", chapter, re.MULTILINE | re.DOTALL)


def written(code: str) -> list[str]:
    return [line for line in code.splitlines() if line.strip()]


def put_into_profile(project: Project, entries: str) -> None:
    """Put each line where a person would: entries at the end of their section, which is added if it is missing."""
    path = project.folder / PROFILE
    lines = path.read_text().splitlines()
    above: list[str] = []  # the sections that the line is in
    for line in entries.splitlines():
        depth = _indent(line) // 2
        above[depth:] = [line]
        if line.startswith("  - "):
            lines.insert(lines.index("  - _self_"), line)
        elif line not in lines or not line.endswith(":"):
            lines.insert(_end(lines, above[:-1]), line)
    path.write_text("\n".join(lines) + "\n")


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def _end(lines: list[str], sections: list[str]) -> int:
    """Find where the innermost of nested sections ends."""
    start, end = 0, len(lines)
    for section in sections:
        start = lines.index(section, start, end) + 1
        deeper = (at for at in range(start, end) if lines[at].strip() and _indent(lines[at]) <= _indent(section))
        end = next(deeper, end)
    while not lines[end - 1].strip():
        end -= 1
    return end


def changed(project: Project) -> set[str]:
    """Return the stages that `dvc status` names."""
    return set(json.loads(project.dvc("status", "--json").stdout))


@pytest.fixture(scope="module")
def project(finished: Project) -> Project:
    """The finished project, in which the page's steps are taken one after the other."""
    assert changed(finished) == set()
    return finished


def test_a_new_rule(project: Project) -> None:
    (rule, its_test), (entries,), (run, compare) = (blocks(NEW_RULE, language) for language in ("python", "yaml", "sh"))
    lines = len(written(rule)) + len(written(entries))
    assert lines <= MOST_LINES
    assert lines == 13, "the page's heading says thirteen"

    # The registry is one line, of which the page has the new version; everything else is added.
    code = project.folder / DERIVED
    before = code.read_text()
    (registry,) = re.findall(r"^RULES.*\n", before, re.MULTILINE)
    assert before.endswith(registry)
    code.write_text(before.removesuffix(registry) + rule)
    (new_registry,) = re.findall(r"^RULES.*\n", rule, re.MULTILINE)
    assert re.findall(r'"\w+": \w+', new_registry) == [*re.findall(r'"\w+": \w+', registry), '"alone": alone']
    put_into_profile(project, entries)

    compose, repro = (shlex.split(line) for line in written(run))
    project.run(*compose)
    assert yaml.safe_load((project.folder / "params.yaml").read_text())["variants"]["regroup"] == {
        "alone": {"table": "clustered", "rule": "alone"}
    }
    said = project.run(*repro).stdout
    ran = [line.split("'")[1] for line in said.splitlines() if line.startswith("Running stage")]
    assert ran == [f"{stage}@alone" for stage in ("regroup", "surrogate", "train", "embed", "evaluate")]
    assert f"`{'`, `'.join(ran[:-1])}` and `{ran[-1]}`" in PAGE
    skipped = re.findall(r"^Stage '(\S+)' didn't change, skipping$", said, re.MULTILINE)
    assert {"seed@baseline", "train@baseline", "group@clustered"} <= set(skipped)
    assert changed(project) == ROWS_OF_ALL

    clustered, alone = (pd.read_csv(project.folder / f"classes/{name}.csv") for name in ("clustered", "alone"))
    assert alone["class_id"].tolist() == list(range(clustered["class_id"].nunique()))
    assert alone["image_id"].tolist() == clustered.groupby("class_id")["image_id"].first().tolist()
    assert set(alone["origin"]) == {"alone"}
    assert (project.folder / "metrics/alone/eval.json").exists()

    again, show, comparison = (shlex.split(line) for line in written(compare))
    ran = [line for line in project.run(*again).stdout.splitlines() if line.startswith("Running stage")]
    assert {line.split("'")[1] for line in ran} == ROWS_OF_ALL
    assert changed(project) == set()
    metrics = json.loads((project.folder / "reports/accuracy.json").read_text())
    assert list(metrics)[-1] == "alone"
    assert "One image of each cluster" in project.run(*show).stdout
    table = project.run(*comparison).stdout
    assert all(re.search(rf"^ *{name} ", table, re.MULTILINE) for name in ("alone", "baseline", "clustered"))

    tests = project.folder / "tests" / "test_regrouping.py"
    tests.parent.mkdir()
    tests.write_text((ROOT / "tests/classes/test_regrouping.py").read_text() + "\n\n" + its_test)
    assert "3 passed" in project.run("pytest", "-q", "-p", "no:cacheprovider", str(tests)).stdout


def test_a_second_round_by_parameters_alone(project: Project) -> None:
    (entries,) = blocks(PARAMETERS_ALONE, "yaml")
    profile, params = project.folder / PROFILE, project.folder / "params.yaml"
    without = profile.read_text(), params.read_text()
    put_into_profile(project, entries)
    text = profile.read_text()
    entry = "clustered: {table: clustered, patches_per_image: 4"
    assert text.count(entry) == 1
    profile.write_text(text.replace(entry, f"{entry}, cluster_features: true"))
    project.run("exemplarcnn", "profile", "tiny")
    second = [f"{stage}@second" for stage in ("group", "surrogate", "train", "embed", "evaluate")]
    assert project.repro("evaluate@second") == ["embed@clustered", *second]
    assert changed(project) == ROWS_OF_ALL

    with_it = params.read_text()
    for path, content in zip((profile, params), without, strict=True):
        path.write_text(content)
    assert project.repro("evaluate@clustered") == [], "the features without those for clustering are in DVC's cache"
    params.write_text(with_it)
    assert project.repro("evaluate@second") == [], "and so is the second round"


def test_the_page_names_what_is_there() -> None:
    for name in re.findall(r"`((?:src|tests|conf)/[a-z0-9_./]+)`", PAGE):
        assert (ROOT / name).exists(), name
