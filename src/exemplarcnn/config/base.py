"""What all sections share: types of values with their ranges, and the error for wrong ones."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from exemplarcnn.errors import PipelineError

LAYERS = ("conv1", "conv2", "conv3", "dense1", "dense2")

Layer = Literal["conv1", "conv2", "conv3", "dense1", "dense2"]
PoolName = Literal["unlabeled", "train", "other"]
Flag = Literal["border", "empty", "grey", "duplicate", "leak"]
# Draw training patches once, into a set on disk, or again in each epoch (docs/method.md, section 2.6).
Mode = Literal["materialised", "online"]
Precision = Literal["fp32", "bf16"]
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
FractionRange = Annotated[tuple[Positive, Positive], AfterValidator(_ordered), AfterValidator(_at_most_one)]


class Section(BaseModel):
    """A section of the parameters: refuses unknown keys, and cannot be changed."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """Copy with some values changed; pydantic's own would take unknown names without a word.

        Raises
        ------
        ConfigError
            If a name in ``update`` is unknown.
        """
        if unknown := sorted(set(update or {}) - set(type(self).model_fields)):
            raise ConfigError(
                f"cannot copy {type(self).__name__}: found no {', '.join(unknown)} in it; correct the name"
            )
        return super().model_copy(update=update, deep=deep)
