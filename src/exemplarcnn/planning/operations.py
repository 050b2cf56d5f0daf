"""The operations that stages repeat: what a stage takes is so many of each (:mod:`exemplarcnn.planning.works`).

:mod:`exemplarcnn.planning.measuring` measures how long one takes here. Each has a ``title``, which a plan shows where
it takes the most time of a stage. Nothing in this module takes time to import.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

from exemplarcnn.config.sections import Features
from exemplarcnn.config.variants import KMeans


@dataclass(frozen=True)
class Inspect:
    """Read an image of a pool, and look for defects and near duplicates in it."""

    title: ClassVar[str] = "reading images"
    pool: str


@dataclass(frozen=True)
class Resemble:
    """Compare the fine structure of two images of all, if their spectra are alike, which few are."""

    title: ClassVar[str] = "comparing images"


@dataclass(frozen=True)
class DrawPatch:
    """Cut and transform a patch, in one process."""

    title: ClassVar[str] = "drawing patches"
    pool: str
    patch: int


@dataclass(frozen=True)
class Step:
    """A step of SGD of a network for patches; with a pool, from which patches are drawn while it trains."""

    title: ClassVar[str] = "steps"
    patch: int
    classes: int
    pool: str | None = None


@dataclass(frozen=True)
class Validate:
    """Classify a patch after an epoch."""

    title: ClassVar[str] = "validation"
    patch: int
    classes: int


@dataclass(frozen=True)
class Describe:
    """Compute an image's features with a network for patches."""

    title: ClassVar[str] = "features"
    params: Features | Literal["cluster"]
    patch: int
    classes: int


@dataclass(frozen=True)
class ResNetStep:
    """A step of SGD of the residual network, with the augmentation of its images."""

    title: ClassVar[str] = "steps"


@dataclass(frozen=True)
class ResNetClassify:
    """Classify an image with the residual network."""

    title: ClassVar[str] = "classifying images"


@dataclass(frozen=True)
class KMeansDescribe:
    """Compute an image's k-means features."""

    title: ClassVar[str] = "features"
    params: KMeans


@dataclass(frozen=True)
class Multiply:
    """A multiplication and an addition in a product of matrices.

    ``near pairs``: by all threads, in the precision that the search for near pairs takes; ``float32``: by all threads;
    ``float64``: by one thread.
    """

    title: ClassVar[str] = "products"
    kind: Literal["near pairs", "float32", "float64"]


@dataclass(frozen=True)
class Eigen:
    """A part of an eigendecomposition: with n rows it takes n³ of these."""

    title: ClassVar[str] = "eigenvectors"


@dataclass(frozen=True)
class Hash:
    """Hash a byte, as DVC does for every result."""

    title: ClassVar[str] = "hashes"


Operation = (
    Inspect
    | Resemble
    | DrawPatch
    | Step
    | Validate
    | Describe
    | ResNetStep
    | ResNetClassify
    | KMeansDescribe
    | Multiply
    | Eigen
    | Hash
)
