"""What the pipeline may be told: every parameter of ``params.yaml``, its type and its range.

``conf/`` holds the profiles; ``exemplarcnn profile NAME`` composes one of them into ``params.yaml``, which is
what DVC and the stages read. Unknown keys and values out of range are refused by name before any work starts.
"""

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from exemplarcnn.errors import PipelineError
from exemplarcnn.files import UnreadableError, read_mapping
from exemplarcnn.renamed import current

LAYERS = ("conv1", "conv2", "conv3", "dense1", "dense2")

Layer = Literal["conv1", "conv2", "conv3", "dense1", "dense2"]
PoolName = Literal["unlabeled", "train", "other"]
Flag = Literal["border", "empty", "grey", "duplicate", "leak"]
Count = Annotated[int, Field(ge=1)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Dropout = Annotated[float, Field(ge=0, lt=1)]
VariantName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]


class ConfigError(PipelineError):
    """A parameter is unknown, missing, of the wrong type or out of range."""


def _ordered(bounds: tuple[float, float]) -> tuple[float, float]:
    if bounds[0] > bounds[1]:
        raise ValueError(f"the lower end {bounds[0]} is above the upper end {bounds[1]}")
    return bounds


def _at_most_one(bounds: tuple[float, float]) -> tuple[float, float]:
    if bounds[1] > 1:
        raise ValueError(f"the upper end {bounds[1]} is above 1")
    return bounds


Range = Annotated[tuple[float, float], AfterValidator(_ordered)]
PositiveRange = Annotated[tuple[Positive, Positive], AfterValidator(_ordered)]
NotNegativeRange = Annotated[tuple[NotNegative, NotNegative], AfterValidator(_ordered)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Machine(_Section):
    """What the machine offers.

    ``workers``, ``memory_gib`` and ``checkpoint_minutes`` never change a result; the others can, in its last bits, and
    ``processes`` the pixels that dropout leaves out.
    """

    device: Literal["auto", "cpu", "cuda"]
    threads: Count
    processes: Count
    workers: Count
    memory_gib: Positive
    checkpoint_minutes: Positive


# Whether training patches are drawn once, into a set on disk, or anew for each epoch (section 2.6).
Mode = Literal["materialised", "online"]


class Borders(_Section):
    """What counts as a black border (docs/method.md, section 1.1)."""

    level: Annotated[int, Field(ge=0, le=255)]
    fraction: Annotated[float, Field(gt=0, le=1)]
    width: Count


class Duplicates(_Section):
    """What counts as near duplicates (docs/method.md, section 1.2)."""

    spectrum: Annotated[float, Field(ge=0, lt=1)]
    structure: Annotated[float, Field(gt=0, le=1)]
    shift: Annotated[int, Field(ge=0, le=32)]


class Audit(_Section):
    """What the audit looks for (docs/method.md, section 1)."""

    borders: Borders
    duplicates: Duplicates
    empty_below: NotNegative
    grey_up_to: Annotated[int, Field(ge=0, le=255)]
    smallest_side: Count
    most_megapixels: Positive


class Translate(_Section):
    """How far the anchor moves, in patch sizes (docs/method.md, section 2)."""

    distribution: Literal["normal", "uniform"]
    amount: NotNegative


class Hsv(_Section):
    """Ranges of ``factor * x ** power + shift`` for saturation and value (docs/method.md, section 2)."""

    power: PositiveRange
    factor: NotNegativeRange
    shift: Range


class Dosovitskiy(_Section):
    """What the recipe `dosovitskiy` has of its own (docs/method.md, section 2.2); ranges of powers of two."""

    scale: Range
    translate: NotNegative
    tries: Count
    pca_deviation: tuple[NotNegative, NotNegative, NotNegative]
    power: Range
    factor: Range


class Surrogate(_Section):
    """The transformation recipe and what is drawn of it (docs/method.md, section 2)."""

    mode: Mode
    recipe: Literal["arazo", "dosovitskiy"]
    anchors_per_image: Count
    valid_patches_per_image: Count
    scale: PositiveRange
    translate: Translate
    pca_factor: NotNegativeRange
    flip: Fraction
    rotate: Annotated[float, Field(ge=0, le=180)]
    hsv: Hsv
    hue: Range
    range_policy: Literal["rescale", "clip"]
    dosovitskiy: Dosovitskiy


class Network(_Section):
    """Sizes of the network (docs/method.md, section 3)."""

    widths: tuple[Count, Count, Count]
    dense: Count
    dropout_conv: Dropout
    dropout_dense: Dropout


class Group(_Section):
    """Learning rate and L2 factor of one group of parameters."""

    lr: Positive
    l2: NotNegative


class Groups(_Section):
    """One row per weight tensor and one for all biases (docs/method.md, section 3)."""

    conv1: Group
    conv2: Group
    conv3: Group
    dense1: Group
    dense2: Group
    bias: Group


class Schedule(_Section):
    """After the ``epoch``-th of ``epochs`` epochs the learning rate is multiplied by ``factor``."""

    epochs: Count
    drops: tuple[tuple[Count, Positive], ...]


class Optimisation(_Section):
    """What every training has."""

    epochs: Count
    batch_size: Count
    momentum: Annotated[float, Field(ge=0, lt=1)]
    schedule: Schedule
    precision: Literal["fp32", "bf16"]
    channels_last: bool


class Train(Optimisation):
    """Training on a surrogate set (docs/method.md, section 3)."""

    groups: Groups
    probe_every: Annotated[int, Field(ge=0)]


class ResNetGroups(_Section):
    """One row for the weights of convolutions and the last layer, one for all other parameters."""

    weights: Group
    others: Group


class Augment(_Section):
    """How images are changed each time they are shown (docs/method.md, section 6.2)."""

    scale: Annotated[tuple[Positive, Positive], AfterValidator(_ordered), AfterValidator(_at_most_one)]
    flip: Fraction
    brightness: NotNegative
    contrast: NotNegative
    saturation: NotNegative
    hue: Annotated[float, Field(ge=0, le=0.5)]


class ResNet(Optimisation):
    """The network that learns from labels, and its training (docs/method.md, section 6.2)."""

    depth: Literal[10, 18, 34, 50]
    stem_stride: Literal[1, 2]
    stem_pool: bool
    epoch_images: Count
    groups: ResNetGroups
    augment: Augment

    @model_validator(mode="after")
    def _whole_batches(self) -> Self:
        # Statistics of a batch need images in every process.
        if self.epoch_images % self.batch_size:
            raise ValueError(f"epoch_images {self.epoch_images} must be a multiple of batch_size {self.batch_size}")
        return self


class Features(_Section):
    """How images become features (docs/method.md, section 4)."""

    layers: tuple[Layer, ...] = Field(min_length=1)
    pool: Count
    dense_stride: Count
    normalise: bool
    batch_size: Count


class ClusterFeatures(_Section):
    """The features that are clustered (docs/method.md, section 5.1)."""

    layers: tuple[Layer, ...] = Field(min_length=1)
    before_relu: bool
    pool: Count


class Protocol(_Section):
    """Labels and classifier that features are judged by."""

    name: VariantName
    labels: Literal["folds", "all"]
    classifier: Literal["svm", "knn"]


class Evaluate(_Section):
    """The protocols, the first of which gives the table of results (docs/method.md, section 4.1)."""

    protocols: tuple[Protocol, ...] = Field(min_length=1)
    C: tuple[Positive, ...] = Field(min_length=1)
    k: tuple[Count, ...] = Field(min_length=1)
    inner_folds: Annotated[int, Field(ge=2)]
    tol: Positive

    @model_validator(mode="after")
    def _protocols_fit(self) -> Self:
        names = [protocol.name for protocol in self.protocols]
        if len(set(names)) < len(names):
            raise ValueError(f"protocols: names occur twice ({', '.join(names)})")
        if "leaky" in names:
            raise ValueError("protocols: leaky is the name of the choice that looks at the test set; take another")
        if (self.protocols[0].labels, self.protocols[0].classifier) != ("folds", "svm"):
            raise ValueError(f"protocols: the first, {names[0]}, must have labels: folds and classifier: svm")
        return self


class Outliers(_Section):
    """What is looked for in the features of variant ``of`` (docs/method.md, section 1.3)."""

    of: VariantName
    features: Features
    C: Positive
    false_alarms: Annotated[float, Field(gt=0, lt=1)]
    pairs: Count


class Neighbours(_Section):
    """The picture of nearest neighbours: of how many images, in the features of which variants.

    They are test images, or unlabelled ones where nothing is evaluated.
    """

    of: tuple[VariantName, ...] = Field(min_length=1)
    images: Count
    nearest: Annotated[int, Field(ge=1, le=10)]


class Seeded(_Section):
    """A class table of single images: exactly so many, or as many as there are where ``or_fewer`` allows it."""

    pool: PoolName
    classes: Annotated[int, Field(ge=2)]
    or_fewer: bool
    leave_out: tuple[Flag, ...]


class _FromFeatures(_Section):
    model_config = ConfigDict(populate_by_name=True)

    source: VariantName = Field(alias="from")
    clustered_fraction: Fraction


class Grouped(_FromFeatures):
    """Clusters, filled up with single images and their neighbours (docs/method.md, sections 5.2 and 5.3).

    Exactly so many classes; or, where ``or_fewer`` allows it, so many at most: as many as the images suffice for, and
    of more clusters than that the largest.
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


class Pruned(_FromFeatures):
    """Large clusters without the noisy ones, the similar ones merged (docs/method.md, section 5.7)."""

    method: Literal["pruned"]
    mean_cluster_size: Annotated[float, Field(ge=1)]
    drop_fraction: Fraction
    merge_distance: NotNegative


class Derived(_Section):
    """A class table made of another one, as a control (docs/method.md, section 5.7)."""

    table: VariantName
    rule: VariantName


class Trained(_Section):
    """What goes through surrogate set and training."""

    table: VariantName
    pool: PoolName
    patch: Annotated[int, Field(ge=8)]
    patches_per_image: Count | None
    patches_per_class: Count | None
    total_patches: Count | None
    mode: Mode | None
    groups: Groups | None
    cluster_features: bool

    @model_validator(mode="after")
    def _one_budget(self) -> Self:
        if [self.patches_per_image, self.patches_per_class, self.total_patches].count(None) != 2:
            raise ValueError(
                "give exactly one of patches_per_image, patches_per_class and total_patches, the others null"
            )
        return self


class RawPixels(_Section):
    """Control: the image itself, shrunk to ``side`` by ``side`` RGB pixels."""

    method: Literal["pixels"]
    side: Annotated[int, Field(ge=1, le=256)]


class KMeans(_Section):
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
        if self.centres > self.images * self.patches_per_image:
            raise ValueError(f"{self.centres} centres need as many patches: images times patches_per_image")
        return self

    def check_images(self, count: int) -> None:
        """Refuse so few unlabelled images that their patches are fewer than the centres."""
        images = min(self.images, count)
        if images * self.patches_per_image < self.centres:
            raise ConfigError(
                f"{images * self.patches_per_image} patches of {images} unlabelled images are too few for "
                f"variants.control.kmeans.centres={self.centres}: lower that, or raise its patches_per_image"
            )


class Described(_Section):
    """Other features of the network of variant ``of``, those of `Features` where null (docs/method.md, section 4.3).

    With ``initial`` weights it is the network before its first training step, a control (section 4.2).
    """

    of: VariantName
    weights: Literal["trained", "initial"]
    features: Features | None


class PaperFigure(_Section):
    """Accuracy in percent that the paper reports for a row."""

    mean: float
    std: float | None


class Row(_Section):
    """One row of the results table."""

    title: str
    paper: PaperFigure | None = None


class Labelled(Row):
    """A table of labels, and the row of the network that learns from it (docs/method.md, section 6.2).

    ``pseudo``: what the classifier of ``fold`` on the features of variant ``of`` says of the unlabelled images, the
    most confident ``fraction`` of them. ``given``: the labels of that fold alone.
    """

    method: Literal["pseudo", "given"]
    of: VariantName
    fold: Annotated[int, Field(ge=0, lt=10)]
    fraction: Annotated[float, Field(gt=0, le=1)]


class Published(_Section):
    """What others report on STL-10 (docs/method.md, section 6)."""

    title: str
    accuracy: float
    std: float | None
    labels: Literal["folds", "all"]
    source: str


class Variants(_Section):
    """What stage STAGE makes for NAME: ``variants.STAGE.NAME``."""

    seed: dict[VariantName, Seeded]
    group: dict[VariantName, Annotated[Grouped | Pruned, Field(discriminator="method")]]
    regroup: dict[VariantName, Derived]
    train: dict[VariantName, Trained]
    control: dict[VariantName, Annotated[RawPixels | KMeans, Field(discriminator="method")]]
    describe: dict[VariantName, Described]
    label: dict[VariantName, Labelled]
    evaluate: dict[VariantName, Row]

    @property
    def tables(self) -> list[str]:
        """The names of all class tables."""
        return [*self.seed, *self.group, *self.regroup]

    @property
    def features(self) -> list[str]:
        """The names of all features that can be evaluated."""
        return [*self.train, *self.describe, *self.control]

    @property
    def rows(self) -> dict[str, Row]:
        """The rows of the report: features that are evaluated, then networks that learn from labels."""
        return {**self.evaluate, **self.label}

    def pool_of(self, table: str) -> PoolName:
        """Name the pool whose images a class table lists."""
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
                raise ValueError(f"{what} define more than once: {', '.join(sorted(twice))}")
        titles = [row.title for row in self.rows.values()]
        if same := {title for title in titles if titles.count(title) > 1}:
            raise ValueError(f"evaluate and label: several rows have the title {', '.join(sorted(same))}")
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
                raise ValueError(f"train.{name}.pool is {trained.pool}, but its classes are images of {pool}")
        return self

    def _check_source(self, name: str, grouped: Grouped | Pruned) -> None:
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
                raise ValueError(f"{where}: goes round in a circle ({' from '.join([*seen, above])})")
            if above not in self.tables:
                return  # told elsewhere
            seen.append(above)

    @model_validator(mode="after")
    def _rows_resolve(self) -> Self:
        for name, described in self.describe.items():
            if described.of not in self.train:
                raise ValueError(f"describe.{name}.of: {described.of} is not in train ({', '.join(self.train)})")
        if not self.evaluate and (without := [key for key, row in self.train.items() if not row.cluster_features]):
            raise ValueError(
                f"train.{without[0]}.cluster_features must be true: nothing is evaluated, so that no other features "
                "are computed"
            )
        for name, labelled in self.label.items():
            if labelled.of not in self.train or labelled.of not in self.evaluate:
                raise ValueError(f"label.{name}.of: {labelled.of} must be in train and in evaluate")
        for name in self.evaluate:
            if name not in self.features:
                raise ValueError(
                    f"evaluate.{name}: neither in train nor in describe nor in control ({', '.join(self.features)})"
                )
        return self


class Config(_Section):
    """Everything in ``params.yaml``."""

    profile: str
    seed: Annotated[int, Field(ge=0, lt=2**63)]
    machine: Machine
    pools: tuple[PoolName, ...]
    audit: Audit
    surrogate: Surrogate
    network: Network
    train: Train
    features: Features
    cluster: ClusterFeatures
    evaluate: Evaluate
    outliers: Outliers
    neighbours: Neighbours
    resnet: ResNet
    published: tuple[Published, ...]
    variants: Variants

    @model_validator(mode="after")
    def _names_resolve(self) -> Self:
        variants = self.variants
        for name, trained in variants.train.items():
            if trained.pool not in self.pools:
                raise ValueError(f"pools: {trained.pool} is missing, the pool of variants.train.{name}")
        if (audited := variants.train.get(self.outliers.of)) is None:
            raise ValueError(f"outliers.of: {self.outliers.of} is not in variants.train ({', '.join(variants.train)})")
        if audited.pool != "unlabeled" or not audited.cluster_features:
            raise ValueError(f"outliers.of: {self.outliers.of} needs pool: unlabeled and cluster_features: true")
        shown = [*variants.evaluate] or [key for key, row in variants.train.items() if row.cluster_features]
        for name in self.neighbours.of:
            if name not in shown:
                where = "evaluate" if variants.evaluate else "train, with cluster_features: true"
                raise ValueError(f"neighbours.of: {name} is not in variants.{where} ({', '.join(shown)})")
        return self

    @property
    def rows(self) -> dict[str, Row]:
        """The rows of the report."""
        return self.variants.rows


def parse(values: dict[str, Any], origin: str) -> Config:
    """Check parameters and give them their types.

    Parameters
    ----------
    values
        The nested dictionary read from YAML.
    origin
        Where it came from, named in errors.

    Raises
    ------
    ConfigError
        One line for each offending key, named by its dotted path.
    """
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        raise ConfigError("\n".join(_lines(error, origin))) from None


def _lines(error: ValidationError, origin: str) -> list[str]:
    problems = [(_key(problem["loc"]), problem) for problem in error.errors()]
    renamed = {key: current(key) for key, problem in problems if problem["type"] == "extra_forbidden"}
    renamed = {old: new for old, new in renamed.items() if old != new}
    lines = []
    for key, problem in problems:
        if key in renamed:
            lines.append(f"  {key}: is {_from(key, renamed[key])} now")
        elif problem["type"] == "extra_forbidden":
            lines.append(f"  {key}: unknown parameter")
        elif problem["type"] == "union_tag_not_found":
            lines.append(f"  {key}.method: missing")
        elif problem["type"] == "union_tag_invalid":
            context = problem["ctx"]
            lines.append(f"  {key}.method: expected one of {context['expected_tags']} (got {context['tag']!r})")
        elif problem["type"] == "missing":
            if any(new == key or new.startswith(f"{key}.") for new in renamed.values()):
                continue  # it is there, by its old name
            lines.append(f"  {key}: missing")
        else:
            got = f" (got {problem['input']!r})" if not isinstance(problem["input"], dict) else ""
            joint = "." if key == "variants" else ": "  # what `Variants` checks goes on with the stage's name
            lines.append(f"  {key + joint if key else ''}{problem['msg'].removeprefix('Value error, ')}{got}")
    return [f"{origin}: {len(lines)} problem(s) with the parameters", *lines]


def _key(place: tuple[int | str, ...]) -> str:
    """Return the dotted key of what pydantic found wrong."""
    # For entries of several kinds pydantic names the kind after the entry: no key of the file.
    kinds = (("variants", "group"), ("variants", "control"))
    return ".".join(str(part) for at, part in enumerate(place) if at != 3 or place[:2] not in kinds)


def _from(old: str, new: str) -> str:
    """Shorten a key to what differs from another one: its name, where both are in the same section."""
    section, _, name = new.rpartition(".")
    return name if section == old.rpartition(".")[0] else new


def load(path: Path = Path("params.yaml")) -> Config:
    """Read and check ``params.yaml``.

    Raises
    ------
    ConfigError
        If the file is missing, is no YAML mapping, or holds a wrong parameter.
    """
    try:
        values = read_mapping(path)
    except FileNotFoundError:
        raise ConfigError(f"{path}: not found; 'exemplarcnn profile sample' writes it") from None
    except UnreadableError as error:
        raise ConfigError(str(error)) from None
    return parse(values, str(path))


def profiles(conf: Path) -> list[str]:
    """Names of the profiles in ``conf/profile``, sorted."""
    return sorted(path.stem for path in (conf / "profile").glob("*.yaml"))


def compose(conf: Path, profile: str) -> dict[str, Any]:
    """Compose ``conf/config.yaml`` with one profile, as ``dvc exp run -S profile=NAME`` does.

    Returns
    -------
    dict
        The nested parameters, checked.

    Raises
    ------
    ConfigError
        If there is no such profile, or what it composes to is not valid.
    """
    # Hydra is only needed here, and slow to import.
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from omegaconf import OmegaConf

    if profile not in profiles(conf):
        raise ConfigError(f"no profile {profile!r} in {conf / 'profile'}; there are: {', '.join(profiles(conf))}")
    with initialize_config_dir(str(conf.resolve()), version_base=None):
        composed = hydra_compose("config", overrides=[f"profile={profile}"])
    values = OmegaConf.to_container(composed, resolve=True)
    assert isinstance(values, dict)
    plain: dict[str, Any] = {str(key): value for key, value in values.items()}
    parse(plain, f"profile {profile}")
    return plain
