"""What stages took."""

from pathlib import Path

from exemplarcnn.tracking import timings


def test_times_of_stages(folder: Path) -> None:
    assert timings.read().empty
    timings.note("audit", 3.0, 100)
    timings.note("train@a", 2.0, 300)
    timings.note("audit", 1.04, 200)
    found = timings.read()
    assert sorted(found["stage"]) == ["audit", "train@a"]
    assert found.loc[found["stage"] == "audit", ["seconds", "memory"]].to_numpy().tolist() == [[1.0, 200.0]]
    (folder / "work/timings.json").write_text("{")
    assert timings.read().empty
