"""What the report says in words."""

from typing import Any

from exemplarcnn.reporting import markdown, sentences
from tests.reporting.examples import GROUPING


def test_the_data_set_is_named_with_its_hash_and_folds(results: dict[str, Any]) -> None:
    said = sentences.dataset(results)
    assert said in markdown.render(results)
    for part in ("sample", "abc.dir", "1,540", "300", "40", "10 folds of 30 labels, not the official", "tiny"):
        assert part in said
    official = results | {"dataset": results["dataset"] | {"folds_official": True}}
    assert "10 folds of 30 labels, the official ones. Profile" in sentences.dataset(official)
    assert "not the official" not in sentences.dataset(official)


def test_the_side_of_images_is_said_where_it_is_not_stl10s(results: dict[str, Any]) -> None:
    assert "pixels" not in sentences.dataset(results)
    larger = results | {"dataset": results["dataset"] | {"side": 128}}
    assert "; 128×128 pixels. Profile" in sentences.dataset(larger)


def test_clusters_that_are_left_out_are_told() -> None:
    left = {"clusters_left_out": 226, "images_left_out": 470}
    lines = sentences.grouping(GROUPING | left)
    assert len(lines) == len(sentences.grouping(GROUPING)) + 1
    assert any("226 further clusters, of 470 images, are left out" in line for line in lines)
