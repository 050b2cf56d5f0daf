"""What `exemplarcnn show` prints: the table, and the differences that tell most."""

from typing import Any

from exemplarcnn import paths
from exemplarcnn.reporting import sentences, summary, tables


def test_the_screen_holds_the_table_four_lines_and_where_the_rest_lies(committed: dict[str, Any]) -> None:
    text = summary.render(committed)
    assert sum(" against " in line for line in text.splitlines()) == 4
    assert tables.accuracies(committed).to_string(index=False) in text
    assert "`exemplarcnn page` writes reports/index.html" in text
    assert "24 further differences: reports/results.json." in text
    assert len(text.splitlines()) < 24
    paths.PAGE.parent.mkdir()
    paths.PAGE.touch()
    assert "On one page: reports/index.html, for a browser." in summary.render(committed)


def test_of_images_without_labels_it_shows_the_surrogate_task(committed: dict[str, Any]) -> None:
    text = summary.render(committed | {"rows": [], "differences": [], "labelled": {}})
    assert tables.surrogate_task(committed).to_string(index=False) in text
    assert sentences.NOT_TESTED in text
    assert "further differences" not in text
