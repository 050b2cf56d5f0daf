"""Purity, near duplicates and mutual information of class tables, by hand and against slow counts."""

from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exemplarcnn.classes.quality import TruthError, duplicates_together, measure, mutual_information, purity, read_truth
from exemplarcnn.files import write_table


def table_of(*classes: list[int], origin: str = "cluster") -> pd.DataFrame:
    rows = [(class_id, image, origin) for class_id, members in enumerate(classes) for image in members]
    return pd.DataFrame(rows, columns=["class_id", "image_id", "origin"])


def test_purity_by_hand() -> None:
    labels = pd.Series(["cat", "cat", "dog", "dog", None, "cat", "ship"])
    found = purity(table_of([0, 1, 2], [3, 4], [5, 6]), labels)
    assert found is not None
    assert found["images"] == 5, "image 3 has nobody of a known label with it"
    assert found["purity"] == pytest.approx(3 / 5)


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 1000), n=st.integers(2, 40))
@pytest.mark.slow
def test_purity_against_a_slow_count(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    names = np.array(["a", "b", "c", None], object)[rng.integers(0, 4, n)]
    members = [np.flatnonzero(rng.integers(0, 5, n) == c).tolist() for c in range(5)]
    table = table_of(*[m for m in members if m])
    table = table.drop_duplicates("image_id").sort_values("class_id")
    groups = [[names[i] for i in rows["image_id"] if names[i]] for _, rows in table.groupby("class_id")]
    groups = [group for group in groups if len(group) > 1]
    found = purity(table, pd.Series(names))
    if not groups:
        assert found is None
        return
    assert found is not None
    assert found["images"] == sum(map(len, groups))
    assert found["purity"] == pytest.approx(sum(max(Counter(g).values()) for g in groups) / found["images"])


def test_by_chance_is_what_random_classes_have() -> None:
    rng = np.random.default_rng(0)
    labels = pd.Series(np.array(list("abcdefghij"))[rng.integers(0, 10, 4000)])
    found = purity(table_of(*rng.permutation(4000).reshape(-1, 2).tolist()), labels)
    assert found is not None
    assert found["purity"] == pytest.approx(0.55, abs=0.02), "in a pair one is always right, the other in a tenth"
    assert found["by_chance"] == pytest.approx(0.55, abs=0.02)
    apart = purity(table_of(*[rows.tolist() for _, rows in labels.index.to_series().groupby(labels)]), labels)
    assert apart is not None
    assert apart["purity"] == 1
    assert apart["by_chance"] < 0.2


def test_nothing_is_known() -> None:
    assert purity(table_of([0, 1], [2]), pd.Series([None, "a", "b"])) is None
    assert duplicates_together(table_of([0, 1]), pd.Series([np.nan] * 3), np.arange(3)) is None
    assert mutual_information(table_of([0, 1]), table_of([2, 3])) is None


def test_duplicates_by_hand() -> None:
    # 1 and 2 copy 0, 4 copies 3, 6 copies 5, 8 copies 7; 5 was held out, 7 and 8 are in no cluster.
    originals = pd.Series([np.nan, 0, 0, np.nan, 3, np.nan, 5, np.nan, 7])
    found = duplicates_together(table_of([0, 1], [2, 3, 4]), originals, np.array([0, 1, 2, 3, 4, 6, 7, 8]))
    assert found == {"pairs": 4, "together": 0.5}


def test_mutual_information_of_rounds() -> None:
    first = table_of([0, 1], [2, 3], [4, 5])
    same = mutual_information(first, table_of([4, 5], [0, 1], [2, 3], [9]))
    assert same == {"images": 6, "nmi": pytest.approx(1.0)}
    crossed = mutual_information(table_of([0, 1], [2, 3]), table_of([0, 2], [1, 3]))
    assert crossed == {"images": 4, "nmi": pytest.approx(0.0)}


def test_a_judgement_of_a_table_with_neighbours() -> None:
    clusters, singles = table_of([0, 1]), table_of([2, 3], origin="single").assign(class_id=1)
    table = pd.concat([clusters, singles], ignore_index=True)
    truth = pd.DataFrame({"class": ["a", "a", "a", "b"], "original": [np.nan, 0, np.nan, np.nan]})
    found = measure(table, truth, np.arange(3), table)
    assert found["cluster_purity"]["purity"] == 1
    assert found["purity"]["purity"] == 0.75
    assert found["duplicates"] == {"pairs": 1, "together": 1.0}
    assert found["round"]["nmi"] == pytest.approx(1.0)
    assert set(measure(table, None, np.arange(3), None).values()) == {None}


def test_truth_of_a_pool(tmp_path: Path) -> None:
    path = tmp_path / "truth.csv"
    assert read_truth(path, 3) is None
    path.write_text("index,class,original,kind\n0,cat,,\n1,,0,copy\n2,dog,,\n")
    truth = read_truth(path, 3)
    assert truth is not None
    assert truth["class"].isna().tolist() == [False, True, False]
    assert truth["original"].tolist()[1] == 0
    with pytest.raises(TruthError, match="each of the pool's 4 images"):
        read_truth(path, 4)
    path.write_text("index,class,original\n0,cat,\nx,cat,\n")
    with pytest.raises(TruthError, match="whole numbers in index"):
        read_truth(path, 2)
    path.write_text("index,class\n0,cat\n")
    with pytest.raises(TruthError, match=r"found no column original; correct the file"):
        read_truth(path, 1)


@pytest.mark.parametrize(
    "names",
    [
        ["1", "01"],  # alone, for beside a word pandas takes numbers for text
        ["1e3", "1000.0"],
        ["NA", "null", "None", "nan"],
        ["True", "true"],
        ["NA", "null", "None", "nan", "1", "01", "1e3", "1000.0", "True", "true"],
    ],
)
def test_a_class_is_what_its_name_says(tmp_path: Path, names: list[str]) -> None:
    """`1` and `01` are two classes, and `NA` is one: with guessed types the purity of these was 1."""
    path, pairs = tmp_path / "truth.csv", [[2 * k, 2 * k + 1] for k in range(25)]
    labels = [names[k % len(names)] for k in range(25) for _ in range(2)]
    labels[9] = names[5 % len(names)]  # beside another: one of fifty is not of its class's label
    write_table(path, pd.DataFrame({"index": range(50), "class": labels, "original": ""}))
    truth = read_truth(path, 50)
    assert truth is not None
    assert truth["class"].tolist() == labels
    found = purity(table_of(*pairs), truth["class"])
    assert found is not None
    assert (found["images"], found["purity"]) == (50, 0.98)
