"""The page's charts."""

from pathlib import Path

from exemplarcnn.reporting.charts import class_sizes, learning_curves


def test_curves_and_sizes_are_drawn(tmp_path: Path) -> None:
    table = tmp_path / "train.csv"
    table.write_text("epoch,train_loss,valid_loss,valid_accuracy\n1,2.0,2.1,0.25\n2,1.0,1.5,0.5\n")
    drawn = learning_curves({"a": table, "none": tmp_path / "missing.csv"}, {"a": "First", "none": "Second"})
    assert drawn.startswith("<svg")
    assert ">First<" in drawn
    assert ">Second<" not in drawn
    assert ">_x<" in learning_curves({"a": table}, {"a": "_x"}), "matplotlib leaves out a label that begins with _"
    long = learning_curves({"a": table}, {"a": "long " * 100})
    assert "long long" in long
    assert "long " * 20 not in long, "a long title leaves room for the curves"
    (tmp_path / "classes.csv").write_text("class_id,image_id,origin\n0,1,x\n0,2,x\n1,3,x\n2,4,x\n")
    bars = class_sizes(tmp_path / "classes.csv")
    assert ">images in a class<" in bars
