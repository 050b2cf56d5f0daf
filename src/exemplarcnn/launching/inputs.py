"""What a stage was made from: DVC records parameters and code as they are when the stage ends, not as it read them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from exemplarcnn import paths
from exemplarcnn.errors import PipelineError
from exemplarcnn.files import UnreadableError, md5_of, read_mapping
from exemplarcnn.tracking import lineage


class ChangedError(PipelineError):
    """Something that a stage depends on has changed while it worked."""


@dataclass(frozen=True)
class Inputs:
    """What ``dvc.yaml`` says that a stage depends on: parameters, code, and which data.

    Attributes
    ----------
    stage
        Its name in DVC, such as ``train@baseline``.
    params
        The value of each parameter, by dotted key.
    files
        The hash of each module, and of ``data.dvc``, by path; None for one that is missing.
    """

    stage: str
    params: dict[str, Any]
    files: dict[str, str | None]

    @classmethod
    def of(cls, stage: str) -> Self:
        """Look at what a stage depends on; nothing, if ``dvc.yaml`` or ``params.yaml`` is missing or has no such stage.

        Raises
        ------
        UnreadableError
            If one of them is damaged.
        """
        kind, _, variant = stage.partition("@")
        there = lineage.PIPELINE.exists() and paths.PARAMS.exists()
        stages = (read_mapping(lineage.PIPELINE).get("stages") or {}) if there else {}
        if kind not in stages:
            return cls(stage, {}, {})
        entry = stages[kind].get("do", stages[kind])
        keys = [key.replace("${key}", variant).replace("${item}", variant) for key in entry.get("params", [])]
        files = [path for path in entry.get("deps", []) if path.startswith(lineage.CODE)]
        if str(paths.DATA) in entry.get("deps", []):
            files.append(str(lineage.POINTER))
        return cls(stage, _values(keys), {path: _hash(path) for path in files})

    def check(self) -> None:
        """Refuse the stage's result if something has changed since.

        Raises
        ------
        ChangedError
            DVC then records nothing; it would record the result as made from what is there now.
        """
        if not self.params and not self.files:
            return
        try:
            values = _values(self.params)
        except (OSError, UnreadableError):
            raise self._changed(str(paths.PARAMS)) from None
        for key, before in self.params.items():
            if values[key] != before:
                name, here, there = lineage.first_difference(key, values[key], before)
                raise self._changed(f"{paths.PARAMS} ({name}: {here}, and {there} when the stage began)")
        for path, md5 in self.files.items():
            if _hash(path) != md5:
                raise self._changed(path)

    def _changed(self, what: str) -> ChangedError:
        return ChangedError(
            f"{what} has changed while {self.stage} worked, so its result does not belong to what is there now, and "
            f"DVC does not record it; put that back, then `dvc commit --force {self.stage}` records the result; or "
            "`dvc repro` makes another"
        )


def _values(keys: Any) -> dict[str, Any]:
    params = read_mapping(paths.PARAMS)
    return {key: lineage.lookup(params, key) for key in keys}


def _hash(path: str) -> str | None:
    return md5_of(Path(path)) if Path(path).exists() else None
