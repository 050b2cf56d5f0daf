"""What would end a stage after networks are trained is refused before, and what would not is let through."""

import json
import sys
from collections.abc import Callable
from functools import reduce
from operator import getitem
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from exemplarcnn import paths
from exemplarcnn.classes import seeding
from exemplarcnn.classes.capacity import split_pool
from exemplarcnn.config.params import Config
from exemplarcnn.data import audit_tables, stl10
from exemplarcnn.errors import PipelineError
from exemplarcnn.files import write_table
from exemplarcnn.launching import launcher, preflight
from tests.conftest import profile_values

ROOM = 100  # of the pool
Change = Callable[[dict[str, Any]], object]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A set of 100 unlabelled images and of two classes with 60 training images each, all in every fold but one."""
    monkeypatch.chdir(tmp_path)
    for name, count in {"unlabeled": ROOM, "train": 120, "test": 4}.items():
        stl10.write_images(paths.DATA / f"{name}_X.bin", np.zeros((count, 96, 96, 3), np.uint8))
    stl10.write_labels(paths.TRAIN_LABELS, np.arange(120) % 2)
    stl10.write_labels(paths.TEST_LABELS, [0, 1, 0, 1])
    stl10.write_folds(paths.FOLDS, [np.arange(119)] * 10)
    stl10.write_class_names(paths.CLASS_NAMES, ["cat", "dog"])
    return tmp_path


def config(profile: str = "tiny", *changes: Change) -> Config:
    values = profile_values(profile)
    for change in changes:
        change(values)
    return Config.model_validate(values)


def audited(flagged: int = 0, same: tuple[int, ...] = (), **columns: Any) -> None:
    """Write the audit's tables: so many images are near duplicates of others, some have the very same pixels."""
    pool = columns.pop("pool", "unlabeled")
    flags = dict.fromkeys(("border", "empty", "grey", "leak"), 0)
    table = pd.DataFrame({"image_id": range(ROOM), "name": "NA", "height": 96, "width": 96, "problem": "", **flags})
    table["duplicate"] = (np.arange(ROOM) < flagged).astype(int)
    write_table(paths.audit(pool), table.assign(**columns))
    groups = {"group": 0, "pool": "unlabeled", "image_id": list(same), "similarity": 1.0, "exact": 1}
    write_table(paths.DUPLICATES, pd.DataFrame(groups))


def test_a_set_that_suffices_passes() -> None:
    preflight.check(config())
    audited()
    preflight.check(config(), audited=True)
    for profile in ("own", "own_unlabelled"):
        preflight.check(config(profile), audited=True)


def test_where_the_data_is_not_nothing_is_said(home: Path) -> None:
    """A machine that trains on sets drawn elsewhere needs no images."""
    for file in paths.DATA.iterdir():
        file.unlink()
    preflight.check(config())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda v: v["evaluate"].update(inner_folds=70), "fold 0 has 59 image.s. of class 1; .*inner_folds=70"),
        (lambda v: v["evaluate"].update(k=[1, 96]), "evaluate.k has 96, but cross-validation trains on only 95 images"),
        (
            lambda v: v["variants"]["seed"]["baseline"].update(classes=101),
            "variants.seed.baseline: cannot make 101 .* of the pool's 100",
        ),
        (
            lambda v: v["variants"]["group"]["clustered"].update(classes=34),
            "variants.group.clustered: 50 .* 50 held out make at most 33 .* fewer classes or neighbours",
        ),
        (
            lambda v: v["variants"]["group"]["clustered"].update(clustered_fraction=0.0, or_fewer=True),
            r"variants.group.clustered: 0 images to cluster and 100 held out make at most 0 .* 2 are needed",
        ),
        (
            lambda v: v["variants"]["train"]["clustered"].update(patches_per_image=None, total_patches=29),
            "variants.train.clustered: cannot deal 29 patches to 30 classes: each needs at least one",
        ),
        (
            lambda v: v["variants"]["control"]["kmeans"].update(images=500, centres=1001),
            "1000 patches of 100 unlabelled images",
        ),
    ],
)
def test_what_parameters_ask_of_the_data(change: Change, message: str) -> None:
    with pytest.raises(PipelineError, match=message):
        preflight.check(config("tiny", change))


def test_what_the_audit_leaves_out_is_not_counted() -> None:
    def left_out(values: dict[str, Any]) -> None:
        values["variants"]["seed"]["baseline"]["leave_out"] = ["duplicate"]

    audited(flagged=71)
    with pytest.raises(
        PipelineError,
        match=r"variants.seed.baseline: cannot make 30 classes .* 29 of the pool's 100 images can be used",
    ):
        preflight.check(config("tiny", left_out), audited=True)
    preflight.check(config("tiny", left_out))  # not known yet
    audited(flagged=70)
    preflight.check(config("tiny", left_out), audited=True)


@pytest.mark.parametrize("profile", ["own", "own_unlabelled"])
def test_images_that_are_all_the_same_are_refused_before_a_network_is_trained(profile: str) -> None:
    audited(flagged=99, same=tuple(range(100)))
    with pytest.raises(
        PipelineError, match=r"variants.seed.baseline: 1 of the pool's 100 images .* two classes to tell apart"
    ):
        preflight.check(config(profile), audited=True)


def test_copies_alone_are_not_clustered() -> None:
    """One image that differs makes two seeds; clustering finds it only in its own half."""
    clustered, held_out = split_pool(ROOM, 0.5, 0)
    for different, refused in ((int(held_out[0]), True), (int(clustered[0]), False)):
        audited(flagged=98, same=tuple(i for i in range(ROOM) if i != different))
        if refused:
            with pytest.raises(PipelineError, match=r"variants.group.clustered: all 50 images .* have the same pixels"):
                preflight.check(config("own"), audited=True)
        else:
            preflight.check(config("own"), audited=True)


def test_labels_are_looked_at_where_something_is_tested(home: Path) -> None:
    stl10.write_labels(paths.TEST_LABELS, [0, 1, 0])
    with pytest.raises(PipelineError, match=r"found 3 labels, expected 4"):
        preflight.check(config())
    preflight.check(config("own_unlabelled"))
    for file in stl10.LABELLED_FILES:
        (paths.DATA / file).unlink()
    with pytest.raises(PipelineError, match=r"run `exemplarcnn profile own_unlabelled`"):
        preflight.check(config())
    with pytest.raises(PipelineError, match=r"train.probe_every .* data/ has none; set it to 0"):
        preflight.check(config("own_unlabelled", lambda v: v["train"].update(probe_every=1)))


def test_a_training_on_labels_is_watched_by_other_images() -> None:
    stl10.write_folds(paths.FOLDS, [np.arange(120)] * 10)
    preflight.check(config("tiny"))
    with pytest.raises(PipelineError, match=r"fold 0 has all 120 training images"):
        preflight.check(config("tiny", lambda v: v["train"].update(probe_every=1)))
    labelled = {"title": "x", "paper": None, "method": "given", "of": "baseline", "fold": 3, "fraction": 1.0}
    with pytest.raises(PipelineError, match=r"fold 3 has all 120 training images"):
        preflight.check(config("tiny", lambda v: v["variants"]["label"].update(x=labelled)))


def test_a_truth_that_is_none_is_told() -> None:
    paths.TRUTH.write_text("index,class\n0,cat\n")
    with pytest.raises(PipelineError, match=r"^data/truth.csv: found no column original"):
        preflight.check(config())


def test_other_images_of_several_sizes() -> None:
    def other(values: dict[str, Any], **changes: Any) -> None:
        values["pools"] = ["unlabeled", "other"]
        values["variants"]["seed"]["more"] = values["variants"]["seed"]["baseline"] | {"pool": "other"}
        values["variants"]["train"]["more"] = (
            values["variants"]["train"]["clustered"] | {"table": "more", "pool": "other"} | changes
        )

    audited()
    audited(pool="other", height=[96, 64] * 50)
    preflight.check(config("tiny", other), audited=True)
    with pytest.raises(PipelineError, match=r"variants.train.more: mode: online needs .* other has 64×96 and 96×96"):
        preflight.check(config("tiny", lambda v: other(v, mode="online")), audited=True)
    with pytest.raises(PipelineError, match=r"variants.train.more: cluster_features: true needs images of one size"):
        preflight.check(config("tiny", lambda v: other(v, cluster_features=True)), audited=True)
    audited(pool="other", problem=["cannot be read"] + [""] * 99)
    with pytest.raises(PipelineError, match=r"1 of other cannot; remove those that audit/other.csv names"):
        preflight.check(config("tiny", lambda v: other(v, cluster_features=True)), audited=True)


def test_the_audit_counts_as_the_stage_seed_counts() -> None:
    audited(flagged=40)
    table = audit_tables.read_flags(paths.audit("unlabeled"))
    assert (
        audit_tables.is_usable(table, ["duplicate"]).sum()
        == len(audit_tables.usable_images(paths.audit("unlabeled"), ["duplicate"]))
        == 60
    )
    params = config("own").variants.seed["baseline"]
    assert seeding.seed_count(params, 60, ROOM) == 60


# The side of images


def of_side(side: int) -> None:
    """Make the set one of images of a side."""
    for name, count in {"unlabeled": ROOM, "train": 120, "test": 4}.items():
        stl10.write_images(paths.DATA / f"{name}_X.bin", np.zeros((count, side, side, 3), np.uint8), side)
    (paths.DATA / stl10.IMPORT_FILE).write_text(json.dumps({"name": "mine", "side": side}))


@pytest.mark.parametrize("side", [32, 64, 96, 128])
def test_profile_own_goes_with_every_side(side: int) -> None:
    of_side(side)
    preflight.check(config("own"))


@pytest.mark.parametrize("side", [48, 96, 128])
@pytest.mark.parametrize(
    ("section", "key"),
    [
        ("variants.train.baseline", "patch"),
        ("variants.control.raw_pixels", "side"),
        ("variants.control.kmeans", "side"),
        ("audit", "smallest_side"),
    ],
)
def test_more_pixels_than_images_have_are_refused_by_name(section: str, key: str, side: int) -> None:
    def asking(pixels: int) -> Config:
        return config("own", lambda v: reduce(getitem, section.split("."), v).update({key: pixels}))

    of_side(side)
    preflight.check(asking(side))
    said = rf"images of {side}×{side} pixels, but {section}.{key} is {side + 1}; set {side}"
    with pytest.raises(PipelineError, match=said):
        preflight.check(asking(side + 1))


def test_all_that_is_too_large_is_named_at_once() -> None:
    of_side(32)
    with pytest.raises(
        PipelineError,
        match=r"but variants\.train\.clustered\.patch is 64, variants\.control\.kmeans\.side is 40; set 32",
    ):
        preflight.check(
            config(
                "own",
                lambda v: v["variants"]["train"]["clustered"].update(patch=64),
                lambda v: v["variants"]["control"]["kmeans"].update(side=40),
            )
        )


def test_the_objective_of_a_network_is_one_that_can_be_used(home: Path) -> None:
    values = profile_values("own")
    values["variants"]["train"]["clustered"]["objective"] = "byol"
    with pytest.raises(PipelineError, match=r"^variants.train.clustered.objective: no objective 'byol'; name one of"):
        preflight.check(Config.model_validate(values))
    values["variants"]["train"]["clustered"]["objective"] = "simclr"
    values["train"]["batch_size"] = 65
    with pytest.raises(PipelineError, match=r"^variants.train.clustered.objective: simclr takes two patches"):
        preflight.check(Config.model_validate(values))


def test_the_rule_of_a_derived_table_is_a_known_one(home: Path) -> None:
    values = profile_values("own")
    values["variants"]["regroup"]["other"] = {"table": "clustered", "rule": "sorted"}
    with pytest.raises(
        PipelineError, match=r"^variants.regroup.other.rule: no rule 'sorted'; .*regrouping.py has: random, ungr"
    ):
        preflight.check(Config.model_validate(values))


def test_the_first_stage_refuses_before_it_works(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["stage"])
    monkeypatch.setattr(launcher, "use_threads", lambda threads: None)
    values = profile_values("own")
    values["variants"]["train"]["baseline"]["patch"] = 40
    (home / "params.yaml").write_text(yaml.safe_dump(values))
    ran: list[str] = []
    of_side(40)
    launcher.main(lambda variant, config: ran.append(variant))
    assert ran == [""]
    of_side(39)
    with pytest.raises(SystemExit, match=r"error: data: .*39×39 pixels, but variants\.train\.baseline\.patch is 40"):
        launcher.main(lambda variant, config: ran.append(variant))
    assert ran == [""]
