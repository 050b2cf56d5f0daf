"""The entries of ``params.yaml``: what each stage makes, ``variants.STAGE.NAME``."""

import re
from typing import Annotated, Literal, Self

from pydantic import ConfigDict, Field, model_validator

from exemplarcnn.config.base import (
    ConfigError,
    Count,
    Flag,
    Fraction,
    Mode,
    NotNegative,
    PoolName,
    Section,
    VariantName,
)
from exemplarcnn.config.sections import Features, Groups


class SeedEntry(Section):
    """A class table of single images: exactly ``classes``; with ``or_fewer``, fewer if the images do not suffice."""

    pool: PoolName
    classes: Annotated[int, Field(ge=2)]
    or_fewer: bool
    leave_out: tuple[Flag, ...]


class _GroupEntry(Section):
    """Parameters of every class table made from features."""

    model_config = ConfigDict(populate_by_name=True)

    source: VariantName = Field(alias="from")
    clustered_fraction: Fraction


class ClusterEntry(_GroupEntry):
    """Clusters, filled up with single images and their neighbours (docs/method.md, sections 5.2 and 5.3).

    Exactly ``classes`` classes. With ``or_fewer``, at most that many: as many as the images suffice for; if there are
    more clusters than that, the largest.
    """

    method: Literal["clusters"]
    classes: Annotated[int, Field(ge=2)]
    or_fewer: bool
    merged_fraction: Fraction | None
    threshold: NotNegative | None
    neighbours: Annotated[int, Field(ge=0)]
    neighbour_order: Literal["query", "global"]

    @model_validator(mode="after")
    def _one_cut(self) -> Self:
        if (self.merged_fraction is None) == (self.threshold is None):
            raise ValueError("give exactly one of merged_fraction and threshold, the other null")
        return self


class PruneEntry(_GroupEntry):
    """Large clusters: the noisy ones dropped, similar ones merged (docs/method.md, section 5.7)."""

    method: Literal["pruned"]
    mean_cluster_size: Annotated[float, Field(ge=1)]
    drop_fraction: Fraction
    merge_distance: NotNegative


class RegroupEntry(Section):
    """A class table made from another one, as a control (docs/method.md, section 5.7)."""

    table: VariantName
    rule: VariantName


# `init_from` of a network whose weights are drawn, and of one that starts from another's.
SCRATCH, WEIGHTS = "conf/scratch.yaml", "models/NAME/weights.safetensors"


class TrainEntry(Section):
    """A network: its class table, its patches and its training."""

    table: VariantName
    pool: PoolName
    patch: Annotated[int, Field(ge=8)]
    patches_per_image: Count | None
    patches_per_class: Count | None
    total_patches: Count | None
    mode: Mode | None
    steps: Count | None
    groups: Groups | None
    init_from: str
    objective: VariantName
    cluster_features: bool

    @property
    def parent(self) -> str | None:
        """The variant whose weights training starts from; None if they are drawn at random."""
        found = re.fullmatch(WEIGHTS.replace("NAME", "([^/]+)"), self.init_from)
        return found[1] if found else None

    @model_validator(mode="after")
    def _one_budget(self) -> Self:
        if [self.patches_per_image, self.patches_per_class, self.total_patches].count(None) != 2:
            raise ValueError(
                "give exactly one of patches_per_image, patches_per_class and total_patches, and set the others to null"
            )
        return self


class RawPixels(Section):
    """Control: the image itself, shrunk to ``side`` by ``side`` RGB pixels."""

    method: Literal["pixels"]
    side: Annotated[int, Field(ge=1, le=256)]


class KMeans(Section):
    """Control: how close small patches are to the centres of k-means (docs/method.md, section 4.2)."""

    method: Literal["kmeans"]
    images: Count
    side: Annotated[int, Field(ge=8, le=256)]
    patch: Annotated[int, Field(ge=2, le=32)]
    patches_per_image: Count
    centres: Annotated[int, Field(ge=2)]

    @model_validator(mode="after")
    def _sizes_fit(self) -> Self:
        if self.patch >= self.side:
            raise ValueError(f"patch {self.patch} must be smaller than side {self.side}")
        if self.centres > (patches := self.images * self.patches_per_image):
            raise ValueError(f"centres must be at most {patches}, images times patches_per_image, found {self.centres}")
        return self

    def check_images(self, count: int) -> None:
        """Check that ``count`` unlabelled images give as many patches as there are centres; ConfigError if not."""
        images = min(self.images, count)
        if images * self.patches_per_image < self.centres:
            raise ConfigError(
                f"{images * self.patches_per_image} patches of {images} unlabelled images are too few for "
                f"variants.control.kmeans.centres={self.centres}: lower that, or raise its patches_per_image"
            )


class DescribeEntry(Section):
    """Other features of the network of variant ``of``; null for those of `Features` (docs/method.md, section 4.3).

    With ``initial`` weights it is the network before its first training step, a control (section 4.2).
    """

    of: VariantName
    weights: Literal["trained", "initial"]
    features: Features | None


class PaperFigure(Section):
    """Accuracy in percent that the paper reports for a row."""

    mean: float
    std: float | None


class ReportRow(Section):
    """One row of the results table."""

    title: str
    paper: PaperFigure | None = None


class EvaluateEntry(ReportRow):
    """The row of evaluated features."""


class LabelEntry(ReportRow):
    """A table of labels, and the row of the network that learns from it (docs/method.md, section 6.2).

    ``pseudo``: what the classifier of ``fold`` on the features of variant ``of`` predicts for the unlabelled images;
    the most confident ``fraction`` is kept. ``given``: the labels of that fold alone.
    """

    method: Literal["pseudo", "given"]
    of: VariantName
    fold: Annotated[int, Field(ge=0, lt=10)]
    fraction: Annotated[float, Field(gt=0, le=1)]


class Variants(Section):
    """What stage STAGE makes for NAME: ``variants.STAGE.NAME``."""

    seed: dict[VariantName, SeedEntry]
    group: dict[VariantName, Annotated[ClusterEntry | PruneEntry, Field(discriminator="method")]]
    regroup: dict[VariantName, RegroupEntry]
    train: dict[VariantName, TrainEntry]
    control: dict[VariantName, Annotated[RawPixels | KMeans, Field(discriminator="method")]]
    describe: dict[VariantName, DescribeEntry]
    label: dict[VariantName, LabelEntry]
    evaluate: dict[VariantName, EvaluateEntry]

    @property
    def tables(self) -> list[str]:
        """The names of all class tables."""
        return [*self.seed, *self.group, *self.regroup]

    @property
    def features(self) -> list[str]:
        """The names of all features that can be evaluated."""
        return [*self.train, *self.describe, *self.control]

    @property
    def rows(self) -> dict[str, ReportRow]:
        """The rows of the report: features that are evaluated, then networks that learn from labels."""
        return {**self.evaluate, **self.label}

    def pool_of(self, table: str) -> PoolName:
        """Return the pool whose images a class table lists."""
        if table in self.regroup:
            table = self.regroup[table].table
        if table in self.group:
            return self.train[self.group[table].source].pool
        return self.seed[table].pool

    @model_validator(mode="after")
    def _names_are_unique(self) -> Self:
        for what, names in (
            ("seed, group and regroup", self.tables),
            ("train, describe, control and label", [*self.features, *self.label]),
        ):
            if twice := {name for name in names if names.count(name) > 1}:
                raise ValueError(f"{what} define a name more than once: {', '.join(sorted(twice))}; rename one")
        titles = [row.title for row in self.rows.values()]
        if same := {title for title in titles if titles.count(title) > 1}:
            raise ValueError(f"evaluate and label: rows must not share the title {', '.join(sorted(same))}")
        return self

    @model_validator(mode="after")
    def _tables_resolve(self) -> Self:
        for name, grouped in self.group.items():
            self._check_source(name, grouped)
        for name, derived in self.regroup.items():
            if derived.table not in [*self.seed, *self.group]:
                raise ValueError(f"regroup.{name}.table: {derived.table} is in neither seed nor group")
        for name, trained in self.train.items():
            if trained.table not in self.tables:
                raise ValueError(
                    f"train.{name}.table: no class table {trained.table} in seed, group or regroup "
                    f"({', '.join(self.tables)})"
                )
            if trained.pool != (pool := self.pool_of(trained.table)):
                raise ValueError(f"train.{name}.pool is {trained.pool}, but its class table lists images of {pool}")
        return self

    def _check_source(self, name: str, grouped: ClusterEntry | PruneEntry) -> None:
        where, source = f"group.{name}.from", grouped.source
        if (trained := self.train.get(source)) is None:
            raise ValueError(f"{where}: {source} is not in train ({', '.join(self.train)})")
        if not trained.cluster_features:
            raise ValueError(f"{where}: {source} needs train.{source}.cluster_features: true")
        if trained.table != source:
            raise ValueError(
                f"{where}: {source} is trained on {trained.table}; only a variant that is trained on the class table "
                "of its own name can be clustered"
            )
        seen = [name]
        while (table := seen[-1]) not in self.seed:
            above = self.regroup[table].table if table in self.regroup else self.group[table].source
            if above in seen:
                raise ValueError(f"{where}: leads back to itself ({' from '.join([*seen, above])})")
            if above not in self.tables:
                return  # another check reports it
            seen.append(above)

    @model_validator(mode="after")
    def _parents_resolve(self) -> Self:
        for name, trained in self.train.items():
            where = f"train.{name}.init_from"
            if trained.parent is None and trained.init_from != SCRATCH:
                raise ValueError(f"{where}: found {trained.init_from}, expected {SCRATCH} or {WEIGHTS}")
            if trained.parent is not None and trained.parent not in self.train:
                raise ValueError(f"{where}: {trained.parent} is not in train ({', '.join(self.train)})")
        for name in self.train:  # now that all parents are there
            if name in (before := self._before(name)):
                raise ValueError(
                    f"train.{name}.init_from: leads back to itself; {name} needs {', '.join(before)} trained first"
                )
        return self

    def _before(self, name: str) -> list[str]:
        """Return the variants of `train` that must be trained before one: for its class table or its weights."""
        found: list[str] = []
        left = [name]
        while left:
            trained = self.train[left.pop()]
            table = self.regroup[trained.table].table if trained.table in self.regroup else trained.table
            source = self.group[table].source if table in self.group else None
            new = [each for each in (source, trained.parent) if each is not None and each not in found]
            found += new
            left += new
        return found

    @model_validator(mode="after")
    def _rows_resolve(self) -> Self:
        for name, described in self.describe.items():
            if described.of not in self.train:
                raise ValueError(f"describe.{name}.of: {described.of} is not in train ({', '.join(self.train)})")
        if not self.evaluate and (without := [key for key, row in self.train.items() if not row.cluster_features]):
            raise ValueError(
                f"train.{without[0]}.cluster_features must be true: nothing is evaluated, so no other features "
                "are computed"
            )
        for name, labelled in self.label.items():
            if labelled.of not in self.train or labelled.of not in self.evaluate:
                both = ", ".join(key for key in self.train if key in self.evaluate)
                raise ValueError(
                    f"label.{name}.of: found {labelled.of}, expected a variant of both train and evaluate ({both})"
                )
        for name in self.evaluate:
            if name not in self.features:
                raise ValueError(f"evaluate.{name}: not in train, describe or control ({', '.join(self.features)})")
        return self
