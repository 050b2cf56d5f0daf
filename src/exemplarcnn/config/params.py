"""``params.yaml`` as a whole, which DVC and the stages read.

Unknown keys and values out of range are refused by name before any work starts.
"""

from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, ValidationError, model_validator

from exemplarcnn import paths
from exemplarcnn.config.base import ConfigError, PoolName, Section
from exemplarcnn.config.renamed import current
from exemplarcnn.config.sections import (
    Audit,
    ClusterFeatures,
    Evaluate,
    Features,
    Machine,
    Neighbours,
    Network,
    Outliers,
    Published,
    ResNet,
    Surrogate,
    Train,
)
from exemplarcnn.config.variants import ReportRow, Variants
from exemplarcnn.files import UnreadableError, read_mapping


class Config(Section):
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

    def training(self, variant: str) -> Train:
        """Return the parameters of a variant's training: section ``train``, with what the variant sets instead."""
        entry = self.variants.train[variant]
        own = {"steps": entry.steps, "groups": entry.groups}
        return self.train.model_copy(update={name: value for name, value in own.items() if value is not None})

    @model_validator(mode="after")
    def _names_resolve(self) -> Self:
        variants = self.variants
        for name, trained in variants.train.items():
            if trained.pool not in self.pools:
                raise ValueError(f"pools: {trained.pool} is missing; variants.train.{name} uses it, so add it")
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
    def rows(self) -> dict[str, ReportRow]:
        """The rows of the report, by name."""
        return self.variants.rows


def parse(values: dict[str, Any], origin: str) -> Config:
    """Check parameters and convert them to their types.

    Parameters
    ----------
    values
        The nested dictionary read from YAML.
    origin
        Where the values come from, for error messages.

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
            lines.append(f"  {key}: is now called {_from(key, renamed[key])}")
        elif problem["type"] == "extra_forbidden":
            lines.append(f"  {key}: unknown parameter")
        elif problem["type"] == "union_tag_not_found":
            lines.append(f"  {key}.method: missing")
        elif problem["type"] == "union_tag_invalid":
            context = problem["ctx"]
            lines.append(f"  {key}.method: expected one of {context['expected_tags']} (got {context['tag']!r})")
        elif problem["type"] == "missing":
            if any(new == key or new.startswith(f"{key}.") for new in renamed.values()):
                continue  # it is there, under its old name
            lines.append(f"  {key}: missing")
        else:
            got = f" (got {problem['input']!r})" if not isinstance(problem["input"], dict) else ""
            joint = "." if key == "variants" else ": "  # messages of `Variants` begin with the stage
            lines.append(f"  {key + joint if key else ''}{problem['msg'].removeprefix('Value error, ')}{got}")
    remedy = "correct them"
    if origin == paths.PARAMS.name:
        remedy += ", or let `exemplarcnn profile NAME` write the file again"
    return [f"{origin}: {len(lines)} problem(s) with the parameters; {remedy}", *lines]


def _key(place: tuple[int | str, ...]) -> str:
    """Return the dotted key of a problem that pydantic found."""
    # For entries of several kinds pydantic adds the kind after the entry, which is no key of the file.
    kinds = (("variants", "group"), ("variants", "control"))
    return ".".join(str(part) for at, part in enumerate(place) if at != 3 or place[:2] not in kinds)


def _from(old: str, new: str) -> str:
    """Return the new key; only its name if the old key is in the same section."""
    section, _, name = new.rpartition(".")
    return name if section == old.rpartition(".")[0] else new


def load(path: Path = paths.PARAMS) -> Config:
    """Read and check ``params.yaml``.

    Raises
    ------
    ConfigError
        If the file is missing, is not a YAML mapping, or has a wrong parameter.
    """
    try:
        values = read_mapping(path)
    except FileNotFoundError:
        raise ConfigError(f"{path}: not found; 'exemplarcnn profile sample' writes it") from None
    except UnreadableError as error:
        raise ConfigError(str(error)) from None
    return parse(values, str(path))
