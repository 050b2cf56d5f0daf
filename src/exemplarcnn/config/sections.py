"""The sections of ``params.yaml``: the numbers of the method, and the resources of the machine."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from exemplarcnn.config.base import (
    Count,
    Dropout,
    Fraction,
    FractionRange,
    Layer,
    Mode,
    NotNegative,
    NotNegativeRange,
    Positive,
    PositiveRange,
    Precision,
    Range,
    Section,
    VariantName,
)


class Machine(Section):
    """Resources of the machine.

    On a CPU none of them changes a result. ``device`` changes its last bits and which units dropout leaves out, and on
    GPUs ``processes`` does, too, with the batch statistics in ``resnet`` (docs/clusters.md).
    """

    device: Literal["auto", "cpu", "cuda"]
    threads: Count
    processes: Count
    workers: Count
    memory_gib: Positive
    checkpoint_minutes: Positive


class Borders(Section):
    """What counts as a black border (docs/method.md, section 1.1)."""

    level: Annotated[int, Field(ge=0, le=255)]
    fraction: Annotated[float, Field(gt=0, le=1)]
    width: Count


class Duplicates(Section):
    """What counts as near duplicates (docs/method.md, section 1.2)."""

    spectrum: Annotated[float, Field(ge=0, lt=1)]
    structure: Annotated[float, Field(gt=0, le=1)]
    shift: Annotated[int, Field(ge=0, le=32)]


class Audit(Section):
    """What the audit looks for (docs/method.md, section 1)."""

    borders: Borders
    duplicates: Duplicates
    empty_below: NotNegative
    grey_up_to: Annotated[int, Field(ge=0, le=255)]
    smallest_side: Count
    most_megapixels: Positive


class Translate(Section):
    """How far the anchor moves, in patch sizes (docs/method.md, section 2)."""

    distribution: Literal["normal", "uniform"]
    amount: NotNegative


class Hsv(Section):
    """Ranges of ``factor * x ** power + shift`` for saturation and value (docs/method.md, section 2)."""

    power: PositiveRange
    factor: NotNegativeRange
    shift: Range


class Dosovitskiy(Section):
    """Parameters of the recipe `dosovitskiy` alone (docs/method.md, section 2.2).

    Ranges and deviations are those of exponents of 2.
    """

    scale: Range
    translate: NotNegative
    tries: Count
    pca_deviation: tuple[NotNegative, NotNegative, NotNegative]
    power: Range
    factor: Range


class Surrogate(Section):
    """The transformation recipe, and how many anchors and patches are drawn (docs/method.md, section 2)."""

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


class Network(Section):
    """Sizes of the network (docs/method.md, section 3)."""

    widths: tuple[Count, Count, Count]
    dense: Count
    dropout_conv: Dropout
    dropout_dense: Dropout
    batch_norm: bool


class Group(Section):
    """Learning rate and L2 factor of one group of parameters."""

    lr: Positive
    l2: NotNegative


class Groups(Section):
    """One group for each weight tensor and one for all biases (docs/method.md, section 3)."""

    conv1: Group
    conv2: Group
    conv3: Group
    dense1: Group
    dense2: Group
    bias: Group


class Schedule(Section):
    """Drops (epoch, factor): after that many of ``epochs`` epochs the learning rate is multiplied by the factor.

    In a training of another length, in epochs or in steps, the drops scale with it. With ``cosine`` the rate falls
    along half a cosine instead. During the first ``warmup`` of all steps, a fraction, it rises from nothing.
    """

    epochs: Count
    drops: tuple[tuple[Count, Positive], ...]
    cosine: bool
    warmup: Annotated[float, Field(ge=0, lt=1)]

    @model_validator(mode="after")
    def _one_way_down(self) -> Self:
        if self.cosine and self.drops:
            raise ValueError("with cosine: true, set drops: []")
        return self


class Optimisation(Section):
    """Parameters of every training.

    It ends after ``steps`` steps, whatever ``epochs`` says; if ``steps`` is null, after ``epochs`` passes through the
    training images.
    """

    epochs: Count
    steps: Count | None
    batch_size: Count
    shards: Count
    momentum: Annotated[float, Field(ge=0, lt=1)]
    schedule: Schedule
    precision: Precision
    channels_last: bool

    @model_validator(mode="after")
    def _no_empty_shards(self) -> Self:
        if self.shards > self.batch_size:
            raise ValueError(f"shards {self.shards} must be at most batch_size {self.batch_size}")
        return self


class Pairs(Section):
    """Parameters of the objectives that compare two patches of a class (docs/method.md, section 3.3).

    ``outputs`` is how many numbers the last layer gives for a patch; ``temperature`` is that of `simclr`.
    """

    outputs: Annotated[int, Field(ge=2)]
    temperature: Positive


class Train(Optimisation):
    """Training on a surrogate set (docs/method.md, section 3)."""

    groups: Groups
    label_smoothing: Annotated[float, Field(ge=0, lt=1)]
    pairs: Pairs
    probe_every: Annotated[int, Field(ge=0)]


class ResNetGroups(Section):
    """One group for the weights of convolutions and the last layer, one for all other parameters."""

    weights: Group
    others: Group


class Augment(Section):
    """How images are changed each time they are shown (docs/method.md, section 6.2)."""

    scale: FractionRange
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
        # Batch statistics need images, two of them where a map is 1×1: so no short last batch, and no smaller shard.
        if self.batch_size < 2 * self.shards:
            raise ValueError(f"batch_size {self.batch_size} must be at least twice shards, {self.shards}")
        if self.epoch_images % self.batch_size:
            raise ValueError(f"epoch_images {self.epoch_images} must be a multiple of batch_size {self.batch_size}")
        return self


class Features(Section):
    """How images become features (docs/method.md, section 4)."""

    layers: tuple[Layer, ...] = Field(min_length=1)
    pool: Count
    dense_stride: Count
    normalise: bool
    batch_size: Count
    precision: Precision
    mirror: bool
    power: Annotated[float, Field(gt=0, le=1)]


class ClusterFeatures(Section):
    """The features that are clustered (docs/method.md, section 5.1)."""

    layers: tuple[Layer, ...] = Field(min_length=1)
    before_relu: bool
    pool: Count
    precision: Precision


class Protocol(Section):
    """Labels and classifier that features are tested with."""

    name: VariantName
    labels: Literal["folds", "all"]
    classifier: Literal["svm", "knn"]


class Evaluate(Section):
    """The protocols; the first gives the table of results (docs/method.md, section 4.1)."""

    protocols: tuple[Protocol, ...] = Field(min_length=1)
    C: tuple[Positive, ...] = Field(min_length=1)
    k: tuple[Count, ...] = Field(min_length=1)
    inner_folds: Annotated[int, Field(ge=2)]
    tol: Positive

    @model_validator(mode="after")
    def _protocols_fit(self) -> Self:
        names = [protocol.name for protocol in self.protocols]
        if len(set(names)) < len(names):
            raise ValueError(f"protocols: names must differ ({', '.join(names)})")
        if "leaky" in names:
            raise ValueError("protocols: the name leaky is taken by the choice that looks at the test set; use another")
        if (self.protocols[0].labels, self.protocols[0].classifier) != ("folds", "svm"):
            raise ValueError(f"protocols: the first, {names[0]}, must have labels: folds and classifier: svm")
        return self


class Outliers(Section):
    """How outliers and close pairs are found in the features of variant ``of`` (docs/method.md, section 1.3)."""

    of: VariantName
    features: Features
    C: Positive
    false_alarms: Annotated[float, Field(gt=0, lt=1)]
    pairs: Count


class Neighbours(Section):
    """The picture of nearest neighbours: for how many images, in the features of which variants.

    These are test images, or unlabelled images if nothing is evaluated.
    """

    of: tuple[VariantName, ...] = Field(min_length=1)
    images: Count
    nearest: Annotated[int, Field(ge=1, le=10)]


class Published(Section):
    """What others report on STL-10 (docs/method.md, section 6)."""

    title: str
    accuracy: float
    std: float | None
    labels: Literal["folds", "all"]
    source: str
